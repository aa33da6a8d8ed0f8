//! What a cluster may have besides what every cluster has: each one flag of `freshet-lab cluster up`.
//!
//! ```text
//! sasl.rs        Kafka listens once more, with TLS and SCRAM, and has a user
//! registry.rs    a schema registry that speaks as Confluent's does
//! postgres.rs    Postgres with logical replication
//! prometheus.rs  Prometheus, which asks the pods that have metrics
//! targets.rs     which pods these are
//! secrets.rs     what a client needs to be let in, as Secrets of the cluster
//! ```

pub(super) mod postgres;
pub(super) mod prometheus;
pub(super) mod registry;
pub(super) mod sasl;
pub(super) mod secrets;
pub(super) mod targets;

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::LabError;

use super::address::{SERVERS_NAMESPACE, extra};
use super::pki::{read, write};
use super::site::Site;

/// An extra.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extra {
    /// Kafka with TLS and SASL/SCRAM, beside the listener without.
    Sasl,
    /// A schema registry.
    Registry,
    /// Postgres.
    Postgres,
    /// Prometheus.
    Prometheus,
}

impl Extra {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sasl, Self::Registry, Self::Postgres, Self::Prometheus];

    /// Its name among the addresses of a cluster, and as a Service.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sasl => "kafka-tls",
            Self::Registry => "registry",
            Self::Postgres => "postgres",
            Self::Prometheus => "prometheus",
        }
    }

    /// Its port for pods.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Sasl => 9094,
            Self::Registry => 8080,
            Self::Postgres => 5432,
            Self::Prometheus => 9090,
        }
    }

    /// The address of its host; Kafka's listener is at the brokers' own.
    pub(super) fn address(self) -> Ipv4Addr {
        match self {
            Self::Sasl => super::address::broker(1),
            Self::Registry => extra(1),
            Self::Postgres => extra(2),
            Self::Prometheus => extra(3),
        }
    }
}

/// The folder of what a client of `server` needs to be let in, in which each file is one thing.
#[must_use]
pub fn credentials(site: &Site, server: &str) -> PathBuf {
    site.folder().join("credentials").join(server)
}

/// The property of an address that names the folder of its credentials.
pub(super) const FOLDER: &str = "credentials";
/// The property of an address that names the Secret with the same: `NAMESPACE/NAME`.
pub(super) const SECRET: &str = "secret";

/// Both, for an address.
fn where_credentials_are(site: &Site, server: &str) -> [(String, String); 2] {
    let folder = credentials(site, server).display().to_string();
    [(FOLDER.to_owned(), folder), (SECRET.to_owned(), format!("{SERVERS_NAMESPACE}/{server}"))]
}

/// One thing that a client of `server` needs: what is in its file, or what `make` makes when there is none.
fn credential(
    site: &Site,
    server: &str,
    name: &str,
    make: impl FnOnce() -> Result<String, LabError>,
) -> Result<String, LabError> {
    let folder = credentials(site, server);
    let path = folder.join(name);
    if path.exists() {
        return read(&path);
    }
    fs::create_dir_all(&folder).map_err(LabError::file("making", &folder))?;
    let made = make()?;
    write(&path, &made)?;
    Ok(made)
}

/// The user that every extra with users has.
const USER: &str = "freshet";

/// The name and the password of a server's user, made when they are first asked for.
fn user(site: &Site, server: &str) -> Result<(String, String), LabError> {
    let name = credential(site, server, "username", || Ok(USER.to_owned()))?;
    let password = credential(site, server, "password", || Ok(format!("{:032x}", rand::random::<u128>())))?;
    Ok((name, password))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::Cache;
    use crate::servers::Scratch;

    #[test]
    fn a_password_is_kept_and_is_a_cluster_s_own() {
        let scratch = Scratch::new("credentials").expect("a scratch folder");
        let site = |name: &str| Site::new(&scratch.path().join(name), Cache::new("/nowhere")).expect("a folder");
        let (one, other) = (site("one"), site("other"));
        let first = user(&one, "kafka").expect("it is made");
        assert_eq!(user(&one, "kafka").expect("it is there"), first);
        assert_ne!(user(&other, "kafka").expect("it is made"), first);
        assert_ne!(user(&one, "postgres").expect("it is made"), first);
        assert_eq!(first.1.len(), 32);
    }

    #[test]
    fn nobody_shares_an_address_or_a_name() {
        let own: Vec<_> = Extra::ALL.iter().filter(|extra| **extra != Extra::Sasl).collect();
        let addresses: std::collections::BTreeSet<_> = own.iter().map(|extra| extra.address()).collect();
        let names: std::collections::BTreeSet<_> = own.iter().map(|extra| extra.name()).collect();
        assert_eq!((addresses.len(), names.len()), (own.len(), own.len()));
    }
}
