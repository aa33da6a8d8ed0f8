//! A cluster that is up, for whoever uses it: tests, and tools.

use std::path::PathBuf;

use crate::LabError;
use crate::images::Image;
use crate::servers::stopped::wait_until_stopped;

use super::address::{Address, Addresses};
use super::client::client;
use super::down::signal;
use super::host::Host;
use super::part::{Progress, bring_up};
use super::site::{Presence, Site};
use super::spec::Spec;
use super::{images, node, stages};

/// A running cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    site: Site,
    spec: Spec,
    addresses: Addresses,
}

impl Cluster {
    /// The cluster that the environment names (see [`Site::from_environment`]); it must have been brought up.
    ///
    /// # Errors
    /// When there is none.
    pub fn load() -> Result<Self, LabError> {
        Self::at(Site::from_environment()?)
    }

    /// The cluster of `site`.
    ///
    /// # Errors
    /// When it was not brought up.
    pub fn at(site: Site) -> Result<Self, LabError> {
        let missing = || {
            LabError::Wrong(format!("there is no cluster in {}. `make cluster-up` starts one", site.folder().display()))
        };
        let spec = site.spec()?.ok_or_else(missing)?;
        let addresses = site.addresses()?;
        Ok(Self { spec, addresses, site })
    }

    /// Its folder.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.site.kubeconfig()
    }

    /// A client with the administrator's rights.
    ///
    /// # Errors
    /// When the kubeconfig can't be read.
    pub async fn client(&self) -> Result<kube::Client, LabError> {
        client(&self.site.kubeconfig()).await
    }

    /// Where a service is: `api`, `kafka`, `s3`, or one of an extra.
    ///
    /// # Errors
    /// When the cluster does not have it.
    pub fn address(&self, service: &str) -> Result<&Address, LabError> {
        self.addresses.services.get(service).ok_or_else(|| LabError::Wrong(format!("the cluster has no `{service}`")))
    }

    /// Every service with its address.
    pub fn services(&self) -> impl Iterator<Item = (&str, &Address)> {
        self.addresses.services.iter().map(|(name, address)| (name.as_str(), address))
    }

    /// The names of its nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        (1..=self.spec.nodes).map(node::name).collect()
    }

    /// Imports an image into every node; skipped where that very image is.
    ///
    /// # Errors
    /// When a node's runtime refuses it.
    pub fn import(&self, image: &Image) -> Result<(), LabError> {
        (1..=self.spec.nodes).try_for_each(|number| images::import(&self.site, number, &image.archive))
    }

    /// The folder whose archives a node gets when it starts.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        images::folder(&self.site)
    }

    /// The process at `place`, as in `cp/etcd`, for faults.
    ///
    /// # Errors
    /// When nothing runs there.
    pub fn process(&self, place: &str) -> Result<u32, LabError> {
        match self.site.presence(place) {
            Presence::Working(standing) => Ok(standing.worker),
            _ => Err(LabError::Wrong(format!("nothing runs at {place}"))),
        }
    }

    /// Ends the process at `place` as a power cut would, and waits until it is gone. At `n1/host` that is a whole node.
    ///
    /// # Errors
    /// When nothing runs there, or it does not end.
    pub fn kill9(&self, place: &str) -> Result<(), LabError> {
        let worker = self.process(place)?;
        signal("KILL", &[worker]);
        // Who started it is gone as soon as it has collected it.
        super::part::wait_until(&self.site, &[], &format!("the end of {place}"), || match self.site.presence(place) {
            Presence::Absent => Ok(()),
            _ => Err("it is still there".to_owned()),
        })
    }

    /// Stops the process at `place` in its tracks (SIGSTOP), and waits until it stands still.
    ///
    /// # Errors
    /// When nothing runs there, or it does not stop.
    pub fn freeze(&self, place: &str) -> Result<(), LabError> {
        let process = self.process(place)?;
        signal("STOP", &[process]);
        wait_until_stopped(process)
    }

    /// Lets it go on. Whoever started it stopped with it.
    ///
    /// # Errors
    /// When nothing runs there.
    pub fn thaw(&self, place: &str) -> Result<(), LabError> {
        match self.site.presence(place) {
            Presence::Working(standing) => {
                signal("CONT", &[standing.worker, standing.first]);
                Ok(())
            }
            _ => Err(LabError::Wrong(format!("nothing runs at {place}"))),
        }
    }

    /// Starts what does not run, and waits until all is ready again.
    ///
    /// # Errors
    /// The first part that was not ready in time.
    pub fn mend(&self) -> Result<(), LabError> {
        let _lock = self.site.lock()?;
        stages(&self.spec).iter().try_for_each(|stage| bring_up(&self.site, stage, &mut |_: Progress<'_>| {}))
    }

    /// Pulls a host's network cable, as `n1` or `kafka-1`, or puts it in again.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn set_cable(&self, host: &str, connected: bool) -> Result<(), LabError> {
        Host::new(host, super::address::SWITCH).set_cable(&self.site, connected)
    }

    /// The log of the process at `place`.
    #[must_use]
    pub fn log(&self, place: &str) -> PathBuf {
        self.site.log(place)
    }

    /// The folder of all logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.site.folder().join("logs")
    }
}
