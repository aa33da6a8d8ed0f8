//! What the outside sees of a slot: metrics, health, status and logs.
//!
//! ```text
//! slot ──▶ Observed (facts, tasks) ──▶ health::live, ready, progress (pure) ──▶ server ──▶ probes, people
//! slot ──▶ Metrics ─────────────────────────────────────────────────────────▶ server ──▶ Prometheus
//! ```
//!
//! The slot writes facts, never verdicts: [`health`] judges them, from the facts and the time alone. The
//! server has a thread of its own, so that it answers while the slot is busy, and says so when it is stuck.

pub mod health;
pub mod logs;
pub mod server;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

pub use health::{Facts, Limits, Phase};

/// One task, as `/status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// The stage's id in the plan.
    pub stage: String,
    /// The partition of its input.
    pub partition: u32,
    /// The next offset to read.
    pub position: i64,
    /// Offsets between the position and the end of the input.
    pub lag_records: u64,
    /// The watermark, ms since the Unix epoch.
    pub watermark_ms: Option<i64>,
    /// Keys in its state.
    pub state_keys: u64,
}

/// All of `/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The job's name.
    pub job: String,
    /// The slot's number or name.
    pub slot: String,
    /// The plan's fingerprint.
    pub plan: String,
    /// The lineage.
    pub lineage: String,
    /// What the slot is doing.
    #[serde(flatten)]
    pub facts: Facts,
    /// Its tasks.
    pub tasks: Vec<TaskStatus>,
}

/// What a slot tells about itself, shared between the slot and the server.
#[derive(Debug, Clone)]
pub struct Observed(Arc<Mutex<Status>>);

impl Observed {
    /// A slot that starts at `now_ms`.
    #[must_use]
    pub fn new(job: &str, slot: &str, plan: &str, lineage: &str, now_ms: i64) -> Self {
        Self(Arc::new(Mutex::new(Status {
            job: job.to_owned(),
            slot: slot.to_owned(),
            plan: plan.to_owned(),
            lineage: lineage.to_owned(),
            facts: Facts::starting(now_ms),
            tasks: Vec::new(),
        })))
    }

    /// Changes what is known. `change` must be quick: probes wait for it.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock());
    }

    /// Changes the facts alone.
    pub fn facts(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.lock().facts);
    }

    /// All that is known now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        // What is in it is whole after a panic too: every change is one assignment of a field.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
