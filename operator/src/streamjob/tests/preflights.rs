//! A revision is looked at before anything that runs is touched.

use super::super::decide::Stage;
use super::super::{names, status};
use super::*;

#[test]
fn a_new_job_is_checked_before_anything_is_made() {
    let facts = fresh();
    assert_eq!(decided(&facts).actions, vec![Action::StartPreflight { attempt: 1, slots: 2 }]);
    let waiting = Facts { unready_topics: vec!["Topic alerts is not ready".into()], ..fresh() };
    assert_eq!(
        decided(&waiting),
        Decision { stage: Stage::WaitingForTopics(waiting.unready_topics.clone()), actions: Vec::new() }
    );
    let without = Facts { finalizer: false, ..fresh() };
    assert_eq!(decided(&without).actions[0], Action::AddFinalizer);
}

/// A pass that was cut off between the two leaves nothing behind.
#[test]
fn what_a_former_preflight_read_goes_even_where_its_job_is_gone() {
    let own = names::preflight_manifests(&valid().name, &valid().revision);
    let facts = Facts { candidates: vec!["former".into(), own], ..running(2) };
    assert_eq!(decided(&facts).actions, vec![removed(&[], &["former"]), Action::ApplyWorkers { pods: 2 }]);
}

#[test]
fn a_refused_preflight_is_said_and_tried_again() {
    let failed = |at_ms| Facts { preflights: vec![preflight(1, PreflightState::Failed(failure(at_ms)))], ..fresh() };
    assert_eq!(decided(&failed(95_000)), Decision { stage: Stage::CheckFailed(failure(95_000)), actions: Vec::new() });
    let again = decided(&failed(90_000));
    assert_eq!(again.actions, vec![Action::StartPreflight { attempt: 2, slots: 2 }]);
    // While the second one runs, the first one's words stand, and it is kept.
    let second = Facts {
        preflights: vec![
            preflight(1, PreflightState::Failed(failure(90_000))),
            preflight(2, PreflightState::Running(None)),
        ],
        ..fresh()
    };
    let decision = decided(&second);
    assert_eq!(decision.actions, Vec::new());
    let verdict = status::verdict(&second, &decision, None);
    assert_eq!(verdict.stalled.expect("stalled").reason, "StoreUnusable");
    // Once it has ended, the first one goes.
    let third = Facts {
        preflights: vec![
            preflight(1, PreflightState::Failed(failure(80_000))),
            preflight(2, PreflightState::Failed(failure(95_000))),
        ],
        ..fresh()
    };
    assert_eq!(decided(&third).actions, vec![removed(&["p-1"], &[])]);
}

#[test]
fn a_passed_preflight_is_accepted_and_then_the_workers_are_made() {
    let facts = Facts { preflights: vec![preflight(1, PreflightState::Passed(report(1, 2)))], ..fresh() };
    let decision = decided(&facts);
    assert_eq!(decision.actions, vec![Action::Accept(Box::new(report(1, 2))), Action::ApplyWorkers { pods: 2 }]);
    // A stored assignment with more slots than are asked for has its pods until a worker has confirmed another.
    let more = Facts { preflights: vec![preflight(1, PreflightState::Passed(report(1, 5)))], ..fresh() };
    assert_eq!(decided(&more).actions[1], Action::ApplyWorkers { pods: 5 });
}

#[test]
fn another_revision_is_checked_while_the_old_one_runs() {
    let mut facts = running(2);
    let other = Valid { revision: "other1".into(), replicas: 3, ..valid() };
    facts.valid = Ok(other.clone());
    let decision = decided(&facts);
    // With the slots that run now: scaling comes after.
    assert_eq!(decision.actions, vec![Action::StartPreflight { attempt: 1, slots: 2 }]);
    let refused = PreflightFailure {
        reason: "StateIncompatible".into(),
        kind: Kind::Stalled,
        message: "operator agg1".into(),
        at_ms: 99_000,
    };
    facts.preflights = vec![PreflightFact {
        name: "p".into(),
        revision: other.revision,
        attempt: 1,
        pod: Some(valid().pods.hash()),
        made_ms: 0,
        state: PreflightState::Failed(refused),
    }];
    let decision = decided(&facts);
    assert!(decision.actions.is_empty(), "what runs is not touched: {decision:?}");
    let verdict = status::verdict(&facts, &decision, None);
    assert!(verdict.ready.holds, "the old one serves: {verdict:?}");
    let stalled = verdict.stalled.expect("stalled");
    assert_eq!((stalled.reason.as_str(), stalled.message.as_str()), ("StateIncompatible", "operator agg1"));
    // A spec that can't even be planned is the same.
    facts.valid = Err(check(&JOB.replace("COUNT(*)", "COUNTT(*)")).expect_err("wrong"));
    let decision = decided(&facts);
    let verdict = status::verdict(&facts, &decision, None);
    assert!(decision.actions.is_empty() && verdict.ready.holds, "{verdict:?}");
    assert_eq!(verdict.stalled.expect("stalled").reason, "SpecInvalid");
}

#[test]
fn a_spec_that_went_and_came_back_is_checked_again_when_the_other_plan_runs() {
    let mut facts = running(2);
    facts.accepted.as_mut().expect("accepted").report.revision = Some("plan-a".into());
    for worker in &mut facts.workers {
        answer(worker).revision = Some("plan-a".into());
    }
    assert_eq!(decided(&facts).actions, vec![Action::ApplyWorkers { pods: 2 }]);
    // Scaling gives later generations of the same plan.
    for worker in &mut facts.workers {
        answer(worker).generation = Some(2);
    }
    assert_eq!(decided(&facts).actions, vec![Action::ApplyWorkers { pods: 2 }]);
    for worker in &mut facts.workers {
        answer(worker).revision = Some("plan-b".into());
    }
    assert_eq!(decided(&facts).actions, vec![Action::StartPreflight { attempt: 1, slots: 2 }]);
}

#[test]
fn reports_of_former_revisions_go_first() {
    let mut facts = fresh();
    facts.preflights = vec![PreflightFact {
        name: "former".into(),
        revision: "other1".into(),
        attempt: 1,
        pod: None,
        made_ms: 0,
        state: PreflightState::Passed(report(1, 2)),
    }];
    assert_eq!(
        decided(&facts).actions,
        vec![removed(&["former"], &[]), Action::StartPreflight { attempt: 1, slots: 2 }]
    );
}

#[test]
fn a_job_that_came_before_its_topics_is_not_refused_at_once() {
    let refusal = check(&JOB.replace("TABLE transactions", "TABLE transaction")).expect_err("no table");
    let mut facts = Facts { valid: Err(refusal.clone()), now_ms: 2_000, ..fresh() };
    assert_eq!(decided(&facts).stage, Stage::Arriving(refusal.clone()));
    assert_eq!(status::verdict(&facts, &decided(&facts), None).stalled, None);
    facts.now_ms = 6_000;
    assert_eq!(decided(&facts).stage, Stage::Refused(refusal));
    assert_eq!(status::verdict(&facts, &decided(&facts), None).stalled.expect("stalled").reason, "TopicNotFound");
}
