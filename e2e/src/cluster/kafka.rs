//! Kafka's brokers, each on a host of its own. Services give them a name that pods know; relays give them ports on this
//! machine's loopback.
//!
//! A broker reads its settings once. When other ones are wanted than those it was started with (a cluster gets a
//! listener with TLS while it is up), it is ended, and started with them: the file of its settings is written between
//! the two, so that it never says what a running broker does not know.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::LabError;
use crate::install::{self, installed_kafka};
use crate::servers::copy_folder;
use crate::servers::kafka::{BrokerProperties, broker_command};

use super::address::{Address, KAFKA_PORT, SERVERS_NAMESPACE, broker};
use super::ask::ANSWER;
use super::extras::{Extra, sasl};
use super::host::{Daemon, Host};
use super::part::{Part, Readiness};
use super::pki::{read, write};
use super::relay::Relay;
use super::site::Site;
use super::spec::Spec;

/// The port at which a broker answers clients of this machine, who come through the relay.
const KAFKA_RELAYED_PORT: u16 = 19092;
const KAFKA_CONTROLLER_PORT: u16 = 9093;

/// One Kafka broker that is a controller too: the only one, or one of three that keep three copies of everything.
#[derive(Debug, Clone, Copy)]
pub struct Kafka {
    /// Its number, from 1.
    pub number: u8,
    /// How many there are.
    pub of: u8,
    /// Whether it listens with TLS and SCRAM too.
    pub sasl: bool,
}

impl Kafka {
    /// All of them.
    pub(super) fn all(spec: &Spec) -> impl Iterator<Item = Self> {
        let (of, sasl) = (spec.brokers, spec.extras.contains(&Extra::Sasl));
        (1..=of).map(move |number| Self { number, of, sasl })
    }

    /// It and the others.
    fn siblings(self) -> impl Iterator<Item = Self> {
        (1..=self.of).map(move |number| Self { number, ..self })
    }

    fn host(self) -> Host {
        Host::new(format!("kafka-{}", self.number), broker(self.number))
    }

    fn place(self) -> String {
        format!("{}/kafka", self.host().name)
    }

    fn relay(self) -> Relay {
        let service = match self.number {
            1 => "kafka",
            2 => "kafka-2",
            _ => "kafka-3",
        };
        Relay { service, target: (broker(self.number), KAFKA_RELAYED_PORT).into() }
    }

    /// The settings that it is to have.
    fn settings(self, site: &Site) -> Result<BrokerProperties, LabError> {
        let port = site.port(self.relay().service)?;
        let mut properties = BrokerProperties::new(KAFKA_PORT, KAFKA_CONTROLLER_PORT, &data(site, self));
        let mut listeners = listeners(self, port);
        if self.sasl {
            let relayed = site.port(sasl::relay(self.number).service)?;
            properties.set(sasl::settings(&keystore(site, self)?));
            sasl::add_listeners(&mut listeners, self.number, relayed);
        }
        properties.set(listeners);
        if self.of > 1 {
            properties.set(copies());
        }
        Ok(properties)
    }

    /// A formatted folder of its own: whole or not at all, since a broker refuses one that is half formatted.
    fn format(self, site: &Site, formatted: &Path) -> Result<(), LabError> {
        let data = data(site, self);
        let fresh = data.with_extension("fresh");
        if data.exists() {
            return Ok(());
        }
        fs::remove_dir_all(&fresh).ok();
        copy_folder(formatted, &fresh)?;
        let path = fresh.join("meta.properties");
        let text = fs::read_to_string(&path).map_err(LabError::file("reading", &path))?;
        fs::write(&path, identity(&text, self.number)).map_err(LabError::file("writing", &path))?;
        fs::rename(&fresh, &data).map_err(LabError::file("moving into place", &data))
    }
}

/// Where a broker keeps its records.
fn data(site: &Site, kafka: Kafka) -> PathBuf {
    site.disk(&kafka.host().name).join("log")
}

