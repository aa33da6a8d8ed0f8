//! Jars out of Maven's central repository, by its own client.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::LabError;

use super::command::{run, sha256_of};
use super::versions::MAVEN_COPY_GOAL;

/// Copies the jars that `pom` names into `folder` and compares each with its checksum in `sums`: no jar more, none less.
pub(super) fn copy_jars(pom: &str, sums: &'static str, folder: &Path) -> Result<(), LabError> {
    let work = folder.parent().unwrap_or(folder);
    let file = work.join("pom.xml");
    fs::write(&file, pom).map_err(LabError::file("writing", &file))?;
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "--no-transfer-progress", "--file"]).arg(&file);
    maven.arg(format!("-Dmaven.repo.local={}", work.join("repository").display()));
    maven.arg(format!("-DoutputDirectory={}", folder.display()));
    run(maven.arg(MAVEN_COPY_GOAL))?;

    let mut wanted = checksums(sums);
    for entry in fs::read_dir(folder).map_err(LabError::file("listing", folder))? {
        let path = entry.map_err(LabError::file("listing", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let got = sha256_of(&path)?;
        let pinned = wanted.remove(name.as_str()).unwrap_or("no such file");
        if got != pinned {
            return Err(LabError::Checksum { what: name, wanted: pinned.to_owned(), got });
        }
    }
    match wanted.pop_first() {
        None => Ok(()),
        Some((name, pinned)) => {
            Err(LabError::Checksum { what: name.to_owned(), wanted: pinned.to_owned(), got: "no such file".to_owned() })
        }
    }
}

/// Name → checksum of every jar in a list as `sha256sum` writes it.
pub(super) fn checksums(sums: &'static str) -> BTreeMap<&'static str, &'static str> {
    sums.lines().filter_map(|line| line.split_once("  ")).map(|(sum, name)| (name, sum)).collect()
}
