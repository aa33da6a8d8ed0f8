//! How fast many Topics converge: a real API server, a real broker, and the operator as a process of its own.

use std::time::{Duration, Instant};

use freshet_crds::{TOPIC_FINALIZER, Topic};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::operator::{MANY, NAMESPACE, Stand, asking, each, for_each, rate, typed, until_ready};
use super::{Line, Place};
use crate::LabError;

/// Topics made, Topics changed, and the operator left alone.
pub(super) fn topics(place: &Place<'_>) -> Result<Vec<Line>, LabError> {
    let stand = Stand::start(place, &[])?;
    stand.measure(measure(&stand))
}

/// A namespace that no operator looks after.
const ALONE: &str = "alone";

fn name(number: usize) -> String {
    format!("topic-{number:04}")
}

/// The generation that a status is of, and its conditions.
pub(super) fn status(topic: &Topic) -> Option<(i64, &[Condition])> {
    topic.status.as_ref().map(|status| (status.observed_generation, status.conditions.as_slice()))
}

async fn measure(stand: &Stand) -> Result<Vec<Line>, LabError> {
    let api: Api<Topic> = Api::namespaced(stand.client().await?, NAMESPACE);
    let before = stand.cpu_seconds();
    let began = Instant::now();
    for_each(|number| {
        let api = api.clone();
        async move {
            let spec = json!({ "partitions": 1, "config": { "retention.ms": "86400000" } });
            let (version, metadata) = (freshet_crds::API_VERSION, json!({ "name": name(number) }));
            let topic = json!({ "apiVersion": version, "kind": "Topic", "metadata": metadata, "spec": spec });
            api.create(&PostParams::default(), &typed(&topic)?).await.map(drop).map_err(asking("making a Topic"))
        }
    })
    .await?;
    let applied = began.elapsed();
    until_ready(&api, status).await?;
    let made = began.elapsed();
    let cpu = stand.cpu_seconds() - before;
    let first = stand.counted().await?;

    let began = Instant::now();
    for_each(|number| {
        let api = api.clone();
        async move {
            let patch = Patch::Merge(json!({ "spec": { "config": { "retention.ms": "172800000" } } }));
            let patched = api.patch(&name(number), &PatchParams::default(), &patch).await;
            patched.map(drop).map_err(asking("changing a Topic"))
        }
    })
    .await?;
    until_ready(&api, status).await?;
    let changed = began.elapsed();
    let second = stand.counted().await?;

    let idle = stand.idle().await?;
    let alone = alone(stand).await?;
    Ok(vec![
        Line {
            what: "1,000 Topics applied until all are Ready",
            wanted: "≥ 170 a second",
            found: format!(
                "{:.0} a second ({made:.1?}, of which applying took {applied:.1?}; {cpu:.1} CPU s, {:.1} ms a Topic)",
                rate(made),
                cpu * 1_000.0 / MANY as f64
            ),
        },
        Line {
            what: "writes to the API server and requests to Kafka for a new Topic",
            wanted: "3 writes",
            found: format!("{:.2} writes, {:.2} requests", each(first.writes), each(first.kafka)),
        },
        Line {
            what: "1,000 Topics changed until all are Ready",
            wanted: "≥ 170 a second",
            found: format!(
                "{:.0} a second; {:.2} writes, {:.2} requests each",
                rate(changed),
                each(second.writes - first.writes),
                each(second.kafka - first.kafka)
            ),
        },
        Line {
            what: "operator with 1,000 Topics in order",
            wanted: "< 2 % of a core, < 128 MB, no write",
            found: format!(
                "{:.1} % of a core, {:.0} MiB, {} writes in {} s",
                idle.share_of_core, idle.resident_mib, idle.writes, idle.seconds
            ),
        },
        Line {
            what: "the API server alone: the writes for a new Topic, and for a changed one, by 16 hands without an operator",
            wanted: "—",
            found: format!("{:.0} and {:.0} Topics a second", rate(alone.made), rate(alone.changed)),
        },
    ])
}

/// How long the API server takes for what is written for [`MANY`] Topics.
struct Alone {
    made: Duration,
    changed: Duration,
}

/// The same writes as above, by the same hands, with nobody who waits for Kafka: more than that this machine's API server
/// can't do, whatever the operator does.
async fn alone(stand: &Stand) -> Result<Alone, LabError> {
    let client = stand.client().await?;
    let namespace: Namespace = typed(&json!({ "metadata": { "name": ALONE } }))?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.map_err(asking("making a namespace"))?;
    let topics: Api<Topic> = Api::namespaced(client.clone(), ALONE);
    let events: Api<Event> = Api::namespaced(client, ALONE);
    let hand = Hand { topics, events };
    let began = Instant::now();
    for_each(|number| {
        let hand = hand.clone();
        async move { hand.make(&name(number)).await }
    })
    .await?;
    let made = began.elapsed();
    let began = Instant::now();
    for_each(|number| {
        let hand = hand.clone();
        async move { hand.change(&name(number)).await }
    })
    .await?;
    Ok(Alone { made, changed: began.elapsed() })
}

#[derive(Clone)]
struct Hand {
    topics: Api<Topic>,
    events: Api<Event>,
}

impl Hand {
    async fn make(&self, name: &str) -> Result<(), LabError> {
        let spec = json!({ "partitions": 1, "config": { "retention.ms": "86400000" } });
        let (version, metadata) = (freshet_crds::API_VERSION, json!({ "name": name }));
        let topic = json!({ "apiVersion": version, "kind": "Topic", "metadata": metadata, "spec": spec });
        self.topics.create(&PostParams::default(), &typed(&topic)?).await.map_err(asking("making a Topic"))?;
        self.patch(name, &json!({ "metadata": { "finalizers": [TOPIC_FINALIZER] } })).await?;
        self.status(name, "False", "Creating").await?;
        self.status(name, "True", "InSync").await?;
        self.event(name).await
    }

    async fn change(&self, name: &str) -> Result<(), LabError> {
        self.patch(name, &json!({ "spec": { "config": { "retention.ms": "172800000" } } })).await?;
        self.status(name, "True", "Changed").await?;
        self.event(name).await
    }

    async fn patch(&self, name: &str, patch: &Value) -> Result<(), LabError> {
        let patched = self.topics.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map(drop).map_err(asking("changing a Topic"))
    }

    async fn status(&self, name: &str, ready: &str, reason: &str) -> Result<(), LabError> {
        let condition = |type_: &str, status: &str| {
            json!({ "type": type_, "status": status, "reason": reason, "message": "as long as one of the operator's is",
                    "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z" })
        };
        let conditions = [condition("Ready", ready), condition("Reconciling", "False"), condition("Stalled", "False")];
        let patch = json!({ "status": {
            "observedGeneration": 1, "topicId": "AAAAAAAAAAAAAAAAAAAAAA", "partitions": 1, "conditions": conditions,
        } });
        let patched = self.topics.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.map(drop).map_err(asking("writing a status"))
    }

    async fn event(&self, name: &str) -> Result<(), LabError> {
        let event = json!({
            "metadata": { "generateName": format!("{name}-"), "namespace": ALONE },
            "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "TopicCreated", "action": "Create",
            "note": "made the Kafka topic: 1 partitions, the broker's replicas", "reportingController": "bench",
            "reportingInstance": "bench",
            "regarding": { "apiVersion": freshet_crds::API_VERSION, "kind": "Topic", "name": name, "namespace": ALONE },
        });
        self.events.create(&PostParams::default(), &typed(&event)?).await.map(drop).map_err(asking("telling an event"))
    }
}
