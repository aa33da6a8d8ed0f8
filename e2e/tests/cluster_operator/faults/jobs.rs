//! Faults of jobs that are wrong from the start, and of what they need.

use freshet_e2e::LabError;
use freshet_e2e::scenario::cluster::STORE_SECRET;
use serde_json::{Value, json};

use super::table::{Fault, Mend, Of};
use super::*;

/// A mend that changes the job's spec.
pub fn changes(spec: Value) -> Mend {
    Box::new(move |stage: &Stage<'_>| stage.change(&spec))
}

/// Applies the job with other fields than it should have; changing them mends it.
fn applied(stage: &Stage<'_>, wrong: Value, right: Value) -> Result<Mend, LabError> {
    stage.apply(&[stage.job(wrong)])?;
    Ok(changes(right))
}

/// Where the store keeps a bucket.
fn bucket_folder(stage: &Stage<'_>, bucket: &str) -> std::path::PathBuf {
    stage.scene.around.lab().unwrap().site().disk("s3").join("objects").join(bucket)
}

const NOTHING: fn(&Stage<'_>) -> Vec<Value> = |_| Vec::new();
const NOT_READY: (&str, &str) = ("Ready", "False");
const STALLED: (&str, &str) = ("Stalled", "True");

/// All of them.
pub fn faults() -> Vec<Fault> {
    vec![
        Fault {
            name: "missing-secret",
            of: Of::Job,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                let around = &stage.scene.around;
                stage.apply(&[stage.job(stage.checkpoint(&around.bucket, &around.store_from_pods, "late-keys"))])?;
                Ok(Box::new(|stage| {
                    let around = &stage.scene.around;
                    let keys =
                        json!({"AWS_ACCESS_KEY_ID": around.access_key, "AWS_SECRET_ACCESS_KEY": around.secret_key});
                    let metadata = json!({"name": "late-keys"});
                    stage.apply(&[
                        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys}),
                    ])
                }))
            },
            shows: NOT_READY,
            reasons: &["CreateContainerConfigError"],
            says: "late-keys",
        },
        Fault {
            name: "wrong-credentials",
            of: Of::Job,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                let around = &stage.scene.around;
                let wrong = stage.checkpoint(&around.bucket, &around.store_from_pods, "wrong-credentials");
                applied(stage, wrong, stage.good_checkpoint())
            },
            shows: STALLED,
            reasons: &["Unauthorised"],
            says: "",
        },
        Fault {
            name: "missing-bucket",
            of: Of::Job,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                let bucket = format!("none-{}", stage.scene.run());
                stage.apply(&[stage.job(stage.checkpoint(
                    &bucket,
                    &stage.scene.around.store_from_pods,
                    STORE_SECRET,
                ))])?;
                Ok(Box::new(move |stage| {
                    let folder = bucket_folder(stage, &bucket);
                    std::fs::create_dir_all(&folder).map_err(LabError::file("making", folder))
                }))
            },
            shows: STALLED,
            reasons: &["StoreUnusable"],
            says: "none-",
        },
        Fault {
            name: "bad-sql",
            of: Of::Job,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                let wrong = json!({"sql": "INSERT INTO copies SELECT id, a, c FROM events"});
                applied(stage, wrong, json!({"sql": "INSERT INTO copies SELECT id, a, b FROM events"}))
            },
            shows: STALLED,
            reasons: &["SpecInvalid"],
            says: "spec.sql, line 1",
        },
        Fault {
            name: "unknown-table",
            of: Of::Job,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                stage.apply(&[stage.job(json!({"sql": "INSERT INTO copies SELECT id, a, b FROM to_come"}))])?;
                Ok(Box::new(|stage| stage.apply(&[stage.topic("to-come", json!({}))])))
            },
            shows: STALLED,
            reasons: &["TopicNotFound"],
            says: "to_come",
        },
        Fault {
            name: "topic-not-ready",
            of: Of::Job,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                let topic = stage.topic("unmade", json!({"managementPolicy": "Observe"}));
                stage.apply(&[topic, stage.job(json!({"sql": "INSERT INTO copies SELECT id, a, b FROM unmade"}))])?;
                Ok(Box::new(|stage| stage.scene.make_topics(&[(stage.kafka_topic("unmade"), 1)])))
            },
            shows: ("Reconciling", "True"),
            reasons: &["TopicNotReady"],
            says: "TopicNotFound",
        },
        Fault {
            name: "unschedulable",
            of: Of::Job,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                let nowhere = json!({"template": {"nodeSelector": {"freshet.dev/none": "such"}}});
                applied(stage, nowhere, json!({"template": {"nodeSelector": null}}))
            },
            shows: NOT_READY,
            reasons: &["Unschedulable"],
            says: "node",
        },
        Fault {
            name: "out-of-memory",
            of: Of::Job,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                // Enough to begin, not enough to read a plan.
                let memory = json!({"memory": "8Mi"});
                let little = json!({"template": {"resources": {"requests": memory, "limits": memory}}});
                applied(stage, little, json!({"template": {"resources": null}}))
            },
            shows: NOT_READY,
            reasons: &["OOMKilled"],
            says: "memory",
        },
        Fault {
            name: "missing-account",
            of: Of::Job,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                stage.apply(&[stage.job(json!({"serviceAccountName": "late-account"}))])?;
                Ok(Box::new(|stage| stage.kubectl(&["create", "serviceaccount", "late-account"]).map(drop)))
            },
            shows: NOT_READY,
            reasons: &["FailedCreate"],
            says: "late-account",
        },
        Fault {
            name: "quota",
            of: Of::Job,
            apart: true,
            before: |stage| vec![stage.job(json!({}))],
            happens: |stage| {
                stage.kubectl(&["create", "quota", "none", "--hard=pods=0"])?;
                stage.kubectl(&["delete", "pod", &stage.pod(), "--wait=false"])?;
                Ok(Box::new(|stage| stage.kubectl(&["delete", "quota", "none"]).map(drop)))
            },
            shows: NOT_READY,
            reasons: &["FailedCreate"],
            says: "exceeded quota",
        },
        Fault {
            name: "name-taken",
            of: Of::Job,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                stage.kubectl(&["create", "service", "clusterip", stage.name, "--tcp=80:80"])?;
                stage.apply(&[stage.job(json!({}))])?;
                Ok(Box::new(|stage| stage.kubectl(&["delete", "service", stage.name]).map(drop)))
            },
            shows: STALLED,
            reasons: &["NameTaken"],
            says: "Service",
        },
    ]
}
