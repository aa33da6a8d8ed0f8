//! The S3 server, built by Go from its module.

use std::path::PathBuf;
use std::process::Command;

use crate::LabError;

use super::cache::Cache;
use super::command::{on_path, run};
use super::versions::{GoProgram, VERSITYGW};

/// Builds the S3 server into the cache's `bin`.
pub(super) fn install(cache: &Cache) -> Result<(), LabError> {
    cache.program(&file_name(), |work| build(&VERSITYGW, work)).map(drop)
}

/// The installed binary.
pub(super) fn find(cache: &Cache) -> Result<PathBuf, LabError> {
    let path = cache.bin().join(file_name());
    if path.exists() { Ok(path) } else { Err(LabError::NotInstalled { what: "s3", cache: cache.root().into() }) }
}

fn file_name() -> String {
    format!("versitygw-{}", VERSITYGW.version)
}

/// Builds with Go's tools, which compare every module with the checksum database, and compares the module's own
/// hash with the pinned one.
fn build(program: &GoProgram, work: &std::path::Path) -> Result<PathBuf, LabError> {
    if !on_path("go") {
        return Err(LabError::MissingProgram {
            program: "go".to_owned(),
            remedy: "Install Go 1.25 or newer: it builds the S3 server of the tests.".to_owned(),
        });
    }
    let wanted = format!("{}/{}@{}", program.module, program.package, program.version);
    let mut install = Command::new("go");
    install.args(["install", "-trimpath", "-ldflags=-s -w", &wanted]);
    run(install.env("GOBIN", work).env("CGO_ENABLED", "0").current_dir(work))?;

    let built = work.join(program.package.rsplit('/').next().unwrap_or(program.package));
    let told = run(Command::new("go").args(["version", "-m"]).arg(&built))?;
    let hash = module_hash(&told, program).unwrap_or("none");
    if hash == program.hash {
        Ok(built)
    } else {
        Err(LabError::Checksum { what: wanted, wanted: program.hash.to_owned(), got: hash.to_owned() })
    }
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
