//! How fast many Topics converge: a real API server, a real broker, and the operator as a process of its own.

use std::time::Instant;

use freshet_crds::Topic;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use super::operator::{MANY, NAMESPACE, Stand, asking, each, for_each, rate, typed, until_ready};
use super::{Line, Place};
use crate::LabError;

/// Topics made, Topics changed, and the operator left alone.
pub(super) fn topics(place: &Place<'_>) -> Result<Vec<Line>, LabError> {
    let stand = Stand::start(place, &[])?;
    stand.measure(measure(&stand))
}

fn name(number: usize) -> String {
    format!("topic-{number:04}")
}

fn status(topic: &Topic) -> Option<(i64, &[Condition])> {
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
    ])
}
