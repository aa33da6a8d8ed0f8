//! Two operators at once, and one that follows another.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use freshet_crds::StreamJob;
use freshet_e2e::cluster::SharedApiServer;
use freshet_e2e::scenario::sibling_binary;
use freshet_e2e::servers::process::{ServerProcess, Undertaking};
use freshet_e2e::servers::{Scratch, free_port};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::gate::Weather;
use crate::world::{SQL, World, runs, says, workers};

/// Two that both think that they lead: what one does the other finds done.
#[tokio::test(flavor = "multi_thread")]
async fn two_leaders_do_what_one_does() {
    let world = World::new("leaders", [18, 0]).await;
    let (one, other) = (world.operator(Weather::Calm).await, world.operator(Weather::Calm).await);
    let count = |wanted: &'static str| move |job: &StreamJob| runs(job) && workers(job) == wanted;
    world.apply(json!({ "replicas": 2 })).await;
    world.until("two workers", count("2/2")).await;
    world.apply(json!({ "replicas": 3 })).await;
    world.until("three workers", count("3/3")).await;
    world.apply(json!({ "replicas": 1 })).await;
    world.until("one worker", count("1/1")).await;
    world.apply(json!({ "replicas": 1, "sql": format!("{SQL} HAVING COUNT(*) > 3") })).await;
    world
        .until("the new plan", |job| {
            runs(job) && job.status.iter().filter_map(|it| it.revision.as_ref()).any(|it| it.current == it.target)
        })
        .await;
    tokio::join!(one.writes_nothing(), other.writes_nothing());
    let generations = world.fakes.said.lock().unwrap().generations.clone();
    assert_eq!(generations, [2, 3, 1, 1], "each asked for a generation of its own");
    world.apply(json!({ "replicas": 1, "state": "Suspended" })).await;
    world.until("suspension", |job| says(job, "Ready", "True", "Suspended")).await;
    world.api::<StreamJob>().delete("fraud", &DeleteParams::default()).await.unwrap();
    world.until_gone().await;
    let orphaned = world.fakes.said.lock().unwrap().orphaned.clone();
    assert!(orphaned.is_empty(), "a slot with tasks lost its pod: {orphaned:?}");
    one.kill().await;
    other.kill().await;
}

/// How long a hand-over may take.
const HAND_OVER: Duration = Duration::from_secs(15);
/// From one that gives the Lease up: less than the Lease lasts.
const GIVEN_UP: Duration = Duration::from_secs(7);
const START: Duration = Duration::from_secs(60);

/// The operator's program, as in a pod.
struct Replica {
    name: &'static str,
    process: ServerProcess,
    _scratch: Scratch,
}

impl Replica {
    fn start(world: &World, name: &'static str, key: &Path) -> Self {
        let scratch = Scratch::new(name).unwrap();
        let port = free_port();
        let mut command = Command::new(sibling_binary("freshet-operator"));
        command.env("KUBECONFIG", SharedApiServer::get().kubeconfig());
        command.args(["--namespace", &world.namespace, "--watch-namespace", &world.namespace, "--identity", name]);
        command.args([
            "--cluster-id",
            "cluster-1",
            "--checkpoint-url",
            "s3://pipelines/state",
            "--kafka",
            "127.0.0.1:1",
        ]);
        command.args(["--listen", &format!("127.0.0.1:{port}")]).arg("--control-key-file").arg(key);
        let log = scratch.path().join("log");
        let mut process = ServerProcess::spawn(name, command, &log, &Undertaking::default()).unwrap();
        let open = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        process.wait_until("its port to accept connections", START, open).unwrap();
        Self { name, process, _scratch: scratch }
    }
}

/// Waits until `replica` leads and works: it acts on a job that is changed now.
async fn until_leads(world: &World, replica: &Replica) {
    let holds = || async {
        let lease = world.api::<Lease>().get_opt("freshet-operator").await.unwrap();
        lease.and_then(|lease| lease.spec?.holder_identity).as_deref() == Some(replica.name)
    };
    world.eventually(&format!("{} to hold the Lease", replica.name), holds).await;
    let nonce = json!({ "spec": { "restartNonce": replica.name } });
    let by = PatchParams::default();
    let changed = world.api::<StreamJob>().patch("fraud", &by, &Patch::Merge(&nonce)).await.unwrap();
    let generation = changed.metadata.generation.unwrap();
    world
        .until(&format!("{} to act", replica.name), |job| {
            job.finalizers().len() == 1
                && job.status.as_ref().is_some_and(|status| status.observed_generation == generation)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_or_stopped_is_followed_within_15_seconds() {
    let world = World::new("handover", [19, 0]).await;
    world.apply(json!({ "state": "Suspended" })).await;
    let mut first = Replica::start(&world, "first", world.key());
    until_leads(&world, &first).await;
    let mut second = Replica::start(&world, "second", world.key());

    let began = Instant::now();
    first.process.kill9();
    until_leads(&world, &second).await;
    let killed = began.elapsed();
    assert!(killed < HAND_OVER, "a leader that was killed was followed after {killed:?}");

    let third = Replica::start(&world, "third", world.key());
    let began = Instant::now();
    second.process.stop(HAND_OVER).unwrap();
    until_leads(&world, &third).await;
    let stopped = began.elapsed();
    assert!(stopped < GIVEN_UP, "a leader that stopped was followed after {stopped:?}");

    // One that hangs loses the Lease; when it goes on, it ends.
    let fourth = Replica::start(&world, "fourth", world.key());
    let mut third = third;
    let began = Instant::now();
    third.process.freeze();
    until_leads(&world, &fourth).await;
    let frozen = began.elapsed();
    assert!(frozen < HAND_OVER, "a leader that hangs was followed after {frozen:?}");
    third.process.thaw();
    let began = Instant::now();
    while third.process.exit_status().is_none() {
        assert!(began.elapsed() < HAND_OVER, "one that lost the Lease goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("followed: killed {killed:.1?}, stopped {stopped:.1?}, frozen {frozen:.1?}");
}
