//! A job's life: made, resized, changed, refused, suspended, disturbed, deleted.

use freshet_crds::StreamJob;
use freshet_crds::control::PreflightReport;
use freshet_operator::streamjob::build::REPORT;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::gate::Weather;
use crate::world::{SQL, World, runs, says};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_lives_as_its_spec_says() {
    let world = World::new("life", [11, 0]).await;
    let operator = world.operator(Weather::Calm).await;
    world.apply(json!({ "replicas": 2 })).await;
    let job = world.until("it runs", runs).await;
    let status = job.status.clone().unwrap();
    assert_eq!((status.workers.as_deref(), status.generation, status.replicas), (Some("2/2"), Some(1), Some(2)));
    assert_eq!(status.lineage.unwrap().id, "r-0000000001");

    operator.writes_nothing().await;

    // More, by the scale subresource; then fewer.
    let scale = json!({ "spec": { "replicas": 4 } });
    let by = PatchParams::default();
    world.api::<StreamJob>().patch_scale("fraud", &by, &Patch::Merge(&scale)).await.unwrap();
    world
        .until("four workers", |job| runs(job) && job.status.as_ref().unwrap().workers.as_deref() == Some("4/4"))
        .await;
    assert_eq!(world.fakes.said.lock().unwrap().generations, vec![2, 4]);
    world.apply(json!({ "replicas": 1 })).await;
    world.until("one worker", |job| runs(job) && job.status.as_ref().unwrap().workers.as_deref() == Some("1/1")).await;
    let seen = world.fakes.said.lock().unwrap().orphaned.clone();
    assert!(seen.is_empty(), "{seen:?}");

    // Another plan: the same pods run it.
    let pods = world.fakes.said.lock().unwrap().made.clone();
    let before = job.status.unwrap().revision.unwrap().current;
    world.apply(json!({ "replicas": 1, "sql": format!("{SQL} HAVING COUNT(*) > 3") })).await;
    let changed = world
        .until("the new revision", |job| {
            runs(job) && job.status.as_ref().unwrap().revision.as_ref().unwrap().current != before
        })
        .await;
    let workers = |pods: &[String]| pods.iter().filter(|name| !name.contains("preflight")).cloned().collect::<Vec<_>>();
    assert_eq!(workers(&world.fakes.said.lock().unwrap().made), workers(&pods), "no worker was started again");
    // What was accepted is what was handed out for it.
    let map = world.api::<ConfigMap>().get("fraud").await.unwrap();
    let report: PreflightReport = serde_json::from_str(&map.annotations()[REPORT]).unwrap();
    let generations = world.fakes.said.lock().unwrap().generations.len();
    assert_eq!(report.generation, u64::try_from(generations).ok());
    operator.quiet().await;
    let accepted = operator.gate.writes().iter().filter(|write| *write == "PATCH configmaps/fraud").count();
    assert_eq!(accepted, 2, "a revision is accepted by one write");

    // A change that is refused leaves it running, and says why; and is forgotten with the change.
    world.fakes.said.lock().unwrap().refuse = Some(("StateIncompatible".into(), "operator agg1: other columns".into()));
    world.apply(json!({ "replicas": 1, "sql": format!("{SQL} HAVING COUNT(*) > 4") })).await;
    let refused = world.until("a refusal", |job| says(job, "Stalled", "True", "StateIncompatible")).await;
    assert!(says(&refused, "Ready", "True", "Running"));
    world.fakes.said.lock().unwrap().refuse = None;
    world.until("the retry", runs).await;
    world.apply(json!({ "replicas": 1, "sql": "INSERT INTO alerts SELECT * FROM nowhere" })).await;
    let wrong = world.until("a spec that can't work", |job| says(job, "Stalled", "True", "TopicNotFound")).await;
    assert!(says(&wrong, "Ready", "True", "Running"));
    assert!(changed.metadata.generation < wrong.metadata.generation);

    // Other pods: it is not done before the StatefulSet's controller has looked, and has replaced all of them.
    world.apply(json!({ "replicas": 2 })).await;
    world.until("it runs again", runs).await;
    let sets = world.api::<StatefulSet>();
    let generation = sets.get("fraud").await.unwrap().metadata.generation.unwrap();
    let shown = async |generation: i64, revisions: [&str; 2]| {
        let [current, update] = revisions;
        let status = json!({ "observedGeneration": generation, "currentRevision": current, "updateRevision": update });
        sets.patch_status("fraud", &by, &Patch::Merge(&json!({ "status": status }))).await.unwrap();
    };
    shown(generation, ["a", "a"]).await;
    operator.quiet().await;
    world.apply(json!({ "replicas": 2, "restartNonce": "b" })).await;
    world.until("a restart", |job| says(job, "Reconciling", "True", "Restarting")).await;
    operator.quiet().await;
    let restarts = world.api::<StreamJob>().get("fraud").await.unwrap();
    assert!(says(&restarts, "Reconciling", "True", "Restarting"), "{:?}", restarts.status);
    let generation = sets.get("fraud").await.unwrap().metadata.generation.unwrap();
    shown(generation, ["a", "b"]).await;
    operator.quiet().await;
    let restarts = world.api::<StreamJob>().get("fraud").await.unwrap();
    assert!(says(&restarts, "Reconciling", "True", "Restarting"), "{:?}", restarts.status);
    shown(generation, ["b", "b"]).await;
    world.until("the restart's end", runs).await;

    // Suspended and back.
    world.apply(json!({ "replicas": 2, "restartNonce": "b", "state": "Suspended" })).await;
    world.until("suspension", |job| says(job, "Ready", "True", "Suspended")).await;
    world.apply(json!({ "replicas": 2, "restartNonce": "b" })).await;
    world
        .until("it runs again", |job| runs(job) && job.status.as_ref().unwrap().workers.as_deref() == Some("2/2"))
        .await;

    // The story is told.
    let events = world.api::<Event>().list(&Default::default()).await.unwrap();
    let told: Vec<String> = events.iter().filter_map(|event| event.reason.clone()).collect();
    for reason in ["Planned", "WorkersStarted", "Restored", "Committing", "Assigned", "StateIncompatible", "Suspended"]
    {
        assert!(told.iter().any(|told| told == reason), "{reason} is not among {told:?}");
    }

    // Gone, and its workers before it.
    world.api::<StreamJob>().delete("fraud", &DeleteParams::default()).await.unwrap();
    world.until_gone().await;
    let pods = world.api::<k8s_openapi::api::core::v1::Pod>().list(&Default::default()).await.unwrap();
    let left: Vec<String> = pods.iter().map(ResourceExt::name_any).filter(|name| !name.contains("preflight")).collect();
    assert!(left.is_empty(), "workers are left: {left:?}");
    operator.kill().await;
}

