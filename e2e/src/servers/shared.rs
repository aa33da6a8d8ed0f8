//! One server for the many tests that only need some server.
//!
//! Under `cargo test` the tests of a binary are threads of one process, and a static is enough. A runner that
//! gives each test a process of its own names its run in the environment; then the first test that comes starts
//! the server for all tests of the run, in a folder that every one of them finds, and the server ends with the
//! runner.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::LabError;

use super::Scratch;
use super::kafka::{KafkaOptions, KafkaServer};
use super::process::{Undertaking, log_tail};

/// The variable by which a runner names its run.
const RUN: &str = "NEXTEST_RUN_ID";

/// A server that this process shares with others, and does not end.
#[derive(Debug)]
pub(crate) struct Shared<S> {
    /// Its folder, with its logs.
    pub(crate) folder: PathBuf,
    /// What its clients connect to.
    pub(crate) address: String,
    /// Holds the server when it is this process's own. Never dropped: its undertaker ends it.
    _own: Option<S>,
}

/// The shared server `what`: the one of this run, started by `start` when nobody has started it yet.
pub(crate) fn share<S>(
    what: &str,
    start: impl FnOnce(&Path, &Undertaking) -> Result<S, LabError>,
    address: impl FnOnce(&S) -> String,
) -> Result<Shared<S>, LabError> {
    let run = std::env::var(RUN).ok().filter(|run| !run.is_empty());
    let Some(run) = run else {
        let folder = Scratch::new(what)?.keep();
        let server = start(&folder, &Undertaking { remove: Some(folder.clone()), owner: None })?;
        return Ok(Shared { folder, address: address(&server), _own: Some(server) });
    };
    let folder = std::env::temp_dir().join(format!("freshet-{what}-run-{run}"));
    fs::create_dir_all(&folder).map_err(LabError::file("making", &folder))?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(LabError::file("opening", &lock_path))?;
    lock.lock().map_err(LabError::file("locking", &lock_path))?;
    let published = folder.join("address");
    if let Ok(address) = fs::read_to_string(&published) {
        return Ok(Shared { folder, address, _own: None });
    }
    let server = start(&folder, &Undertaking { remove: Some(folder.clone()), owner: Some(parent()?) })?;
    // Written last, and whole: whoever finds it finds a server that serves.
    let (address, fresh) = (address(&server), folder.join("address.fresh"));
    fs::write(&fresh, &address).map_err(LabError::file("writing", &fresh))?;
    fs::rename(&fresh, &published).map_err(LabError::file("moving into place", &published))?;
    Ok(Shared { folder, address, _own: Some(server) })
}

/// A broker that this test shares with others: nobody kills it.
#[derive(Debug)]
pub struct SharedKafka {
    shared: Shared<KafkaServer>,
}

impl SharedKafka {
    /// The shared broker, started by whoever comes first.
    ///
    /// # Panics
    /// When it can't be started: no test that needs it can go on.
    #[must_use]
    pub fn get() -> &'static Self {
        static SHARED: OnceLock<SharedKafka> = OnceLock::new();
        SHARED.get_or_init(|| {
            let shared = share(
                "kafka",
                |folder, clear| KafkaServer::launch(folder, &KafkaOptions::default(), clear),
                KafkaServer::bootstrap,
            );
            Self { shared: shared.unwrap_or_else(|error| panic!("the tests need a Kafka broker: {error}")) }
        })
    }

    /// What clients connect to: `127.0.0.1:port`.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.shared.address
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(&self.shared.folder.join("broker.log"))
    }
}

/// The process that started this one: the runner.
fn parent() -> Result<u32, LabError> {
    let path = Path::new("/proc/self/status");
    let status = fs::read_to_string(path).map_err(LabError::file("reading", path))?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| LabError::file("finding the parent process in", path)(std::io::ErrorKind::InvalidData.into()))
}
