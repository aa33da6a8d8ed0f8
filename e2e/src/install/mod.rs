//! Installs pinned tools and servers under one cache folder.
//!
//! A step works in a temporary folder and renames it to its final name, versions in the name, as its
//! last act: what stands under a final name is whole, whenever it was interrupted, and a step whose
//! result is there is skipped. A lock file keeps two installers apart. What comes from outside is
//! compared with the checksums in [`versions`] before it is moved into place.

mod cache;
pub(crate) mod command;
mod debian;
mod flink;
mod go;
mod health;
mod kafka;
mod kubernetes;
mod maven;
mod pods;
mod prometheus;
mod registry;
mod s3;
mod tools;
pub mod versions;

pub use cache::Cache;
pub use kafka::KafkaInstallation;
pub use kubernetes::KubernetesProgram;
pub use pods::PodPrograms;
pub use prometheus::PrometheusProgram;
pub use registry::RegistryInstallation;
pub use versions::POSTGRES_PROGRAMS;

use clap::ValueEnum;

use crate::LabError;

use command::on_path;
use debian::POSTGRES;

/// What `freshet-lab install` can install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The Kafka broker: jars, a class archive for quick starts, a formatted log folder.
    Kafka,
    /// The S3 server.
    S3,
    /// What images of pods are made from: pause, busybox.
    Pods,
    /// cargo-deny and cargo-nextest.
    Tools,
    /// A Kubernetes API server without nodes: etcd, kube-apiserver, kubectl, Helm.
    ApiServer,
    /// The rest of a Kubernetes cluster: its other servers, containerd, CoreDNS.
    Cluster,
    /// The schema registry.
    Registry,
    /// Postgres.
    Postgres,
    /// Prometheus.
    Prometheus,
    /// What kstatus and Argo CD make of resources.
    Health,
    /// Flink with its Kafka connector, for `freshet-lab bench peers`. Only when it is named.
    Flink,
}

/// Installs `parts` (when there are none, all that tests need), each step skipped when it is done already.
///
/// # Errors
/// The first step that failed; what earlier steps installed stays.
pub fn install(cache: &Cache, parts: &[Part]) -> Result<(), LabError> {
    let tests: Vec<Part> = Part::value_variants().iter().filter(|part| **part != Part::Flink).copied().collect();
    let parts = if parts.is_empty() { &tests } else { parts };
    let _lock = cache.lock()?;
    for part in parts {
        match part {
            Part::Kafka => kafka::install(cache)?,
            Part::S3 => s3::install(cache)?,
            Part::Pods => pods::install(cache)?,
            Part::Tools => tools::install(cache)?,
            Part::ApiServer => kubernetes::install_api_server(cache)?,
            Part::Cluster => kubernetes::install_cluster(cache)?,
            Part::Registry => registry::install(cache)?,
            Part::Postgres => debian::ensure(POSTGRES)?,
            Part::Prometheus => prometheus::install(cache)?,
            Part::Health => health::install(cache)?,
            Part::Flink => flink::install(cache)?,
        }
    }
    Ok(())
}

/// The installed Kafka broker.
///
/// # Errors
/// [`LabError::NotInstalled`] when `freshet-lab install kafka` has not run.
pub fn installed_kafka(cache: &Cache) -> Result<KafkaInstallation, LabError> {
    kafka::find(cache)
}

/// The installed S3 server's binary.
///
/// # Errors
/// [`LabError::NotInstalled`] when `freshet-lab install s3` has not run.
pub fn installed_s3(cache: &Cache) -> Result<std::path::PathBuf, LabError> {
    s3::find(cache)
}

/// The installed programs of the images that hold and test pods.
///
/// # Errors
/// [`LabError::NotInstalled`] when `freshet-lab install pods` has not run.
pub fn installed_pod_programs(cache: &Cache) -> Result<PodPrograms, LabError> {
    pods::find(cache)
}

/// An installed program of Kubernetes.
///
/// # Errors
/// [`LabError::NotInstalled`] when `freshet-lab install api-server cluster` has not run.
pub fn installed_kubernetes(cache: &Cache, program: KubernetesProgram) -> Result<std::path::PathBuf, LabError> {
    kubernetes::find(cache, program)
}

/// The folder with containerd, its shim and ctr.
///
/// # Errors
/// [`LabError::NotInstalled`] when `freshet-lab install cluster` has not run.
pub fn installed_containerd(cache: &Cache) -> Result<std::path::PathBuf, LabError> {
    kubernetes::find_containerd(cache)
}

/// The installed schema registry.
///
/// # Errors
/// [`LabError::NotInstalled`] when `freshet-lab install registry` has not run.
pub fn installed_registry(cache: &Cache) -> Result<RegistryInstallation, LabError> {
    registry::find(cache)
}

/// A binary of Prometheus.
///
/// # Errors
/// [`LabError::NotInstalled`] when `freshet-lab install prometheus` has not run.
pub fn installed_prometheus(cache: &Cache, program: PrometheusProgram) -> Result<std::path::PathBuf, LabError> {
    prometheus::find(cache, program)
}

/// The program that says what kstatus and Argo CD make of resources.
///
/// # Errors
/// [`LabError::NotInstalled`] when `freshet-lab install health` has not run.
pub fn installed_health(cache: &Cache) -> Result<std::path::PathBuf, LabError> {
    health::find(cache)
}

/// The folder of Flink's jars.
///
/// # Errors
/// [`LabError::NotInstalled`] when `freshet-lab install flink` has not run.
pub fn installed_flink(cache: &Cache) -> Result<std::path::PathBuf, LabError> {
    flink::find(cache)
}

/// Installs those of `parts` that are not there, and says nothing when all are.
///
/// # Errors
/// The first step that failed; what earlier steps installed stays.
pub fn install_missing(cache: &Cache, parts: &[Part]) -> Result<(), LabError> {
    let there = |part: &Part| match part {
        Part::Kafka => kafka::find(cache).is_ok(),
        Part::S3 => s3::find(cache).is_ok(),
        Part::Pods => pods::find(cache).is_ok(),
        Part::Tools => false,
        Part::ApiServer => kubernetes::has_api_server(cache),
        Part::Cluster => kubernetes::has_cluster(cache),
        Part::Registry => registry::find(cache).is_ok(),
        Part::Postgres => POSTGRES.iter().all(|program| on_path(program.program)),
        Part::Prometheus => [PrometheusProgram::Server, PrometheusProgram::Promtool]
            .iter()
            .all(|it| prometheus::find(cache, *it).is_ok()),
        Part::Health => health::find(cache).is_ok(),
        Part::Flink => flink::find(cache).is_ok(),
    };
    let missing: Vec<Part> =
        Part::value_variants().iter().filter(|part| parts.contains(part) && !there(part)).copied().collect();
    if missing.is_empty() { Ok(()) } else { install(cache, &missing) }
}
