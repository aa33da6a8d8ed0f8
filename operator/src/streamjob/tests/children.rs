//! Children as whole objects.

use kube::Resource;

use super::super::build::{Builder, Child, ChildKind, differs};
use super::*;

fn children() -> Vec<Child> {
    let text = JOB.replace(
        "replicas: 2",
        "template: {resources: {limits: {memory: 1Gi}}, nodeSelector: {disk: ssd}, tolerations: [{key: a, operator: Exists}]}",
    );
    let (valid, resource) = (check(&text).expect("valid"), job(&text));
    let builder = Builder::new(&valid, resource.controller_owner_ref(&()).expect("a UID"));
    vec![
        builder.service_account().expect("one is made"),
        builder.secret("token"),
        builder.candidate(),
        builder.manifests(&report(1, 2)),
        builder.service(),
        builder.disruption_budget(),
        builder.stateful_set(2),
        builder.preflight(1, 2, true),
    ]
}

/// Read by the API's own types and written again, nothing is lost: every field is one that the API knows.
#[test]
fn children_are_whole_objects_of_the_api() {
    use k8s_openapi::api::{apps, batch, core, policy};
    use k8s_openapi::serde::de::DeserializeOwned;
    fn back<T: DeserializeOwned + serde::Serialize>(child: &Child) -> serde_json::Value {
        let object: T = serde_json::from_value(child.json.clone()).expect("the API's type");
        serde_json::to_value(object).expect("JSON")
    }
    for child in children() {
        let read = match child.kind {
            ChildKind::ServiceAccount => back::<core::v1::ServiceAccount>(&child),
            ChildKind::ConfigMap => back::<core::v1::ConfigMap>(&child),
            ChildKind::Service => back::<core::v1::Service>(&child),
            ChildKind::Secret => back::<core::v1::Secret>(&child),
            ChildKind::StatefulSet => back::<apps::v1::StatefulSet>(&child),
            ChildKind::PodDisruptionBudget => back::<policy::v1::PodDisruptionBudget>(&child),
            ChildKind::Job => back::<batch::v1::Job>(&child),
        };
        assert!(!differs(&child.json, &read), "{:?}: {:#}\nis read as\n{read:#}", child.kind, child.json);
        let meta = &child.json["metadata"];
        assert_eq!(meta["ownerReferences"][0]["uid"], "uid-1", "{:?}", child.kind);
        assert_eq!(meta["labels"]["app.kubernetes.io/managed-by"], "freshet", "{:?}", child.kind);
    }
}

#[test]
fn pods_are_restricted_and_hold_no_secret() {
    for child in children().iter().filter(|child| matches!(child.kind, ChildKind::StatefulSet | ChildKind::Job)) {
        let pod = &child.json["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(
            (&container["readOnlyRootFilesystem"], &container["allowPrivilegeEscalation"]),
            (&true.into(), &false.into())
        );
        assert_eq!(container["capabilities"]["drop"][0], "ALL");
        let env = pod["containers"][0]["env"].as_array().expect("env");
        let key = env.iter().find(|env| env["name"] == "AWS_SECRET_ACCESS_KEY").expect("the key");
        assert_eq!(key["valueFrom"]["secretKeyRef"]["name"], "s3-credentials");
        assert!(key.get("value").is_none());
    }
}

