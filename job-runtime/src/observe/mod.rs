//! What the outside sees of a slot: metrics, health, status and logs.
//!
//! ```text
//! slot ──▶ Observed (facts, tasks) ──▶ health::live, ready, progress (pure) ──▶ server ──▶ probes, people
//! slot ──▶ Metrics ─────────────────────────────────────────────────────────▶ server ──▶ Prometheus
//! ```
//!
//! The slot writes facts, never verdicts: [`health`] judges them, from the facts and the time alone. The
//! server has a thread of its own, so that it answers while the slot is busy, and says so when it is stuck.

#[cfg(test)]
pub(crate) mod asking;
pub mod health;
pub mod logs;
pub mod server;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freshet_crds::control::{Problem, WorkerPhase, WorkerStatus, WorkerTask};
use freshet_crds::reasons;

use health::Fault;
pub use health::{Facts, Limits, Phase};

/// What a slot has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The job's name.
    pub job: String,
    /// The slot's number.
    pub slot: u32,
    /// The lineage, once it is open.
    pub lineage: Option<String>,
    /// What the slot is doing.
    pub facts: Facts,
    /// When a fact is a fault.
    pub limits: Limits,
    /// Its tasks.
    pub tasks: Vec<WorkerTask>,
}

impl Status {
    /// What the outside is told: facts, and what they come to at `now_ms`.
    #[must_use]
    pub fn judged(&self, now_ms: i64) -> WorkerStatus {
        let facts = &self.facts;
        let runs = facts.runs.as_ref();
        WorkerStatus {
            job: self.job.clone(),
            slot: self.slot,
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            lineage: self.lineage.clone(),
            phase: match facts.phase {
                Phase::Starting => WorkerPhase::Starting,
                Phase::StandingBy => WorkerPhase::StandingBy,
                Phase::TakingOver { .. } => WorkerPhase::TakingOver,
                Phase::Restoring => WorkerPhase::Restoring,
                Phase::Running => WorkerPhase::Running,
                Phase::Stopping => WorkerPhase::Stopping,
                Phase::BackingOff => WorkerPhase::BackingOff,
                Phase::Failed { .. } => WorkerPhase::Failed,
            },
            phase_since_ms: facts.phase_since_ms,
            generation: runs.map(|runs| runs.generation),
            slots: runs.map(|runs| runs.slots),
            plan_fingerprint: runs.map(|runs| runs.plan_fingerprint.clone()),
            revision: runs.map(|runs| runs.revision.clone()),
            ready: health::ready(facts, now_ms).is_ok(),
            progressing: health::progress(facts, now_ms, self.limits).is_ok(),
            epoch: facts.epoch,
            last_commit_ms: facts.last_commit_ms,
            lag_records: facts.waiting_records,
            lag_ms: facts.lag_ms,
            restored: runs.map(|runs| runs.restored.clone()),
            problem: self.problem(now_ms),
            blocked_inputs: facts.blocked.keys().cloned().collect(),
            tasks: self.tasks.clone(),
        }
    }

    /// What is wrong: what failed, else upkeep that did, else an input that is blocked, else that nothing commits though it should.
    fn problem(&self, now_ms: i64) -> Option<Problem> {
        let facts = &self.facts;
        if let Some(problem) = facts.problem.as_ref().or_else(|| facts.upkeep.values().next()) {
            return Some(problem.clone());
        }
        if let Some((input, since_ms)) = facts.blocked.first_key_value() {
            return Some(Problem {
                reason: reasons::INPUT_BLOCKED_BY_OPEN_TRANSACTION.name.to_owned(),
                message: format!(
                    "{input}: another producer's open transaction holds it back; nothing behind it can be read"
                ),
                since_ms: *since_ms,
            });
        }
        match health::progress(facts, now_ms, self.limits) {
            Err(fault @ (Fault::NotCommitting { for_ms, .. } | Fault::Stuck(for_ms))) => Some(Problem {
                reason: reasons::EPOCHS_NOT_COMMITTING.name.to_owned(),
                message: fault.steady(),
                since_ms: now_ms - for_ms,
            }),
            _ => None,
        }
    }
}

/// What a slot tells about itself, shared between the slot and the server.
#[derive(Debug, Clone)]
pub struct Observed(Arc<Mutex<Status>>);

impl Observed {
    /// A slot that starts at `now_ms`.
    #[must_use]
    pub fn new(job: &str, slot: u32, now_ms: i64) -> Self {
        Self(Arc::new(Mutex::new(Status {
            job: job.to_owned(),
            slot,
            lineage: None,
            facts: Facts::starting(now_ms),
            limits: Limits::for_epoch_interval(0),
            tasks: Vec::new(),
        })))
    }

    /// Changes what is known. `change` must be quick: probes wait for it.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock());
    }

    /// The slot is in this lineage now. What it held in another one is nothing that it holds here.
    pub fn enters(&self, lineage: &str, now_ms: i64) {
        self.update(|status| {
            if status.lineage.as_deref().is_some_and(|former| former != lineage) {
                status.facts = Facts::starting(now_ms);
                status.tasks.clear();
            }
            status.lineage = Some(lineage.to_owned());
        });
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
