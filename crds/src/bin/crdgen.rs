//! Writes the CustomResourceDefinitions: into the folder that is named, or to the standard output.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let definitions = freshet_crds::definition::definitions();
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        let texts: Vec<String> = definitions.iter().map(|definition| definition.yaml()).collect();
        print!("{}", texts.join("---\n"));
        return ExitCode::SUCCESS;
    };
    for definition in definitions {
        let path = folder.join(definition.file);
        if let Err(error) = std::fs::write(&path, definition.yaml()) {
            eprintln!("crdgen: {} can't be written: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
