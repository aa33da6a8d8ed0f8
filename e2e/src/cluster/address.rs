//! Who has which address, and how clients are told. The network of the hosts exists only between their network
//! namespaces: any number of clusters may use the same addresses at once.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The address of the switch, which is everybody's gateway.
pub const SWITCH: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// The control plane's.
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 2);
/// The S3 server's.
pub const S3: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 3);
/// How many bits of an address name the network of the hosts.
pub const PREFIX: u8 = 24;
/// All pods of all nodes.
pub const POD_CIDR: &str = "10.244.0.0/16";
/// The API server's port on its host.
pub const API_PORT: u16 = 6443;
/// The brokers' port for pods.
pub const KAFKA_PORT: u16 = 9092;
/// The S3 server's port for pods.
pub const S3_PORT: u16 = 7070;
/// The namespace of the Services that name Kafka and S3.
pub const SERVERS_NAMESPACE: &str = "freshet-servers";

/// The most nodes that a cluster has.
pub const MOST_NODES: u8 = 9;

/// The address of node `number`, from 1.
#[must_use]
pub fn node(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, 10 + number)
}

/// The address of broker `number`, from 1.
#[must_use]
pub fn broker(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, 20 + number)
}

/// The address of extra server `number`, from 1: of whatever is added to a cluster besides Kafka and S3.
#[must_use]
pub fn extra(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, 40 + number)
}

/// The pods of node `number`.
#[must_use]
pub fn pods_of(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// Where clients find what a cluster runs: the content of `addresses.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Service name (`api`, `kafka`, `s3`, …) → where it is.
    pub services: BTreeMap<String, Address>,
}

/// Where one service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// For clients on this machine.
    pub machine: String,
    /// For clients in pods.
    pub pods: String,
    /// What else a client needs, for instance an access key; only test data is behind it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_shares_an_address() {
        let all: Vec<_> = (1..=MOST_NODES)
            .flat_map(|number| [node(number), broker(number), extra(number)])
            .chain([SWITCH, CONTROL_PLANE, S3])
            .collect();
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let address = Address { machine: "127.0.0.1:1".into(), pods: "kafka:9092".into(), properties: BTreeMap::new() };
        let addresses = Addresses { services: [("kafka".to_owned(), address)].into() };
        let text = serde_json::to_string(&addresses).expect("it is plain data");
        assert_eq!(serde_json::from_str::<Addresses>(&text).expect("its own text"), addresses);
    }
}
