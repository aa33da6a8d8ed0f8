//! Pure: what changed, as a story with figures: the events of a StreamJob.
//!
//! *Planned* → *WorkersStarted* → *Restored* → *Committing*, and what disturbs that. An event tells of a change of the
//! status, so that a pass which is made twice tells it once.

use freshet_crds::reasons::condition;
use freshet_crds::{StreamJob, StreamJobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::apply::Done;
use super::decide::{Action, Decision};
use super::facts::{Facts, Legacy};
use crate::conditions::find;
use crate::events::Happening;

/// What was done in this pass and is told whatever the status says.
#[must_use]
pub fn told(job: &StreamJob, facts: &Facts, decision: &Decision, done: Option<&Done>) -> Vec<Happening> {
    let mut story = Vec::new();
    for action in &decision.actions {
        match action {
            Action::StartPreflight { attempt: 1, slots } if done.is_some() => {
                let revision = facts.valid.as_ref().map(|valid| valid.revision.as_str()).unwrap_or_default();
                let note =
                    format!("revision {revision}: looking at state, store, brokers and topics for {slots} workers");
                story.push(Happening::normal("PreflightStarted", "Check", note));
            }
            Action::Accept(report) if done.is_some() => {
                let note = format!(
                    "{} stages, {} tasks on {} slots; generation {} of lineage {}{}",
                    report.stages,
                    report.tasks,
                    report.slots.unwrap_or(0),
                    report.generation.unwrap_or(0),
                    report.lineage.as_deref().unwrap_or("?"),
                    if report.changed { "" } else { ", as it was" },
                );
                story.push(Happening::normal("Planned", "Plan", note));
            }
            Action::RemoveFinalizer { waited_for: Some(what) } => story.push(Happening::warning(
                "DeletionDeadlinePassed",
                "Delete",
                format!("no longer waiting for {what}: the resource goes, and its pods with it"),
            )),
            Action::RemoveFinalizer { waited_for: None }
                if matches!(facts.legacy, Legacy::Deleted { .. }) && done.is_some() =>
            {
                let note = "state, offsets and internal topics are deleted; the Topics stay";
                story.push(Happening::normal("Retired", "Delete", note));
            }
            _ => {}
        }
    }
    let done = done.cloned().unwrap_or_default();
    if let Some(assignment) = done.handed_out {
        let known = job.status.as_ref().and_then(|status| status.generation);
        if known.is_none_or(|known| i64::try_from(assignment.generation).is_ok_and(|new| new > known)) {
            let note =
                format!("generation {}: tasks are spread over {} slots", assignment.generation, assignment.slots);
            story.push(Happening::normal("Assigned", "Scale", note));
        }
    }
    for pod in done.force_deleted {
        let note = format!("{pod} is removed although its node does not answer; the fences keep it from writing");
        story.push(Happening::warning("WorkerLost", "Replace", note));
    }
    story
}

/// What the change from `old` to `new` tells.
#[must_use]
pub fn of_status(old: Option<&StreamJobStatus>, new: &StreamJobStatus, facts: &Facts) -> Vec<Happening> {
    let mut story = Vec::new();
    let before = |type_: &str| old.and_then(|old| find(&old.conditions, type_));
    let after = |type_: &str| find(&new.conditions, type_);
    let holds = |condition: Option<&Condition>| condition.is_some_and(|condition| condition.status == "True");

    let ready = new.ready_replicas.unwrap_or(0);
    if ready > 0 && new.workers != old.and_then(|old| old.workers.clone()) && whole(new) {
        story.push(Happening::normal("WorkersStarted", "Start", format!("{ready} workers are ready")));
    }
    let (was, is) = (holds(before(condition::READY)), holds(after(condition::READY)));
    let reason =
        after(condition::READY).map(|ready| (ready.reason.as_str(), ready.message.as_str())).unwrap_or_default();
    match (was, is) {
        (false, true) if reason.0 == "Suspended" => {
            story.push(Happening::normal(
                "Suspended",
                "Suspend",
                "all workers have committed a last epoch and are gone",
            ));
        }
        (false, true) => {
            story.extend(restored(facts));
            let epoch = facts.answers().filter_map(|status| status.epoch).max();
            let epoch = epoch.map_or_else(|| "nothing waits".to_owned(), |epoch| format!("up to epoch {epoch}"));
            let lag = new.lag.as_deref().unwrap_or("unknown");
            story.push(Happening::normal("Committing", "Run", format!("{epoch}; lag {lag}; {}", reason.1)));
        }
        // As asked.
        (true, false) if matches!(reason.0, "Suspending" | "Deleting" | "Starting") => {
            story.push(Happening::normal(reason.0, "Run", reason.1));
        }
        (true, false) => story.push(Happening::warning(reason.0, "Run", reason.1)),
        _ => {}
    }
    if let Some(stalled) = after(condition::STALLED).filter(|stalled| stalled.status == "True") {
        let told = before(condition::STALLED).is_some_and(|before| {
            before.status == "True" && before.reason == stalled.reason && before.message == stalled.message
        });
        // One that was Ready and is not has been told just now.
        if !told && (is || !was) {
            story.push(Happening::warning(&stalled.reason, "Check", &stalled.message));
        }
    }
    if let Some(lag) = after(condition::LAG_WITHIN_OBJECTIVE)
        && let Some(former) = before(condition::LAG_WITHIN_OBJECTIVE)
        && former.status != lag.status
        && lag.status != "Unknown"
        && (lag.status == "False" || former.status == "False")
    {
        let note = lag.message.as_str();
        story.push(if lag.status == "True" {
            Happening::normal(&lag.reason, "Run", note)
        } else {
            Happening::warning(&lag.reason, "Run", note)
        });
    }
    story
}

fn whole(status: &StreamJobStatus) -> bool {
    let parts = status.workers.as_deref().and_then(|workers| workers.split_once('/'));
    parts.is_some_and(|(ready, wanted)| ready == wanted)
}

/// What the last take-over brought back, over all workers.
fn restored(facts: &Facts) -> Option<Happening> {
    let all: Vec<_> = facts.answers().filter_map(|status| status.restored.as_ref()).collect();
    let tasks: u32 = all.iter().map(|restored| restored.tasks).sum();
    let bytes: u64 = all.iter().map(|restored| restored.state_bytes).sum();
    let slowest = all.iter().map(|restored| restored.took_ms).max()?;
    let note = format!("{tasks} tasks, {bytes} bytes of state, in {slowest} ms at most");
    Some(Happening::normal("Restored", "Start", note))
}
