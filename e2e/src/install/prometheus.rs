//! Prometheus and its checker of rules, out of Debian's package, which is not installed: it would start as a service of
//! the machine.

use std::path::PathBuf;
use std::process::Command;

use crate::LabError;

use super::cache::Cache;
use super::command::run;
use super::debian;
use super::versions::PROMETHEUS;

/// A program of the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrometheusProgram {
    /// The server.
    Server,
    /// Checks rules, and tries them on series.
    Promtool,
}

impl PrometheusProgram {
    const fn name(self) -> &'static str {
        match self {
            Self::Server => "prometheus",
            Self::Promtool => "promtool",
        }
    }

    fn file_name(self) -> String {
        format!("{}-{PROMETHEUS}", self.name())
    }
}

/// Unpacks the programs into the cache's `bin`.
pub(super) fn install(cache: &Cache) -> Result<(), LabError> {
    for program in [PrometheusProgram::Server, PrometheusProgram::Promtool] {
        cache.program(&program.file_name(), |work| {
            let path = debian::unpack("prometheus", work)?.join("usr/bin").join(program.name());
            let said = run(Command::new(&path).arg("--version"))?;
            let got = said.split_whitespace().nth(2).unwrap_or_default();
            // Debian's has a suffix.
            if got.split('+').next() == Some(PROMETHEUS) {
                return Ok(path);
            }
            Err(LabError::Wrong(format!(
                "this Debian has Prometheus {got}, and {PROMETHEUS} is wanted: change its version in versions.rs if \
                 that is the one to test with"
            )))
        })?;
    }
    Ok(())
}

/// The installed binary.
pub(super) fn find(cache: &Cache, program: PrometheusProgram) -> Result<PathBuf, LabError> {
    let path = cache.bin().join(program.file_name());
    if path.exists() {
        Ok(path)
    } else {
        Err(LabError::NotInstalled { what: "prometheus", cache: cache.root().into() })
    }
}
