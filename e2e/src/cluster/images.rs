//! The images that the cluster's own pods run, and the folder of all that its nodes get.

use std::fs;
use std::path::{Path, PathBuf};

use crate::LabError;
use crate::images::{Image, ImageName, build, build_program};
use crate::install::{KubernetesProgram, installed_kubernetes};

use super::node::ctr;
use super::site::Site;

/// What holds a pod's namespaces.
pub const PAUSE: &str = ImageName::Pause.reference();
/// The name server.
pub const COREDNS: &str = "localhost/coredns:dev";

/// The folder of the archives that every node gets.
pub(super) fn folder(site: &Site) -> PathBuf {
    site.folder().join("images")
}

/// Builds the images that every cluster needs, as far as they are not there.
pub(super) fn build_own(site: &Site) -> Result<Vec<Image>, LabError> {
    let folder = folder(site);
    let coredns = installed_kubernetes(site.cache(), KubernetesProgram::CoreDns)?;
    Ok(vec![
        build(ImageName::Pause, &folder)?,
        build(ImageName::Busybox, &folder)?,
        build_program(COREDNS, &coredns, "/usr/bin/coredns", &folder)?,
    ])
}

/// Imports into node `number` all archives that it does not have yet.
///
/// # Errors
/// When the node's runtime does not run, or refuses an archive.
pub(super) fn import_all(site: &Site, number: u8) -> Result<(), LabError> {
    build_own(site)?;
    let folder = folder(site);
    let mut archives: Vec<PathBuf> = fs::read_dir(&folder)
        .map_err(LabError::file("listing", &folder))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tar"))
        .collect();
    archives.sort();
    archives.iter().try_for_each(|archive| import(site, number, archive))
}

/// Imports one archive into node `number`, unless it has that very image.
pub(super) fn import(site: &Site, number: u8, archive: &Path) -> Result<(), LabError> {
    // Beside each archive stands the id of its image.
    let note = archive.with_extension("id");
    let id = fs::read_to_string(&note).map_err(LabError::file("reading", &note))?;
    let imported = site.disk(&super::node::name(number)).join("imported");
    let there = imported.join(archive.file_name().unwrap_or_default());
    if fs::read_to_string(&there).is_ok_and(|there| there == id) {
        return Ok(());
    }
    ctr(site, number, &["images", "import", &archive.display().to_string()])?;
    fs::create_dir_all(&imported).map_err(LabError::file("making", &imported))?;
    super::pki::write(&there, &id)
}
