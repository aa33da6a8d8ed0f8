//! A schema registry: Apicurio, which answers as Confluent's does, on a host of its own. Its schemas are in a database in
//! files on its disk, so that they outlive its process.

use crate::LabError;
use crate::install::{self, installed_registry};

use super::super::address::{Address, SERVERS_NAMESPACE};
use super::super::ask::is_served;
use super::super::host::{Daemon, Host};
use super::super::part::{Part, Readiness};
use super::super::relay::Relay;
use super::super::site::Site;
use super::Extra;

/// Where it answers as Confluent's registry does.
const API: &str = "/apis/ccompat/v7";

/// The schema registry.
#[derive(Debug, Clone, Copy)]
pub struct Registry;

impl Registry {
    fn host() -> Host {
        Host::new("registry", Extra::Registry.address())
    }

    fn relay() -> Relay {
        Relay { service: Extra::Registry.name(), target: (Extra::Registry.address(), Extra::Registry.port()).into() }
    }
}

impl Part for Registry {
    fn name(&self) -> String {
        "schema registry".to_owned()
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::Registry]
    }

    fn places(&self) -> Vec<String> {
        vec![Self::host().place(), "registry/apicurio".to_owned(), Self::relay().place()]
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        let (host, installed) = (Self::host(), installed_registry(site.cache())?);
        host.start(site)?;
        let (disk, temporary) = (site.disk(&host.name), site.disk(&host.name).join("tmp"));
        std::fs::create_dir_all(&temporary).map_err(LabError::file("making", &temporary))?;
        let settings = [
            ("java.io.tmpdir", temporary.display().to_string()),
            ("quarkus.http.host", "0.0.0.0".to_owned()),
            ("quarkus.http.port", Extra::Registry.port().to_string()),
            ("apicurio.storage.kind", "sql".to_owned()),
            ("apicurio.storage.sql.kind", "h2".to_owned()),
            ("apicurio.datasource.url", format!("jdbc:h2:file:{};WRITE_DELAY=0", disk.join("schemas").display())),
        ];
        let machine = ["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"].map(str::to_owned);
        let settings = settings.iter().map(|(name, value)| format!("-D{name}={value}"));
        let what = ["-jar".to_owned(), installed.program.display().to_string()];
        Daemon {
            host: host.name,
            name: "apicurio".to_owned(),
            program: installed.java,
            arguments: machine.into_iter().chain(settings).chain(what).collect(),
            // Its figures about itself would be at a path that hosts share.
            environment: vec![("JDK_JAVA_OPTIONS".to_owned(), "-XX:-UsePerfData".to_owned())],
        }
        .start(site)?;
        let port = Self::relay().start(site)?;
        site.publish(
            Extra::Registry.name(),
            Address {
                machine: format!("http://127.0.0.1:{port}{API}"),
                pods: format!("http://registry.{SERVERS_NAMESPACE}.svc:{}{API}", Extra::Registry.port()),
                properties: [].into(),
            },
        )
    }

    fn ready(&self, site: &Site) -> Readiness {
        if !Self::host().is_up(site) {
            return Readiness::NotYet("its host is not connected".to_owned());
        }
        let port = site.port(Self::relay().service).map_err(|error| error.to_string());
        port.and_then(|port| is_served(port, &format!("{API}/subjects"))).into()
    }
}
