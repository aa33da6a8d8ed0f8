//! The part that joins the hosts: a host with a bridge in it.

use crate::LabError;
use crate::install;

use super::address::SWITCH;
use super::host::{Host, SWITCH_HOST};
use super::part::{Part, Readiness};
use super::site::Site;

/// The switch between the hosts, and their gateway to each other's pods.
#[derive(Debug, Clone, Copy)]
pub struct Switch;

impl Switch {
    fn host() -> Host {
        Host::new(SWITCH_HOST, SWITCH)
    }
}

impl Part for Switch {
    fn name(&self) -> String {
        "network".to_owned()
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::Cluster]
    }

    fn places(&self) -> Vec<String> {
        vec![Self::host().place()]
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        Self::host().start(site)
    }

    fn ready(&self, site: &Site) -> Readiness {
        if Self::host().is_up(site) { Readiness::Ready } else { Readiness::NotYet("it is not set up".to_owned()) }
    }
}
