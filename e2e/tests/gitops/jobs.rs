//! Situations of a StreamJob, each with the status that the operator's own steps give for it: facts are judged by the
//! real `decide` and told by the real `status`.

use std::sync::Arc;

use clap::Parser;
use freshet_crds::control::{PreflightReport, Problem, WorkerPhase, WorkerStatus};
use freshet_crds::reasons::Kind;
use freshet_crds::{StreamJob, Topic};
use freshet_operator::config::Config;
use freshet_operator::streamjob::apply::ApplyError;
use freshet_operator::streamjob::decide::decide;
use freshet_operator::streamjob::facts::{
    Accepted, Facts, Legacy, PreflightFact, PreflightFailure, PreflightState, WorkerFact,
};
use freshet_operator::streamjob::pods::{self, Trouble};
use freshet_operator::streamjob::status::status;
use freshet_operator::streamjob::validate::{Refusal, Valid, validate};
use serde_json::{Value, json};

use crate::{FAILED, GOING, GOOD, Row, UNDER_WAY, unseen};

const JOB: &str = "
apiVersion: freshet.dev/v1alpha1
kind: StreamJob
metadata: {name: fraud, namespace: payments, uid: uid-1, generation: 3}
spec: {sql: INSERT INTO alerts SELECT id FROM transactions, replicas: 2}
";

const WORKER: &str = include_str!("../../../crds/tests/golden/control/worker-status.json");

/// The clock, ms since the Unix epoch.
const NOW_MS: i64 = 100_000;

fn job(text: &str) -> StreamJob {
    serde_saphyr::from_str(text).unwrap()
}

fn topic(name: &str) -> Arc<Topic> {
    let schema = "schema: {format: JSON, columns: [{name: id, type: STRING, required: true}]}";
    let text = format!(
        "apiVersion: freshet.dev/v1alpha1\nkind: Topic\nmetadata: {{name: {name}, namespace: payments}}\nspec: {{{schema}}}"
    );
    Arc::new(serde_saphyr::from_str(&text).unwrap())
}

fn examined(text: &str) -> Result<Valid, Refusal> {
    let config = Config::parse_from([
        "freshet-operator",
        "--control-key-file=/key",
        "--kafka=kafka:9092",
        "--checkpoint-url=s3://pipelines/state",
    ]);
    validate(&job(text), &[topic("transactions"), topic("alerts")], &config, "cluster-1")
}

fn valid() -> Valid {
    examined(JOB).unwrap()
}

/// A pod of the job, as Kubernetes tells of it.
fn pod(slot: u32, status: &str) -> pods::PodFact {
    let text = format!("{{metadata: {{name: fraud-{slot}}}, status: {status}}}");
    pods::fact(&serde_saphyr::from_str(&text).unwrap())
}

fn worker(slot: u32, change: impl FnOnce(&mut WorkerStatus)) -> WorkerFact {
    let mut status: WorkerStatus = serde_json::from_str(WORKER).unwrap();
    (status.slot, status.generation, status.slots) = (slot, Some(1), Some(2));
    (status.progressing, status.problem, status.lag_ms) = (true, None, 40);
    (status.revision, status.blocked_inputs) = (None, Vec::new());
    change(&mut status);
    WorkerFact {
        pod: pod(slot, "{podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}"),
        slot,
        status: Some(Ok(status)),
    }
}

