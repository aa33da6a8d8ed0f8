//! Jobs that are suspended, or deleted, with their state or without.

use kube::Resource;

use super::super::build::Builder;
use super::super::decide::Stage;
use super::super::facts::{RetirementFact, RetirementState};
use super::super::status;
use super::super::validate::remnant;
use super::*;

#[test]
fn suspended_and_deleted_jobs_let_their_workers_stop_first() {
    let mut facts = running(2);
    facts.valid = Ok(Valid { suspended: true, ..valid() });
    assert_eq!(
        decided(&facts),
        Decision { stage: Stage::Suspending(2), actions: vec![Action::ResizeWorkers { pods: 0 }] }
    );
    facts.asked_pods = Some(0);
    assert_eq!(decided(&facts), Decision { stage: Stage::Suspending(2), actions: Vec::new() });
    facts.workers.clear();
    assert_eq!(decided(&facts), Decision { stage: Stage::Suspended, actions: Vec::new() });
    assert!(status::verdict(&facts, &decided(&facts), None).ready.holds);

    let mut facts = Facts { deleted_ms: Some(99_000), ..running(2) };
    assert_eq!(decided(&facts).actions, vec![Action::ResizeWorkers { pods: 0 }]);
    facts.asked_pods = Some(0);
    assert_eq!(decided(&facts).actions, Vec::new());
    // Past the deadline it goes anyway, and says what it waited for.
    facts.now_ms = 99_000 + 120_000;
    let waited_for = Some("fraud-detection-0, fraud-detection-1".to_owned());
    assert_eq!(decided(&facts).actions, vec![Action::RemoveFinalizer { waited_for }]);
    facts.now_ms = 100_000;
    facts.workers.clear();
    assert_eq!(decided(&facts).actions, vec![Action::RemoveFinalizer { waited_for: None }]);
}

#[test]
fn state_goes_with_a_job_that_says_so() {
    let legacy = |attempts: &[RetirementFact]| Legacy::Deleted {
        job: Box::new(remnant(&job(JOB), &config(), "cluster-1").expect("places")),
        attempts: attempts.to_vec(),
    };
    let attempt = |attempt, state| RetirementFact { attempt, state };
    let failed = |at_ms| {
        let (reason, message) = ("StoreUnavailable".to_owned(), "no answer".to_owned());
        RetirementState::Failed(PreflightFailure { reason, kind: Kind::Passing, message, at_ms })
    };
    let mut facts = Facts { deleted_ms: Some(99_000), legacy: legacy(&[]), ..running(2) };
    assert_eq!(decided(&facts).actions, vec![Action::ResizeWorkers { pods: 0 }], "not under running workers");
    facts.asked_pods = Some(0);
    facts.workers.clear();
    facts.preflights = vec![preflight(3, PreflightState::Running(None))];
    assert_eq!(decided(&facts).actions, vec![removed(&["p-3"], &[])], "it would begin what is to end");
    facts.preflights.clear();
    assert_eq!(decided(&facts).actions, vec![Action::StartRetirement { attempt: 1 }]);
    facts.legacy = legacy(&[attempt(1, RetirementState::Running(None))]);
    assert_eq!(decided(&facts).actions, Vec::new());
    facts.legacy = legacy(&[attempt(1, failed(99_500))]);
    assert_eq!(decided(&facts).actions, Vec::new(), "after a while");
    let said = status::verdict(&facts, &decided(&facts), None).ready.message;
    assert!(said.contains("StoreUnavailable: no answer"), "{said}");
    facts.now_ms = 108_000;
    assert_eq!(decided(&facts).actions, vec![Action::StartRetirement { attempt: 2 }]);
    facts.legacy = legacy(&[attempt(1, failed(99_500)), attempt(2, RetirementState::Done)]);
    assert_eq!(decided(&facts).actions, vec![Action::RemoveFinalizer { waited_for: None }]);
    // Past the deadline it goes anyway, and says what it has not done.
    facts.legacy = legacy(&[attempt(1, failed(99_500))]);
    facts.now_ms = 99_000 + 120_000;
    let waited_for = Some("the deletion of its state, which stays: StoreUnavailable: no answer".to_owned());
    assert_eq!(decided(&facts).actions, vec![Action::RemoveFinalizer { waited_for }]);
}

#[test]
fn state_that_nobody_can_find_is_waited_for_as_long_as_it_may_be_mended() {
    let bare = Config::parse_from(["freshet-operator", "--control-key-file=/key"]);
    let refusal = remnant(&job(JOB), &bare, "cluster-1").expect_err("no brokers, no store");
    let gone = Facts { asked_pods: Some(0), workers: Vec::new(), ..running(2) };
    let mut facts = Facts { deleted_ms: Some(99_000), legacy: Legacy::Lost(refusal), ..gone };
    assert_eq!(decided(&facts).actions, Vec::new());
    let said = status::verdict(&facts, &decided(&facts), None).ready.message;
    assert!(said.contains("state can't be deleted yet: SpecInvalid: spec.kafka is missing"), "{said}");
    facts.now_ms = 99_000 + 120_000;
    let [Action::RemoveFinalizer { waited_for: Some(words) }] = &decided(&facts).actions[..] else {
        panic!("it stays")
    };
    assert!(words.contains("which stays: SpecInvalid: spec.kafka is missing"), "{words}");
}

/// Its Topics often go with it, and its SQL may be what is wrong with it.
#[test]
fn what_retires_a_job_needs_neither_sql_nor_topics() {
    let broken = job(&JOB.replace("INSERT INTO alerts", "INSERT INTO nowhere"));
    let remnant = remnant(&broken, &config(), "cluster-1").expect("places");
    let catalogue = freshet::manifest::examine_texts(&[("job.yaml", &remnant.manifests)]);
    assert!(!catalogue.diagnostics.has_errors(), "{:?}\n{}", catalogue.diagnostics, remnant.manifests);
    for needed in ["kafka:9092", "s3://pipelines/state", "http://s3:7070", "fraud-detection", "payments"] {
        assert!(remnant.manifests.contains(needed), "no {needed} in\n{}", remnant.manifests);
    }
    let builder = Builder::new(&remnant, broken.controller_owner_ref(&()).expect("a UID"));
    let (config_map, retirement) = (builder.retirement_manifests(), builder.retirement(1));
    let pod = &retirement.json["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][0]["configMap"]["name"], config_map.name.as_str());
    assert_eq!(pod["containers"][0]["args"][0], "retire");
    assert_eq!(pod["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["name"], "s3-credentials");
}
