//! What of a cluster runs, and what is wrong with it.

use std::path::PathBuf;

use crate::LabError;

use super::marks::marked;
use super::part::{Readiness, up};
use super::site::Site;
use super::stages;

/// One part, as it is now.
#[derive(Debug)]
pub struct PartStatus {
    /// What people call it.
    pub name: String,
    /// Whether it does what it is for.
    pub readiness: Readiness,
    /// Its processes.
    pub places: Vec<PlaceStatus>,
}

/// One process.
#[derive(Debug)]
pub struct PlaceStatus {
    /// Its place, as in `cp/etcd`.
    pub place: String,
    /// Its id, when it runs.
    pub process: Option<u32>,
    /// Its log.
    pub log: PathBuf,
}

/// All parts of the cluster of `site`; none when nothing was asked for and nothing runs.
///
/// # Errors
/// When something of a cluster runs that nobody knows the parts of.
pub fn status(site: &Site) -> Result<Vec<PartStatus>, LabError> {
    let Some(spec) = site.spec()? else {
        let left = marked(site.folder()).len();
        return if left == 0 {
            Ok(Vec::new())
        } else {
            Err(LabError::Wrong(format!("{left} processes of a half-ended cluster run. `make cluster-down` ends them")))
        };
    };
    let place = |place: String| {
        let process = site.presence(&place).process();
        PlaceStatus { process, log: site.log(&place), place }
    };
    let all = stages(&spec).into_iter().flatten().map(|part| PartStatus {
        name: part.name(),
        readiness: up(site, part.as_ref()),
        places: part.places().into_iter().map(place).collect(),
    });
    Ok(all.collect())
}
