//! Writes what is generated from this crate's types into the checkout that is the current folder: the
//! CustomResourceDefinitions (for `kubectl apply` and for the chart), and the pages of reasons and of fields.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut files = vec![
        ("docs/reasons.md".to_owned(), freshet_crds::reasons::page()),
        ("docs/manifest-reference.md".to_owned(), freshet_crds::reference::page()),
    ];
    for definition in freshet_crds::definition::definitions() {
        files.extend(definition.paths().map(|path| (path, definition.yaml())));
    }
    for (path, text) in files {
        let written = Path::new(&path).parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = written.and_then(|()| std::fs::write(&path, text)) {
            eprintln!("crdgen: {path} can't be written: {error}; run it at the top of the checkout");
            return ExitCode::FAILURE;
        }
        println!("{path}");
    }
    ExitCode::SUCCESS
}
