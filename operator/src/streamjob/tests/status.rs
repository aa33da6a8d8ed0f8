//! How a job is, and what is told of it.

use freshet_crds::StreamJobStatus;
use freshet_crds::control::{Problem, Refusal};
use freshet_crds::reasons::condition;

use super::super::apply::ApplyError;
use super::super::pods::Trouble;
use super::super::workers::WorkerError;
use super::super::{status, tale};
use super::*;
use crate::conditions::find;

#[test]
fn a_job_is_ready_only_while_every_task_is_held_and_gets_anywhere() {
    assert!(ready_reason(&running(2)).0);
    let worse = |change: fn(&mut WorkerFact)| {
        let mut facts = running(2);
        change(&mut facts.workers[1]);
        let (ready, reason, message) = ready_reason(&facts);
        assert!(!ready, "{reason}");
        assert!(message.contains("fraud-detection-1"), "the worker is named: {message}");
        reason
    };
    assert_eq!(worse(|it| answer(it).progressing = false), "EpochsNotCommitting");
    assert_eq!(worse(|it| it.status = Some(Err("time-out".into()))), "WorkerUnreachable");
    let silent = |runs_since_ms: Option<i64>| {
        let mut facts = running(2);
        let now_ms = facts.now_ms;
        let it = &mut facts.workers[1];
        (it.status, it.pod.ready) = (Some(Err("time-out".into())), false);
        it.pod.runs_since_ms = runs_since_ms.map(|before| now_ms - before);
        ready_reason(&facts).1
    };
    assert_eq!(silent(None), "Starting", "its container is being made");
    assert_eq!(silent(Some(3_000)), "Starting");
    assert_eq!(silent(Some(20_000)), "WorkerUnreachable", "it answered once, or should have");
    assert_eq!(worse(|it| answer(it).phase = WorkerPhase::Restoring), "Starting");
    assert_eq!(worse(|it| answer(it).generation = Some(0)), "Starting");
    let problem = |it: &mut WorkerFact| {
        answer(it).problem =
            Some(Problem { reason: "KafkaUnavailable".into(), message: "no broker answers".into(), since_ms: 90_000 });
    };
    assert_eq!(worse(problem), "KafkaUnavailable");
    let trouble = |it: &mut WorkerFact| {
        it.pod.trouble = Some(Trouble { reason: "ImagePullBackOff".into(), message: "no such image".into() });
    };
    assert_eq!(worse(trouble), "ImagePullBackOff");
    let mut facts = running(2);
    facts.workers.pop();
    assert_eq!(ready_reason(&facts).1, "WorkersNotReady");
    // A third worker, without tasks, is no reason for anything.
    let mut facts = wanting(3, running(2));
    facts.workers.push(worker(2, WorkerPhase::StandingBy, None));
    assert!(ready_reason(&facts).0);
}

#[test]
fn a_worker_that_ended_for_good_makes_the_job_stalled() {
    let mut facts = running(2);
    let text = "{\"reason\":\"BadRecord\",\"message\":\"payments.transactions[1]@7 is no JSON\"}";
    facts.workers[0].pod.end = serde_json::from_str(text).ok();
    let verdict = status::verdict(&facts, &decided(&facts), None);
    assert!(!verdict.ready.holds && verdict.reconciling.is_none());
    let stalled = verdict.stalled.expect("stalled");
    assert_eq!(stalled.reason, "BadRecord");
    assert!(stalled.message.contains("[1]@7"), "{}", stalled.message);
}