#[test]
fn a_secured_kafka_is_reached_by_reference() {
    let kafka = "kafka: {bootstrapServers: 'other:9093', tls: {caSecretRef: {name: authorities, key: root.pem}, \
                 certificateSecretRef: {name: own}}, sasl: {mechanism: SCRAM-SHA-512, secretRef: {name: fraud-user}}}";
    let secured = check(&JOB.replace("replicas: 2", kafka)).expect("valid");
    assert!(secured.manifests.contains("SCRAM-SHA-512"), "workers take protocol and mechanism from their manifests");
    let builder = Builder::new(&secured, job(JOB).controller_owner_ref(&()).expect("a UID"));
    for child in [builder.stateful_set(1), builder.preflight(1, 1, false), builder.retirement(1)] {
        let pod = &child.json["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let args: Vec<&str> =
            container["args"].as_array().expect("args").iter().filter_map(|arg| arg.as_str()).collect();
        for setting in [
            "ssl.ca.location=/etc/freshet/kafka/kafka-ca/authorities/root.pem",
            "ssl.certificate.location=/etc/freshet/kafka/kafka-certificate/own/tls.crt",
            "ssl.key.location=/etc/freshet/kafka/kafka-certificate/own/tls.key",
        ] {
            assert!(args.windows(2).any(|pair| pair == ["--kafka-setting", setting]), "no {setting} in {args:?}");
        }
        let env = container["env"].as_array().expect("env");
        for (name, key) in [("FRESHET_KAFKA_SASL_USERNAME", "username"), ("FRESHET_KAFKA_SASL_PASSWORD", "password")] {
            let variable = env.iter().find(|env| env["name"] == name).expect("a credential");
            let from = &variable["valueFrom"]["secretKeyRef"];
            assert_eq!((&from["name"], &from["key"]), (&"fraud-user".into(), &key.into()));
        }
        for (volume, secret) in [("kafka-ca", "authorities"), ("kafka-certificate", "own")] {
            let named = |list: &serde_json::Value| {
                list.as_array().expect("a list").iter().find(|it| it["name"] == volume).cloned()
            };
            assert_eq!(named(&pod["volumes"]).expect("a volume")["secret"]["secretName"], secret);
            let path = format!("/etc/freshet/kafka/{volume}/{secret}");
            assert_eq!(named(&container["volumeMounts"]).expect("a mount")["mountPath"], path.as_str());
        }
    }
    // The operator's default is as if the job had named it.
    let more = ["--kafka-tls", "--kafka-ca-secret=ca", "--kafka-sasl-mechanism=PLAIN", "--kafka-sasl-secret=user"];
    let config = Config::parse_from(DEFAULTS.iter().chain(&more));
    let valid = validate(&job(JOB), &topics(), &config, "cluster-1").expect("valid");
    assert_eq!(valid.pods.kafka.sasl.as_ref().map(|sasl| sasl.secret_ref.name.as_str()), Some("user"));
    assert_eq!(valid.pods.kafka.tls.and_then(|tls| tls.ca_secret_ref).map(|ca| ca.key).as_deref(), Some("ca.crt"));
}

/// Workers read another plan from the generation log: their pods must stay as they are.
#[test]
fn another_plan_restarts_no_pod_and_another_place_does() {
    let set = |text: &str| {
        let (valid, resource) = (check(text).expect("valid"), job(text));
        Builder::new(&valid, resource.controller_owner_ref(&()).expect("a UID")).stateful_set(2).json
    };
    let first = set(JOB);
    assert_eq!(set(&JOB.replace("COUNT(*) AS", "MAX(1) + COUNT(*) AS")), first);
    assert_ne!(set(&JOB.replace("replicas: 2", "restartNonce: a")), first);
    assert_ne!(set(&JOB.replace("replicas: 2", "kafka: {bootstrapServers: 'other:9092'}")), first);
}

#[test]
fn drift_is_what_is_missing_or_other_and_not_what_others_add() {
    use serde_json::json;
    let desired = json!({ "a": 1, "l": [{ "x": 1 }], "e": {} });
    assert!(!differs(&desired, &json!({ "a": 1, "l": [{ "x": 1, "default": 2 }], "more": true })));
    assert!(differs(&desired, &json!({ "a": 2, "l": [{ "x": 1 }] })));
    assert!(differs(&desired, &json!({ "a": 1, "l": [{ "x": 1 }, { "x": 2 }] })));
    assert!(differs(&desired, &json!({ "l": [{ "x": 1 }] })));
}
