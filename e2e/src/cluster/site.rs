//! The folder of one cluster, and what stands in it.
//!
//! ```text
//! kubeconfig, addresses.json   for people, tests and clients
//! spec.json, ports.json        what was asked for; the loopback ports that were given out
//! pki/                         certificates and keys
//! credentials/SERVER/          what a client needs to be let in
//! config/HOST/                 what servers are configured with, written anew by each start
//! disks/HOST/                  data
//! logs/HOST/NAME.log           what servers say
//! ```
//!
//! What is in it can be half-written by a program that was killed; so each file is moved into place whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::LabError;
use crate::install::Cache;
use crate::servers::free_port;

use super::address::{Address, Addresses};
use super::marks::{Standing, by_place, marked, somebody_is_becoming_another};
use super::pki::{Pki, read, write};
use super::spec::Spec;

/// How long a process may take to become another program.
const BECOMING: Duration = Duration::from_millis(500);

/// One cluster's folder.
#[derive(Debug, Clone)]
pub struct Site {
    folder: PathBuf,
    cache: Cache,
}

/// What is at a place of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Absent,
    /// Something that is only being started, or about to go.
    Passing,
    /// A process at work.
    Working(Standing),
}

impl Presence {
    /// The process at work, if there is one.
    #[must_use]
    pub fn process(self) -> Option<u32> {
        match self {
            Self::Working(standing) => Some(standing.worker),
            Self::Passing | Self::Absent => None,
        }
    }
}

