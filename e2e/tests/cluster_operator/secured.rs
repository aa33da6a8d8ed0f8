//! A Kafka that lets nobody in without TLS and a password, for the operator's Topics and for the job; and a job that is
//! deleted with its state.

use freshet_e2e::cluster::{Extra, SharedCluster};
use freshet_e2e::scenario::cluster::{Kubectl, NAMESPACE, condition, objects};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;

use crate::*;

/// The brokers' door with TLS and SASL, for pods.
const DOOR: &str = "kafka.freshet-servers.svc:9094";
/// The Secret with user, password and authority.
const SECRET: &str = "kafka";

/// Copies the servers' Secret into `namespace`; gives the password.
fn copy_secret(scene: &Scene, namespace: &str) -> String {
    let theirs = Kubectl::new(scene.kubernetes.kubeconfig(), "freshet-servers").unwrap();
    let text = theirs.run(&["get", "secret", SECRET, "-o", "json"]).unwrap();
    let secret: serde_json::Value = serde_json::from_str(&text).unwrap();
    let copy = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": SECRET}, "data": secret["data"]
    });
    scene.kubernetes.apply(namespace, &copy.to_string()).unwrap();
    theirs.run(&["get", "secret", SECRET, "-o", "go-template={{.data.password | base64decode}}"]).unwrap()
}

/// Names of the Kafka topics that there are.
fn kafka_topics(scene: &Scene) -> Vec<String> {
    let brokers = scene.kafka().bootstrap_servers;
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let metadata = client.fetch_metadata(None, PATIENCE).unwrap();
    metadata.topics().iter().map(|topic| topic.name().to_owned()).collect()
}

#[test]
fn runs_on_a_secured_kafka_and_is_deleted_with_its_state() {
    drop(SharedCluster::with(&[Extra::Sasl]));
    let scene = Scene::new("cluster_operator::secured").unwrap();
    let plain = Operator::new(&scene.around, ImageName::FreshetUnderTest);
    // It makes the namespace, too.
    plain.install().unwrap();
    let password = copy_secret(&scene, NAMESPACE);
    copy_secret(&scene, &scene.namespace);
    let secured = plain
        .clone()
        .with(format!("kafka.bootstrapServers={DOOR}"))
        .with("kafka.tls.enabled=true")
        .with(format!("kafka.tls.caSecretName={SECRET}"))
        .with("kafka.sasl.mechanism=SCRAM-SHA-512")
        .with(format!("kafka.sasl.secretName={SECRET}"));
    secured.install().unwrap();
    let it = Running::on(scene, 71);
    it.progress("the start on a secured Kafka");

    // A password that is wrong is named, and not shown.
    let wrong = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wrong"},
        "stringData": {"username": "freshet", "password": "not-the-password"}
    });
    it.scene.kubernetes.apply(&it.scene.namespace, &wrong.to_string()).unwrap();
    let other = |secret: &str| {
        json!({"spec": {"kafka": {
            "bootstrapServers": DOOR, "tls": {"caSecretRef": {"name": SECRET, "key": "ca.crt"}},
            "sasl": {"mechanism": "SCRAM-SHA-512", "secretRef": {"name": secret}}
        }}})
    };
    it.scene.change_job(it.name(), &other("wrong")).unwrap();
    let refused = it
        .scene
        .wait_job(it.name(), "to refuse the wrong password", PATIENCE, |job| {
            let conditions = &job.status.as_ref()?.conditions;
            let known = |type_: &str| condition(conditions, type_).filter(|it| it.status == "True").cloned();
            let refused = known("Stalled").or_else(|| known("Reconciling"))?;
            (refused.reason == "Unauthorised").then_some(refused)
        })
        .unwrap();
    println!("a wrong password: {}: {}", refused.reason, refused.message);
    it.progress("a refused password");
    it.scene.change_job(it.name(), &other(SECRET)).unwrap();
    it.settled();
    it.progress("the right password");
    for secret in [password.as_str(), "not-the-password"] {
        let shown = it.kubectl.run(&["get", "streamjobs,topics,events,pods,configmaps", "-o", "yaml"]).unwrap();
        assert!(!shown.contains(secret), "a password is shown");
    }

    // With its state.
    let status = it.settled().status.unwrap();
    let (lineage, internal) = (status.lineage.unwrap().id, status.plan.unwrap().internal_topics);
    assert!(!internal.is_empty(), "the pilot has internal topics");
    let state = format!("state/{}/{}/", it.scene.namespace, it.name());
    assert!(!objects(&it.scene.around, &state).unwrap().is_empty(), "there is no state at {state}");
    it.scene.change_job(it.name(), &json!({"spec": {"deletionPolicy": "Delete"}})).unwrap();
    it.kubectl.run(&["delete", &it.resource(), "--timeout=60s"]).unwrap();
    let left = objects(&it.scene.around, &state).unwrap();
    assert!(left.iter().all(|object| !object.contains(&lineage)), "state is left: {left:?}");
    let topics = kafka_topics(&it.scene);
    assert!(internal.iter().all(|name| !topics.contains(name)), "internal topics are left: {internal:?}");
    assert!(topics.contains(&it.scene.topic("alerts")), "an output was deleted: {topics:?}");

    it.scene.kubernetes.apply(&it.scene.namespace, &it.pilot.yaml()).unwrap();
    let again = it.settled().status.unwrap();
    assert_ne!(again.lineage.unwrap().id, lineage, "it did not begin anew");
    it.progress("deleted with its state and applied again");
    // As the other scenarios expect it.
    it.kubectl.run(&["delete", &it.resource(), "--timeout=60s"]).unwrap();
    it.kubectl.run(&["delete", "topics", "--all", "--timeout=60s"]).unwrap();
    plain.install().unwrap();
}
