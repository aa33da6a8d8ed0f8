//! What a slot tells of itself while it works. Metrics, health and the live view listen.

use std::time::Duration;

use freshet_engine::TaskStats;
use freshet_state::TaskId;
use freshet_state::generation::Generation;

use super::error::SlotError;

/// Where a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for a generation that has work for it.
    StandingBy,
    /// On its way through the steps of a take-over.
    TakingOver,
    /// Loading state.
    Restoring,
    /// Processing records.
    Working,
    /// Committing its last epoch.
    Stopping,
    /// Waiting before it tries again.
    BackingOff,
}

/// A take-over that is done.
#[derive(Debug, Clone)]
pub struct TakenOver<'a> {
    /// What the slot runs from now on.
    pub generation: &'a Generation,
    /// The number of the slot's start in it.
    pub incarnation: u64,
    /// From the first look at the generation log until now.
    pub took: Duration,
    /// The slot's tasks, each with the next offset that it reads.
    pub tasks: Vec<(TaskId, i64)>,
    /// Bytes of state that were read.
    pub bytes: u64,
}

/// A committed epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochReport {
    /// Its number.
    pub epoch: u64,
    /// Its generation.
    pub generation: u64,
    /// From the epoch's end to the snapshot's end: the pipeline stands still.
    pub snapshot: Duration,
    /// Writing the state object.
    pub upload: Duration,
    /// Waiting for acknowledgements of records, after the upload.
    pub acknowledge: Duration,
    /// Sending offsets and committing.
    pub commit: Duration,
    /// Bytes of the state object; 0 when none was written.
    pub object_bytes: u64,
    /// When the commit was known, ms since the Unix epoch.
    pub committed_at_ms: i64,
    /// For each batch of records in it: its stage, and the log's timestamp of its last record.
    pub records: Vec<(String, i64)>,
}

/// How one task stands.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskReport {
    /// Which task.
    pub task: TaskId,
    /// Its input topic.
    pub topic: String,
    /// The next offset to read.
    pub position: i64,
    /// One past the last visible offset.
    pub high: i64,
    /// The timestamp of the last record that was processed, ms since the Unix epoch; −1 before one was.
    pub last_timestamp_ms: i64,
    /// Its watermark, ms since the Unix epoch.
    pub watermark: Option<i64>,
    /// Whether it is idle.
    pub idle: bool,
    /// Its counters.
    pub stats: TaskStats,
}

/// Listens to a slot. Calls come on the slot's thread and must return at once.
pub trait SlotEvents {
    /// The slot is somewhere else now.
    fn phase(&self, _phase: Phase) {}
    /// A take-over is done.
    fn took_over(&self, _taken: &TakenOver<'_>) {}
    /// An epoch is committed.
    fn epoch(&self, _report: &EpochReport) {}
    /// How the tasks stand: after each epoch, and once a second while nothing is committed.
    fn tasks(&self, _reports: &[TaskReport]) {}
    /// Since the last call: time that each task spent processing, and time that reading stood still because
    /// output had to wait for a full queue or for the commit before.
    fn time(&self, _busy: &[(TaskId, Duration)], _blocked: Duration) {}
    /// An attempt failed; when `transient`, the slot tries again.
    fn failed(&self, _error: &SlotError, _transient: bool) {}
    /// A piece of upkeep was done, or could not be in passing: it is tried again at its next turn.
    fn upkeep(&self, _piece: &'static str, _outcome: Result<(), &SlotError>) {}
    /// A piece of upkeep that comes round seldom could not be done in passing: nothing is wrong yet.
    fn put_off(&self, _piece: &'static str, _error: &SlotError) {}
    /// An input is at its end only because a transaction of somebody's is open (`true`), or no longer is.
    fn input_blocked(&self, _topic: &str, _partition: u32, _blocked: bool) {}
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deaf;

impl SlotEvents for Deaf {}
