//! The programs of the images that hold and test pods: `pause` from its source here, and a static busybox.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::LabError;

use super::cache::Cache;
use super::command::run;
use crate::images::{Libraries, libraries_of};

const PAUSE_C: &str = include_str!("../../assets/images/pause.c");

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct PodPrograms {
    /// What holds a pod's namespaces; static.
    pub pause: PathBuf,
    /// A shell and small tools in one static program.
    pub busybox: PathBuf,
}

/// Puts both into the cache's `bin`.
pub(super) fn install(cache: &Cache) -> Result<(), LabError> {
    cache.program(&pause_name(), compile)?;
    cache.program(BUSYBOX, busybox).map(drop)
}

/// The installed programs.
pub(super) fn find(cache: &Cache) -> Result<PodPrograms, LabError> {
    let found = PodPrograms { pause: cache.bin().join(pause_name()), busybox: cache.bin().join(BUSYBOX) };
    if found.pause.exists() && found.busybox.exists() {
        return Ok(found);
    }
    Err(LabError::NotInstalled { what: "pods", cache: cache.root().into() })
}

/// Not a name that shadows the system's own, which may be another kind.
const BUSYBOX: &str = "busybox-static";

/// Its version is its source.
fn pause_name() -> String {
    let sum = Sha256::digest(PAUSE_C.as_bytes());
    format!("pause-{:02x}{:02x}{:02x}{:02x}", sum[0], sum[1], sum[2], sum[3])
}

fn compile(work: &Path) -> Result<PathBuf, LabError> {
    let (source, program) = (work.join("pause.c"), work.join("pause"));
    fs::write(&source, PAUSE_C).map_err(LabError::file("writing", &source))?;
    let mut compiler = Command::new("cc");
    compiler.args(["-static", "-Os", "-s", "-Wall", "-Werror", "-o", "pause", "pause.c"]).current_dir(work);
    run(&mut compiler)?;
    Ok(program)
}

/// The system's busybox if it is static, else the one of Debian's package, unpacked and not installed: it would
/// replace one that others use.
fn busybox(work: &Path) -> Result<PathBuf, LabError> {
    let copy = work.join("busybox");
    for here in ["/bin/busybox", "/usr/bin/busybox"].map(Path::new) {
        if here.exists() && libraries_of(here)? == Libraries::None {
            fs::copy(here, &copy).map_err(LabError::file("copying", here))?;
            return Ok(copy);
        }
    }
    let unpacked = super::debian::unpack("busybox-static", work)?;
    let inside = ["bin/busybox", "usr/bin/busybox"].map(|path| unpacked.join(path));
    inside
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| LabError::Wrong("Debian's package holds no busybox".to_owned()))
}