/// The file with a broker's key and certificate.
fn keystore(site: &Site, kafka: Kafka) -> Result<PathBuf, LabError> {
    site.config(&kafka.host().name, "keystore.pem")
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
        self.format(site, &installation.formatted)?;
        self.relay().start(site)?;
        if self.sasl {
            write(&keystore(site, *self)?, &sasl::keystore(&site.pki()?, self.number)?)?;
        }
        let (path, wanted) = (site.config(&host.name, "server.properties")?, self.settings(site)?.text());
        if !read(&path).is_ok_and(|there| there == wanted) {
            super::down::end(site, &|place| place == self.place())?;
            write(&path, &wanted)?;
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let command = broker_command(&installation, folder, &path, if self.of == 1 { 256 } else { 192 })?;
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
        let ports = self.siblings().map(|broker| site.port(broker.relay().service));
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
        self.answers(site).into()
    }
}

impl Kafka {
    /// Whether it has the settings that it is to have, and its brokers know it.
    fn answers(self, site: &Site) -> Result<(), String> {
        let text = |error: LabError| error.to_string();
        let there = read(&site.config(&self.host().name, "server.properties").map_err(text)?).map_err(text)?;
        if there != self.settings(site).map_err(text)?.text() {
            return Err("it was started with other settings than are wanted now".to_owned());
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", format!("127.0.0.1:{}", site.port(self.relay().service).map_err(text)?));
        knows(&config, self.number)
    }
}

/// Whether the brokers that `config` leads to know broker `number`.
pub(super) fn knows(config: &ClientConfig, number: u8) -> Result<(), String> {
    let consumer: BaseConsumer = config.create().map_err(|error| error.to_string())?;
    let metadata = consumer.fetch_metadata(None, ANSWER).map_err(|error| error.to_string())?;
    let there = metadata.brokers().iter().any(|broker| broker.id() == i32::from(number));
    if there { Ok(()) } else { Err("the brokers do not know it yet".to_owned()) }
}

/// A broker's listeners: one for pods, who reach it by its address, and one for this machine, whose clients come
/// through the relay at loopback port `relayed` and must be sent there again.
fn listeners(kafka: Kafka, relayed: u16) -> BTreeMap<&'static str, String> {
    let address = broker(kafka.number);
    let voters = kafka.siblings().map(|other| {
        let number = other.number;
        format!("{number}@{}:{KAFKA_CONTROLLER_PORT}", broker(number))
    });
    [
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
    .into()
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

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Kafka = Kafka { number: 1, of: 1, sasl: false };

    #[test]
    fn each_side_is_told_the_address_that_it_can_reach() {
        let mut told = listeners(ONE, 40_000);
        assert_eq!(told["advertised.listeners"], "PODS://172.30.0.21:9092,MACHINE://127.0.0.1:40000");
        let all_are_mapped = |told: &BTreeMap<&str, String>| {
            for listener in told["advertised.listeners"].split(',').chain(told["listeners"].split(',')) {
                let name = listener.split(':').next().unwrap_or_default();
                let map = &told["listener.security.protocol.map"];
                assert!(map.split(',').any(|mapped| mapped.starts_with(&format!("{name}:"))), "{name} is not in {map}");
            }
        };
        all_are_mapped(&told);
        sasl::add_listeners(&mut told, 1, 40_001);
        let advertised = &told["advertised.listeners"];
        assert!(advertised.ends_with(",PODS_TLS://172.30.0.21:9094,MACHINE_TLS://127.0.0.1:40001"), "{advertised}");
        all_are_mapped(&told);
    }

    #[test]
    fn brokers_differ_in_number_and_folder_and_agree_on_who_votes() {
        let first = "#\nnode.id=1\ndirectory.id=PkcmT7TX0UAWq9lTCG74Cw\nversion=1\ncluster.id=x\n";
        assert_eq!(identity(first, 1), first);
        let (second, third) = (identity(first, 2), identity(first, 3));
        assert!(second.contains("node.id=2\ndirectory.id=ckcmT7TX0UAWq9lTCG74Cw\nversion=1\ncluster.id=x"), "{second}");
        assert!(third.contains("node.id=3\ndirectory.id=dkcmT7TX0UAWq9lTCG74Cw\n"), "{third}");
        let three = Kafka { of: 3, ..ONE };
        let voters: Vec<_> =
            three.siblings().map(|kafka| listeners(kafka, 1)["controller.quorum.voters"].clone()).collect();
        assert_eq!(voters[0], "1@172.30.0.21:9093,2@172.30.0.22:9093,3@172.30.0.23:9093");
        assert!(voters.iter().all(|other| *other == voters[0]), "{voters:?}");
    }
}
