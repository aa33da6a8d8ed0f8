//! Pure tests of the steps between looking and acting: resources are YAML that goes through the real validation. Here is
//! what they share.

mod children;
mod ending;
mod preflights;
mod spec;
mod status;
mod workers;

use std::sync::Arc;

use clap::Parser;
use freshet_crds::control::{PreflightReport, WorkerPhase, WorkerStatus};
use freshet_crds::reasons::Kind;
use freshet_crds::{StreamJob, Topic};

use super::decide::{Action, Decision, decide};
use super::facts::{Accepted, Facts, Legacy, PreflightFact, PreflightFailure, PreflightState, WorkerFact};
use super::pods::PodFact;
use super::validate::{Refusal, Valid, validate};
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

fn removed(jobs: &[&str], manifests: &[&str]) -> Action {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Action::RemovePreflights { jobs: owned(jobs), manifests: owned(manifests) }
}

fn ready_reason(facts: &Facts) -> (bool, String, String) {
    let verdict = super::status::verdict(facts, &decided(facts), None);
    (verdict.ready.holds, verdict.ready.reason, verdict.ready.message)
}
