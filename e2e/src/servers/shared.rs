//! One broker for the many tests that only need some broker.
//!
//! Under `cargo test` the tests of a binary are threads of one process, and a static is enough. A runner that
//! gives each test a process of its own names its run in the environment; then the first test that comes starts
//! the broker for all tests of the run, in a folder that every one of them finds, and the broker ends with the
//! runner.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::LabError;

use super::kafka::{KafkaOptions, KafkaServer};
use super::process::{Undertaking, log_tail};

/// The variable by which a runner names its run.
const RUN: &str = "NEXTEST_RUN_ID";

/// A broker that this test shares with others: nobody kills it.
#[derive(Debug)]
pub struct SharedKafka {
    bootstrap: String,
    log: PathBuf,
    /// Holds the broker when it is this process's own. Never dropped: its undertaker ends it.
    _own: Option<KafkaServer>,
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
            let run = std::env::var(RUN).ok().filter(|run| !run.is_empty());
            let shared = run.map_or_else(own, |run| of_run(&run));
            shared.unwrap_or_else(|error| panic!("the tests need a Kafka broker: {error}"))
        })
    }

    /// What clients connect to: `127.0.0.1:port`.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }
}

fn own() -> Result<SharedKafka, LabError> {
    let server = KafkaServer::start_temporary(&KafkaOptions::default())?;
    let log = server.folder().join("broker.log");
    Ok(SharedKafka { bootstrap: server.bootstrap(), log, _own: Some(server) })
}

fn of_run(run: &str) -> Result<SharedKafka, LabError> {
    let folder = std::env::temp_dir().join(format!("freshet-kafka-run-{run}"));
    fs::create_dir_all(&folder).map_err(LabError::file("making", &folder))?;
    let lock_path = folder.join("lock");
    let lock = File::create(&lock_path).map_err(LabError::file("opening", &lock_path))?;
    lock.lock().map_err(LabError::file("locking", &lock_path))?;
    let (address, log) = (folder.join("bootstrap"), folder.join("broker.log"));
    if let Ok(bootstrap) = fs::read_to_string(&address) {
        return Ok(SharedKafka { bootstrap, log, _own: None });
    }
    let clear = Undertaking { remove: Some(folder.clone()), owner: Some(parent()?) };
    let server = KafkaServer::launch(&folder, &KafkaOptions::default(), &clear)?;
    // Written last, and whole: whoever finds it finds a broker that serves.
    let fresh = folder.join("bootstrap.fresh");
    fs::write(&fresh, server.bootstrap()).map_err(LabError::file("writing", &fresh))?;
    fs::rename(&fresh, &address).map_err(LabError::file("moving into place", &address))?;
    Ok(SharedKafka { bootstrap: server.bootstrap(), log, _own: Some(server) })
}

/// The process that started this one: the runner.
fn parent() -> Result<u32, LabError> {
    let path = Path::new("/proc/self/status");
    let status = fs::read_to_string(path).map_err(LabError::file("reading", path))?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| LabError::file("finding the parent process in", path)(std::io::ErrorKind::InvalidData.into()))
}
