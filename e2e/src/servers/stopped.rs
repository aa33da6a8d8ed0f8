//! A process that was sent SIGSTOP stops when the kernel next gets hold of each of its threads, which on a busy machine
//! is a while later. Until then it still answers.

use std::fs;
use std::time::{Duration, Instant};

use crate::LabError;

/// How long that may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until no thread of `process` runs any more.
///
/// # Errors
/// When it is gone, or has not stopped within 20 s.
pub(crate) fn wait_until_stopped(process: u32) -> Result<(), LabError> {
    let began = Instant::now();
    loop {
        let threads = states(process);
        if threads.is_empty() {
            return Err(LabError::Wrong(format!("process {process} is gone, and was to be stopped in its tracks")));
        }
        if threads.iter().all(|state| *state == 'T') {
            return Ok(());
        }
        if began.elapsed() > DEADLINE {
            return Err(LabError::Wrong(format!(
                "waited {DEADLINE:?} for process {process} to stop in its tracks; its threads are in states {threads:?}"
            )));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The state letters of its threads.
fn states(process: u32) -> Vec<char> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.filter_map(|stat| stat.rsplit(')').next()?.trim().chars().next()).collect()
}