/// A job that was applied a while ago, and nothing of it is there yet.
fn fresh() -> Facts {
    Facts {
        now_ms: NOW_MS,
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

/// A job whose two workers run; the second is changed.
fn running(change: impl FnOnce(&mut WorkerStatus)) -> Facts {
    let report = PreflightReport {
        ok: true,
        reason: "PreflightPassed".to_owned(),
        generation: Some(1),
        slots: Some(2),
        ..PreflightReport::default()
    };
    Facts {
        accepted: Some(Accepted { revision: valid().revision, report }),
        asked_pods: Some(2),
        workers: vec![worker(0, |_| {}), worker(1, change)],
        ..fresh()
    }
}

/// A preflight of what `facts` ask for.
fn preflight(mut facts: Facts, state: PreflightState) -> Facts {
    let valid = facts.valid.clone().unwrap();
    let (name, revision, pod) = ("p-1".to_owned(), valid.revision.clone(), Some(valid.pods.hash()));
    facts.preflights = vec![PreflightFact { name, revision, attempt: 1, pod, made_ms: NOW_MS - 1_000, state }];
    facts
}

fn refused(reason: &str, kind: Kind, message: &str) -> PreflightState {
    let (reason, message) = (reason.to_owned(), message.to_owned());
    PreflightState::Failed(PreflightFailure { reason, kind, message, at_ms: NOW_MS - 1_000 })
}

fn asking(change: impl FnOnce(&mut Valid), mut facts: Facts) -> Facts {
    facts.valid.as_mut().map(change).unwrap();
    facts
}

/// A change of what is computed.
fn changed(facts: Facts) -> Facts {
    asking(|valid| valid.revision = "other1".to_owned(), facts)
}

fn problem(reason: &str) -> impl FnOnce(&mut WorkerStatus) {
    let (reason, message) = (reason.to_owned(), "no broker answers".to_owned());
    move |status| status.problem = Some(Problem { reason, message, since_ms: 90_000 })
}

fn told(facts: &Facts, failure: Option<&ApplyError>) -> Value {
    let mut job = job(JOB);
    job.status = Some(status(&job, facts, &decide(facts, 120_000), Some(2), failure));
    serde_json::to_value(job).unwrap()
}

fn deleted(facts: Facts) -> Value {
    let mut object = told(&Facts { deleted_ms: Some(NOW_MS - 1_000), ..facts }, None);
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    object
}

pub fn rows() -> Vec<Row> {
    let good = || running(|_| {});
    let mut new = serde_json::to_value(job(JOB)).unwrap();
    new["status"] = unseen("StreamJob");
    let mut unseen_change = told(&good(), None);
    unseen_change["metadata"]["generation"] = json!(4);
    let taken = ApplyError::NameTaken { kind: "Service", name: "fraud".to_owned() };
    let going = ApplyError::StillGoing { kind: "StatefulSet", name: "fraud".to_owned() };
    let wrong_spec = || examined(&JOB.replace("SELECT id", "SELECT nothing")).unwrap_err();
    let incompatible = || refused("StateIncompatible", Kind::Stalled, "operator agg1");
    let pull = Trouble { reason: "ImagePullBackOff".to_owned(), message: "no such image".to_owned() };
    let ended = pod(
        1,
        "{containerStatuses: [{name: a, image: b, imageID: c, ready: false, restartCount: 1, state: {terminated: \
         {exitCode: 2, reason: Error, message: '{\"reason\":\"BadRecord\",\"message\":\"in[1]@7\"}'}}}]}",
    );
    let mut broken = good();
    broken.workers[1].pod = ended;
    let mut crashing = preflight(changed(good()), incompatible());
    crashing.workers[1].pod = pod(
        1,
        "{containerStatuses: [{name: a, image: b, imageID: c, ready: false, restartCount: 4, state: {waiting: {reason: \
         CrashLoopBackOff}}}]}",
    );

    let mut rows = vec![
        Row { situation: "applied, no operator has looked", object: new, wanted: UNDER_WAY },
        Row { situation: "changed, no operator has looked", object: unseen_change, wanted: UNDER_WAY },
        Row { situation: "deleted, workers commit a last epoch", object: deleted(good()), wanted: GOING },
        Row {
            situation: "deleted while the spec is wrong",
            object: deleted(Facts { valid: Err(wrong_spec()), ..fresh() }),
            wanted: GOING,
        },
        Row { situation: "a name is taken", object: told(&fresh(), Some(&taken)), wanted: FAILED },
        Row { situation: "a name is taken, the job runs", object: told(&good(), Some(&taken)), wanted: FAILED },
        Row { situation: "something former is still going", object: told(&fresh(), Some(&going)), wanted: UNDER_WAY },
    ];
    let judged = [
        ("Topics are not ready", Facts { unready_topics: vec!["alerts".to_owned()], ..fresh() }, UNDER_WAY),
        ("a preflight begins", fresh(), UNDER_WAY),
        ("the preflight's pod can't run", preflight(fresh(), PreflightState::Running(Some(pull))), UNDER_WAY),
        ("the store is away", preflight(fresh(), refused("StoreUnavailable", Kind::Passing, "no answer")), UNDER_WAY),
        ("there is no bucket", preflight(fresh(), refused("StoreUnusable", Kind::Stalled, "no bucket")), FAILED),
        ("the spec is wrong, nothing runs", Facts { valid: Err(wrong_spec()), ..fresh() }, FAILED),
        ("workers are made", Facts { workers: Vec::new(), ..good() }, UNDER_WAY),
        ("a worker loads state", running(|it| it.phase = WorkerPhase::Restoring), UNDER_WAY),
        ("all is well", good(), GOOD),
        (
            "lag beyond its objective",
            asking(|valid| valid.max_lag_ms = Some(1_000), running(|it| it.lag_ms = 90_000)),
            GOOD,
        ),
        ("epochs do not commit", running(|it| it.progressing = false), UNDER_WAY),
        ("the brokers are away", running(problem("KafkaUnavailable")), UNDER_WAY),
        ("a worker ended for good", broken, FAILED),
        ("pods are replaced, as asked", Facts { restarting: true, ..good() }, UNDER_WAY),
        ("more workers are asked for", asking(|valid| valid.replicas = 3, good()), UNDER_WAY),
        ("fewer workers are asked for", asking(|valid| valid.replicas = 1, good()), UNDER_WAY),
        ("a change is looked at, the old revision runs", changed(good()), UNDER_WAY),
        ("a change is refused, the old revision runs", preflight(changed(good()), incompatible()), FAILED),
        ("a change is refused, and a worker restarts", crashing, FAILED),
        ("the spec is wrong, the old revision runs", Facts { valid: Err(wrong_spec()), ..good() }, FAILED),
        ("workers stop, as asked", asking(|valid| valid.suspended = true, good()), UNDER_WAY),
        (
            "suspended, as asked",
            asking(|valid| valid.suspended = true, Facts { asked_pods: Some(0), workers: Vec::new(), ..good() }),
            GOOD,
        ),
    ];
    rows.extend(judged.into_iter().map(|(situation, facts, wanted)| Row {
        situation,
        object: told(&facts, None),
        wanted,
    }));
    rows
}
