//! What others do to a job's children and status, and workers that can't be reached.

use std::time::{Duration, Instant};

use freshet_crds::StreamJob;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::gate::Weather;
use crate::world::{World, runs};

/// A change of a child that must go back.
struct Edit {
    child: &'static str,
    patch: Value,
}

fn edits() -> Vec<Edit> {
    let edit = |child, patch| Edit { child, patch };
    let sidecar = json!({ "name": "sidecar", "image": "evil" });
    let more = json!({ "name": "AWS_SECRET_ACCESS_KEY", "value": "other" });
    vec![
        edit("statefulsets", json!({ "spec": { "replicas": 7 } })),
        edit(
            "statefulsets",
            json!({ "spec": { "template": { "spec": { "containers": [{ "name": "worker", "image": "evil" }] } } } }),
        ),
        // What is added to a list of ours.
        edit("statefulsets", json!({ "spec": { "template": { "spec": { "containers": [sidecar] } } } })),
        edit(
            "statefulsets",
            json!({ "spec": { "template": { "spec": { "containers": [{ "name": "worker", "env": [more] }] } } } }),
        ),
        edit("services", json!({ "spec": { "ports": [{ "name": "other", "port": 9500, "protocol": "TCP" }] } })),
        edit("services", json!({ "spec": { "selector": { "app.kubernetes.io/instance": "another" } } })),
        edit("configmaps", json!({ "data": { "job.yaml": "kind: Nothing" } })),
        edit("configmaps", json!({ "metadata": { "annotations": { "freshet.dev/preflight": "nothing" } } })),
        edit("configmaps", json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": "me" } } })),
        edit("poddisruptionbudgets", json!({ "spec": { "maxUnavailable": 5 } })),
        edit("serviceaccounts", json!({ "automountServiceAccountToken": true })),
    ]
}

/// What a child is that matters, to be compared: without what a server gives.
async fn shown(world: &World, child: &str) -> Value {
    let mut object = match child {
        "statefulsets" => json!(world.api::<StatefulSet>().get("fraud").await.unwrap()),
        "services" => json!(world.api::<Service>().get("fraud").await.unwrap()),
        "configmaps" => json!(world.api::<ConfigMap>().get("fraud").await.unwrap()),
        "poddisruptionbudgets" => json!(world.api::<PodDisruptionBudget>().get("fraud").await.unwrap()),
        "serviceaccounts" => json!(world.api::<ServiceAccount>().get("fraud").await.unwrap()),
        other => panic!("no child is a {other}"),
    };
    let metadata = object["metadata"].take();
    object["metadata"] = json!({ "labels": metadata["labels"], "annotations": metadata["annotations"] });
    object.as_object_mut().unwrap().remove("status");
    object
}

async fn patch(world: &World, child: &str, patch: &Value) {
    // As `kubectl edit` of somebody else.
    let (by, patch) = (PatchParams { field_manager: Some("me".into()), ..Default::default() }, Patch::Strategic(patch));
    match child {
        "statefulsets" => drop(world.api::<StatefulSet>().patch("fraud", &by, &patch).await.unwrap()),
        "services" => drop(world.api::<Service>().patch("fraud", &by, &patch).await.unwrap()),
        "configmaps" => drop(world.api::<ConfigMap>().patch("fraud", &by, &patch).await.unwrap()),
        "poddisruptionbudgets" => drop(world.api::<PodDisruptionBudget>().patch("fraud", &by, &patch).await.unwrap()),
        "serviceaccounts" => drop(world.api::<ServiceAccount>().patch("fraud", &by, &patch).await.unwrap()),
        other => panic!("no child is a {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_edited_goes_back() {
    let world = World::new("edited", [14, 0]).await;
    let operator = world.operator(Weather::Calm).await;
    // Quantities as people write them, which the API server writes otherwise.
    let resources = json!({ "requests": { "cpu": "1000m", "memory": "1024Mi" }, "limits": { "memory": "2048Mi" } });
    world.apply(json!({ "replicas": 2, "template": { "resources": resources } })).await;
    world.until("it runs", runs).await;
    operator.writes_nothing().await;
    for Edit { child, patch: edit } in edits() {
        let before = shown(&world, child).await;
        patch(&world, child, &edit).await;
        let changed = shown(&world, child).await;
        let back = || async { shown(&world, child).await == before };
        world.eventually(&format!("{child} to be as before {edit}: {before}, and not {changed}"), back).await;
    }
    world.until("it runs again", runs).await;
    operator.writes_nothing().await;
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_deleted_comes_back() {
    let world = World::new("deleted", [15, 0]).await;
    let operator = world.operator(Weather::Calm).await;
    world.apply(json!({ "replicas": 2 })).await;
    world.until("it runs", runs).await;
    let generations = world.fakes.said.lock().unwrap().generations.clone();
    let now = DeleteParams::default();
    macro_rules! deleted {
        ($kind:ty, $name:literal) => {
            let old = world.api::<$kind>().get($name).await.unwrap().uid();
            world.api::<$kind>().delete($name, &now).await.unwrap();
            let back = || async {
                let found = world.api::<$kind>().get_opt($name).await.unwrap();
                found.is_some_and(|found| found.uid() != old)
            };
            world.eventually(concat!(stringify!($kind), " ", $name, " to be back"), back).await;
        };
    }
    deleted!(Service, "fraud");
    deleted!(PodDisruptionBudget, "fraud");
    deleted!(ServiceAccount, "fraud");
    deleted!(ConfigMap, "fraud");
    deleted!(Pod, "fraud-1");
    deleted!(StatefulSet, "fraud");
    // Nothing is read of it, so that it is seen by trying to make it.
    deleted!(Secret, "fraud-control");
    world.until("it runs again", runs).await;
    assert_eq!(world.fakes.said.lock().unwrap().generations, generations, "the assignment is as it was");
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_wiped_is_found_again_and_nothing_is_started_for_it() {
    let world = World::new("wiped", [16, 0]).await;
    let operator = world.operator(Weather::Calm).await;
    world.apply(json!({ "replicas": 2 })).await;
    world.until("it runs", runs).await;
    operator.quiet().await;
    let (before, made) = (world.end_state().await, world.fakes.said.lock().unwrap().made.clone());
    let by = PatchParams::default();
    let wiped = Patch::Merge(json!({ "status": null }));
    world.api::<StreamJob>().patch_status("fraud", &by, &wiped).await.unwrap();
    let found = world.until("its status is back", runs).await;
    assert_eq!(found.status.unwrap().lineage.unwrap().id, "r-0000000001");
    operator.writes_nothing().await;
    operator.kill().await;

    // And where another operator begins with a wiped status.
    world.api::<StreamJob>().patch_status("fraud", &by, &wiped).await.unwrap();
    let operator = world.operator(Weather::Calm).await;
    world.until("its status is back", runs).await;
    operator.writes_nothing().await;
    assert_eq!(world.end_state().await, before);
    assert_eq!(world.fakes.said.lock().unwrap().made, made, "a pod was started");
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_workers_that_cant_be_reached_no_longer_than_the_deadline() {
    let mut world = World::new("deadline", [17, 0]).await;
    world.deletion_deadline = "6s";
    let operator = world.operator(Weather::Calm).await;
    world.apply(json!({ "replicas": 2 })).await;
    world.until("it runs", runs).await;
    world.fakes.said.lock().unwrap().lost = true;
    world.api::<StreamJob>().delete("fraud", &DeleteParams::default()).await.unwrap();
    let began = Instant::now();
    let waits = world
        .until("it waits", |job| {
            let conditions = job.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|it| it.type_ == "Reconciling" && it.reason == "Deleting")
        })
        .await;
    let message = &waits.status.unwrap().conditions[0].message;
    assert!(message.contains("2 workers"), "{message}");
    world.until_gone().await;
    let took = began.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(20)).contains(&took), "{took:?}");
    let told = || async {
        let events = world.api::<Event>().list(&Default::default()).await.unwrap();
        events.iter().any(|event| {
            event.reason.as_deref() == Some("DeletionDeadlinePassed")
                && event.message.as_ref().is_some_and(|note| note.contains("fraud-0, fraud-1"))
        })
    };
    world.eventually("it is told what was waited for", told).await;
    operator.kill().await;
}