#[test]
fn lag_beyond_its_objective_is_a_condition_of_its_own() {
    let mut facts = running(1);
    facts.valid = Ok(Valid { replicas: 1, max_lag_ms: Some(60_000), ..valid() });
    answer(&mut facts.workers[0]).lag_ms = 90_000;
    let status = status::status(&job(JOB), &facts, &decided(&facts), Some(1), None);
    assert_eq!(find(&status.conditions, condition::READY).map(|it| it.status.as_str()), Some("True"));
    let lag = find(&status.conditions, condition::LAG_WITHIN_OBJECTIVE).expect("the condition");
    assert_eq!((lag.status.as_str(), status.lag.as_deref()), ("False", Some("<5m")));
    // What can't be asked says nothing, neither good nor bad.
    let objective = |facts: &Facts| {
        let status = status::status(&job(JOB), facts, &decided(facts), Some(1), None);
        let lag = find(&status.conditions, condition::LAG_WITHIN_OBJECTIVE).expect("the condition");
        (lag.status.clone(), lag.reason.clone())
    };
    let told = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    let mut facts = running(2);
    facts.valid = Ok(Valid { max_lag_ms: Some(60_000), ..valid() });
    assert_eq!(objective(&facts), told("True", "LagWithinBounds"));
    facts.workers[1].status = Some(Err("time-out".into()));
    assert_eq!(objective(&facts), told("Unknown", "LagUnknown"));
    answer(&mut facts.workers[0]).lag_ms = 90_000;
    assert_eq!(objective(&facts), told("False", "LagBeyondBounds"), "one is enough");
    facts.workers.clear();
    assert_eq!(objective(&facts), told("Unknown", "LagUnknown"));
}

#[test]
fn what_was_not_done_has_the_reason_of_whoever_did_not_do_it() {
    let said = |error: ApplyError| {
        let facts = wanting(3, running(2));
        let verdict = status::verdict(&facts, &decided(&facts), Some(&error));
        assert!(verdict.ready.holds, "what runs goes on: {verdict:?}");
        let fact = verdict.stalled.or(verdict.reconciling).expect("it is told");
        (fact.reason, fact.message)
    };
    let refusal = Refusal { reason: "TakeOverPending".into(), message: "generation 3 is not taken over".into() };
    let (reason, message) = said(ApplyError::HandOut(WorkerError::Refused(refusal)));
    assert_eq!(reason, "TakeOverPending");
    assert!(message.ends_with("TakeOverPending: generation 3 is not taken over"), "{message}");
    assert_eq!(said(ApplyError::HandOut(WorkerError::Silent("time-out".into()))).0, "WorkerUnreachable");
    assert_eq!(said(ApplyError::StillGoing { kind: "Service", name: "fraud".into() }).0, "Starting");
    assert_eq!(said(ApplyError::NameTaken { kind: "Service", name: "fraud".into() }).0, "NameTaken");
}

#[test]
fn the_status_is_whole_and_does_not_change_by_itself() {
    let mut resource = job(JOB);
    let mut facts = running(2);
    let first = status::status(&resource, &facts, &decided(&facts), Some(2), None);
    assert_eq!(first.observed_generation, 3);
    assert_eq!((first.workers.as_deref(), first.generation, first.lag.as_deref()), (Some("2/2"), Some(1), Some("<1s")));
    assert_eq!(first.lineage.as_ref().map(|lineage| lineage.id.as_str()), Some("r-1"));
    resource.status = Some(first.clone());
    facts.now_ms += 60_000;
    answer(&mut facts.workers[0]).epoch = Some(99);
    assert_eq!(status::status(&resource, &facts, &decided(&facts), Some(2), None), first, "nothing moved");
}

fn story(old: Option<&StreamJobStatus>, new: &StreamJobStatus, facts: &Facts) -> Vec<String> {
    tale::of_status(old, new, facts).into_iter().map(|happening| happening.reason).collect()
}

#[test]
fn events_tell_of_changes_once() {
    let resource = job(JOB);
    let starting = wanting(2, Facts { workers: Vec::new(), ..running(2) });
    let before = status::status(&resource, &starting, &decided(&starting), Some(2), None);
    let facts = running(2);
    let after = status::status(&resource, &facts, &decided(&facts), Some(2), None);
    assert_eq!(story(Some(&before), &after, &facts), vec!["WorkersStarted", "Committing"]);
    assert_eq!(story(Some(&after), &after, &facts), Vec::<String>::new());
    let mut worse = running(2);
    answer(&mut worse.workers[0]).progressing = false;
    let stuck = status::status(&resource, &worse, &decided(&worse), Some(2), None);
    assert_eq!(story(Some(&after), &stuck, &worse), vec!["EpochsNotCommitting"]);
}
