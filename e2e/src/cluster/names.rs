//! The names by which pods know servers that are not pods: a Service without a selector for each.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::LabError;
use crate::install;

use super::address::{KAFKA_PORT, S3, S3_PORT, SERVERS_NAMESPACE, broker};
use super::client::{client, wait_for};
use super::extras::Extra;
use super::kafka::Kafka;
use super::part::{Part, Readiness};
use super::site::Site;
use super::spec::Spec;

/// A server's name, and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    name: &'static str,
    at: Vec<Ipv4Addr>,
    /// Ports, with names that are theirs alone.
    ports: Vec<(&'static str, u16)>,
}

/// All names of a cluster.
#[derive(Debug, Clone)]
pub struct Names {
    names: Vec<Name>,
}

impl Names {
    /// Those of Kafka, S3 and extras.
    pub(super) fn of(spec: &Spec) -> Self {
        let brokers = Kafka::all(spec).map(|kafka| broker(kafka.number)).collect();
        let kafka = Name { name: "kafka", at: brokers, ports: vec![("kafka", KAFKA_PORT)] };
        let s3 = Name { name: "s3", at: vec![S3], ports: vec![("s3", S3_PORT)] };
        let mut names = vec![kafka, s3];
        for extra in &spec.extras {
            match extra {
                // The brokers listen once more.
                Extra::Sasl => names[0].ports.push((extra.name(), extra.port())),
                _ => names.push(Name {
                    name: extra.name(),
                    at: vec![extra.address()],
                    ports: vec![(extra.name(), extra.port())],
                }),
            }
        }
        Self { names }
    }

    fn manifest(&self) -> String {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SERVERS_NAMESPACE},
        });
        let items: Vec<Value> = [namespace].into_iter().chain(self.names.iter().flat_map(service)).collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
    }
}

impl Part for Names {
    fn name(&self) -> String {
        "names of servers".to_owned()
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::ApiServer]
    }

    fn places(&self) -> Vec<String> {
        Vec::new()
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        super::dns::apply(site, "servers.yaml", &self.manifest())
    }

    fn ready(&self, site: &Site) -> Readiness {
        wait_for(async {
            let client = client(&site.kubeconfig()).await.map_err(|error| error.to_string())?;
            let api: kube::Api<EndpointSlice> = kube::Api::namespaced(client, SERVERS_NAMESPACE);
            let there = api.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
            match self.names.iter().find(|name| !there.items.iter().any(|slice| leads_there(name, slice))) {
                None => Ok(()),
                Some(name) => Err(format!("{} has no Service", name.name)),
            }
        })
        .into()
    }

    fn stop(&self, _site: &Site) -> Result<(), LabError> {
        Ok(())
    }
}

/// Whether `slice` is that of `name`, and has all of its ports: a cluster gets extras while it is up.
fn leads_there(name: &Name, slice: &EndpointSlice) -> bool {
    let ports: BTreeSet<i32> = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
    slice.metadata.name.as_deref() == Some(name.name)
        && name.ports.iter().all(|(_, port)| ports.contains(&i32::from(*port)))
}

/// The Service of a name, and the slice that says where it leads.
fn service(name: &Name) -> [Value; 2] {
    let metadata = |labels: Value| json!({"name": name.name, "namespace": SERVERS_NAMESPACE, "labels": labels});
    let ports: Vec<Value> =
        name.ports.iter().map(|(name, port)| json!({"name": name, "port": port, "protocol": "TCP"})).collect();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(json!({})),
        "spec": {"ports": ports},
    });
    let ready = |at: &Ipv4Addr| json!({"addresses": [at], "conditions": {"ready": true}});
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": metadata(json!({"kubernetes.io/service-name": name.name})),
        "addressType": "IPv4",
        "endpoints": name.at.iter().map(ready).collect::<Vec<_>>(),
        "ports": ports,
    });
    [service, slice]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_and_its_slice_belong_together() {
        let spec = Spec { extras: Extra::ALL.into(), ..Spec::default() };
        for name in Names::of(&spec).names {
            let [service, slice] = service(&name);
            assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], service["metadata"]["name"]);
            assert_eq!(slice["ports"], service["spec"]["ports"]);
            let slice: EndpointSlice = serde_json::from_value(slice).expect("a slice");
            assert!(leads_there(&name, &slice), "{name:?}");
        }
    }

    #[test]
    fn a_slice_of_before_an_extra_came_is_not_enough() {
        let [_, old] = service(&Names::of(&Spec::default()).names[0]);
        let old: EndpointSlice = serde_json::from_value(old).expect("a slice");
        let sasl = Spec { extras: [Extra::Sasl].into(), ..Spec::default() };
        assert!(!leads_there(&Names::of(&sasl).names[0], &old));
        assert!(leads_there(&Names::of(&Spec::default()).names[0], &old));
    }
}
