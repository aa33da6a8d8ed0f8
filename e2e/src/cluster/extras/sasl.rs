//! Kafka with TLS and SASL/SCRAM: each broker listens twice more, for pods and for this machine, and Kafka has a user.
//! The listeners without stay: the lab's own clients use them.
//!
//! The brokers' certificates are signed by the cluster's own authority.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use rdkafka::ClientConfig;

use crate::LabError;
use crate::install::command::run;
use crate::install::{self, installed_kafka};

use super::super::address::{Address, SERVERS_NAMESPACE, broker};
use super::super::kafka::knows;
use super::super::part::{Part, Readiness};
use super::super::pki::{Identity, Pki, read, write};
use super::super::relay::Relay;
use super::super::site::Site;
use super::{Extra, credential, credentials, user, where_credentials_are};

/// The port at which a broker answers clients of this machine, who come through the relay.
const RELAYED_PORT: u16 = 19094;
/// The folder of its credentials, and the name of its Secret.
pub(in super::super) const CREDENTIALS: &str = "kafka";
/// The listener for pods, and that for this machine.
const LISTENERS: [&str; 2] = ["PODS_TLS", "MACHINE_TLS"];
/// What a client may prove that it knows the password by.
const MECHANISMS: [&str; 2] = ["SCRAM-SHA-512", "SCRAM-SHA-256"];

/// The relay to broker `number`.
pub(in super::super) fn relay(number: u8) -> Relay {
    let service = match number {
        1 => "kafka-tls",
        2 => "kafka-tls-2",
        _ => "kafka-tls-3",
    };
    Relay { service, target: (broker(number), RELAYED_PORT).into() }
}

/// Adds the listeners of broker `number`, which this machine's clients reach at loopback port `relayed`.
pub(in super::super) fn add_listeners(listeners: &mut BTreeMap<&'static str, String>, number: u8, relayed: u16) {
    let (address, port, [pods, machine]) = (broker(number), Extra::Sasl.port(), LISTENERS);
    let more = [
        ("listeners", format!(",{pods}://{address}:{port},{machine}://{address}:{RELAYED_PORT}")),
        ("advertised.listeners", format!(",{pods}://{address}:{port},{machine}://127.0.0.1:{relayed}")),
        ("listener.security.protocol.map", format!(",{pods}:SASL_SSL,{machine}:SASL_SSL")),
    ];
    for (name, more) in more {
        listeners.entry(name).or_default().push_str(&more);
    }
}

/// The other settings of a broker, whose key and certificate are in the file `keystore`.
pub(in super::super) fn settings(keystore: &Path) -> Vec<(String, String)> {
    let mut all = vec![
        ("sasl.enabled.mechanisms".to_owned(), MECHANISMS.join(",")),
        ("ssl.keystore.type".to_owned(), "PEM".to_owned()),
        ("ssl.keystore.location".to_owned(), keystore.display().to_string()),
    ];
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    for (listener, mechanism) in LISTENERS.iter().flat_map(|listener| MECHANISMS.map(|mechanism| (listener, mechanism)))
    {
        let (listener, mechanism) = (listener.to_lowercase(), mechanism.to_lowercase());
        all.push((format!("listener.name.{listener}.{mechanism}.sasl.jaas.config"), module.to_owned()));
    }
    all
}

/// The key and the certificate of broker `number`, in one text.
pub(in super::super) fn keystore(pki: &Pki, number: u8) -> Result<String, LabError> {
    let file = format!("kafka-{number}");
    let service = format!("kafka.{SERVERS_NAMESPACE}");
    let addresses = [
        "kafka".to_owned(),
        service.clone(),
        format!("{service}.svc"),
        format!("{service}.svc.cluster.local"),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        broker(number).to_string(),
    ];
    let own =
        pki.certificate(Identity { file: &file, common_name: &file, organization: None, addresses: &addresses })?;
    Ok(read(&own.key)? + &read(&own.certificate)?)
}

/// Kafka's user, and the relays to the listeners of the brokers.
#[derive(Debug, Clone, Copy)]
pub struct Sasl {
    /// How many brokers there are.
    pub brokers: u8,
}

impl Sasl {
    fn relays(self) -> impl Iterator<Item = (u8, Relay)> {
        (1..=self.brokers).map(|number| (number, relay(number)))
    }

    /// Has Kafka know the user's password, for one mechanism: it takes no two of a user at once.
    fn make_user(site: &Site, mechanism: &str) -> Result<(), LabError> {
        let (name, password) = user(site, CREDENTIALS)?;
        // A file of its own: everybody sees what a program is called with.
        let settings = credentials(site, CREDENTIALS).join("scram.properties");
        write(&settings, &format!("{mechanism}=password={password}\n"))?;
        let jars = installed_kafka(site.cache())?.jars;
        let mut java = Command::new("java");
        java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-cp"]);
        java.arg(format!("{}/*", jars.display())).arg("kafka.admin.ConfigCommand");
        java.args(["--bootstrap-server", &format!("127.0.0.1:{}", site.port("kafka")?)]);
        java.args(["--alter", "--entity-type", "users", "--entity-name", &name, "--add-config-file"]).arg(&settings);
        let made = run(&mut java).map(drop);
        std::fs::remove_file(&settings).ok();
        made
    }

    /// The settings of a client that comes in by `relay`.
    fn client(site: &Site, relay: Relay) -> Result<ClientConfig, LabError> {
        let (name, password) = user(site, CREDENTIALS)?;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", format!("127.0.0.1:{}", site.port(relay.service)?))
            .set("security.protocol", "SASL_SSL")
            .set("sasl.mechanism", MECHANISMS[0])
            .set("sasl.username", name)
            .set("sasl.password", password)
            .set("ssl.ca.location", authority(site).display().to_string())
            // What it says while the user is not known yet is no news.
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        Ok(config)
    }
}

/// The certificate that a client trusts.
fn authority(site: &Site) -> std::path::PathBuf {
    credentials(site, CREDENTIALS).join("ca.crt")
}

impl Part for Sasl {
    fn name(&self) -> String {
        "Kafka with TLS and SCRAM".to_owned()
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::Kafka]
    }

    fn places(&self) -> Vec<String> {
        self.relays().map(|(_, relay)| relay.place()).collect()
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        let ports: Vec<u16> = self.relays().map(|(_, relay)| relay.start(site)).collect::<Result<_, _>>()?;
        let (name, password) = user(site, CREDENTIALS)?;
        let pki = site.pki()?;
        credential(site, CREDENTIALS, "ca.crt", || read(&pki.authority().certificate))?;
        MECHANISMS.iter().try_for_each(|mechanism| Self::make_user(site, mechanism))?;
        let properties = [
            ("securityProtocol", "SASL_SSL"),
            ("mechanism", MECHANISMS[0]),
            ("username", &name),
            ("password", &password),
            ("caFile", &authority(site).display().to_string()),
        ];
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter();
        site.publish(
            Extra::Sasl.name(),
            Address {
                machine: ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(","),
                pods: format!("kafka.{SERVERS_NAMESPACE}.svc:{}", Extra::Sasl.port()),
                properties: properties.chain(where_credentials_are(site, CREDENTIALS)).collect(),
            },
        )
    }

    fn ready(&self, site: &Site) -> Readiness {
        let each = self.relays().try_for_each(|(number, relay)| {
            let config = Self::client(site, relay).map_err(|error| error.to_string())?;
            knows(&config, number).map_err(|error| format!("broker {number}: {error}"))
        });
        each.into()
    }
}
