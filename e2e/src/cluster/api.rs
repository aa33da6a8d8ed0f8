//! The part that everything else talks to: etcd and the API server, on the host of the control plane.

use std::net::{IpAddr, Ipv4Addr};

use crate::LabError;
use crate::install::{self, KubernetesProgram, installed_kubernetes};

use super::address::{API_PORT, Address, CONTROL_PLANE};
use super::arguments::{API_SERVICE, ApiServerArguments, Etcd, controller_manager, scheduler};
use super::client::{client, readiness, wait_for};
use super::host::{Daemon, Host};
use super::kubeconfig::write_kubeconfig;
use super::part::{Part, Readiness};
use super::pki::Identity;
use super::relay::Relay;
use super::site::Site;

/// The host of the control plane.
pub const HOST: &str = "cp";

/// Where servers within the cluster reach the API server.
#[must_use]
pub fn inner_url() -> String {
    format!("https://{CONTROL_PLANE}:{API_PORT}")
}

/// A server of Kubernetes as a daemon.
pub(super) fn daemon(
    site: &Site,
    host: &str,
    program: KubernetesProgram,
    arguments: Vec<String>,
) -> Result<Daemon, LabError> {
    let path = installed_kubernetes(site.cache(), program)?;
    let (host, name) = (host.to_owned(), program.name().to_owned());
    Ok(Daemon { host, name, program: path, arguments, environment: Vec::new() })
}

/// etcd, kube-apiserver, and the relay by which clients on this machine reach it.
#[derive(Debug, Clone, Copy)]
pub struct Api;

impl Api {
    fn relay() -> Relay {
        Relay { service: "api", target: (CONTROL_PLANE, API_PORT).into() }
    }
}

impl Part for Api {
    fn name(&self) -> String {
        "API server".to_owned()
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::ApiServer]
    }

    fn places(&self) -> Vec<String> {
        let own = ["host", "etcd", "kube-apiserver"].map(|name| format!("{HOST}/{name}"));
        own.into_iter().chain([Self::relay().place()]).collect()
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        let host = Host::new(HOST, CONTROL_PLANE);
        host.start(site)?;
        let pki = site.pki()?;
        let data = site.disk(HOST).join("etcd");
        // Nobody else is on this host.
        let etcd = Etcd { data: &data, port: 2379, peer_port: 2380 };
        daemon(site, HOST, KubernetesProgram::Etcd, etcd.arguments())?.start(site)?;

        let addresses = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            &Ipv4Addr::LOCALHOST.to_string(),
            &CONTROL_PLANE.to_string(),
            API_SERVICE,
        ]
        .map(str::to_owned);
        let own =
            Identity { file: "api-server", common_name: "kube-apiserver", organization: None, addresses: &addresses };
        let arguments = ApiServerArguments {
            etcd: &etcd.url(),
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: API_PORT,
            advertise: Some(IpAddr::V4(CONTROL_PLANE)),
            pki: &pki,
            own: &pki.certificate(own)?,
            to_kubelets: &pki.client("to-kubelets", "kube-apiserver", Some("system:masters"))?,
            to_extensions: &pki.client("front-proxy", "front-proxy", None)?,
        };
        daemon(site, HOST, KubernetesProgram::ApiServer, arguments.arguments())?.start(site)?;

        let url = format!("https://127.0.0.1:{}", Self::relay().start(site)?);
        let admin = pki.client("admin", "admin", Some("system:masters"))?;
        write_kubeconfig(&site.kubeconfig(), &url, &pki, &admin)?;
        site.publish(
            "api",
            Address { machine: url, pods: "https://kubernetes.default.svc".to_owned(), properties: [].into() },
        )
    }

    fn ready(&self, site: &Site) -> Readiness {
        if !Host::new(HOST, CONTROL_PLANE).is_up(site) {
            return Readiness::NotYet("its host is not connected".to_owned());
        }
        wait_for(async {
            let client = client(&site.kubeconfig()).await.map_err(|error| error.to_string())?;
            readiness(&client).await
        })
        .into()
    }
}

/// kube-controller-manager and kube-scheduler. Each exits when the API server is not ready.
#[derive(Debug, Clone, Copy)]
pub struct Controllers;

/// The ports at which they say how they are: their usual ones, since the API server asks there.
const CONTROLLER_PORT: u16 = 10257;
const SCHEDULER_PORT: u16 = 10259;

impl Part for Controllers {
    fn name(&self) -> String {
        "controllers and scheduler".to_owned()
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::Cluster]
    }

    fn places(&self) -> Vec<String> {
        ["kube-controller-manager", "kube-scheduler"].map(|name| format!("{HOST}/{name}")).to_vec()
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        let pki = site.pki()?;
        let kubeconfig = |name: &str| {
            let certificate = pki.client(name, &format!("system:{name}"), None)?;
            let path = site.config(HOST, &format!("{name}.kubeconfig"))?;
            write_kubeconfig(&path, &inner_url(), &pki, &certificate)?;
            Ok::<_, LabError>(path)
        };
        // A node that says nothing for so long is taken for gone: soon enough for a test, and longer than a busy
        // machine makes a node wait.
        let patience = [("node-monitor-period", "2s"), ("node-monitor-grace-period", "20s")];
        let manager = controller_manager(&kubeconfig("kube-controller-manager")?, &pki, CONTROLLER_PORT, &patience);
        daemon(site, HOST, KubernetesProgram::ControllerManager, manager)?.start(site)?;
        let scheduler = scheduler(&kubeconfig("kube-scheduler")?, SCHEDULER_PORT);
        daemon(site, HOST, KubernetesProgram::Scheduler, scheduler)?.start(site)
    }

    fn ready(&self, site: &Site) -> Readiness {
        wait_for(async {
            let client = client(&site.kubeconfig()).await.map_err(|error| error.to_string())?;
            statuses(&client).await
        })
        .into()
    }
}

/// What the API server finds when it asks its own servers how they are.
async fn statuses(client: &kube::Client) -> Result<(), String> {
    use k8s_openapi::api::core::v1::ComponentStatus;
    let api: kube::Api<ComponentStatus> = kube::Api::all(client.clone());
    let all = api.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
    let unhealthy = all.items.iter().filter(|component| {
        let healthy = |condition: &k8s_openapi::api::core::v1::ComponentCondition| {
            condition.type_ == "Healthy" && condition.status == "True"
        };
        !component.conditions.iter().flatten().any(healthy)
    });
    let names: Vec<_> = unhealthy.filter_map(|component| component.metadata.name.clone()).collect();
    if names.is_empty() { Ok(()) } else { Err(format!("not healthy: {}", names.join(", "))) }
}
