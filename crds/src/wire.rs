//! What a worker tells about itself: the document that its `/status` endpoint serves as JSON.
//!
//! The reader may be of another version than the writer: fields are only ever added, with a default, and
//! unknown ones are skipped. Times are milliseconds since the Unix epoch on the worker's clock.

use serde::{Deserialize, Serialize};

/// The version of these documents. It rises only when a field changes its meaning.
pub const WIRE_VERSION: u32 = 1;

/// The state of one worker (slot).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// [`WIRE_VERSION`] of the writer.
    pub version: u32,
    /// Version of the runtime, as `freshet --version` prints it.
    pub runtime_version: String,
    /// The job's namespace.
    pub namespace: String,
    /// The job's name.
    pub job: String,
    /// The lineage that the worker writes in; empty before it knows.
    #[serde(default)]
    pub lineage: String,
    /// Which slot of the assignment this worker is, from 0.
    pub slot: u32,
    /// The generation of the assignment that it works by; 0 before it knows.
    #[serde(default)]
    pub generation: u64,
    /// What it is doing.
    pub phase: WorkerPhase,
    /// When the worker's process started, ms.
    pub started_at_ms: i64,
    /// The last committed epoch.
    #[serde(default)]
    pub epoch: EpochStatus,
    /// Whether data moves.
    pub progress: Progress,
    /// The worst of its tasks' lag.
    #[serde(default)]
    pub lag: Lag,
    /// Its tasks.
    #[serde(default)]
    pub tasks: Vec<TaskStatus>,
    /// What is wrong, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What a worker is doing.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerPhase {
    /// It waits for an assignment that has tasks for it.
    Waiting,
    /// It fences earlier generations and loads its tasks' state.
    TakingOver,
    /// It processes records and commits epochs.
    Running,
    /// It commits its last epoch.
    Stopping,
    /// It has stopped; `problem` says why, if it was not asked to.
    Stopped,
    /// A phase of a later version.
    #[serde(other)]
    Unknown,
}

/// Epochs of a worker.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EpochStatus {
    /// The number of the last one that was committed; 0 is the start positions'.
    pub committed: u64,
    /// When it was committed, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed_at_ms: Option<i64>,
    /// How many epochs failed since the process started.
    #[serde(default)]
    pub failed: u64,
}

/// Whether data moves: a worker without input to read is progressing, one whose epochs do not commit is not.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Whether it does.
    pub progressing: bool,
    /// Since when that has been so, ms.
    pub since_ms: i64,
}

/// How far behind its input something is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Lag {
    /// Records between the position and the end, without transaction markers where they are known.
    pub records: u64,
    /// Age of the oldest record that was not processed yet, ms.
    pub ms: u64,
}

/// One task of a worker.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// The stage's id in the plan.
    pub stage: String,
    /// The partition that it reads.
    pub partition: u32,
    /// Every record with event time up to here has been seen, ms; absent before there was a watermark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_ms: Option<i64>,
    /// How far behind it is.
    #[serde(default)]
    pub lag: Lag,
}

/// What keeps a worker from working.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A reason of [`crate::reasons`].
    pub reason: String,
    /// What is, what was wanted, and what to do.
    pub message: String,
    /// Since when, ms.
    pub since_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A golden document: what an older worker sends must stay readable.
    #[test]
    fn documents_of_version_1_stay_readable() {
        let text = r#"{
            "version": 1, "runtimeVersion": "0.1.0", "namespace": "default", "job": "fraud-detection",
            "lineage": "r1-8k3f9q", "slot": 0, "generation": 3, "phase": "Running", "startedAtMs": 1700000000000,
            "epoch": {"committed": 41, "committedAtMs": 1700000020500, "failed": 0},
            "progress": {"progressing": true, "sinceMs": 1700000000100},
            "lag": {"records": 12, "ms": 250},
            "tasks": [{"stage": "transactions-1f0c", "partition": 2, "watermarkMs": 1700000015000, "lag": {"records": 12, "ms": 250}}],
            "problem": {"reason": "KafkaUnavailable", "message": "…", "sinceMs": 1700000020000}
        }"#;
        let status: WorkerStatus = serde_json::from_str(text).expect("a golden document");
        assert_eq!(
            (status.generation, status.epoch.committed, status.tasks[0].watermark_ms),
            (3, 41, Some(1_700_000_015_000))
        );
        let again: WorkerStatus = serde_json::from_value(serde_json::to_value(&status).expect("JSON")).expect("itself");
        assert_eq!(again, status);
    }

    #[test]
    fn documents_of_other_versions_are_read_as_far_as_they_are_known() {
        let text = r#"{"version": 9, "runtimeVersion": "9.0.0", "namespace": "a", "job": "b", "slot": 1, "phase": "Dreaming",
            "startedAtMs": 1, "progress": {"progressing": false, "sinceMs": 2}, "mood": "calm"}"#;
        let status: WorkerStatus =
            serde_json::from_str(text).expect("unknown fields are skipped, new ones have defaults");
        assert_eq!((status.phase, status.lag, status.tasks.len()), (WorkerPhase::Unknown, Lag::default(), 0));
    }
}
