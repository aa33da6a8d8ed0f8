//! What is not part of Kubernetes but beside it: Kafka and S3 on hosts of their own, as a company's are. Services
//! give them names that pods know; relays give them ports on this machine's loopback.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
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

/// One Kafka broker that is a controller too: the only one, or one of three that keep three copies of everything.
#[derive(Debug, Clone, Copy)]
pub struct Kafka {
    /// Its number, from 1.
    pub number: u8,
    /// How many there are.
    pub of: u8,
}

impl Kafka {
    /// All of them.
    pub(super) fn all(count: u8) -> impl Iterator<Item = Self> {
        (1..=count).map(move |number| Self { number, of: count })
    }

    fn host(self) -> Host {
        Host::new(format!("kafka-{}", self.number), broker(self.number))
    }

    fn relay(self) -> Relay {
        let service = match self.number {
            1 => "kafka",
            2 => "kafka-2",
            _ => "kafka-3",
        };
        Relay { service, target: (broker(self.number), KAFKA_RELAYED_PORT).into() }
    }

    /// A formatted folder of its own: whole or not at all, since a broker refuses one that is half formatted.
    fn format(self, formatted: &Path, disk: &Path) -> Result<PathBuf, LabError> {
        let (data, fresh) = (disk.join("log"), disk.join("log.fresh"));
        if data.exists() {
            return Ok(data);
        }
        fs::remove_dir_all(&fresh).ok();
        copy_folder(formatted, &fresh)?;
        let path = fresh.join("meta.properties");
        let text = fs::read_to_string(&path).map_err(LabError::file("reading", &path))?;
        fs::write(&path, identity(&text, self.number)).map_err(LabError::file("writing", &path))?;
        fs::rename(&fresh, &data).map_err(LabError::file("moving into place", &data))?;
        Ok(data)
    }
}

/// The identity of broker `number`, from that of the first: brokers of one cluster differ in their number and in the
/// id of their folder, which is 16 bytes in letters.
fn identity(first: &str, number: u8) -> String {
    let line = |line: &str| match line.split_once('=') {
        Some(("node.id", _)) => format!("node.id={number}\n"),
        Some(("directory.id", id)) if number > 1 => {
            // Another letter in front is another id.
            let letter = char::from(b'a' + number);
            let other = if id.starts_with(letter) { 'Z' } else { letter };
            format!("directory.id={other}{}\n", id.get(1..).unwrap_or_default())
        }
        _ => format!("{line}\n"),
    };
    first.lines().map(line).collect()
}

impl Part for Kafka {
    fn name(&self) -> String {
        if self.of == 1 { "Kafka".to_owned() } else { format!("Kafka broker {} of {}", self.number, self.of) }
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::Kafka]
    }

    fn places(&self) -> Vec<String> {
        let host = self.host().name;
        vec![format!("{host}/host"), format!("{host}/kafka"), self.relay().place()]
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        let (host, installation) = (self.host(), installed_kafka(site.cache())?);
        host.start(site)?;
        let data = self.format(&installation.formatted, &site.disk(&host.name))?;
        let port = self.relay().start(site)?;
        let mut properties = BrokerProperties::new(KAFKA_PORT, KAFKA_CONTROLLER_PORT, &data);
        properties.set(listeners(*self, port));
        if self.of > 1 {
            properties.set(copies());
        }
        let properties = properties.write(&site.config(&host.name, "server.properties")?)?;
        let folder = properties.parent().unwrap_or(Path::new("/")).to_owned();
        let command = broker_command(&installation, &folder, &properties, if self.of == 1 { 256 } else { 192 })?;
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
        let ports = Self::all(self.of).map(|broker| site.port(broker.relay().service));
        let machine = ports.map(|port| port.map(|port| format!("127.0.0.1:{port}"))).collect::<Result<Vec<_>, _>>()?;
        site.publish(
            "kafka",
            Address {
                machine: machine.join(","),
                pods: format!("kafka.{SERVERS_NAMESPACE}.svc:{KAFKA_PORT}"),
                properties: BTreeMap::new(),
            },
        )
    }

    fn ready(&self, site: &Site) -> Readiness {
        if !self.host().is_up(site) {
            return Readiness::NotYet("its host is not connected".to_owned());
        }
        let answer = site.port(self.relay().service).map_err(|error| error.to_string()).and_then(|port| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", format!("127.0.0.1:{port}"));
            let consumer: BaseConsumer = config.create().map_err(|error| error.to_string())?;
            let metadata = consumer.fetch_metadata(None, ANSWER).map_err(|error| error.to_string())?;
            let own = metadata.brokers().iter().any(|broker| broker.id() == i32::from(self.number));
            if own { Ok(()) } else { Err("the brokers do not know it yet".to_owned()) }
        });
        answer.into()
    }
}

