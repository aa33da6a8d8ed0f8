//! Postgres: Debian's, with logical replication, run as its own user on a host of its own.

use std::process::Command;

use crate::LabError;
use crate::install::command::run;
use crate::install::{self, POSTGRES_PROGRAMS};

use super::super::address::{Address, SERVERS_NAMESPACE};
use super::super::host::{Daemon, Host};
use super::super::part::{Part, Readiness};
use super::super::relay::Relay;
use super::super::site::{Presence, Site};
use super::{Extra, credentials, user, where_credentials_are};

/// The folder of its credentials, and the name of its Secret.
pub(in super::super) const CREDENTIALS: &str = "postgres";
/// The database that is there from the start.
const DATABASE: &str = "postgres";
const SCRIPT: &str = include_str!("../../../assets/cluster/postgres.sh");

/// Postgres.
#[derive(Debug, Clone, Copy)]
pub struct Postgres;

impl Postgres {
    fn host() -> Host {
        Host::new("postgres", Extra::Postgres.address())
    }

    fn relay() -> Relay {
        Relay { service: Extra::Postgres.name(), target: (Extra::Postgres.address(), Extra::Postgres.port()).into() }
    }

    /// Asks it what a change in it leaves in its log.
    fn wal_level(site: &Site) -> Result<String, LabError> {
        let (name, password) = user(site, CREDENTIALS)?;
        let mut psql = Command::new(format!("{POSTGRES_PROGRAMS}/psql"));
        psql.args(["-h", "127.0.0.1", "-p", &site.port(Self::relay().service)?.to_string(), "-U", &name]);
        psql.args(["-d", DATABASE, "-tAc", "SHOW wal_level"]);
        run(psql.env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "2"))
    }
}

impl Part for Postgres {
    fn name(&self) -> String {
        "Postgres".to_owned()
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::Postgres]
    }

    fn places(&self) -> Vec<String> {
        vec![Self::host().place(), "postgres/postgres".to_owned(), Self::relay().place()]
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        let (host, (name, password)) = (Self::host(), user(site, CREDENTIALS)?);
        // What a server that was killed leaves behind keeps another one off its data, and ends with the host.
        if site.presence("postgres/postgres") == Presence::Absent {
            super::super::down::end(site, &|place| place == host.place())?;
        }
        host.start(site)?;
        let arguments = [
            "-c",
            SCRIPT,
            "postgres",
            POSTGRES_PROGRAMS,
            &site.disk(&host.name).display().to_string(),
            &name,
            &credentials(site, CREDENTIALS).join("password").display().to_string(),
            &Extra::Postgres.port().to_string(),
        ];
        Daemon {
            host: host.name,
            name: "postgres".to_owned(),
            program: "sh".into(),
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: Vec::new(),
        }
        .start(site)?;
        let port = Self::relay().start(site)?;
        let properties = [("username", name), ("password", password), ("database", DATABASE.to_owned())];
        let properties = properties.map(|(name, value)| (name.to_owned(), value)).into_iter();
        site.publish(
            Extra::Postgres.name(),
            Address {
                machine: format!("127.0.0.1:{port}"),
                pods: format!("postgres.{SERVERS_NAMESPACE}.svc:{}", Extra::Postgres.port()),
                properties: properties.chain(where_credentials_are(site, CREDENTIALS)).collect(),
            },
        )
    }

    fn ready(&self, site: &Site) -> Readiness {
        if !Self::host().is_up(site) {
            return Readiness::NotYet("its host is not connected".to_owned());
        }
        match Self::wal_level(site) {
            Ok(level) if level.trim() == "logical" => Readiness::Ready,
            Ok(level) => Readiness::NotYet(format!("its wal_level is `{}`", level.trim())),
            Err(error) => Readiness::NotYet(error.to_string()),
        }
    }
}
