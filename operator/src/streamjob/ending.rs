//! Pure: the end of a job. Its workers stop first; then, where its spec says so, what it leaves is deleted; then its
//! resource goes. Past the deadline that goes anyway, and says what was not waited for.

use super::decide::{Action, Decision, RETRY_MS, Stage, lost_pods};
use super::facts::{Facts, Legacy, PreflightFailure, RetirementState};
use super::pods::Trouble;
use super::validate::Refusal;

/// What is done next with a job that was told to go at `since`, and may wait for `deadline_ms`.
pub(super) fn end(facts: &Facts, since: i64, deadline_ms: i64) -> Decision {
    let mut actions: Vec<Action> = lost_pods(facts).collect();
    let left = facts.workers.len();
    if !facts.finalizer {
        return Decision { stage: Stage::Deleting(left), actions: Vec::new() };
    }
    if facts.asked_pods.is_some_and(|pods| pods > 0) {
        actions.push(Action::ResizeWorkers { pods: 0 });
    }
    if matches!(facts.legacy, Legacy::Deleted { .. }) && !facts.preflights.is_empty() {
        // One that still runs would begin what is to end. The others go with the resource.
        let jobs = facts.preflights.iter().map(|preflight| preflight.name.clone()).collect();
        actions.push(Action::RemovePreflights { jobs, manifests: Vec::new() });
    }
    let overdue = facts.now_ms - since >= deadline_ms;
    let looked = !matches!(facts.legacy, Legacy::Deleted { .. }) || facts.preflights.is_empty();
    let stopped = looked && left == 0 && facts.asked_pods.is_none_or(|pods| pods == 0);
    let mut stage = Stage::Deleting(left);
    let ends = if stopped {
        match retire(facts, &mut stage, &mut actions) {
            Retire::Over => Some(None),
            Retire::UnderWay => overdue.then(|| Some(undeleted(&stage))),
        }
    } else {
        let names = || facts.workers.iter().map(|worker| worker.pod.name.as_str()).collect::<Vec<_>>().join(", ");
        overdue.then(|| Some(names()))
    };
    if let Some(waited_for) = ends {
        // What was begun a moment ago is waited for no longer.
        actions.retain(|action| !matches!(action, Action::StartRetirement { .. }));
        actions.push(Action::RemoveFinalizer { waited_for });
    }
    Decision { stage, actions }
}

/// What was not waited for any longer, with what has kept it.
fn undeleted(stage: &Stage) -> String {
    const WHAT: &str = "the deletion of its state, which stays";
    match stage {
        Stage::Retiring { trouble: Some(Trouble { reason, message }), .. }
        | Stage::Retiring { last: Some(PreflightFailure { reason, message, .. }), .. } => {
            format!("{WHAT}: {reason}: {message}")
        }
        _ => WHAT.to_owned(),
    }
}

/// How far the deletion of what a job leaves is.
enum Retire {
    /// There is nothing more to do.
    Over,
    /// It is waited for.
    UnderWay,
}

/// The workers are gone: what they leave is deleted, if it should be.
fn retire(facts: &Facts, stage: &mut Stage, actions: &mut Vec<Action>) -> Retire {
    let attempts = match &facts.legacy {
        Legacy::Kept | Legacy::None => return Retire::Over,
        // Until the deadline somebody may say where it is.
        Legacy::Lost(Refusal { reason, message }) => {
            let (reason, kind, message) = (reason.name.to_owned(), reason.kind, message.clone());
            let last = Some(PreflightFailure { reason, kind, message, at_ms: facts.now_ms });
            *stage = Stage::Retiring { attempt: 1, trouble: None, last };
            return Retire::UnderWay;
        }
        Legacy::Deleted { attempts, .. } => attempts,
    };
    let newest = attempts.iter().max_by_key(|fact| fact.attempt);
    let failed = attempts.iter().filter_map(|fact| match &fact.state {
        RetirementState::Failed(failure) => Some((fact.attempt, failure.clone())),
        _ => None,
    });
    let last = failed.max_by_key(|(attempt, _)| *attempt).map(|(_, failure)| failure);
    let (attempt, trouble) = match newest.map(|fact| (fact.attempt, &fact.state)) {
        None => (1, None),
        Some((_, RetirementState::Done)) => return Retire::Over,
        Some((attempt, RetirementState::Running(trouble))) => {
            *stage = Stage::Retiring { attempt, trouble: trouble.clone(), last };
            return Retire::UnderWay;
        }
        Some((attempt, RetirementState::Failed(failure))) if facts.now_ms - failure.at_ms < RETRY_MS => {
            *stage = Stage::Retiring { attempt, trouble: None, last };
            return Retire::UnderWay;
        }
        Some((attempt, RetirementState::Failed(_))) => (attempt + 1, None),
    };
    actions.push(Action::StartRetirement { attempt });
    *stage = Stage::Retiring { attempt, trouble, last };
    Retire::UnderWay
}