/// A broker's listeners: one for pods, who reach it by its address, and one for this machine, whose clients come
/// through the relay at loopback port `relayed` and must be sent there again.
fn listeners(kafka: Kafka, relayed: u16) -> Vec<(&'static str, String)> {
    let address = broker(kafka.number);
    let voters = Kafka::all(kafka.of).map(|other| {
        let number = other.number;
        format!("{number}@{}:{KAFKA_CONTROLLER_PORT}", broker(number))
    });
    vec![
        ("node.id", kafka.number.to_string()),
        ("controller.quorum.voters", voters.collect::<Vec<_>>().join(",")),
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

/// What three brokers have besides: three copies of everything, two of them written before a write counts; and a
/// broker that is gone is noticed within seconds.
fn copies() -> Vec<(&'static str, String)> {
    let three = [
        "default.replication.factor",
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "share.coordinator.state.topic.replication.factor",
    ];
    let two = ["min.insync.replicas", "transaction.state.log.min.isr", "share.coordinator.state.topic.min.isr"];
    let times = [
        ("broker.heartbeat.interval.ms", "500"),
        ("broker.session.timeout.ms", "6000"),
        ("controller.quorum.election.timeout.ms", "2000"),
        ("controller.quorum.fetch.timeout.ms", "4000"),
        ("replica.lag.time.max.ms", "6000"),
    ];
    let three = three.map(|name| (name, "3".to_owned()));
    let two = two.map(|name| (name, "2".to_owned()));
    three.into_iter().chain(two).chain(times.map(|(name, value)| (name, value.to_owned()))).collect()
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
    /// Name → addresses, and the port.
    pub servers: Vec<(&'static str, Vec<Ipv4Addr>, u16)>,
}

impl Names {
    /// The names of S3 and of so many brokers.
    pub(super) fn of(brokers: u8) -> Self {
        let brokers = Kafka::all(brokers).map(|kafka| broker(kafka.number)).collect();
        Self { servers: vec![("kafka", brokers, KAFKA_PORT), ("s3", vec![S3], S3_PORT)] }
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
            match self.servers.iter().find(|(name, ..)| !has(name)) {
                None => Ok(()),
                Some((name, ..)) => Err(format!("{name} has no Service")),
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
        let items: Vec<Value> = [namespace]
            .into_iter()
            .chain(self.servers.iter().flat_map(|(name, at, port)| service(name, at, *port)))
            .collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
    }
}

/// A Service named `name` that leads to all of `at`, and the slice that says so.
fn service(name: &str, at: &[Ipv4Addr], port: u16) -> [Value; 2] {
    let metadata = |labels: Value| json!({"name": name, "namespace": SERVERS_NAMESPACE, "labels": labels});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(json!({})),
        "spec": {"ports": [{"name": name, "port": port, "protocol": "TCP"}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": metadata(json!({"kubernetes.io/service-name": name})),
        "addressType": "IPv4",
        "endpoints": at.iter().map(|at| json!({"addresses": [at], "conditions": {"ready": true}})).collect::<Vec<_>>(),
        "ports": [{"name": name, "port": port, "protocol": "TCP"}],
    });
    [service, slice]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_is_told_the_address_that_it_can_reach() {
        let told: BTreeMap<_, _> = listeners(Kafka { number: 1, of: 1 }, 40_000).into_iter().collect();
        assert_eq!(told["advertised.listeners"], "PODS://172.30.0.21:9092,MACHINE://127.0.0.1:40000");
        for listener in told["advertised.listeners"].split(',').chain(told["listeners"].split(',')) {
            let name = listener.split(':').next().unwrap_or_default();
            let map = &told["listener.security.protocol.map"];
            assert!(map.contains(&format!("{name}:")), "{name} is not in {map}");
        }
    }

    #[test]
    fn brokers_differ_in_number_and_folder_and_agree_on_who_votes() {
        let first = "#\nnode.id=1\ndirectory.id=PkcmT7TX0UAWq9lTCG74Cw\nversion=1\ncluster.id=x\n";
        assert_eq!(identity(first, 1), first);
        let (second, third) = (identity(first, 2), identity(first, 3));
        assert!(second.contains("node.id=2\ndirectory.id=ckcmT7TX0UAWq9lTCG74Cw\nversion=1\ncluster.id=x"), "{second}");
        assert!(third.contains("node.id=3\ndirectory.id=dkcmT7TX0UAWq9lTCG74Cw\n"), "{third}");
        let voters: Vec<_> = Kafka::all(3)
            .map(|kafka| {
                listeners(kafka, 1).into_iter().collect::<BTreeMap<_, _>>()["controller.quorum.voters"].clone()
            })
            .collect();
        assert_eq!(voters[0], "1@172.30.0.21:9093,2@172.30.0.22:9093,3@172.30.0.23:9093");
        assert!(voters.iter().all(|other| *other == voters[0]), "{voters:?}");
    }

    #[test]
    fn a_service_and_its_slice_belong_together() {
        let [service, slice] = service("kafka", &[broker(1)], KAFKA_PORT);
        assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], service["metadata"]["name"]);
        assert_eq!(slice["ports"][0]["name"], service["spec"]["ports"][0]["name"]);
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["172.30.0.21"]));
    }
}
