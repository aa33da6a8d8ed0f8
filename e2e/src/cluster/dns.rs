//! The cluster's name server: CoreDNS in a pod, behind the address that every pod asks.

use k8s_openapi::api::apps::v1::Deployment;

use crate::LabError;
use crate::install::command::run;
use crate::install::{self, KubernetesProgram, installed_kubernetes};

use super::client::{client, wait_for};
use super::part::{Part, Readiness};
use super::site::Site;

const MANIFEST: &str = include_str!("../../assets/cluster/coredns.yaml");

/// CoreDNS. It has no process of its own here: its pod is a node's.
#[derive(Debug, Clone, Copy)]
pub struct Dns;

impl Part for Dns {
    fn name(&self) -> String {
        "cluster DNS".to_owned()
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::Cluster]
    }

    fn places(&self) -> Vec<String> {
        Vec::new()
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        apply(site, "coredns.yaml", MANIFEST)
    }

    fn ready(&self, site: &Site) -> Readiness {
        wait_for(async {
            let client = client(&site.kubeconfig()).await.map_err(|error| error.to_string())?;
            let api: kube::Api<Deployment> = kube::Api::namespaced(client, "kube-system");
            let there = api.get_opt("coredns").await.map_err(|error| error.to_string())?;
            let status = there.ok_or("it has not been applied")?.status.unwrap_or_default();
            if status.available_replicas.unwrap_or_default() > 0 {
                return Ok(());
            }
            let conditions = status.conditions.into_iter().flatten().filter_map(|condition| condition.message);
            Err(format!("no pod of it is available: {}", conditions.collect::<Vec<_>>().join("; ")))
        })
        .into()
    }

    fn stop(&self, _site: &Site) -> Result<(), LabError> {
        // Its pod ends with its node.
        Ok(())
    }
}

/// Applies a manifest with kubectl.
pub(super) fn apply(site: &Site, name: &str, manifest: &str) -> Result<(), LabError> {
    let file = site.configure("manifests", name, manifest)?;
    let kubectl = installed_kubernetes(site.cache(), KubernetesProgram::Kubectl)?;
    let mut command = std::process::Command::new(kubectl);
    command.arg("--kubeconfig").arg(site.kubeconfig()).args(["apply", "--server-side", "--force-conflicts", "-f"]);
    run(command.arg(file)).map(drop)
}
