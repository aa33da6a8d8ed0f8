//! Prometheus, out of Debian's package, which is not installed: it would start as a service of the machine.

use std::path::PathBuf;
use std::process::Command;

use crate::LabError;

use super::cache::Cache;
use super::command::run;
use super::debian;
use super::versions::PROMETHEUS;

/// Unpacks the program into the cache's `bin`.
pub(super) fn install(cache: &Cache) -> Result<(), LabError> {
    cache
        .program(&file_name(), |work| {
            let program = debian::unpack("prometheus", work)?.join("usr/bin/prometheus");
            let said = run(Command::new(&program).arg("--version"))?;
            let got = said.split_whitespace().nth(2).unwrap_or_default();
            // Debian's has a suffix.
            if got.split('+').next() == Some(PROMETHEUS) {
                return Ok(program);
            }
            Err(LabError::Wrong(format!(
                "this Debian has Prometheus {got}, and {PROMETHEUS} is wanted: change its version in versions.rs if \
                 that is the one to test with"
            )))
        })
        .map(drop)
}

/// The installed binary.
pub(super) fn find(cache: &Cache) -> Result<PathBuf, LabError> {
    let path = cache.bin().join(file_name());
    if path.exists() {
        Ok(path)
    } else {
        Err(LabError::NotInstalled { what: "prometheus", cache: cache.root().into() })
    }
}

fn file_name() -> String {
    format!("prometheus-{PROMETHEUS}")
}
