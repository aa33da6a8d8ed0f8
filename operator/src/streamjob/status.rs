//! Pure: from what was found and decided to the one status that is written, and the events that tell of its
//! changes. Every condition that the operator owns is computed here, and nowhere else.
//!
//! Whether the job is Ready is what its workers say: each holds its tasks of the newest generation, gets anywhere,
//! and has no problem. What is under way, or refused, stands beside it: a job whose last good revision runs is Ready
//! whatever its spec asks for next.

use std::ops::Range;

use freshet_crds::control::{WorkerPhase, WorkerStatus};
use freshet_crds::reasons::{
    self, DELETING, LAG_BEYOND_BOUNDS, LAG_UNKNOWN, LAG_WITHIN_BOUNDS, PREFLIGHT_RUNNING, RESCALING, RESTARTING,
    RUNNING, Reason, STARTING, SUSPENDED, SUSPENDING, TAKING_OVER, TOPIC_NOT_READY, WORKER_UNREACHABLE,
    WORKERS_NOT_READY, condition,
};
use freshet_crds::reasons::{EPOCHS_NOT_COMMITTING, FAILED_CREATE, Kind};
use freshet_crds::{LineageStatus, PlanStatus, RevisionStatus, StreamJob, StreamJobStatus};
use kube::ResourceExt;

use super::apply::ApplyError;
use super::decide::{Action, Decision, RescaleStep, Stage, kind_of};
use super::facts::{Facts, WorkerFact, is_in};
use super::names;
use super::pods::Trouble;
use crate::clock::time;
use crate::conditions::{Fact, Verdict};

/// How long a worker may take until it answers for the first time, ms: it does so before it loads anything.
const SILENT_START_MS: i64 = 10_000;

/// How well the workers do what was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// There are none, or none that was ever given tasks.
    None,
    /// All tasks are held, and epochs commit.
    Good,
    /// They don't, for a reason that a condition can carry.
    Bad {
        /// A reason of [`freshet_crds::reasons`], by name.
        reason: String,
        /// Whether it may pass.
        kind: Kind,
        /// Which worker, and what.
        message: String,
    },
}

/// How well the workers do what was handed out.
#[must_use]
pub fn health(facts: &Facts) -> Health {
    let Some(pods) = facts.asked_pods.filter(|pods| *pods > 0) else { return Health::None };
    let slots = facts.running().map_or(pods, |(_, slots)| slots);
    worst(facts, 0..slots).unwrap_or(Health::Good)
}

/// The worst of what is wrong with the workers of these slots.
fn worst(facts: &Facts, slots: Range<u32>) -> Option<Health> {
    let newest = facts.running().map(|(generation, _)| generation);
    let refused = facts.refused_pods.as_ref();
    let mut found: Vec<Health> = slots.filter_map(|slot| problem(facts, slot, newest, refused)).collect();
    found.sort_by_key(weight);
    let others = found.len().saturating_sub(1);
    match found.into_iter().next()? {
        Health::Bad { reason, kind, message } if others > 0 => {
            Some(Health::Bad { reason, kind, message: format!("{message} (and {others} other workers)") })
        }
        first => Some(first),
    }
}

/// What a person must change first, then what a pod or a worker names, then what only takes time.
fn weight(health: &Health) -> u8 {
    match health {
        Health::Bad { kind: Kind::Stalled, .. } => 0,
        Health::Bad { reason, .. } if reason == STARTING.name => 3,
        Health::Bad { reason, .. } if reason == WORKERS_NOT_READY.name => 2,
        _ => 1,
    }
}

