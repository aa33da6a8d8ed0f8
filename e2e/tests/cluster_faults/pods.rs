//! Faults inside pods: a small web server, and a client of it.

use std::path::PathBuf;

use freshet_e2e::faults::{Direction, Namespace, Signal, cut, fill, slow};
use freshet_e2e::images::ImageName;
use freshet_e2e::scenario::cluster::{PlainPod, Scene};

fn pod(name: &str, command: &[&str]) -> PlainPod {
    let mut pod = PlainPod::new(name, ImageName::Busybox.reference());
    pod.command = command.iter().map(|&word| word.to_owned()).collect();
    pod.memory = Some(("/tmp".to_owned(), 1 << 20));
    pod.grace_seconds = 1;
    pod
}

/// A web server and a pod to ask it from.
fn two_pods(scene: &Scene) -> String {
    scene.start(&pod("server", &["httpd", "-f", "-p", "8080", "-h", "/www"])).unwrap();
    scene.start(&pod("client", &["sleep", "3600"])).unwrap();
    scene.wait_running("server", 0).unwrap();
    scene.wait_running("client", 0).unwrap();
    let page = format!("http://{}:8080/index.html", scene.address("server").unwrap());
    assert!(reaches(scene, &page), "the server does not answer");
    page
}

fn reaches(scene: &Scene, page: &str) -> bool {
    let get = format!("timeout 3 wget -q -O - {page} && echo got it");
    scene.exec("client", &["sh", "-c", &get]).is_ok_and(|said| said.contains("got it"))
}

#[test]
fn a_process_is_frozen_thawed_and_killed() {
    let scene = Scene::new("cluster_faults::a_process_is_frozen").unwrap();
    let page = two_pods(&scene);
    let server = scene.wait_running("server", 0).unwrap();
    let frozen = server.freeze().unwrap();
    assert!(!reaches(&scene, &page), "it answers while it is frozen");
    frozen.now().unwrap();
    assert!(reaches(&scene, &page), "it does not answer after the thaw");
    server.signal(Signal::Kill).unwrap();
    let again = scene.wait_running("server", 1).unwrap();
    assert_ne!(again.id, server.id);
    assert!(!server.is_running());
    assert_eq!(scene.restarts("server").unwrap(), 1);
}

#[test]
fn a_pod_is_cut_off_and_slow() {
    let scene = Scene::new("cluster_faults::a_pod_is_cut_off").unwrap();
    let page = two_pods(&scene);
    let client = Namespace::of_container(&scene.wait_running("client", 0).unwrap()).unwrap();
    for direction in [Direction::Both, Direction::Out, Direction::In] {
        let lost = cut(client, 8080, direction).unwrap();
        assert!(!reaches(&scene, &page), "{direction:?}: it is reached");
        lost.now().unwrap();
        assert!(reaches(&scene, &page), "{direction:?}: it is not reached any more");
    }
    let slowed = slow(client, "eth0", 64).unwrap();
    assert!(reaches(&scene, &page), "slow is not cut off");
    slowed.now().unwrap();
    // A second one would be refused if the first were still there.
    slow(client, "eth0", 64).unwrap().now().unwrap();
}

#[test]
fn a_disk_of_a_pod_is_full() {
    let scene = Scene::new("cluster_faults::a_disk_is_full").unwrap();
    two_pods(&scene);
    let server = scene.wait_running("server", 0).unwrap();
    let write = || scene.exec("server", &["sh", "-c", "echo some text > /tmp/file && cat /tmp/file"]).unwrap();
    assert!(write().contains("some text"));
    let full = fill(&PathBuf::from(format!("/proc/{}/root/tmp", server.process)), 2 << 20).unwrap();
    let said = scene.exec("server", &["sh", "-c", "dd if=/dev/zero of=/tmp/more bs=9000 count=1"]).unwrap();
    assert!(said.contains("No space left"), "{said}");
    full.now().unwrap();
    assert!(write().contains("some text"));
}

#[test]
fn a_pod_is_deleted() {
    let scene = Scene::new("cluster_faults::a_pod_is_deleted").unwrap();
    let page = two_pods(&scene);
    scene.delete_pod("server").unwrap();
    assert!(!reaches(&scene, &page));
}

#[test]
fn a_failed_test_leaves_what_explains_it() {
    let scene = Scene::new("cluster_faults::a_failed_test_leaves").unwrap();
    two_pods(&scene);
    let folder = scene.report();
    let read =
        |path: &str| std::fs::read_to_string(folder.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let pods = read("resources/pods.core.yaml");
    assert!(pods.contains("name: server") && pods.contains("name: client"), "{pods}");
    assert!(
        read("resources/events.core.yaml").contains("Started")
            || folder.join("resources/events.events.k8s.io.yaml").exists()
    );
    assert!(!folder.join("resources/secrets.core.yaml").exists(), "secrets stay secret");
    let parts: Vec<_> = std::fs::read_dir(folder.join("parts")).unwrap().collect();
    assert!(!parts.is_empty(), "no logs of the cluster's parts");
    std::fs::remove_dir_all(folder).unwrap();
}
