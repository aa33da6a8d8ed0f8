//! The S3 server, on a host of its own, as a company's is.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use crate::LabError;
use crate::install::{self, installed_s3};
use crate::servers::S3Server;

use super::address::{Address, S3, S3_PORT, SERVERS_NAMESPACE};
use super::ask::is_served;
use super::host::{Daemon, Host};
use super::part::{Part, Readiness};
use super::relay::Relay;
use super::site::Site;

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
        site.port("s3").map_err(|error| error.to_string()).and_then(|port| is_served(port, "/health")).into()
    }
}
