//! From what a slot tells of itself to metrics, health and the live view.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use freshet_engine::{OnBadRecord, OnLate};
use freshet_env::SharedEnv;
use freshet_log::LogError;
use freshet_state::TaskId;

use crate::metrics::{Blocked, EpochFailure, EpochStep, Metrics, ObjectKind, TakeOver, TaskMetrics};
use crate::observe::health::Phase as HealthPhase;
use crate::observe::{Observed, TaskStatus};
use crate::slot::{EpochReport, JobPolicy, Phase, SlotError, SlotEvents, TaskReport};

/// What all slots of this process have done so far, for the live view and the summary.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// What the last slot that changed it is doing.
    pub phase: String,
    /// Epochs committed.
    pub epochs: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// How long the last epoch took from its cut to its commit.
    pub epoch_took: Duration,
    /// How each task stands.
    pub tasks: BTreeMap<TaskId, TaskReport>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

impl Board {
    /// Records read, by tasks that read topics and not internal ones.
    #[must_use]
    pub fn records_in(&self) -> u64 {
        let external = self.tasks.values().filter(|task| !task.topic.starts_with("freshet."));
        external.map(|task| task.stats.records_in).sum()
    }

    /// Records not read yet.
    #[must_use]
    pub fn lag_records(&self) -> u64 {
        self.tasks.values().map(lag).sum()
    }

    /// The least watermark of tasks that are not idle.
    #[must_use]
    pub fn watermark(&self) -> Option<i64> {
        self.tasks.values().filter(|task| !task.idle).map(|task| task.watermark).min().flatten()
    }
}

fn lag(task: &TaskReport) -> u64 {
    u64::try_from(task.high - task.position).unwrap_or(0)
}

/// Listens to one slot.
pub struct Reporter {
    env: SharedEnv,
    metrics: Metrics,
    observed: Observed,
    board: Rc<RefCell<Board>>,
    policy: JobPolicy,
    tasks: RefCell<HashMap<TaskId, TaskMetrics>>,
    takeovers: RefCell<u64>,
}

impl Reporter {
    /// A listener that tells all three.
    #[must_use]
    pub fn new(
        env: SharedEnv,
        metrics: Metrics,
        observed: Observed,
        board: Rc<RefCell<Board>>,
        policy: JobPolicy,
    ) -> Self {
        Self { env, metrics, observed, board, policy, tasks: RefCell::new(HashMap::new()), takeovers: RefCell::new(0) }
    }
}

impl SlotEvents for Reporter {
    fn phase(&self, phase: Phase) {
        let now_ms = self.env.now_ms();
        let (health, said) = match phase {
            Phase::StandingBy => (HealthPhase::TakingOver { step: "standing by" }, "standing by"),
            Phase::TakingOver => (HealthPhase::TakingOver { step: "taking over" }, "taking over"),
            Phase::Restoring => (HealthPhase::TakingOver { step: "restoring state" }, "restoring"),
            Phase::Working => (HealthPhase::Running, ""),
            Phase::Stopping => (HealthPhase::Stopping, "stopping"),
            Phase::BackingOff => (HealthPhase::TakingOver { step: "waiting to try again" }, "trying again"),
        };
        self.observed.facts(|facts| facts.enter(health, now_ms));
        said.clone_into(&mut self.board.borrow_mut().phase);
    }

    fn took_over(&self, generation: u64, incarnation: u64, took: Duration, tasks: usize, bytes: u64) {
        let mut count = self.takeovers.borrow_mut();
        let reason = if *count == 0 { TakeOver::Start } else { TakeOver::Recovery };
        *count += 1;
        self.metrics.took_over(reason, generation, tasks, took);
        self.observed.facts(|facts| facts.generation = Some(generation));
        tracing::info!(generation, incarnation, tasks, bytes, took_ms = took.as_millis() as u64, "took over");
    }

