//! What is not part of Kubernetes but beside it: Kafka and S3 on hosts of their own, as a company's are. Services
//! give them names that pods know; relays give them ports on this machine's loopback.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};

use crate::LabError;
use crate::install::{self, installed_kafka, installed_s3};
use crate::servers::kafka::{BrokerProperties, broker_command};
use crate::servers::{S3Server, copy_folder};

use super::address::{Address, KAFKA_PORT, S3, S3_PORT, SERVERS_NAMESPACE, broker};
use super::client::{client, wait_for};
use super::host::{Daemon, Host};
use super::part::{Part, Readiness};
use super::relay::Relay;
use super::site::Site;

/// The port at which a broker answers clients of this machine, who come through the relay.
const KAFKA_RELAYED_PORT: u16 = 19092;
const KAFKA_CONTROLLER_PORT: u16 = 9093;
/// How long one question to a server may take.
const ANSWER: Duration = Duration::from_secs(2);

/// One Kafka broker that is its own controller.
#[derive(Debug, Clone, Copy)]
pub struct Kafka;

impl Kafka {
    fn host() -> Host {
        Host::new("kafka-1", broker(1))
    }

    fn relay() -> Relay {
        Relay { service: "kafka", target: (broker(1), KAFKA_RELAYED_PORT).into() }
    }
}

impl Part for Kafka {
    fn name(&self) -> String {
        "Kafka".to_owned()
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::Kafka]
    }

    fn places(&self) -> Vec<String> {
        vec!["kafka-1/host".to_owned(), "kafka-1/kafka".to_owned(), Self::relay().place()]
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        let (host, installation) = (Self::host(), installed_kafka(site.cache())?);
        host.start(site)?;
        let disk = site.disk(&host.name);
        let data = disk.join("log");
        if !data.exists() {
            // Whole or not at all: a broker refuses a folder that is half formatted.
            let fresh = disk.join("log.fresh");
            fs::remove_dir_all(&fresh).ok();
            copy_folder(&installation.formatted, &fresh)?;
            fs::rename(&fresh, &data).map_err(LabError::file("moving into place", &data))?;
        }
        let port = Self::relay().start(site)?;
        let mut properties = BrokerProperties::new(KAFKA_PORT, KAFKA_CONTROLLER_PORT, &data);
        properties.set(listeners(broker(1), port));
        let properties = properties.write(&site.config(&host.name, "server.properties")?)?;
        let folder = properties.parent().unwrap_or(Path::new("/")).to_owned();
        let command = broker_command(&installation, &folder, &properties, 256)?;
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        Daemon {
            host: host.name,
            name: "kafka".to_owned(),
            program: command.get_program().into(),
            arguments: words.collect(),
            // Its figures about itself would be at a path that hosts share.
            environment: vec![("JDK_JAVA_OPTIONS".to_owned(), "-XX:-UsePerfData".to_owned())],
        }
        .start(site)?;
        site.publish(
            "kafka",
            Address {
                machine: format!("127.0.0.1:{port}"),
                pods: format!("kafka.{SERVERS_NAMESPACE}.svc:{KAFKA_PORT}"),
                properties: BTreeMap::new(),
            },
        )
    }

    fn ready(&self, site: &Site) -> Readiness {
        if !Self::host().is_up(site) {
            return Readiness::NotYet("its host is not connected".to_owned());
        }
        let answer = site.port("kafka").map_err(|error| error.to_string()).and_then(|port| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", format!("127.0.0.1:{port}"));
            let consumer: BaseConsumer = config.create().map_err(|error| error.to_string())?;
            let metadata = consumer.fetch_metadata(None, ANSWER).map_err(|error| error.to_string())?;
            if metadata.brokers().is_empty() { Err("it knows no broker".to_owned()) } else { Ok(()) }
        });
        answer.into()
    }
}