/// What is wrong with the worker of a slot.
fn problem(facts: &Facts, slot: u32, newest: Option<u64>, refused: Option<&Trouble>) -> Option<Health> {
    let bad = |reason: &Reason, message: String| {
        Some(Health::Bad { reason: reason.name.to_owned(), kind: reason.kind, message })
    };
    let Some(worker) = facts.worker(slot) else {
        if let Some(refused) = refused {
            return bad(&FAILED_CREATE, format!("worker {slot} gets no pod: {}", refused.message));
        }
        return bad(&WORKERS_NOT_READY, format!("worker {slot} has no pod yet"));
    };
    let name = &worker.pod.name;
    if let Some(end) = &worker.pod.end {
        return Some(Health::Bad {
            reason: end.reason.clone(),
            kind: kind_of(&end.reason, true),
            message: format!("{name}: {}", end.message),
        });
    }
    if let Some(trouble) = &worker.pod.trouble {
        let known = reasons::find(&trouble.reason).unwrap_or(&WORKERS_NOT_READY);
        let own = if known.name == trouble.reason { String::new() } else { format!("{}: ", trouble.reason) };
        return bad(known, format!("{name}: {own}{}", trouble.message));
    }
    if worker.pod.gone_by_ms.is_some() {
        return bad(&WORKERS_NOT_READY, format!("{name} is being replaced"));
    }
    let status = match &worker.status {
        None => return bad(&STARTING, format!("{name} starts")),
        Some(Err(_)) if !worker.pod.ready && !answers_by_now(worker, facts.now_ms) => {
            return bad(&STARTING, format!("{name} starts"));
        }
        Some(Err(error)) => return bad(&WORKER_UNREACHABLE, format!("{name}: {error}")),
        Some(Ok(status)) => status,
    };
    if let Some(problem) = &status.problem {
        return Some(Health::Bad {
            reason: problem.reason.clone(),
            kind: kind_of(&problem.reason, status.phase == WorkerPhase::Failed),
            message: format!("{name}: {}, since {}", problem.message, time(problem.since_ms).0),
        });
    }
    match status.phase {
        WorkerPhase::Running if !is_in(status, facts.lineage()) => {
            let (is, wanted) = (status.lineage.as_deref().unwrap_or_default(), facts.lineage().unwrap_or_default());
            bad(
                &STARTING,
                format!(
                    "{name} is in lineage {is}, and {wanted} was handed out: it goes there by itself. If it stays, give \
                     spec.restoreNonce another text"
                ),
            )
        }
        WorkerPhase::Running if status.generation != newest => {
            bad(&STARTING, format!("{name} still runs generation {}", status.generation.unwrap_or(0)))
        }
        WorkerPhase::Running if status.progressing => None,
        WorkerPhase::Running => {
            let last = status.epoch.map_or_else(|| "none has yet".to_owned(), |epoch| format!("the last was {epoch}"));
            bad(&EPOCHS_NOT_COMMITTING, format!("{name}: no epoch commits; {last}"))
        }
        // It has no tasks: more workers than tasks.
        WorkerPhase::StandingBy if newest.is_some() && status.ready => None,
        phase => bad(&STARTING, format!("{name} is {}", words(phase))),
    }
}

/// Whether its process has run for so long that it answers unless something is wrong: it stands still, or packets to it
/// are dropped.
fn answers_by_now(worker: &WorkerFact, now_ms: i64) -> bool {
    worker.pod.runs_since_ms.is_some_and(|since_ms| now_ms - since_ms > SILENT_START_MS)
}

const fn words(phase: WorkerPhase) -> &'static str {
    match phase {
        WorkerPhase::Starting => "starting",
        WorkerPhase::StandingBy => "waiting for an assignment",
        WorkerPhase::TakingOver => "taking its tasks over",
        WorkerPhase::Restoring => "loading state",
        WorkerPhase::Running => "running",
        WorkerPhase::Stopping => "stopping",
        WorkerPhase::BackingOff => "waiting before it tries again",
        WorkerPhase::Failed => "at its end",
        WorkerPhase::Unknown => "in a phase that this operator does not know",
    }
}

/// What is under way or refused beside what runs.
fn beside(facts: &Facts, stage: &Stage) -> Option<(String, Kind, String)> {
    let known = |reason: &Reason, message: String| Some((reason.name.to_owned(), reason.kind, message));
    match stage {
        Stage::Refused(refusal) => known(refusal.reason, refusal.message.clone()),
        Stage::Arriving(refusal) => known(&TOPIC_NOT_READY, refusal.message.clone()),
        Stage::WaitingForTopics(why) => known(&TOPIC_NOT_READY, why.join("; ")),
        Stage::Checking { trouble: Some(trouble), .. } => {
            let reason = reasons::find(&trouble.reason).unwrap_or(&PREFLIGHT_RUNNING);
            known(reason, format!("the preflight's pod: {}: {}", trouble.reason, trouble.message))
        }
        // What was wrong stays said until it is known to be right.
        Stage::Checking { last: Some(last), .. } | Stage::CheckFailed(last) => {
            Some((last.reason.clone(), last.kind, last.message.clone()))
        }
        Stage::Checking { attempt, .. } => {
            known(&PREFLIGHT_RUNNING, format!("attempt {attempt} looks at state, store, brokers, topics and rights"))
        }
        Stage::TakingOver { generation } => known(&TAKING_OVER, format!("workers take generation {generation} over")),
        Stage::Rescaling { from, to, step } => {
            let new = match step {
                // They have no tasks yet, so that what runs is well without them.
                RescaleStep::Pods => worst(facts, *from..*to).filter(|health| weight(health) < 2),
                RescaleStep::Assignment => None,
            };
            if let Some(Health::Bad { reason, kind, message }) = new {
                return Some((reason, kind, format!("from {from} to {to} workers: {message}")));
            }
            let step = match step {
                RescaleStep::Pods => "the new workers start",
                RescaleStep::Assignment => "tasks move",
            };
            known(&RESCALING, format!("from {from} to {to} workers: {step}"))
        }
        Stage::Suspending(left) => known(&SUSPENDING, format!("{left} workers commit a last epoch and end")),
        Stage::Deleting(left) => known(&DELETING, format!("{left} workers commit a last epoch and end")),
        Stage::Retiring { trouble: Some(trouble), .. } => known(
            &DELETING,
            format!("state can't be deleted yet: the retirement's pod: {}: {}", trouble.reason, trouble.message),
        ),
        Stage::Retiring { last: Some(last), .. } => {
            known(&DELETING, format!("state can't be deleted yet: {}: {}", last.reason, last.message))
        }
        Stage::Retiring { .. } => known(&DELETING, "its state, offsets and internal topics are deleted".to_owned()),
        Stage::Running | Stage::Suspended => None,
    }
}