    fn epoch(&self, report: &EpochReport) {
        let total = report.snapshot + report.upload + report.acknowledge + report.commit;
        self.metrics.epoch_step(EpochStep::Snapshot, report.snapshot);
        self.metrics.epoch_step(EpochStep::Upload, report.upload);
        self.metrics.epoch_step(EpochStep::Acknowledge, report.acknowledge);
        self.metrics.epoch_step(EpochStep::Commit, report.commit);
        self.metrics.epoch_committed(report.epoch, report.committed_at_ms, total);
        if report.object_bytes > 0 {
            self.metrics.object_written(ObjectKind::Delta, report.object_bytes);
        }
        for (stage, timestamp_ms) in &report.records {
            if *timestamp_ms >= 0 {
                let waited = u64::try_from(report.committed_at_ms - timestamp_ms).unwrap_or(0);
                self.metrics.latency(stage, Duration::from_millis(waited));
            }
        }
        self.observed.facts(|facts| facts.committed(report.epoch, report.committed_at_ms));
        let mut board = self.board.borrow_mut();
        board.epochs += 1;
        board.epoch_took = total;
        tracing::debug!(
            epoch = report.epoch,
            took_ms = total.as_millis() as u64,
            bytes = report.object_bytes,
            "epoch committed"
        );
    }

    fn tasks(&self, reports: &[TaskReport]) {
        let now_ms = self.env.now_ms();
        let drops_late = matches!(self.policy.on_late, OnLate::Drop);
        let drops_bad = matches!(self.policy.on_bad_record, OnBadRecord::Skip);
        let mut handles = self.tasks.borrow_mut();
        handles.retain(|id, _| reports.iter().any(|report| report.task == *id));
        let mut waiting = 0;
        for report in reports {
            let handle = handles.entry(report.task.clone()).or_insert_with(|| self.metrics.task(&report.task));
            handle.stats(&report.stats, drops_late, drops_bad);
            let lag = lag(report);
            waiting += lag;
            let behind = if lag == 0 || report.last_timestamp_ms < 0 { 0 } else { now_ms - report.last_timestamp_ms };
            handle.lag(lag, Duration::from_millis(u64::try_from(behind).unwrap_or(0)));
            handle.watermark(report.watermark, now_ms);
        }
        let ids: Vec<TaskId> = reports.iter().map(|report| report.task.clone()).collect();
        self.metrics.retain_tasks(&ids);
        let status = reports.iter().map(|report| TaskStatus {
            stage: report.task.stage.clone(),
            partition: report.task.partition,
            position: report.position,
            lag_records: lag(report),
            watermark_ms: report.watermark,
            state_keys: report.stats.state_keys,
        });
        let status = status.collect();
        self.observed.update(|shown| {
            shown.tasks = status;
            shown.facts.waiting(waiting, now_ms);
        });
        let mut board = self.board.borrow_mut();
        for report in reports {
            board.tasks.insert(report.task.clone(), report.clone());
        }
    }

    fn time(&self, busy: &[(TaskId, Duration)], blocked: Duration) {
        let handles = self.tasks.borrow();
        for (task, spent) in busy {
            if let Some(handle) = handles.get(task) {
                handle.busy(*spent);
            }
        }
        self.metrics.blocked(Blocked::Epoch, blocked);
    }

    fn failed(&self, error: &SlotError, transient: bool) {
        let reason = match error {
            SlotError::Log(LogError::Fenced(_)) => EpochFailure::Fenced,
            SlotError::Log(LogError::Indefinite(_)) => EpochFailure::Indefinite,
            SlotError::State(_) | SlotError::Lineage(_) => EpochFailure::Store,
            _ => EpochFailure::Log,
        };
        self.metrics.epoch_failed(reason);
        if transient {
            tracing::warn!(reason = error.reason(), "{error}; taking over again");
        } else {
            tracing::error!(reason = error.reason(), "{error}");
            let reason = format!("{}: {error}", error.reason());
            self.observed.facts(|facts| facts.enter(HealthPhase::Failed { reason }, self.env.now_ms()));
        }
        let mut board = self.board.borrow_mut();
        board.failures += 1;
        board.last_error = Some(error.to_string());
    }

    fn input_blocked(&self, topic: &str, partition: u32, blocked: bool) {
        if blocked {
            tracing::warn!(
                reason = "InputBlockedByOpenTransaction",
                topic,
                partition,
                "an open transaction of another producer holds this input back"
            );
        } else {
            tracing::info!(topic, partition, "the input is no longer held back");
        }
    }
}