/// A broker's listeners: one for pods, who reach it by its address, and one for this machine, whose clients come
/// through the relay at loopback port `relayed` and must be sent there again.
fn listeners(address: Ipv4Addr, relayed: u16) -> Vec<(&'static str, String)> {
    vec![
        ("controller.quorum.voters", format!("1@{address}:{KAFKA_CONTROLLER_PORT}")),
        (
            "listeners",
            format!(
                "PODS://{address}:{KAFKA_PORT},MACHINE://{address}:{KAFKA_RELAYED_PORT},\
                 CONTROLLER://{address}:{KAFKA_CONTROLLER_PORT}"
            ),
        ),
        ("advertised.listeners", format!("PODS://{address}:{KAFKA_PORT},MACHINE://127.0.0.1:{relayed}")),
        ("listener.security.protocol.map", "PODS:PLAINTEXT,MACHINE:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned()),
        ("inter.broker.listener.name", "PODS".to_owned()),
    ]
}

/// The S3 server.
#[derive(Debug, Clone, Copy)]
pub struct ObjectStore;

/// The bucket that is there from the start.
const BUCKET: &str = "freshet";

impl ObjectStore {
    fn host() -> Host {
        Host::new("s3", S3)
    }

    fn relay() -> Relay {
        Relay { service: "s3", target: (S3, S3_PORT).into() }
    }
}

impl Part for ObjectStore {
    fn name(&self) -> String {
        "S3".to_owned()
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::S3]
    }

    fn places(&self) -> Vec<String> {
        vec!["s3/host".to_owned(), "s3/versitygw".to_owned(), Self::relay().place()]
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        let host = Self::host();
        host.start(site)?;
        let objects = site.disk(&host.name).join("objects");
        let bucket = objects.join(BUCKET);
        fs::create_dir_all(&bucket).map_err(LabError::file("making", &bucket))?;
        let arguments = S3Server::arguments(SocketAddr::from((Ipv4Addr::UNSPECIFIED, S3_PORT)), &objects);
        Daemon {
            host: host.name,
            name: "versitygw".to_owned(),
            program: installed_s3(site.cache())?,
            arguments,
            environment: Vec::new(),
        }
        .start(site)?;
        let port = Self::relay().start(site)?;
        let properties = [
            ("accessKey", S3Server::ACCESS_KEY),
            ("secretKey", S3Server::SECRET_KEY),
            ("region", S3Server::REGION),
            ("bucket", BUCKET),
        ];
        site.publish(
            "s3",
            Address {
                machine: format!("http://127.0.0.1:{port}"),
                pods: format!("http://s3.{SERVERS_NAMESPACE}.svc:{S3_PORT}"),
                properties: properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            },
        )
    }

    fn ready(&self, site: &Site) -> Readiness {
        if !Self::host().is_up(site) {
            return Readiness::NotYet("its host is not connected".to_owned());
        }
        site.port("s3").map_err(|error| error.to_string()).and_then(is_healthy).into()
    }
}

/// Asks the S3 server behind loopback port `port` how it is.
fn is_healthy(port: u16) -> Result<(), String> {
    use std::io::{Read, Write};
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: s3\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer.lines().next().unwrap_or_default().to_owned())
    };
    match ask() {
        Ok(line) if line.contains(" 200 ") => Ok(()),
        Ok(line) => Err(format!("/health says `{line}`")),
        Err(error) => Err(format!("/health: {error}")),
    }
}

/// The names by which pods know servers that are not pods: a Service without a selector for each.
#[derive(Debug, Clone)]
pub struct Names {
    /// Name → address and port.
    pub servers: Vec<(&'static str, SocketAddr)>,
}

impl Default for Names {
    fn default() -> Self {
        Self { servers: vec![("kafka", (broker(1), KAFKA_PORT).into()), ("s3", (S3, S3_PORT).into())] }
    }
}

impl Part for Names {
    fn name(&self) -> String {
        "names of Kafka and S3".to_owned()
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
            let api: kube::Api<k8s_openapi::api::discovery::v1::EndpointSlice> =
                kube::Api::namespaced(client, SERVERS_NAMESPACE);
            let there = api.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
            let has = |name: &str| there.items.iter().any(|slice| slice.metadata.name.as_deref() == Some(name));
            match self.servers.iter().find(|(name, _)| !has(name)) {
                None => Ok(()),
                Some((name, _)) => Err(format!("{name} has no Service")),
            }
        })
        .into()
    }

    fn stop(&self, _site: &Site) -> Result<(), LabError> {
        Ok(())
    }
}

impl Names {
    fn manifest(&self) -> String {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SERVERS_NAMESPACE},
        });
        let items: Vec<Value> =
            [namespace].into_iter().chain(self.servers.iter().flat_map(|&(name, at)| service(name, at))).collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
    }
}

/// A Service named `name` that leads to `at`, and the slice that says so.
fn service(name: &str, at: SocketAddr) -> [Value; 2] {
    let metadata = |labels: Value| json!({"name": name, "namespace": SERVERS_NAMESPACE, "labels": labels});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(json!({})),
        "spec": {"ports": [{"name": name, "port": at.port(), "protocol": "TCP"}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": metadata(json!({"kubernetes.io/service-name": name})),
        "addressType": "IPv4",
        "endpoints": [{"addresses": [at.ip()], "conditions": {"ready": true}}],
        "ports": [{"name": name, "port": at.port(), "protocol": "TCP"}],
    });
    [service, slice]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_is_told_the_address_that_it_can_reach() {
        let told: BTreeMap<_, _> = listeners(broker(1), 40_000).into_iter().collect();
        assert_eq!(told["advertised.listeners"], "PODS://172.30.0.21:9092,MACHINE://127.0.0.1:40000");
        for listener in told["advertised.listeners"].split(',').chain(told["listeners"].split(',')) {
            let name = listener.split(':').next().unwrap_or_default();
            let map = &told["listener.security.protocol.map"];
            assert!(map.contains(&format!("{name}:")), "{name} is not in {map}");
        }
    }

    #[test]
    fn a_service_and_its_slice_belong_together() {
        let [service, slice] = service("kafka", (broker(1), KAFKA_PORT).into());
        assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], service["metadata"]["name"]);
        assert_eq!(slice["ports"][0]["name"], service["spec"]["ports"][0]["name"]);
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["172.30.0.21"]));
    }
}