/// The conditions in one value.
#[must_use]
pub fn verdict(facts: &Facts, decision: &Decision, failure: Option<&ApplyError>) -> Verdict {
    let mut verdict = judged(facts, &decision.stage);
    if let Some(error) = failure {
        let (reason, kind) = error.reason();
        let fact = Some(Fact::yes(reason, error.to_string()));
        if kind == Kind::Stalled {
            verdict.stalled = fact;
        } else {
            verdict.reconciling = fact;
        }
        if !verdict.ready.holds {
            verdict.ready = Fact::no(reason, error.to_string());
        }
    }
    if let Ok(valid) = &facts.valid
        && let Some(most) = valid.max_lag_ms
        && !valid.suspended
    {
        verdict.more.push((condition::LAG_WITHIN_OBJECTIVE, lag_objective(facts, most)));
    }
    verdict
}

/// Whether records wait no longer than `most_ms`. What one worker says is enough for a breach; that there is none, all that
/// have tasks must say.
fn lag_objective(facts: &Facts, most_ms: u64) -> Fact {
    let lag = lag_ms(facts);
    if lag > most_ms {
        let most = most_ms;
        return Fact::no(
            LAG_BEYOND_BOUNDS.name,
            format!("records wait {} and spec.slo.maxLag is {most} ms", coarse(lag)),
        );
    }
    let slots = facts.running().map_or(0, |(_, slots)| slots);
    let says = |slot: u32| {
        let answer = facts.worker(slot).and_then(|worker| worker.status.as_ref()?.as_ref().ok());
        // One without tasks has nothing that could wait.
        answer.is_some_and(|status| matches!(status.phase, WorkerPhase::Running | WorkerPhase::StandingBy))
    };
    match (0..slots).find(|slot| !says(*slot)) {
        Some(silent) => Fact::unknown(LAG_UNKNOWN.name, format!("worker {silent} does not say how long records wait")),
        None if slots == 0 => Fact::unknown(LAG_UNKNOWN.name, "no worker has tasks yet"),
        None => Fact::yes(LAG_WITHIN_BOUNDS.name, format!("no record waits longer than {most_ms} ms")),
    }
}

fn judged(facts: &Facts, stage: &Stage) -> Verdict {
    if *stage == Stage::Suspended {
        return Verdict::good(&SUSPENDED, "the job has no workers, as spec.state asks; its state is kept");
    }
    let beside = beside(facts, stage);
    if matches!(stage, Stage::Suspending(_) | Stage::Deleting(_) | Stage::Retiring { .. })
        && let Some((reason, kind, message)) = beside
    {
        return Verdict::not_ready_because(&reason, kind, message);
    }
    let mut verdict = match (health(facts), &beside) {
        (Health::Good, _) => Verdict::good(&RUNNING, running(facts)),
        (Health::Bad { reason, kind, message }, _) => Verdict::not_ready_because(&reason, kind, message),
        (Health::None, Some((reason, kind, message))) => Verdict::not_ready_because(reason, *kind, message),
        (Health::None, None) => Verdict::not_ready(&STARTING, "the workers are being made"),
    };
    if let Some((reason, kind, message)) = beside {
        let fact = Some(Fact::yes(&reason, message));
        if kind == Kind::Stalled {
            verdict.stalled = fact;
        } else if verdict.ready.holds || verdict.stalled.is_none() {
            verdict.reconciling = fact;
        }
    }
    if facts.restarting && verdict.reconciling.is_none() {
        let message = "pods are restarted one after another with what has changed";
        verdict.reconciling = Some(Fact::yes(RESTARTING.name, message));
    }
    verdict
}

