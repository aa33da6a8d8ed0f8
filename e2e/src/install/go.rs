//! Programs that Go's own tools build from modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::LabError;

use super::command::{on_path, run};
use super::versions::{GoModule, GoProgram};

/// How a program is built, besides what all have in common.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GoOptions<'a> {
    /// Build tags, separated by spaces.
    pub tags: &'a str,
    /// Flags of the linker, for instance `-X package.variable=value`.
    pub link: &'a str,
}

/// Builds `program` with Go's tools, which compare every module with the checksum database, and compares the
/// module's own hash with the pinned one.
pub(super) fn build_program(program: &GoProgram, options: GoOptions<'_>, work: &Path) -> Result<PathBuf, LabError> {
    let wanted = format!("{}/{}@{}", program.module, program.package, program.version);
    let mut install = go("install", options)?;
    run(install.arg(&wanted).env("GOBIN", work).current_dir(work))?;

    let built = work.join(last_part(program.package));
    let told = run(Command::new("go").args(["version", "-m"]).arg(&built))?;
    let hash = module_hash(&told, program).unwrap_or("none");
    if hash == program.hash {
        Ok(built)
    } else {
        Err(LabError::Checksum { what: wanted, wanted: program.hash.to_owned(), got: hash.to_owned() })
    }
}

/// Builds `package` (`.` for the module's own program) as `name` within `module`: its `go.sum` is what every
/// download is compared with.
pub(super) fn build_in_module(
    module: &GoModule,
    package: &str,
    name: &str,
    options: GoOptions<'_>,
    work: &Path,
) -> Result<PathBuf, LabError> {
    let folder = work.join("module");
    fs::create_dir_all(&folder).map_err(LabError::file("making", &folder))?;
    let files = [("go.mod", Some(module.go_mod)), ("go.sum", Some(module.go_sum)), ("main.go", module.main)];
    for (file, text) in files.into_iter().filter_map(|(file, text)| Some((file, text?))) {
        let path = folder.join(file);
        fs::write(&path, text).map_err(LabError::file("writing", &path))?;
    }
    let built = work.join(name);
    let mut build = go("build", options)?;
    run(build.arg("-mod=readonly").arg("-o").arg(&built).arg(package).current_dir(&folder))?;
    Ok(built)
}

fn go(verb: &str, options: GoOptions<'_>) -> Result<Command, LabError> {
    if !on_path("go") {
        return Err(LabError::MissingProgram {
            program: "go".to_owned(),
            remedy: "Install Go 1.26 or newer: it builds the servers of the tests.".to_owned(),
        });
    }
    let mut command = Command::new("go");
    command.args([verb, "-trimpath", "-buildvcs=false"]).arg(format!("-ldflags=-s -w {}", options.link));
    if !options.tags.is_empty() {
        command.arg(format!("-tags={}", options.tags));
    }
    command.env("CGO_ENABLED", "0");
    Ok(command)
}

fn last_part(package: &str) -> &str {
    package.rsplit('/').next().unwrap_or(package)
}

/// The hash of the program's main module in what `go version -m` printed.
fn module_hash<'a>(told: &'a str, program: &GoProgram) -> Option<&'a str> {
    told.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["mod", module, version, hash] if module == program.module && version == program.version => Some(hash),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::versions::VERSITYGW;

    #[test]
    fn the_hash_is_that_of_the_main_module() {
        let told = format!(
            "x: go1.26\n\tpath\ta/b/cmd\n\tmod\t{}\t{}\th1:right=\n\tdep\ta/c\tv1\th1:other=\n",
            VERSITYGW.module, VERSITYGW.version
        );
        assert_eq!(module_hash(&told, &VERSITYGW), Some("h1:right="));
        assert_eq!(module_hash("\tmod\ta/other\tv1\th1:x=", &VERSITYGW), None);
    }
}
