//! A revision is looked at before anything that runs is touched.

use kube::Resource;

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

/// Generations of one lineage say nothing of those of another: the new one begins at 1 again.
#[test]
fn workers_of_the_lineage_before_are_waited_for_and_not_counted() {
    let mut facts = running(2);
    for worker in &mut facts.workers {
        let status = answer(worker);
        (status.generation, status.slots, status.revision) = (Some(7), Some(3), Some("plan-a".into()));
    }
    let anew = PreflightReport { lineage: Some("r-2".into()), revision: Some("plan-b".into()), ..report(1, 2) };
    facts.valid = Ok(Valid { revision: "other1".into(), ..valid() });
    facts.preflights =
        vec![PreflightFact { revision: "other1".into(), ..preflight(1, PreflightState::Passed(anew.clone())) }];
    let actions = decided(&facts).actions;
    assert_eq!(actions, [Action::Accept(Box::new(anew.clone())), Action::ApplyWorkers { pods: 2 }]);
    facts.accepted = Some(Accepted { revision: "other1".into(), report: anew });
    facts.preflights.clear();
    assert_eq!(decided(&facts).actions, [Action::ApplyWorkers { pods: 2 }], "nobody has said what runs there");
    let (ready, reason, message) = ready_reason(&facts);
    assert_eq!((ready, reason.as_str()), (false, "Starting"));
    assert!(message.contains("fraud-detection-0 is in lineage r-1, and r-2 was handed out"), "{message}");
    // One is there.
    let status = answer(&mut facts.workers[0]);
    (status.lineage, status.generation, status.slots) = (Some("r-2".into()), Some(1), Some(2));
    assert_eq!(facts.running(), Some((1, 2)));
    assert_eq!(decided(&facts).stage, Stage::Running);
    assert!(!ready_reason(&facts).0);
    let status = answer(&mut facts.workers[1]);
    (status.lineage, status.generation, status.slots) = (Some("r-2".into()), Some(1), Some(2));
    assert!(ready_reason(&facts).0);
}

#[test]
fn restore_from_is_asked_by_a_new_job_and_by_each_nonce() {
    let asks = |more: &str| {
        let text = JOB
            .replace("replicas: 2", more)
            .replace("generation: 3", "generation: 3, creationTimestamp: '2026-01-01T00:00:01Z'");
        let valid = check(&text).expect("valid");
        let builder = super::super::build::Builder::new(&valid, job(&text).controller_owner_ref(&()).expect("a UID"));
        let args = |has_lineage: bool| {
            let job = builder.preflight(1, 2, valid.asks.anything(has_lineage));
            let args = job.json["spec"]["template"]["spec"]["containers"][0]["args"].clone();
            let args: Vec<String> = serde_json::from_value(args).expect("texts");
            args.into_iter().filter(|arg| arg.starts_with("--asked")).collect::<Vec<_>>()
        };
        (args(false), args(true), valid)
    };
    let all = ["--asked-by=uid-1", "--asked-at=1767225601000", "--asked-in=3"].map(str::to_owned).to_vec();
    let (new, old, plain) = asks("replicas: 2");
    assert_eq!((new, old), (all.clone(), Vec::new()), "what runs is not asked for its state");
    let (new, old, nonce) = asks("restoreFrom: {type: None}\n  restoreNonce: a");
    assert_eq!((new, old), (all.clone(), all));
    assert_ne!(nonce.revision, plain.revision, "a preflight looks");
    assert!(nonce.manifests.contains("restoreNonce"), "{}", nonce.manifests);
    let (_, _, accepts) = asks("upgrade: {acceptDroppedState: [agg-77ab01cd]}");
    assert_ne!(accepts.revision, plain.revision);
    assert!(accepts.manifests.contains("agg-77ab01cd"), "{}", accepts.manifests);
}
