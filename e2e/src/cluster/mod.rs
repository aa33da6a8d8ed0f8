//! A real Kubernetes on one machine, with Kafka and S3 beside it: no virtual machine, no image registry, no account.
//!
//! ```text
//!   this machine          namespaces
//!   ------------          ----------------------------------------------------------------------------
//!   127.0.0.1:port  --->  lan: the switch; relays     cp       etcd, API server, controllers, scheduler
//!                          |        |        |        n1, n2   containerd, kubelet, kube-proxy, pods
//!                          cp      n1 …   kafka-1 …   kafka-1  a broker
//!                                                     s3       the object store
//! ```
//!
//! A *host* is one set of pid, mount, network, uts and ipc namespaces; its process 1 ends everything in it. A *place* is
//! a process on a host, as in `cp/etcd`. A *part* is some places that are started together and are ready together. A
//! *site* is the folder of one cluster.
//!
//! ```text
//! part.rs       what a part is, and how parts are brought up        down.rs    how everything ends
//! marks.rs      which processes are the cluster's                   site.rs    its folder
//! host.rs       hosts, cables, daemons                              relay.rs   from loopback into the cluster
//! address.rs    who has which address                               spec.rs    what was asked for
//! switch.rs api.rs node.rs dns.rs kafka.rs store.rs names.rs        the parts that every cluster has
//! extras/                                                            those that are asked for
//! pki.rs kubeconfig.rs arguments.rs client.rs ask.rs images.rs      what they need
//! handle.rs shared.rs cli.rs                                         who uses a cluster
//! apiserver.rs  etcd and kube-apiserver alone, on loopback: for tests that need no node
//! ```
//!
//! Nothing remembers what runs: the processes carry marks. So whoever was killed half-way through starting or ending a
//! cluster starts or ends it again.

pub mod address;
mod api;
pub mod apiserver;
mod arguments;
mod ask;
pub mod cli;
mod client;
mod dns;
mod down;
mod extras;
mod handle;
mod host;
mod images;
mod kafka;
mod kubeconfig;
mod marks;
mod names;
mod node;
pub mod part;
mod pki;
mod relay;
mod shared;
mod site;
mod spec;
mod status;
mod store;
mod switch;

pub use address::{Address, Addresses};
pub use apiserver::{ApiServer, ApiServerOptions, SharedApiServer};
pub use client::{client, readiness, wait_for};
pub use down::take_down;
pub use extras::targets::serve as serve_targets;
pub use extras::{Extra, credentials};
pub use handle::Cluster;
pub use host::{Daemon, Host, run_on};
pub use part::{Part, Progress, Readiness};
pub use pki::{CertificateFiles, Identity, Pki};
pub use relay::serve as serve_relay;
pub use shared::SharedCluster;
pub use site::{Presence, Site};
pub use spec::Spec;
pub use status::{PartStatus, PlaceStatus, status};

use crate::LabError;
use crate::install::{self, install_missing};

/// The parts of a cluster, in the stages in which they are started: those of one stage do not need each other.
#[must_use]
pub fn stages(spec: &Spec) -> Vec<Vec<Box<dyn Part>>> {
    let nodes = 1..=spec.nodes;
    let mut first: Vec<Box<dyn Part>> = vec![Box::new(store::ObjectStore), Box::new(api::Api)];
    first.extend(kafka::Kafka::all(spec).map(|broker| Box::new(broker) as Box<dyn Part>));
    first.extend(nodes.clone().map(|node| Box::new(node::Runtime { node }) as Box<dyn Part>));
    let mut second: Vec<Box<dyn Part>> = vec![Box::new(api::Controllers), Box::new(names::Names::of(spec))];
    second.extend(nodes.map(|number| Box::new(node::Node { number }) as Box<dyn Part>));
    let mut third: Vec<Box<dyn Part>> = vec![Box::new(dns::Dns)];
    let mut secrets = Vec::new();
    for extra in &spec.extras {
        match extra {
            Extra::Sasl => {
                second.push(Box::new(extras::sasl::Sasl { brokers: spec.brokers }));
                secrets.push(extras::sasl::CREDENTIALS);
            }
            Extra::Registry => second.push(Box::new(extras::registry::Registry)),
            Extra::Postgres => {
                second.push(Box::new(extras::postgres::Postgres));
                secrets.push(extras::postgres::CREDENTIALS);
            }
            Extra::Prometheus => second.push(Box::new(extras::prometheus::Prometheus)),
        }
    }
    if !secrets.is_empty() {
        third.push(Box::new(extras::secrets::Secrets { servers: secrets }));
    }
    vec![vec![Box::new(switch::Switch)], first, second, third]
}

/// Replaces `@NAME@` in a template by its value.
fn fill(template: &str, settings: &[(&str, String)]) -> String {
    settings.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}

/// Brings the cluster of `site` up as `asked`, or as it was when that was more: installs what is missing, and starts
/// what does not run. What is up stays untouched.
///
/// # Errors
/// The first part that could not be installed or started, or was not ready in time.
pub fn up(site: &Site, asked: &Spec, report: &mut dyn FnMut(Progress<'_>)) -> Result<Cluster, LabError> {
    asked.check()?;
    let _lock = site.lock()?;
    let spec = match site.spec()? {
        None => asked.clone(),
        Some(there) => {
            there.check_growth(asked)?;
            there.grown_to(asked)
        }
    };
    let stages = stages(&spec);
    let mut needs: Vec<install::Part> = stages.iter().flatten().flat_map(|part| part.needs()).copied().collect();
    needs.push(install::Part::Pods);
    install_missing(site.cache(), &needs)?;
    site.keep_spec(&spec)?;
    for stage in &stages {
        part::bring_up(site, stage, report)?;
    }
    Cluster::at(site.clone())
}
