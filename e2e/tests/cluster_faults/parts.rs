//! Faults of the cluster's own parts. Each is over at the end of its test: the cluster is as it was.

use std::time::{Duration, Instant};

use freshet_e2e::cluster::Cluster;
use freshet_e2e::faults::parts::{freeze, kill, unplug};
use freshet_e2e::images::ImageName;
use freshet_e2e::scenario::cluster::{Kubernetes, PlainPod, Scene, Surroundings, from_json};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::DeleteParams;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;

fn lab() -> (Surroundings, Cluster) {
    let around = Surroundings::find().unwrap();
    let lab = around.lab().unwrap().clone();
    (around, lab)
}

/// Waits until `reached` says `wanted`; a part that comes back needs a moment.
fn wait(what: &str, wanted: bool, reached: impl Fn() -> bool) {
    const DEADLINE: Duration = Duration::from_secs(90);
    let began = Instant::now();
    while reached() != wanted {
        assert!(began.elapsed() < DEADLINE, "waited {DEADLINE:?} for this to be {wanted}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn kafka_answers(around: &Surroundings) -> bool {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &around.kafka_from_here).create().unwrap();
    client.fetch_metadata(None, Duration::from_secs(2)).is_ok()
}

fn store_answers(around: &Surroundings) -> bool {
    use std::io::{Read as _, Write as _};
    let address = around.store_from_here.trim_start_matches("http://");
    let ask = || {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: s3\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    ask().is_ok_and(|answer| answer.contains(" 200 "))
}

fn api_answers(around: &Surroundings) -> bool {
    Kubernetes::new(&around.kubeconfig).unwrap().get("/readyz").is_ok()
}

#[test]
fn the_broker_is_killed_and_frozen() {
    let (around, lab) = lab();
    assert!(kafka_answers(&around));
    let killed = kill(&lab, "kafka-1/kafka").unwrap();
    assert!(!kafka_answers(&around), "it answers after it was killed");
    killed.now().unwrap();
    wait("Kafka answers", true, || kafka_answers(&around));
    let frozen = freeze(&lab, "kafka-1/kafka").unwrap();
    assert!(!kafka_answers(&around), "it answers while it is frozen");
    frozen.now().unwrap();
    wait("Kafka answers", true, || kafka_answers(&around));
}

#[test]
fn the_store_is_killed_frozen_and_unplugged() {
    let (around, lab) = lab();
    assert!(store_answers(&around));
    let killed = kill(&lab, "s3/versitygw").unwrap();
    assert!(!store_answers(&around), "it answers after it was killed");
    killed.now().unwrap();
    assert!(store_answers(&around), "it is up, and does not answer");
    let frozen = freeze(&lab, "s3/versitygw").unwrap();
    assert!(!store_answers(&around), "it answers while it is frozen");
    frozen.now().unwrap();
    wait("the store answers", true, || store_answers(&around));
    let unplugged = unplug(&lab, "s3").unwrap();
    assert!(!store_answers(&around), "it answers without a cable");
    unplugged.now().unwrap();
    wait("the store answers", true, || store_answers(&around));
}

#[test]
fn the_api_server_is_killed() {
    let (around, lab) = lab();
    assert!(api_answers(&around));
    let killed = kill(&lab, "cp/kube-apiserver").unwrap();
    assert!(!api_answers(&around), "it answers after it was killed");
    killed.now().unwrap();
    wait("the API server answers", true, || api_answers(&around));
}

#[test]
fn the_database_of_the_api_server_is_killed() {
    let (around, lab) = lab();
    let kubernetes = Kubernetes::new(&around.kubeconfig).unwrap();
    let name = format!("kept-{}", std::process::id());
    let map = from_json::<ConfigMap>(json!({"metadata": {"name": name}, "data": {"said": "before"}}));
    kubernetes.create("default", &map).unwrap();
    let killed = kill(&lab, "cp/etcd").unwrap();
    assert!(!api_answers(&around), "it is ready without its database");
    killed.now().unwrap();
    wait("the API server answers", true, || api_answers(&around));
    let api = kubernetes.api::<ConfigMap>("default");
    let there = kubernetes.ask("looking at what was there", api.get(&name)).unwrap();
    assert_eq!(there.data, map.data);
    kubernetes.ask("deleting it", api.delete(&name, &DeleteParams::default())).unwrap();
}

#[test]
fn a_node_is_killed_with_all_its_pods() {
    let (_, lab) = lab();
    let scene = Scene::new("cluster_faults::a_node_is_killed").unwrap();
    let mut pod = PlainPod::new("stays", ImageName::Busybox.reference());
    pod.command = ["sleep", "3600"].map(str::to_owned).to_vec();
    pod.grace_seconds = 1;
    scene.start(&pod).unwrap();
    let before = scene.wait_running("stays", 0).unwrap();
    let killed = kill(&lab, "n1/host").unwrap();
    assert!(!before.is_running(), "a pod outlives its node");
    assert!(lab.process("n1/kubelet").is_err() && lab.process("n1/containerd").is_err());
    killed.now().unwrap();
    // The node is ready again, and starts the same pod's container anew.
    let after = scene.wait_running("stays", 1).unwrap();
    assert_ne!(after.id, before.id);
    let names = scene.exec("stays", &["nslookup", "kafka.freshet-servers.svc.cluster.local"]).unwrap();
    assert!(names.contains("Name:"), "{names}");
}

#[test]
fn a_kubelet_is_killed() {
    let (around, lab) = lab();
    let kubernetes = Kubernetes::new(&around.kubeconfig).unwrap();
    let ready = || {
        let node = kubernetes.get("/api/v1/nodes/n1").unwrap_or_default();
        let node: serde_json::Value = serde_json::from_str(&node).unwrap_or_default();
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    wait("n1 is ready", true, ready);
    let killed = kill(&lab, "n1/kubelet").unwrap();
    wait("n1 is ready", false, ready);
    killed.now().unwrap();
    wait("n1 is ready", true, ready);
}
