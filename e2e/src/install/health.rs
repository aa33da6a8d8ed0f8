//! The program that says what tools of GitOps make of resources: kstatus' own code, and the Lua machine of Argo CD.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::LabError;

use super::cache::Cache;
use super::go::{GoOptions, build_in_module};
use super::versions::HEALTH_MODULE;

/// Builds it into the cache's `bin`.
pub(super) fn install(cache: &Cache) -> Result<(), LabError> {
    let build = |work: &std::path::Path| build_in_module(&HEALTH_MODULE, ".", "health", GoOptions::default(), work);
    cache.program(&file_name(), build).map(drop)
}

/// The installed program.
pub(super) fn find(cache: &Cache) -> Result<PathBuf, LabError> {
    let path = cache.bin().join(file_name());
    if path.exists() { Ok(path) } else { Err(LabError::NotInstalled { what: "health", cache: cache.root().into() }) }
}

/// Its version is its source, and the modules that it is built from.
fn file_name() -> String {
    let parts = [HEALTH_MODULE.go_mod, HEALTH_MODULE.go_sum, HEALTH_MODULE.main.unwrap_or_default()];
    let sum = Sha256::digest(parts.concat().as_bytes());
    format!("health-{:02x}{:02x}{:02x}{:02x}", sum[0], sum[1], sum[2], sum[3])
}
