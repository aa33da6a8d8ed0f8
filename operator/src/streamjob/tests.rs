//! Pure tests of the steps between looking and acting: resources are YAML that goes through the real validation.

use std::sync::Arc;

use clap::Parser;
use freshet_crds::control::{PreflightReport, Problem, WorkerPhase, WorkerStatus};
use freshet_crds::reasons::{Kind, condition};
use freshet_crds::{StreamJob, StreamJobStatus, Topic};
use kube::Resource;

use super::build::{Builder, Child, ChildKind, differs};
use super::decide::{Action, Decision, RescaleStep, Stage, decide};
use super::facts::{
    Accepted, Facts, Legacy, PreflightFact, PreflightFailure, PreflightState, RetirementFact, RetirementState,
    WorkerFact,
};
use super::names;
use super::pods::{PodFact, Trouble};
use super::status;
use super::tale;
use super::validate::{Refusal, Valid, remnant, validate};
use crate::conditions::find;
use crate::config::Config;

const JOB: &str = "
metadata: {name: fraud-detection, namespace: payments, uid: uid-1, generation: 3}
spec:
  sql: |
    INSERT INTO alerts
    SELECT account_id, window_start, window_end, COUNT(*) AS txns
    FROM TABLE(TUMBLE(TABLE transactions, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
    GROUP BY account_id, window_start, window_end
  replicas: 2
";

const TOPICS: &[&str] = &[
    "
metadata: {name: transactions, namespace: payments}
spec:
  topicName: payments.transactions
  partitions: 4
  schema:
    format: JSON
    key: [account_id]
    partitioner: Murmur2
    columns: [{name: account_id, type: STRING, required: true}, {name: ts, type: TIMESTAMP(3)}]
    eventTime: {column: ts}
",
    "
metadata: {name: alerts, namespace: payments}
spec:
  schema:
    format: JSON
    columns:
      - {name: account_id, type: STRING, required: true}
      - {name: window_start, type: TIMESTAMP(3), required: true}
      - {name: window_end, type: TIMESTAMP(3), required: true}
      - {name: txns, type: BIGINT, required: true}
",
    // Nothing to do with the job, and wrong: its column's type is none.
    "
metadata: {name: stranger, namespace: payments}
spec: {schema: {format: JSON, columns: [{name: a, type: TEXTILE}]}}
",
];

const DEFAULTS: &[&str] = &[
    "freshet-operator",
    "--control-key-file=/key",
    "--kafka=kafka:9092",
    "--checkpoint-url=s3://pipelines/state",
    "--checkpoint-s3-endpoint=http://s3:7070",
    "--checkpoint-s3-region=us-east-1",
    "--checkpoint-s3-secret=s3-credentials",
    "--runtime-image=freshet:1",
];

fn config() -> Config {
    Config::parse_from(DEFAULTS)
}

fn topics() -> Vec<Arc<Topic>> {
    TOPICS.iter().map(|text| Arc::new(topic(text))).collect()
}

fn topic(text: &str) -> Topic {
    serde_saphyr::from_str(&format!("apiVersion: freshet.dev/v1alpha1\nkind: Topic\n{text}")).expect("a Topic")
}

fn job(text: &str) -> StreamJob {
    serde_saphyr::from_str(&format!("apiVersion: freshet.dev/v1alpha1\nkind: StreamJob\n{text}")).expect("a StreamJob")
}

fn check(text: &str) -> Result<Valid, Refusal> {
    validate(&job(text), &topics(), &config(), "cluster-1")
}

fn valid() -> Valid {
    check(JOB).expect("a valid job")
}

fn report(generation: u64, slots: u32) -> PreflightReport {
    PreflightReport {
        ok: true,
        reason: "PreflightPassed".into(),
        lineage: Some("r-1".into()),
        lineage_born_ms: Some(1_000),
        generation: Some(generation),
        slots: Some(slots),
        runtime_version: "0.1.0".into(),
        changed: true,
        stages: 1,
        tasks: 4,
        ..PreflightReport::default()
    }
}

fn worker(slot: u32, phase: WorkerPhase, held: Option<(u64, u32)>) -> WorkerFact {
    WorkerFact {
        pod: PodFact {
            name: format!("fraud-detection-{slot}"),
            ordinal: Some(slot),
            ip: Some(format!("10.0.0.{slot}")),
            ready: true,
            runs_since_ms: None,
            gone_by_ms: None,
            trouble: None,
            end: None,
            message: None,
        },
        slot,
        status: Some(Ok(WorkerStatus {
            job: "fraud-detection".into(),
            slot,
            runtime_version: "0.1.0".into(),
            lineage: Some("r-1".into()),
            phase,
            phase_since_ms: 0,
            generation: held.map(|(generation, _)| generation),
            slots: held.map(|(_, slots)| slots),
            plan_fingerprint: None,
            revision: None,
            ready: matches!(phase, WorkerPhase::Running | WorkerPhase::StandingBy),
            progressing: phase == WorkerPhase::Running,
            epoch: Some(7),
            last_commit_ms: None,
            lag_records: 0,
            lag_ms: 40,
            restored: None,
            problem: None,
            blocked_inputs: Vec::new(),
            tasks: Vec::new(),
        })),
    }
}

pub(super) fn answer(worker: &mut WorkerFact) -> &mut WorkerStatus {
    worker.status.as_mut().and_then(|status| status.as_mut().ok()).expect("an answer")
}

/// A job that was applied a while ago, and nothing of it is there yet.
fn fresh() -> Facts {
    Facts {
        now_ms: 100_000,
        created_ms: 0,
        deleted_ms: None,
        finalizer: true,
        valid: Ok(valid()),
        unready_topics: Vec::new(),
        accepted: None,
        asked_pods: None,
        restarting: false,
        refused_pods: None,
        asked_again_ms: 0,
        workers: Vec::new(),
        preflights: Vec::new(),
        candidates: Vec::new(),
        legacy: Legacy::Kept,
    }
}

/// A job that runs with `slots` workers.
pub(super) fn running(slots: u32) -> Facts {
    let revision = valid().revision;
    Facts {
        accepted: Some(Accepted { revision, report: report(1, slots) }),
        asked_pods: Some(slots),
        workers: (0..slots).map(|slot| worker(slot, WorkerPhase::Running, Some((1, slots)))).collect(),
        ..fresh()
    }
}

fn wanting(replicas: u32, mut facts: Facts) -> Facts {
    facts.valid = Ok(Valid { replicas, ..valid() });
    facts
}

fn decided(facts: &Facts) -> Decision {
    decide(facts, 120_000)
}

#[test]
fn a_spec_is_resolved_once() {
    let valid = valid();
    assert_eq!(valid.topics, vec!["alerts", "transactions"], "a Topic that the job does not name does not stop it");
    assert_eq!((valid.replicas, valid.suspended, valid.stages), (2, false, 1));
    assert_eq!(valid.pods.s3_secret.as_deref(), Some("s3-credentials"));
    for part in ["kafka:9092", "s3://pipelines/state", "http://s3:7070", "payments.transactions"] {
        assert!(valid.manifests.contains(part), "{part} is not in\n{}", valid.manifests);
    }
    assert!(!valid.manifests.contains("replicas"), "scaling must not look like another revision");
    // The very files that a pod reads are good in its eyes.
    let examined = freshet::manifest::examine_texts(&[("job.yaml", &valid.manifests)]);
    assert!(examined.pipeline.is_some(), "{}", examined.diagnostics);
}

#[test]
fn a_revision_changes_with_what_is_computed_and_not_with_how_many_do_it() {
    let first = valid().revision;
    let revision = |text: String| check(&text).expect("valid").revision;
    assert_eq!(revision(JOB.replace("replicas: 2", "replicas: 3")), first);
    assert_eq!(revision(JOB.replace("replicas: 2", "restartNonce: a")), first);
    assert_ne!(revision(JOB.replace("COUNT(*) AS", "MAX(1) + COUNT(*) AS")), first);
    assert_ne!(revision(JOB.replace("replicas: 2", "epochInterval: 1s")), first);
    let mut shuffled = topics();
    shuffled.reverse();
    assert_eq!(validate(&job(JOB), &shuffled, &config(), "cluster-1").expect("valid").revision, first);
}

#[test]
fn what_is_wrong_is_said_with_field_and_remedy() {
    for (text, reason, words) in [
        (
            JOB.replace("TABLE transactions", "TABLE transaction"),
            "TopicNotFound",
            "spec.sql, line 3: there is no table",
        ),
        (JOB.replace("COUNT(*)", "COUNTT(*)"), "SpecInvalid", "spec.sql, line 2: "),
        (
            JOB.replace("replicas: 2", "errors: {onLate: DeadLetter, deadLetterTopic: dlq}"),
            "TopicNotFound",
            "there is no Topic resource `dlq`",
        ),
        (JOB.replace("replicas: 2", "checkpoint: {url: 'file:///a'}"), "SpecInvalid", "spec.checkpoint.url: file:///a"),
        (
            JOB.replace("replicas: 2", "template: {resources: {limits: {memory: 1 GB}}}"),
            "SpecInvalid",
            "spec.template.resources.limits.memory: `1 GB` is no quantity",
        ),
    ] {
        let refusal = check(&text).expect_err(words);
        assert_eq!(refusal.reason.name, reason, "{}", refusal.message);
        assert!(refusal.message.contains(words), "`{words}` is not in: {}", refusal.message);
    }
    let bare = Config::parse_from(["freshet-operator", "--control-key-file=/key"]);
    let refusal = validate(&job(JOB), &topics(), &bare, "cluster-1").expect_err("no brokers");
    assert!(refusal.message.starts_with("spec.kafka is missing"), "{}", refusal.message);
}

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

fn removed(jobs: &[&str], manifests: &[&str]) -> Action {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Action::RemovePreflights { jobs: owned(jobs), manifests: owned(manifests) }
}

/// A pass that was cut off between the two leaves nothing behind.
#[test]
fn what_a_former_preflight_read_goes_even_where_its_job_is_gone() {
    let own = names::preflight_manifests(&valid().name, &valid().revision);
    let facts = Facts { candidates: vec!["former".into(), own], ..running(2) };
    assert_eq!(decided(&facts).actions, vec![removed(&[], &["former"]), Action::ApplyWorkers { pods: 2 }]);
}

fn preflight(attempt: u32, state: PreflightState) -> PreflightFact {
    PreflightFact {
        name: format!("p-{attempt}"),
        revision: valid().revision,
        attempt,
        pod: Some(valid().pods.hash()),
        made_ms: 99_000,
        state,
    }
}

fn failure(at_ms: i64) -> PreflightFailure {
    PreflightFailure { reason: "StoreUnusable".into(), kind: Kind::Stalled, message: "no bucket".into(), at_ms }
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
fn pods_come_before_their_tasks_and_go_after_them() {
    // More workers: first pods.
    let mut facts = wanting(3, running(2));
    let decision = decided(&facts);
    assert_eq!(decision.actions, vec![Action::ApplyWorkers { pods: 3 }]);
    assert_eq!(decision.stage, Stage::Rescaling { from: 2, to: 3, step: RescaleStep::Pods });
    // Then, when the new one stands by, the assignment.
    facts.asked_pods = Some(3);
    facts.workers.push(worker(2, WorkerPhase::StandingBy, None));
    assert_eq!(decided(&facts).actions, vec![Action::ApplyWorkers { pods: 3 }, Action::HandOut { slots: 3 }]);

    // Fewer: first the assignment, and no pod goes.
    let mut facts = wanting(1, running(2));
    assert_eq!(decided(&facts).actions, vec![Action::ApplyWorkers { pods: 2 }, Action::HandOut { slots: 1 }]);
    // It is handed out, but the worker that stays has not taken it over: no pod goes yet.
    facts.workers[0] = worker(0, WorkerPhase::TakingOver, Some((2, 1)));
    facts.workers[1] = worker(1, WorkerPhase::StandingBy, None);
    assert_eq!(decided(&facts).actions, vec![Action::ApplyWorkers { pods: 2 }]);
    facts.workers[0] = worker(0, WorkerPhase::Running, Some((2, 1)));
    assert_eq!(decided(&facts), Decision { stage: Stage::Running, actions: vec![Action::ApplyWorkers { pods: 1 }] });
}

#[test]
fn no_pod_goes_while_no_worker_can_be_asked() {
    let mut facts = wanting(1, running(4));
    for worker in &mut facts.workers {
        worker.status = Some(Err("silent".into()));
    }
    assert_eq!(decided(&facts).actions, vec![Action::ApplyWorkers { pods: 4 }]);
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
    let waited_for = Some("the deletion of its state".to_owned());
    assert_eq!(decided(&facts).actions, vec![Action::RemoveFinalizer { waited_for }]);
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

#[test]
fn a_pod_whose_node_is_lost_is_removed() {
    let mut facts = running(2);
    facts.workers[1].pod.gone_by_ms = Some(85_000);
    assert_eq!(decided(&facts).actions[0], Action::ForceDelete { pod: "fraud-detection-1".into() });
    facts.workers[1].pod.gone_by_ms = Some(95_000);
    assert_eq!(decided(&facts).actions, vec![Action::ApplyWorkers { pods: 2 }]);
}

#[test]
fn pods_that_kubernetes_refuses_are_asked_for_again_and_named() {
    let words = || Trouble { reason: "FailedCreate".into(), message: "exceeded quota".into() };
    // A preflight without a pod is left alone for a while; then another one is tried, and the words stand.
    let mut facts = fresh();
    facts.preflights = vec![preflight(1, PreflightState::Running(Some(words())))];
    assert_eq!(decided(&facts).actions, Vec::new());
    facts.preflights[0].made_ms = 90_000;
    let decision = decided(&facts);
    assert_eq!(decision.actions, vec![Action::StartPreflight { attempt: 2, slots: 2 }]);
    let (ready, reason, message) = (false, "FailedCreate", "the preflight's pod: FailedCreate: exceeded quota");
    assert_eq!(ready_reason(&facts), (ready, reason.to_owned(), message.to_owned()));
    // A pod that no node takes, and then the spec names other nodes: another is tried at once.
    let nowhere = Trouble { reason: "Unschedulable".into(), message: "0/1 nodes".into() };
    facts.preflights = vec![preflight(1, PreflightState::Running(Some(nowhere)))];
    assert_eq!(decided(&facts).actions, Vec::new());
    facts.preflights[0].pod = Some("other".into());
    assert_eq!(decided(&facts).actions, vec![Action::StartPreflight { attempt: 2, slots: 2 }]);
    // A worker without a pod: its StatefulSet is touched now and then, so that it tries again at once.
    let mut facts = Facts { refused_pods: Some(words()), asked_again_ms: 90_000, ..running(2) };
    facts.workers.pop();
    assert_eq!(decided(&facts).actions[0], Action::AskAgain);
    assert_eq!(ready_reason(&facts).2, "worker 1 gets no pod: exceeded quota");
    facts.asked_again_ms = 95_000;
    assert!(!decided(&facts).actions.contains(&Action::AskAgain));
}

#[test]
fn a_worker_that_ended_under_a_former_revision_begins_at_once() {
    let mut facts = running(2);
    facts.workers[1].pod.end =
        Some(freshet_crds::control::WorkerEnd { reason: "BadRecord".into(), message: "it is no JSON".into() });
    facts.valid = Ok(Valid { revision: "other1".into(), ..valid() });
    facts.preflights =
        vec![PreflightFact { revision: "other1".into(), ..preflight(1, PreflightState::Passed(report(2, 2))) }];
    let actions = decided(&facts).actions;
    assert_eq!(actions.last(), Some(&Action::Replace { pod: "fraud-detection-1".into() }), "{actions:?}");
}

#[test]
fn what_keeps_new_workers_from_starting_is_told_beside_what_runs() {
    let because = |facts: &Facts| {
        let verdict = status::verdict(facts, &decided(facts), None);
        assert!(verdict.ready.holds, "what runs is well: {:?}", verdict.ready);
        let fact = verdict.stalled.or(verdict.reconciling).expect("it is under way");
        (fact.reason, fact.message)
    };
    let mut facts = wanting(4, running(2));
    facts.asked_pods = Some(4);
    let under_way = "from 2 to 4 workers: the new workers start";
    assert_eq!(because(&facts), ("Rescaling".to_owned(), under_way.to_owned()));
    facts.workers.push(worker(2, WorkerPhase::Starting, None));
    assert_eq!(because(&facts), ("Rescaling".to_owned(), under_way.to_owned()), "it only takes time");
    facts.refused_pods = Some(Trouble { reason: "FailedCreate".into(), message: "exceeded quota".into() });
    let (reason, message) = because(&facts);
    assert_eq!(reason, "FailedCreate");
    assert_eq!(message, "from 2 to 4 workers: worker 3 gets no pod: exceeded quota (and 1 other workers)");
    facts.refused_pods = None;
    facts.workers[2].pod.trouble = Some(Trouble { reason: "Unschedulable".into(), message: "no room".into() });
    assert_eq!(because(&facts).0, "Unschedulable");
}

fn ready_reason(facts: &Facts) -> (bool, String, String) {
    let verdict = status::verdict(facts, &decided(facts), None);
    (verdict.ready.holds, verdict.ready.reason, verdict.ready.message)
}

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

fn children() -> Vec<Child> {
    let text = JOB.replace(
        "replicas: 2",
        "template: {resources: {limits: {memory: 1Gi}}, nodeSelector: {disk: ssd}, tolerations: [{key: a, operator: Exists}]}",
    );
    let (valid, resource) = (check(&text).expect("valid"), job(&text));
    let builder = Builder::new(&valid, resource.controller_owner_ref(&()).expect("a UID"));
    vec![
        builder.service_account().expect("one is made"),
        builder.secret("token"),
        builder.candidate(),
        builder.manifests(&report(1, 2)),
        builder.service(),
        builder.disruption_budget(),
        builder.stateful_set(2),
        builder.preflight(1, 2),
    ]
}

/// Read by the API's own types and written again, nothing is lost: every field is one that the API knows.
#[test]
fn children_are_whole_objects_of_the_api() {
    use k8s_openapi::api::{apps, batch, core, policy};
    use k8s_openapi::serde::de::DeserializeOwned;
    fn back<T: DeserializeOwned + serde::Serialize>(child: &Child) -> serde_json::Value {
        let object: T = serde_json::from_value(child.json.clone()).expect("the API's type");
        serde_json::to_value(object).expect("JSON")
    }
    for child in children() {
        let read = match child.kind {
            ChildKind::ServiceAccount => back::<core::v1::ServiceAccount>(&child),
            ChildKind::ConfigMap => back::<core::v1::ConfigMap>(&child),
            ChildKind::Service => back::<core::v1::Service>(&child),
            ChildKind::Secret => back::<core::v1::Secret>(&child),
            ChildKind::StatefulSet => back::<apps::v1::StatefulSet>(&child),
            ChildKind::PodDisruptionBudget => back::<policy::v1::PodDisruptionBudget>(&child),
            ChildKind::Job => back::<batch::v1::Job>(&child),
        };
        assert!(!differs(&child.json, &read), "{:?}: {:#}\nis read as\n{read:#}", child.kind, child.json);
        let meta = &child.json["metadata"];
        assert_eq!(meta["ownerReferences"][0]["uid"], "uid-1", "{:?}", child.kind);
        assert_eq!(meta["labels"]["app.kubernetes.io/managed-by"], "freshet", "{:?}", child.kind);
    }
}

#[test]
fn pods_are_restricted_and_hold_no_secret() {
    for child in children().iter().filter(|child| matches!(child.kind, ChildKind::StatefulSet | ChildKind::Job)) {
        let pod = &child.json["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(
            (&container["readOnlyRootFilesystem"], &container["allowPrivilegeEscalation"]),
            (&true.into(), &false.into())
        );
        assert_eq!(container["capabilities"]["drop"][0], "ALL");
        let env = pod["containers"][0]["env"].as_array().expect("env");
        let key = env.iter().find(|env| env["name"] == "AWS_SECRET_ACCESS_KEY").expect("the key");
        assert_eq!(key["valueFrom"]["secretKeyRef"]["name"], "s3-credentials");
        assert!(key.get("value").is_none());
    }
}

#[test]
fn a_secured_kafka_is_reached_by_reference() {
    let kafka = "kafka: {bootstrapServers: 'other:9093', tls: {caSecretRef: {name: authorities, key: root.pem}, \
                 certificateSecretRef: {name: own}}, sasl: {mechanism: SCRAM-SHA-512, secretRef: {name: fraud-user}}}";
    let secured = check(&JOB.replace("replicas: 2", kafka)).expect("valid");
    assert!(secured.manifests.contains("SCRAM-SHA-512"), "workers take protocol and mechanism from their manifests");
    let builder = Builder::new(&secured, job(JOB).controller_owner_ref(&()).expect("a UID"));
    for child in [builder.stateful_set(1), builder.preflight(1, 1), builder.retirement(1)] {
        let pod = &child.json["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let args: Vec<&str> =
            container["args"].as_array().expect("args").iter().filter_map(|arg| arg.as_str()).collect();
        for setting in [
            "ssl.ca.location=/etc/freshet/kafka/kafka-ca/authorities/root.pem",
            "ssl.certificate.location=/etc/freshet/kafka/kafka-certificate/own/tls.crt",
            "ssl.key.location=/etc/freshet/kafka/kafka-certificate/own/tls.key",
        ] {
            assert!(args.windows(2).any(|pair| pair == ["--kafka-setting", setting]), "no {setting} in {args:?}");
        }
        let env = container["env"].as_array().expect("env");
        for (name, key) in [("FRESHET_KAFKA_SASL_USERNAME", "username"), ("FRESHET_KAFKA_SASL_PASSWORD", "password")] {
            let variable = env.iter().find(|env| env["name"] == name).expect("a credential");
            let from = &variable["valueFrom"]["secretKeyRef"];
            assert_eq!((&from["name"], &from["key"]), (&"fraud-user".into(), &key.into()));
        }
        for (volume, secret) in [("kafka-ca", "authorities"), ("kafka-certificate", "own")] {
            let named = |list: &serde_json::Value| {
                list.as_array().expect("a list").iter().find(|it| it["name"] == volume).cloned()
            };
            assert_eq!(named(&pod["volumes"]).expect("a volume")["secret"]["secretName"], secret);
            let path = format!("/etc/freshet/kafka/{volume}/{secret}");
            assert_eq!(named(&container["volumeMounts"]).expect("a mount")["mountPath"], path.as_str());
        }
    }
    // The operator's default is as if the job had named it.
    let more = ["--kafka-tls", "--kafka-ca-secret=ca", "--kafka-sasl-mechanism=PLAIN", "--kafka-sasl-secret=user"];
    let config = Config::parse_from(DEFAULTS.iter().chain(&more));
    let valid = validate(&job(JOB), &topics(), &config, "cluster-1").expect("valid");
    assert_eq!(valid.pods.kafka.sasl.as_ref().map(|sasl| sasl.secret_ref.name.as_str()), Some("user"));
    assert_eq!(valid.pods.kafka.tls.and_then(|tls| tls.ca_secret_ref).map(|ca| ca.key).as_deref(), Some("ca.crt"));
}

/// Workers read another plan from the generation log: their pods must stay as they are.
#[test]
fn another_plan_restarts_no_pod_and_another_place_does() {
    let set = |text: &str| {
        let (valid, resource) = (check(text).expect("valid"), job(text));
        Builder::new(&valid, resource.controller_owner_ref(&()).expect("a UID")).stateful_set(2).json
    };
    let first = set(JOB);
    assert_eq!(set(&JOB.replace("COUNT(*) AS", "MAX(1) + COUNT(*) AS")), first);
    assert_ne!(set(&JOB.replace("replicas: 2", "restartNonce: a")), first);
    assert_ne!(set(&JOB.replace("replicas: 2", "kafka: {bootstrapServers: 'other:9092'}")), first);
}

#[test]
fn drift_is_what_is_missing_or_other_and_not_what_others_add() {
    use serde_json::json;
    let desired = json!({ "a": 1, "l": [{ "x": 1 }], "e": {} });
    assert!(!differs(&desired, &json!({ "a": 1, "l": [{ "x": 1, "default": 2 }], "more": true })));
    assert!(differs(&desired, &json!({ "a": 2, "l": [{ "x": 1 }] })));
    assert!(differs(&desired, &json!({ "a": 1, "l": [{ "x": 1 }, { "x": 2 }] })));
    assert!(differs(&desired, &json!({ "l": [{ "x": 1 }] })));
}