impl Site {
    /// The folder that the environment names: `FRESHET_CLUSTER`, else `$XDG_STATE_HOME/freshet/cluster`, else
    /// `~/.local/state/freshet/cluster`.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn from_environment() -> Result<Self, LabError> {
        let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = named("FRESHET_CLUSTER")
            .or_else(|| named("XDG_STATE_HOME").map(|base| base.join("freshet/cluster")))
            .or_else(|| named("HOME").map(|home| home.join(".local/state/freshet/cluster")))
            .unwrap_or_else(|| std::env::temp_dir().join("freshet-cluster"));
        Self::new(&folder, Cache::from_environment())
    }

    /// The cluster in `folder`, with what is installed in `cache`.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn new(folder: &Path, cache: Cache) -> Result<Self, LabError> {
        fs::create_dir_all(folder).map_err(LabError::file("making", folder))?;
        // One name for it, whichever way it was written: it is part of every process's mark.
        let folder = folder.canonicalize().map_err(LabError::file("finding", folder))?;
        Ok(Self { folder, cache })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where what the cluster runs is installed.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// A name that no other cluster of this machine has, for what all clusters share: control groups.
    #[must_use]
    pub fn id(&self) -> String {
        let sum = Sha256::digest(self.folder.as_os_str().as_encoded_bytes());
        format!("freshet-{:02x}{:02x}{:02x}{:02x}", sum[0], sum[1], sum[2], sum[3])
    }

    /// Waits until no other program works on this cluster, and keeps others away until the guard is dropped (the
    /// system lets it go when a process dies).
    ///
    /// # Errors
    /// When the lock file can't be opened.
    pub fn lock(&self) -> Result<File, LabError> {
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(LabError::file("opening", &path))?;
        if file.try_lock().is_err() {
            println!("another program works on this cluster; waiting for it");
            file.lock().map_err(LabError::file("locking", &path))?;
        }
        Ok(file)
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The folder of a host's data.
    #[must_use]
    pub fn disk(&self, host: &str) -> PathBuf {
        self.folder.join("disks").join(host)
    }

    /// The log of the server at `place`, for instance `cp/etcd`.
    #[must_use]
    pub fn log(&self, place: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{place}.log"))
    }

    /// The cluster's certificates.
    ///
    /// # Errors
    /// As [`Pki::open`].
    pub fn pki(&self) -> Result<Pki, LabError> {
        Pki::open(&self.folder.join("pki"))
    }

    /// The path of a configuration file of a host, in a folder that is there.
    ///
    /// # Errors
    /// When the folder can't be made.
    pub fn config(&self, host: &str, name: &str) -> Result<PathBuf, LabError> {
        let path = self.folder.join("config").join(host).join(name);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(LabError::file("making", folder))?;
        Ok(path)
    }

    /// Writes a configuration file of a host, and gives its path.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn configure(&self, host: &str, name: &str, text: &str) -> Result<PathBuf, LabError> {
        let path = self.config(host, name)?;
        write(&path, text)?;
        Ok(path)
    }

    /// What the cluster consists of; nothing when it was never asked for.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn spec(&self) -> Result<Option<Spec>, LabError> {
        self.load("spec.json")
    }

    /// Keeps what the cluster consists of.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn keep_spec(&self, spec: &Spec) -> Result<(), LabError> {
        self.keep("spec.json", spec)
    }

    /// Where clients find what the cluster runs.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn addresses(&self) -> Result<Addresses, LabError> {
        Ok(self.load("addresses.json")?.unwrap_or_default())
    }

    /// Keeps where clients find a service.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn publish(&self, service: &str, address: Address) -> Result<(), LabError> {
        let mut all = self.addresses()?;
        all.services.insert(service.to_owned(), address);
        self.keep("addresses.json", &all)
    }

    /// The loopback port that clients on this machine reach `service` by: the same one for the cluster's whole life.
    ///
    /// # Errors
    /// When the list of ports can't be read or written.
    pub fn port(&self, service: &str) -> Result<u16, LabError> {
        let mut ports: BTreeMap<String, u16> = self.load("ports.json")?.unwrap_or_default();
        if let Some(port) = ports.get(service) {
            return Ok(*port);
        }
        let port = free_port();
        ports.insert(service.to_owned(), port);
        self.keep("ports.json", &ports)?;
        Ok(port)
    }

    /// What is at `place`.
    #[must_use]
    pub fn presence(&self, place: &str) -> Presence {
        let began = Instant::now();
        loop {
            let seen = self.look(place);
            // There are programs without any environment: they are not waited for.
            let sure = seen != Presence::Absent || began.elapsed() > BECOMING || !somebody_is_becoming_another();
            if sure {
                return if seen == Presence::Absent { self.look(place) } else { seen };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn look(&self, place: &str) -> Presence {
        match by_place(&marked(&self.folder)).get(place) {
            Some(Some(standing)) => Presence::Working(*standing),
            Some(None) => Presence::Passing,
            None => Presence::Absent,
        }
    }

    /// Process 1 of a host, as this process's namespace counts.
    ///
    /// # Errors
    /// When the host does not run.
    pub fn host_process(&self, host: &str) -> Result<u32, LabError> {
        match self.presence(&format!("{host}/host")) {
            Presence::Working(standing) => Ok(standing.worker),
            _ => Err(LabError::Wrong(format!("host {host} does not run. `make cluster-up` starts it"))),
        }
    }

    fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, LabError> {
        let path = self.folder.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let wrong = |error: serde_json::Error| LabError::Wrong(format!("{}: {error}", path.display()));
        serde_json::from_str(&read(&path)?).map(Some).map_err(wrong)
    }

    fn keep(&self, name: &str, value: &impl Serialize) -> Result<(), LabError> {
        let wrong = |error: serde_json::Error| LabError::Wrong(format!("{name}: {error}"));
        write(&self.folder.join(name), &(serde_json::to_string_pretty(value).map_err(wrong)? + "\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::Scratch;

    #[test]
    fn a_service_keeps_its_port_and_its_address() {
        let scratch = Scratch::new("site").expect("a scratch folder");
        let site = Site::new(scratch.path(), Cache::new("/nowhere")).expect("a folder");
        let port = site.port("api").expect("a port");
        assert_ne!(port, site.port("s3").expect("another port"));
        let again = Site::new(scratch.path(), Cache::new("/nowhere")).expect("the same folder");
        assert_eq!(again.port("api").expect("the same port"), port);
        assert_eq!(again.id(), site.id());
        assert_eq!(again.spec().expect("none yet"), None);
        let spec = Spec { nodes: 2, brokers: 3, ..Spec::default() };
        again.keep_spec(&spec).expect("it can be written");
        assert_eq!(site.spec().expect("it can be read"), Some(spec));
    }
}
