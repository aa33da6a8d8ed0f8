//! Prometheus, on a host of its own, with what tells it of pods.

use crate::LabError;
use crate::install::{self, PrometheusProgram, installed_prometheus};
use crate::scenario::sibling_binary;

use super::super::address::{Address, SERVERS_NAMESPACE};
use super::super::api::inner_url;
use super::super::ask::is_served;
use super::super::dns::apply;
use super::super::fill;
use super::super::host::{Daemon, Host};
use super::super::kubeconfig::write_kubeconfig;
use super::super::part::{Part, Readiness};
use super::super::relay::Relay;
use super::super::site::Site;
use super::Extra;

const RIGHTS: &str = include_str!("../../../assets/cluster/prometheus-rights.yaml");
const CONFIG: &str = include_str!("../../../assets/cluster/prometheus.yaml");
/// Who it is to the API server: `prometheus-rights.yaml` names the same.
const USER: &str = "lab-prometheus";
/// Where it is told of pods, on its own host.
const TARGETS: &str = "127.0.0.1:9099";

/// Prometheus.
#[derive(Debug, Clone, Copy)]
pub struct Prometheus;

impl Prometheus {
    fn host() -> Host {
        Host::new("prometheus", Extra::Prometheus.address())
    }

    fn relay() -> Relay {
        Relay {
            service: Extra::Prometheus.name(),
            target: (Extra::Prometheus.address(), Extra::Prometheus.port()).into(),
        }
    }
}

impl Part for Prometheus {
    fn name(&self) -> String {
        "Prometheus".to_owned()
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::Prometheus]
    }

    fn places(&self) -> Vec<String> {
        let own = ["targets", "prometheus"].map(|name| format!("prometheus/{name}"));
        [Self::host().place()].into_iter().chain(own).chain([Self::relay().place()]).collect()
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        apply(site, "prometheus-rights.yaml", RIGHTS)?;
        let (host, pki) = (Self::host(), site.pki()?);
        host.start(site)?;
        let kubeconfig = site.config(&host.name, "targets.kubeconfig")?;
        write_kubeconfig(&kubeconfig, &inner_url(), &pki, &pki.client("prometheus", USER, None)?)?;
        Daemon {
            host: host.name.clone(),
            name: "targets".to_owned(),
            program: sibling_binary("freshet-lab"),
            arguments: vec!["pod-targets".to_owned(), TARGETS.to_owned(), kubeconfig.display().to_string()],
            environment: Vec::new(),
        }
        .start(site)?;
        let settings = [("PORT", Extra::Prometheus.port().to_string()), ("TARGETS", TARGETS.to_owned())];
        let config = site.configure(&host.name, "prometheus.yaml", &fill(CONFIG, &settings))?;
        let data = site.disk(&host.name).join("data");
        Daemon {
            host: host.name,
            name: "prometheus".to_owned(),
            program: installed_prometheus(site.cache(), PrometheusProgram::Server)?,
            arguments: vec![
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", data.display()),
                format!("--web.listen-address=0.0.0.0:{}", Extra::Prometheus.port()),
                "--storage.tsdb.retention.time=1d".to_owned(),
            ],
            environment: Vec::new(),
        }
        .start(site)?;
        let port = Self::relay().start(site)?;
        site.publish(
            Extra::Prometheus.name(),
            Address {
                machine: format!("http://127.0.0.1:{port}"),
                pods: format!("http://prometheus.{SERVERS_NAMESPACE}.svc:{}", Extra::Prometheus.port()),
                properties: [].into(),
            },
        )
    }

    fn ready(&self, site: &Site) -> Readiness {
        if !Self::host().is_up(site) {
            return Readiness::NotYet("its host is not connected".to_owned());
        }
        let port = site.port(Self::relay().service).map_err(|error| error.to_string());
        port.and_then(|port| is_served(port, "/-/ready")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_filled_and_the_rights_are_its_user_s() {
        let names = ["PORT", "TARGETS"];
        let filled = fill(CONFIG, &names.map(|name| (name, "value".to_owned())));
        assert!(!filled.contains('@'), "{filled}");
        assert!(RIGHTS.ends_with(&format!("    name: {USER}\n")));
    }
}
