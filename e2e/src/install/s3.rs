//! The S3 server, built by Go from its module.

use std::path::PathBuf;

use crate::LabError;

use super::cache::Cache;
use super::go::{GoOptions, build_program};
use super::versions::VERSITYGW;

/// Builds the S3 server into the cache's `bin`.
pub(super) fn install(cache: &Cache) -> Result<(), LabError> {
    cache.program(&file_name(), |work| build_program(&VERSITYGW, GoOptions::default(), work)).map(drop)
}

/// The installed binary.
pub(super) fn find(cache: &Cache) -> Result<PathBuf, LabError> {
    let path = cache.bin().join(file_name());
    if path.exists() { Ok(path) } else { Err(LabError::NotInstalled { what: "s3", cache: cache.root().into() }) }
}

fn file_name() -> String {
    format!("versitygw-{}", VERSITYGW.version)
}
