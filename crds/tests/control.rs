//! The wire between workers, preflight and operator: golden files of every document. A document that was written by
//! an older build must be read for as long as any worker of it may run, so these files are only ever added to.
#![allow(missing_docs, reason = "tests")]

use std::fmt::Debug;

use freshet_crds::control::{
    Assignment, AssignmentRequest, PreflightReport, Problem, Refusal, Restored, TERMINATION_MESSAGE_BYTES, WorkerEnd,
    WorkerPhase, WorkerStatus, WorkerTask,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let path = format!("{}/tests/golden/control/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let stored: serde_json::Value = serde_json::from_str(&text).expect("a golden file is JSON");
    let written = serde_json::to_value(value).expect("it serialises");
    assert_eq!(written, stored, "{name} is written as it always was");
    assert_eq!(serde_json::from_value::<T>(stored).as_ref().expect("it is read"), value, "{name} reads back");
}

fn status() -> WorkerStatus {
    WorkerStatus {
        job: "fraud-detection".into(),
        slot: 1,
        runtime_version: "0.1.0".into(),
        lineage: Some("r-00deadbeef".into()),
        phase: WorkerPhase::Running,
        phase_since_ms: 1_700_000_000_000,
        generation: Some(12),
        slots: Some(4),
        plan_fingerprint: Some("7c9f2b0011aa".into()),
        revision: Some("19aa047c9f2b".into()),
        ready: true,
        progressing: false,
        epoch: Some(18_233),
        last_commit_ms: Some(1_700_000_100_000),
        lag_records: 42,
        lag_ms: 1_300,
        restored: Some(Restored { tasks: 3, state_bytes: 1_288_490_188, took_ms: 3_100, at_ms: 1_700_000_000_000 }),
        problem: Some(Problem {
            reason: "EpochsNotCommitting".into(),
            message: "42 records wait and no epoch has committed for 11.0 s; the last was epoch 18233".into(),
            since_ms: 1_700_000_100_000,
        }),
        blocked_inputs: vec!["payments.transactions[3]".into()],
        tasks: vec![WorkerTask {
            stage: "transactions-1f0c".into(),
            partition: 3,
            position: 99,
            lag_records: 42,
            watermark_ms: Some(1_699_999_999_000),
            state_keys: 7,
        }],
    }
}

#[test]
fn every_document_is_as_it_always_was() {
    golden("worker-status", &status());
    golden(
        "worker-status-starting",
        &WorkerStatus {
            lineage: None,
            phase: WorkerPhase::Starting,
            generation: None,
            slots: None,
            plan_fingerprint: None,
            revision: None,
            ready: false,
            epoch: None,
            last_commit_ms: None,
            lag_records: 0,
            lag_ms: 0,
            restored: None,
            problem: None,
            blocked_inputs: Vec::new(),
            tasks: Vec::new(),
            ..status()
        },
    );
    golden("assignment-request", &AssignmentRequest { slots: 3 });
    golden("assignment", &Assignment { generation: 13, slots: 3 });
    golden("refusal", &Refusal { reason: "TopicNotFound".into(), message: "unknown topic or partition: t".into() });
    golden(
        "worker-end",
        &WorkerEnd { reason: "InputTruncated".into(), message: "t[0]: records 3 to 9 are gone".into() },
    );
    golden(
        "preflight-report",
        &PreflightReport {
            ok: true,
            reason: "PreflightPassed".into(),
            message: "generation 13 was handed out: 76 tasks on 4 slots".into(),
            lineage: Some("r-00deadbeef".into()),
            lineage_born_ms: Some(1_700_000_000_000),
            generation: Some(13),
            slots: Some(4),
            plan_fingerprint: Some("7c9f2b0011aa".into()),
            revision: Some("19aa047c9f2b".into()),
            runtime_version: "0.1.0".into(),
            changed: true,
            stages: 2,
            tasks: 76,
            internal_topics: vec!["freshet.fraud-detection.r-00deadbeef.agg-77ab01cd.v1".into()],
        },
    );
    golden(
        "preflight-report-refused",
        &PreflightReport {
            reason: "SpecInvalid".into(),
            message: "job.yaml:7:9: table orders is not there".into(),
            runtime_version: "0.1.0".into(),
            ..PreflightReport::default()
        },
    );
}

#[test]
fn what_a_newer_worker_says_is_read_as_far_as_it_is_known() {
    let mut newer = serde_json::to_value(status()).expect("it serialises");
    newer["phase"] = "Dreaming".into();
    newer["mood"] = "good".into();
    let read: WorkerStatus = serde_json::from_value(newer).expect("it is read");
    assert_eq!(read.phase, WorkerPhase::Unknown);
    assert_eq!(read.epoch, Some(18_233));
}

#[test]
fn a_request_with_a_field_that_nobody_heeds_is_refused() {
    assert!(serde_json::from_str::<AssignmentRequest>(r#"{"slots":3,"gently":true}"#).is_err());
}

#[test]
fn termination_messages_fit() {
    let message = "\"ü\u{1}".repeat(3_000);
    let end = WorkerEnd { reason: "BadRecord".into(), message: message.clone() }.termination_message();
    assert!(end.len() <= TERMINATION_MESSAGE_BYTES && end.len() > TERMINATION_MESSAGE_BYTES - 64, "{}", end.len());
    let read: WorkerEnd = serde_json::from_str(&end).expect("JSON");
    assert!(message.starts_with(read.message.trim_end_matches('…')) && read.message.ends_with('…'));

    let topics = (0..200).map(|n| format!("freshet.fraud-detection.r-00deadbeef.agg-{n:08}.v1")).collect();
    let report =
        PreflightReport { ok: true, message: "short".into(), internal_topics: topics, ..PreflightReport::default() };
    let text = report.termination_message();
    assert!(text.len() <= TERMINATION_MESSAGE_BYTES);
    let read: PreflightReport = serde_json::from_str(&text).expect("JSON");
    assert_eq!((read.message.as_str(), read.internal_topics.len()), ("short", 0), "the topics go before the message");
}

#[test]
fn the_tag_changes_with_what_is_acted_on_and_not_with_what_moves() {
    let before = status();
    let mut moved = before.clone();
    (moved.epoch, moved.last_commit_ms, moved.lag_records, moved.lag_ms) = (Some(18_234), None, 1, 7);
    moved.tasks.clear();
    assert_eq!(moved.tag(), before.tag());
    let changes: [fn(&mut WorkerStatus); 13] = [
        |status| status.job.push('x'),
        |status| status.slot += 1,
        |status| status.runtime_version.push('x'),
        |status| status.lineage = None,
        |status| status.phase = WorkerPhase::BackingOff,
        |status| status.phase_since_ms += 1,
        |status| status.generation = Some(13),
        |status| status.slots = Some(5),
        |status| status.revision = None,
        |status| status.ready = false,
        |status| status.progressing = true,
        |status| status.problem = None,
        |status| status.blocked_inputs.clear(),
    ];
    let mut tags = vec![before.tag()];
    for change in changes {
        let mut other = before.clone();
        change(&mut other);
        tags.push(other.tag());
    }
    let many = tags.len();
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), many, "each has a tag of its own");
    assert!(tags[0].starts_with("W/\"") && tags[0].ends_with('"') && tags[0].is_ascii(), "{}", tags[0]);
}
