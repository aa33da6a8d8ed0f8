//! A worker of a job: a process that is watched, stopped in its tracks, killed.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::{PATIENCE, Watch};
use crate::LabError;
use crate::servers::process::{ServerProcess, log_tail};

/// How a worker ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Everything that it said.
    pub log: String,
}

/// A worker process.
#[derive(Debug)]
pub struct Worker {
    pub(super) process: ServerProcess,
    pub(super) log: PathBuf,
    /// The slot that it runs.
    pub slot: u32,
}

impl Worker {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> Result<(), LabError> {
        self.process.stop(PATIENCE)
    }

    /// Sends it a signal by its name, for instance `TERM`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Stops it in its tracks.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.exit_status().is_none()
    }

    /// The end of what it said.
    #[must_use]
    pub fn said(&self) -> String {
        log_tail(&self.log)
    }

    /// Everything that it said.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it says `text`.
    ///
    /// # Errors
    /// When it does not in time, or ends before.
    pub fn wait_for(&mut self, text: &str) -> Result<(), LabError> {
        self.process.wait_for_line(text, PATIENCE)
    }

    /// Waits until it has ended by itself, following the output meanwhile.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for_end(&mut self, watch: &mut Watch) -> Result<Ended, LabError> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.exit_status() {
                return Ok(Ended { status, log: self.log() });
            }
            if began.elapsed() > PATIENCE {
                return Err(LabError::Wrong(format!(
                    "waited {PATIENCE:?} for the worker of slot {} to end, in vain; its log ends:\n{}",
                    self.slot,
                    self.said()
                )));
            }
            watch.follow(Duration::from_millis(20));
        }
    }
}