fn running(facts: &Facts) -> String {
    let (generation, slots) = facts.running().unwrap_or_default();
    format!("{slots} workers run generation {generation}, and epochs commit")
}

/// Age of the oldest record that waits, ms, as far as workers say it.
fn lag_ms(facts: &Facts) -> u64 {
    let run = facts.answers().filter(|status| status.phase == WorkerPhase::Running);
    run.map(|status| status.lag_ms).max().unwrap_or(0)
}

/// A lag in steps that move rarely.
#[must_use]
pub fn coarse(lag_ms: u64) -> &'static str {
    const STEPS: &[(u64, &str)] = &[
        (1_000, "<1s"),
        (5_000, "<5s"),
        (10_000, "<10s"),
        (30_000, "<30s"),
        (60_000, "<1m"),
        (300_000, "<5m"),
        (600_000, "<10m"),
    ];
    STEPS.iter().find(|(most, _)| lag_ms < *most).map_or(">10m", |(_, text)| text)
}

/// The whole status that says how the job is. What can't be known in this pass stays as it was.
#[must_use]
pub fn status(
    job: &StreamJob,
    facts: &Facts,
    decision: &Decision,
    pods: Option<i32>,
    failure: Option<&ApplyError>,
) -> StreamJobStatus {
    let old = job.status.clone().unwrap_or_default();
    let generation = job.metadata.generation.unwrap_or_default();
    let report = facts.accepted.as_ref().map(|accepted| &accepted.report);
    let target = facts.valid.as_ref().ok().map(|valid| valid.revision.clone());
    // What this pass accepted is what runs.
    let accepts = failure.is_none() && decision.actions.iter().any(|action| matches!(action, Action::Accept(_)));
    let current = facts.accepted.as_ref().map(|accepted| accepted.revision.clone());
    let current = if accepts { target.clone() } else { current };
    // One that says so itself is ready, whether kubelet has asked it by now or not.
    let says_so = |worker: &WorkerFact| matches!(&worker.status, Some(Ok(status)) if status.ready);
    let ready = facts.workers.iter().filter(|worker| worker.pod.ready || says_so(worker)).count();
    let ready = i32::try_from(ready).unwrap_or(i32::MAX);
    let wanted = match &facts.valid {
        Ok(valid) if valid.suspended => 0,
        Ok(valid) => i32::try_from(valid.replicas).unwrap_or(i32::MAX),
        Err(_) => job.spec.replicas.unwrap_or(1),
    };
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let now = time(facts.now_ms);
    StreamJobStatus {
        observed_generation: generation,
        replicas: Some(pods.unwrap_or(0)),
        ready_replicas: Some(ready),
        selector: Some(names::selector_text(&job.name_any())),
        workers: Some(format!("{ready}/{wanted}")),
        generation: facts
            .running()
            .and_then(|(generation, _)| i64::try_from(generation).ok())
            .or(old.generation)
            .or_else(|| i64::try_from(report?.generation?).ok()),
        revision: Some(RevisionStatus { current: current.clone(), target })
            .filter(|it| it.current.is_some() || it.target.is_some()),
        runtime_version: version(facts)
            .or_else(|| report.map(|report| report.runtime_version.clone()))
            .or(old.runtime_version),
        lineage: report
            .and_then(|report| {
                Some(LineageStatus { id: report.lineage.clone()?, started_at: report.lineage_born_ms.map(time) })
            })
            .or(old.lineage),
        plan: report
            .filter(|report| report.stages > 0)
            .map(|report| PlanStatus {
                stages: count(report.stages),
                tasks: count(report.tasks),
                internal_topics: report.internal_topics.clone(),
            })
            .or(old.plan),
        lag: facts
            .answers()
            .any(|status| status.phase == WorkerPhase::Running)
            .then(|| coarse(lag_ms(facts)).to_owned()),
        conditions: verdict(facts, decision, failure).conditions(&old.conditions, generation, &now),
    }
}

fn version(facts: &Facts) -> Option<String> {
    // During a rolling update the older one still runs.
    facts.answers().map(|status: &WorkerStatus| status.runtime_version.clone()).min()
}
