//! Workers come, go, and are killed; so is the operator.

use freshet_e2e::faults::{Container, Signal};
use freshet_e2e::scenario::cluster::{Kubectl, NAMESPACE};
use k8s_openapi::api::core::v1::Pod;

use crate::*;

/// Kills the operator that leads, as a power cut would.
fn kill_leader(scene: &Scene) {
    let kubectl = Kubectl::new(scene.kubernetes.kubeconfig(), NAMESPACE).unwrap();
    let holder = kubectl.run(&["get", "lease", "freshet-operator", "-o", "jsonpath={.spec.holderIdentity}"]).unwrap();
    let pods = scene.kubernetes.api::<Pod>(NAMESPACE);
    let pod = scene.kubernetes.ask("looking at the operator that leads", pods.get(holder.trim())).unwrap();
    let containers = pod.status.unwrap().container_statuses.unwrap();
    Container::find(containers[0].container_id.as_deref().unwrap()).unwrap().signal(Signal::Kill).unwrap();
}

#[test]
fn scaled_killed_and_mended() {
    let it = Running::new("cluster_operator::scaled_killed_and_mended", 51);
    it.progress("the start");
    let first = it.settled().status.unwrap().generation.unwrap();

    it.kubectl.run(&["scale", &it.resource(), "--replicas=3"]).unwrap();
    // In the middle: pods are made, and the assignment is as it was.
    let began = Instant::now();
    while it.pods().len() < 2 {
        assert!(began.elapsed() < PATIENCE, "no pod more: {}", it.scene.state_of_job(it.name()));
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_leader(&it.scene);
    let scaled = it.settled().status.unwrap();
    assert!(scaled.generation.unwrap() > first, "no new assignment");
    assert_eq!((scaled.workers.as_deref(), scaled.replicas, it.pods().len()), (Some("3/3"), Some(3), 3));
    it.progress("three workers, and the operator killed in between");

    let killed = format!("{}-1", it.name());
    it.scene.wait_running(&killed, 0).unwrap().signal(Signal::Kill).unwrap();
    it.scene.wait_running(&killed, 1).unwrap();
    it.settled();
    it.progress("a worker killed");
    let gone = it.pods()[0].clone();
    it.kubectl.run(&["delete", "pod", &gone.0, "--wait=false"]).unwrap();
    it.scene
        .wait_pod(&gone.0, "to be another", |pod| (pod.metadata.uid != Some(gone.1.clone())).then_some(()))
        .unwrap();
    it.settled();
    it.progress("a pod deleted");

    it.kubectl.run(&["scale", &it.resource(), "--replicas=2"]).unwrap();
    let scaled = it.settled().status.unwrap();
    assert_eq!(scaled.workers.as_deref(), Some("2/2"));
    it.scene
        .kubernetes
        .wait_for(
            "the third pod to go",
            PATIENCE,
            || Ok((it.pods().len() == 2).then_some(())),
            || it.scene.state_of_job(it.name()),
        )
        .unwrap();
    it.progress("two workers");

    children_are_mended(&it);
    it.progress("children mended");
    it.exact();
}

/// Every child is edited or deleted, and is as it was soon after.
fn children_are_mended(it: &Running) {
    let name = it.name();
    let secret = format!("{name}-control");
    let token = it.kubectl.run(&["get", "secret", &secret, "-o", "jsonpath={.data.token}"]).unwrap();
    let changes: &[&[&str]] = &[
        &["patch", "statefulset", name, "--type=merge", "-p", r#"{"spec":{"replicas":1}}"#],
        &["patch", "service", name, "--type=merge", "-p", r#"{"spec":{"selector":{"app":"other"}}}"#],
        &["patch", "configmap", name, "--type=merge", "-p", r#"{"data":{"job.yaml":"kind: Nothing\n"}}"#],
        &["patch", "poddisruptionbudget", name, "--type=merge", "-p", r#"{"spec":{"maxUnavailable":2}}"#],
    ];
    let looks: &[(&str, &str, &str)] = &[
        ("statefulset", "jsonpath={.spec.replicas}", "2"),
        ("service", "jsonpath={.spec.selector.app\\.kubernetes\\.io/instance}", name),
        ("configmap", "jsonpath={.metadata.name}", name),
        ("poddisruptionbudget", "jsonpath={.spec.maxUnavailable}", "1"),
    ];
    let mended = |what: &str| {
        for (kind, path, wanted) in looks {
            let look = || it.kubectl.run(&["get", kind, name, "-o", path]).unwrap_or_else(|error| error.to_string());
            let found = || {
                let said = look();
                let text = it.kubectl.run(&["get", "configmap", name, "-o", "jsonpath={.data}"]).unwrap_or_default();
                Ok((said.trim() == *wanted && text.contains("StreamJob")).then_some(()))
            };
            it.scene
                .kubernetes
                .wait_for(&format!("the {kind} that was {what} to be mended"), PATIENCE, found, look)
                .unwrap();
        }
    };
    for change in changes {
        it.kubectl.run(change).unwrap();
    }
    mended("edited");
    it.settled();
    for kind in ["service", "configmap", "poddisruptionbudget", "serviceaccount"] {
        it.kubectl.run(&["delete", kind, name, "--wait=false"]).unwrap();
    }
    it.kubectl.run(&["delete", "secret", &secret]).unwrap();
    it.kubectl.run(&["delete", "statefulset", name, "--cascade=orphan"]).unwrap();
    mended("deleted");
    let again = || it.kubectl.run(&["get", "secret", &secret, "-o", "jsonpath={.data.token}"]).ok();
    let same =
        it.scene.kubernetes.wait_for("the Secret to be made again", PATIENCE, || Ok(again()), String::new).unwrap();
    assert_eq!(same, token, "another token: the operator could not ask workers that run");
    it.kubectl.run(&["get", "serviceaccount", name]).unwrap();
    it.settled();
}