/// The state of a job that runs is asked about once for each nonce, and its pods go over by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_begins_anew_once_for_each_nonce() {
    let world = World::new("anew", [27, 0]).await;
    let operator = world.operator(Weather::Calm).await;
    world.apply(json!({ "replicas": 2 })).await;
    world.until("it runs", runs).await;
    world.apply(json!({ "replicas": 3 })).await;
    let in_lineage = |id: &'static str, generation: i64| {
        move |job: &StreamJob| {
            let status = job.status.as_ref().unwrap();
            let lineage = status.lineage.as_ref().is_some_and(|lineage| lineage.id == id);
            runs(job) && lineage && status.generation == Some(generation)
        }
    };
    world.until("a second generation", in_lineage("r-0000000001", 2)).await;
    let made = world.fakes.said.lock().unwrap().made.clone();
    // What restoreFrom says is for whoever asks.
    let none = json!({ "type": "None" });
    world.apply(json!({ "replicas": 3, "restoreFrom": none })).await;
    operator.quiet().await;
    world.until("it runs as before", in_lineage("r-0000000001", 2)).await;
    for (nonce, lineage) in [("a", "r-0000000002"), ("b", "r-0000000003")] {
        world.apply(json!({ "replicas": 3, "restoreFrom": none, "restoreNonce": nonce })).await;
        world.until("another lineage", in_lineage(lineage, 1)).await;
        operator.writes_nothing().await;
    }
    world.apply(json!({ "replicas": 2, "restoreFrom": none, "restoreNonce": "b" })).await;
    world.until("fewer workers", in_lineage("r-0000000003", 2)).await;
    let workers = |pods: &[String]| pods.iter().filter(|name| !name.contains("preflight")).cloned().collect::<Vec<_>>();
    assert_eq!(workers(&world.fakes.said.lock().unwrap().made), workers(&made), "no worker was started again");
    let asked_before = world.api::<StreamJob>().get("fraud").await.unwrap();
    assert!(says(&asked_before, "Ready", "True", "Running"));
    operator.kill().await;
}

/// Whoever waits for a resource must not take it for done before any operator has looked at it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_no_operator_has_looked_at_says_so() {
    let world = World::new("unseen", [20, 0]).await;
    world.apply(json!({})).await;
    let job = world.api::<StreamJob>().get("fraud").await.unwrap();
    assert_eq!(job.status.expect("a status, by the definition's default").observed_generation, -1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_disturbs_a_job_is_named_and_mended() {
    let world = World::new("disturbed", [12, 0]).await;
    let operator = world.operator(Weather::Calm).await;
    world.apply(json!({ "replicas": 2 })).await;
    world.until("it runs", runs).await;

    world.fakes.said.lock().unwrap().stuck.insert(1);
    world.until("epochs that don't commit", |job| says(job, "Ready", "False", "EpochsNotCommitting")).await;
    world.fakes.said.lock().unwrap().stuck.clear();
    world.until("it runs again", runs).await;

    for reason in ["ImagePullBackOff", "CreateContainerConfigError", "CrashLoopBackOff"] {
        world.fakes.said.lock().unwrap().trouble.insert(0, (reason.into(), "the pod's own words".into()));
        world.until(reason, |job| says(job, "Ready", "False", reason)).await;
        world.fakes.said.lock().unwrap().trouble.clear();
        world.until("it runs again", runs).await;
    }
    operator.kill().await;
}

/// A name that somebody else has is said, and not taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_object_is_never_touched() {
    let world = World::new("strangers", [13, 0]).await;
    let foreign: ConfigMap =
        serde_json::from_value(json!({ "metadata": { "name": "fraud" }, "data": { "mine": "1" } })).unwrap();
    world.api::<ConfigMap>().create(&Default::default(), &foreign).await.unwrap();
    let operator = world.operator(Weather::Calm).await;
    world.apply(json!({})).await;
    world.until("the name is taken", |job| says(job, "Stalled", "True", "NameTaken")).await;
    let kept = world.api::<ConfigMap>().get("fraud").await.unwrap();
    assert_eq!((kept.data, kept.metadata.owner_references), (foreign.data, None));
    world.api::<ConfigMap>().delete("fraud", &Default::default()).await.unwrap();
    world.until("it runs", runs).await;
    operator.kill().await;
}
