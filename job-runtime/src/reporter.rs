//! From what a slot tells of itself to metrics, health and the live view.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use freshet_crds::control::{Restored, WorkerTask};
use freshet_env::SharedEnv;
use freshet_log::LogError;
use freshet_state::TaskId;
use freshet_state::run_policy::{BadRecords, LateRecords};

use crate::metrics::{Blocked, EpochFailure, EpochStep, Metrics, ObjectKind, TakeOver, TaskMetrics};
use crate::observe::health::Phase as HealthPhase;
use crate::observe::health::Runs;
use crate::observe::{Limits, Observed};
use crate::slot::{EpochReport, Phase, SlotError, SlotEvents, TakenOver, TaskReport};

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

#[derive(Debug, Clone, Copy, Default)]
struct Drops {
    late: bool,
    bad: bool,
}

/// Listens to one slot.
pub struct Reporter {
    env: SharedEnv,
    metrics: Metrics,
    observed: Observed,
    board: Rc<RefCell<Board>>,
    /// What the running generation says of records that can't be used: whether they are dropped.
    drops: Cell<Drops>,
    tasks: RefCell<HashMap<TaskId, TaskMetrics>>,
    /// The generation of the last take-over.
    ran: Cell<Option<u64>>,
}

impl Reporter {
    /// A listener that tells all three.
    #[must_use]
    pub fn new(env: SharedEnv, metrics: Metrics, observed: Observed, board: Rc<RefCell<Board>>) -> Self {
        Self {
            env,
            metrics,
            observed,
            board,
            drops: Cell::default(),
            tasks: RefCell::new(HashMap::new()),
            ran: Cell::new(None),
        }
    }
}

impl SlotEvents for Reporter {
    fn phase(&self, phase: Phase) {
        let now_ms = self.env.now_ms();
        let (health, said) = match phase {
            Phase::StandingBy => (HealthPhase::StandingBy, "standing by"),
            Phase::TakingOver => (HealthPhase::TakingOver { step: "taking over" }, "taking over"),
            Phase::Restoring => (HealthPhase::Restoring, "restoring"),
            Phase::Working => (HealthPhase::Running, ""),
            Phase::Stopping => (HealthPhase::Stopping, "stopping"),
            Phase::BackingOff => (HealthPhase::BackingOff, "trying again"),
        };
        self.observed.update(|status| {
            if health == HealthPhase::StandingBy {
                status.tasks.clear();
                status.facts.runs = None;
                status.facts.lag_ms = 0;
                status.facts.waiting(0, now_ms);
            }
            status.facts.enter(health, now_ms);
        });
        said.clone_into(&mut self.board.borrow_mut().phase);
    }

    fn took_over(&self, taken: &TakenOver<'_>) {
        let generation = taken.generation;
        let number = generation.number;
        let reason = match self.ran.replace(Some(number)) {
            None => TakeOver::Start,
            Some(before) if before == number => TakeOver::Recovery,
            Some(_) => TakeOver::Generation,
        };
        self.metrics.took_over(reason, number, taken.tasks.len(), taken.took);
        let policy = generation.policy.as_ref();
        self.drops.set(Drops {
            late: policy.is_some_and(|policy| policy.on_late == LateRecords::Drop),
            bad: policy.is_some_and(|policy| policy.on_bad_record == BadRecords::Skip),
        });
        let now_ms = self.env.now_ms();
        let took_ms = taken.took.as_millis() as u64;
        let runs = Runs {
            generation: number,
            slots: generation.slots,
            plan_fingerprint: generation.plan_fingerprint.clone(),
            revision: generation.revision(),
            restored: Restored {
                tasks: u32::try_from(taken.tasks.len()).unwrap_or(u32::MAX),
                state_bytes: taken.bytes,
                took_ms,
                at_ms: now_ms,
            },
        };
        let interval_ms = policy.map_or(0, |policy| i64::try_from(policy.epoch_interval_ms).unwrap_or(i64::MAX));
        self.observed.update(|status| {
            status.limits = Limits::for_epoch_interval(interval_ms);
            status.facts.runs = Some(runs);
            status.facts.begin_anew();
        });
        tracing::info!(
            generation = number,
            incarnation = taken.incarnation,
            tasks = taken.tasks.len(),
            bytes = taken.bytes,
            took_ms,
            "took over"
        );
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
        let drops = self.drops.get();
        let mut handles = self.tasks.borrow_mut();
        handles.retain(|id, _| reports.iter().any(|report| report.task == *id));
        let (mut waiting, mut lag_ms) = (0, 0);
        for report in reports {
            let handle = handles.entry(report.task.clone()).or_insert_with(|| self.metrics.task(&report.task));
            handle.stats(&report.stats, drops.late, drops.bad);
            let lag = lag(report);
            waiting += lag;
            let behind = if lag == 0 || report.last_timestamp_ms < 0 { 0 } else { now_ms - report.last_timestamp_ms };
            let behind = u64::try_from(behind).unwrap_or(0);
            lag_ms = lag_ms.max(behind);
            handle.lag(lag, Duration::from_millis(behind));
            handle.watermark(report.watermark, now_ms);
        }
        let ids: Vec<TaskId> = reports.iter().map(|report| report.task.clone()).collect();
        self.metrics.retain_tasks(&ids);
        let status = reports.iter().map(|report| WorkerTask {
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
            shown.facts.lag_ms = lag_ms;
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
        let now_ms = self.env.now_ms();
        self.observed.facts(|facts| facts.fails(error.reason(), error.to_string(), now_ms));
        if transient {
            tracing::warn!(reason = error.reason(), "{error}; taking over again");
        } else {
            tracing::error!(reason = error.reason(), "{error}");
            let reason = format!("{}: {error}", error.reason());
            self.observed.facts(|facts| facts.enter(HealthPhase::Failed { reason }, now_ms));
        }
        let mut board = self.board.borrow_mut();
        board.failures += 1;
        board.last_error = Some(error.to_string());
    }

    fn upkeep(&self, piece: &'static str, outcome: Result<(), &SlotError>) {
        let now_ms = self.env.now_ms();
        if let Err(error) = outcome {
            tracing::warn!(reason = error.reason(), piece, "{error}; trying again");
        }
        let told = outcome.map_err(|error| (error.reason(), error.to_string()));
        self.observed.facts(|facts| facts.upkept(piece, told, now_ms));
    }

    fn put_off(&self, piece: &'static str, error: &SlotError) {
        tracing::warn!(reason = error.reason(), piece, "{error}; put off");
    }

    fn input_blocked(&self, topic: &str, partition: u32, blocked: bool) {
        let input = format!("{topic}[{partition}]");
        let now_ms = self.env.now_ms();
        self.observed.facts(|facts| {
            if blocked {
                facts.blocked.entry(input).or_insert(now_ms);
            } else {
                facts.blocked.remove(&input);
            }
        });
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
