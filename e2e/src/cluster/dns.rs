//! The cluster's name server: CoreDNS in a pod, behind the address that every pod asks.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;

use crate::LabError;
use crate::install::command::run;
use crate::install::{self, KubernetesProgram, installed_kubernetes, installed_pod_programs};

use super::arguments::DNS_SERVICE;
use super::client::{client, wait_for};
use super::host::run_on;
use super::part::{Part, Readiness};
use super::site::Site;

const MANIFEST: &str = include_str!("../../assets/cluster/coredns.yaml");

const NAMESPACE: &str = "kube-system";
/// How long one question to a pod may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Whether a pod's status says that it is ready.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.clone().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

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
            let api: kube::Api<Pod> = kube::Api::namespaced(client.clone(), NAMESPACE);
            let pods = api.list(&ListParams::default().labels("k8s-app=kube-dns")).await;
            let names = pods.map_err(|error| error.to_string())?.items.into_iter().filter(is_ready);
            let names: Vec<String> = names.filter_map(|pod| pod.metadata.name).collect();
            if names.is_empty() {
                return Err("no pod of it is ready".to_owned());
            }
            // What its pod's status says may be of before its node died: the pod itself is asked.
            for name in &names {
                let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/http:{name}:8181/proxy/ready");
                let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
                let asked = tokio::time::timeout(ANSWER, client.request_text(request)).await;
                let answer = asked.map_err(|_| format!("{name} does not answer"))?;
                answer.map_err(|error| format!("{name}: {error}"))?;
            }
            Ok(())
        })
        .and_then(|()| answers_on_every_node(site))
        .into()
    }

    fn stop(&self, _site: &Site) -> Result<(), LabError> {
        // Its pod ends with its node.
        Ok(())
    }
}

/// Asks the name server from every node at its Service's address, as pods do: a node that was just started may not lead
/// there yet.
fn answers_on_every_node(site: &Site) -> Result<(), String> {
    let text = |error: LabError| error.to_string();
    let busybox = installed_pod_programs(site.cache()).map_err(text)?.busybox.display().to_string();
    let nodes = site.spec().map_err(text)?.map_or(0, |spec| spec.nodes);
    let seconds = ANSWER.as_secs().to_string();
    for node in (1..=nodes).map(super::node::name) {
        let question = [&seconds, &busybox, "nslookup", "kubernetes.default.svc.cluster.local", DNS_SERVICE];
        run_on(site, &node, "timeout", &question).map_err(|error| format!("asked from {node}: {error}"))?;
    }
    Ok(())
}

/// Applies a manifest with kubectl.
pub(super) fn apply(site: &Site, name: &str, manifest: &str) -> Result<(), LabError> {
    let file = site.configure("manifests", name, manifest)?;
    let kubectl = installed_kubernetes(site.cache(), KubernetesProgram::Kubectl)?;
    let mut command = std::process::Command::new(kubectl);
    // The server validates; kubectl would ask for the descriptions of all types first.
    let apply = ["apply", "--server-side", "--force-conflicts", "--validate=false", "-f"];
    command.arg("--kubeconfig").arg(site.kubeconfig()).args(apply);
    run(command.arg(file)).map(drop)
}
