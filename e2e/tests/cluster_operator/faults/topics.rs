//! Faults of Topics.

use freshet_e2e::LabError;
use freshet_e2e::scenario::cluster::Scene;
use serde_json::{Value, json};

use super::stage::merge;
use super::table::{Fault, Mend, Of};
use super::*;

/// The Topic that is called after the fault, on the Kafka topic of that name.
fn own(stage: &Stage<'_>, more: Value) -> Value {
    stage.topic(stage.name, more)
}

/// Makes the fault's Kafka topic, behind the operator's back.
fn make(scene: &Scene, name: &str, partitions: u32) -> Result<(), LabError> {
    scene.make_topics(&[(scene.topic(name), partitions)])
}

/// A mend that applies the fault's Topic with other fields.
fn applies(more: Value) -> Mend {
    Box::new(move |stage: &Stage<'_>| stage.apply(&[own(stage, more)]))
}

/// Deletes the Topic and applies it again: whatever Kafka has is taken.
fn applied_again(more: Value) -> Mend {
    Box::new(move |stage: &Stage<'_>| {
        stage.kubectl(&["delete", "topic", stage.name, "--timeout=25s"])?;
        stage.apply(&[own(stage, more)])
    })
}

const NOTHING: fn(&Stage<'_>) -> Vec<Value> = |_| Vec::new();
const ITSELF: fn(&Stage<'_>) -> Vec<Value> = |stage| vec![own(stage, json!({}))];
const STALLED: (&str, &str) = ("Stalled", "True");

/// All of them.
pub fn faults() -> Vec<Fault> {
    vec![
        Fault {
            name: "config-refused",
            of: Of::Topic,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                stage.apply(&[own(stage, json!({"config": {"retention.sm": "1000"}}))])?;
                Ok(Box::new(|stage| {
                    let fields =
                        json!([{"op": "replace", "path": "/spec/config", "value": {"retention.ms": "1000000"}}]);
                    stage.kubectl(&["patch", "topic", stage.name, "--type=json", "-p", &fields.to_string()]).map(drop)
                }))
            },
            shows: STALLED,
            reasons: &["ConfigRefused"],
            says: "retention.sm",
        },
        Fault {
            name: "more-copies-than-brokers",
            of: Of::Topic,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                stage.apply(&[own(stage, json!({"replicas": 3}))])?;
                Ok(applies(json!({"replicas": 1})))
            },
            shows: STALLED,
            reasons: &["KafkaRefused"],
            says: "3",
        },
        Fault {
            name: "partitions-shrink",
            of: Of::Topic,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                make(stage.scene, stage.name, 3)?;
                stage.apply(&[own(stage, json!({"partitions": 2, "managementPolicy": "Adopt"}))])?;
                Ok(applies(json!({"partitions": 3, "managementPolicy": "Adopt"})))
            },
            shows: STALLED,
            reasons: &["PartitionsCannotShrink"],
            says: "3",
        },
        Fault {
            name: "topic-exists",
            of: Of::Topic,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                make(stage.scene, stage.name, 1)?;
                stage.apply(&[own(stage, json!({"partitions": 2}))])?;
                Ok(applies(json!({"partitions": 2, "managementPolicy": "Adopt"})))
            },
            shows: STALLED,
            reasons: &["TopicExists"],
            says: "partitions",
        },
        Fault {
            name: "copies-differ",
            of: Of::Topic,
            apart: false,
            before: ITSELF,
            happens: |stage| {
                stage.apply(&[own(stage, json!({"replicas": 2}))])?;
                Ok(applies(json!({"replicas": 1})))
            },
            shows: STALLED,
            reasons: &["ReplicasCannotChange"],
            says: "spec.replicas",
        },
        Fault {
            name: "observed-differs",
            of: Of::Topic,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                make(stage.scene, stage.name, 2)?;
                stage.apply(&[own(stage, json!({"managementPolicy": "Observe"}))])?;
                Ok(applies(json!({"partitions": 2, "managementPolicy": "Observe"})))
            },
            shows: STALLED,
            reasons: &["TopicDiffers"],
            says: "partitions",
        },
        Fault {
            name: "observed-missing",
            of: Of::Topic,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                stage.apply(&[own(stage, json!({"managementPolicy": "Observe"}))])?;
                Ok(Box::new(|stage| make(stage.scene, stage.name, 1)))
            },
            shows: STALLED,
            reasons: &["TopicNotFound"],
            says: "observed-missing",
        },
        Fault {
            name: "claimed-twice",
            of: Of::Topic,
            apart: false,
            before: |stage| {
                vec![stage.topic("claims-first", json!({}))].into_iter().chain([own(stage, json!({}))]).collect()
            },
            happens: |stage| {
                // The younger of two that name one Kafka topic.
                stage.kubectl(&["delete", "topic", stage.name, "--timeout=25s"])?;
                let mut second = own(stage, json!({}));
                merge(&mut second, json!({"spec": {"topicName": stage.kafka_topic("claims-first")}}));
                stage.apply(&[second])?;
                Ok(Box::new(|stage| stage.kubectl(&["delete", "topic", "claims-first", "--timeout=25s"]).map(drop)))
            },
            shows: STALLED,
            reasons: &["TopicClaimed"],
            says: "claims-first",
        },
        Fault {
            name: "topic-brokers-wrong",
            of: Of::Topic,
            apart: false,
            before: NOTHING,
            happens: |stage| {
                stage.apply(&[own(stage, json!({"kafka": {"bootstrapServers": "s3.freshet-servers.svc:9093"}}))])?;
                Ok(Box::new(|stage| {
                    let right = json!({"spec": {"kafka": {"bootstrapServers": stage.scene.around.kafka_from_pods}}});
                    stage.kubectl(&["patch", "topic", stage.name, "--type=merge", "-p", &right.to_string()]).map(drop)
                }))
            },
            shows: ("Reconciling", "True"),
            reasons: &["KafkaUnavailable"],
            says: "Timed out",
        },
        Fault {
            name: "topic-deleted-behind",
            of: Of::Topic,
            apart: false,
            before: ITSELF,
            happens: |stage| {
                stage.scene.delete_topics(&stage.kafka_topic(stage.name))?;
                Ok(applied_again(json!({})))
            },
            shows: STALLED,
            reasons: &["TopicDeleted"],
            says: "topic-deleted-behind",
        },
        Fault {
            name: "topic-made-again-behind",
            of: Of::Topic,
            apart: false,
            before: ITSELF,
            happens: |stage| {
                stage.scene.delete_topics(&stage.kafka_topic(stage.name))?;
                stage.scene.kubernetes.wait_for(
                    "Kafka to make a topic again that was deleted",
                    Duration::from_secs(20),
                    || Ok(make(stage.scene, stage.name, 1).ok()),
                    || "it refuses".to_owned(),
                )?;
                Ok(applied_again(json!({"managementPolicy": "Adopt"})))
            },
            shows: STALLED,
            reasons: &["TopicRecreated"],
            says: "topic-made-again-behind",
        },
    ]
}
