//! Pure: a job's children as whole objects, from validated data.
//!
//! Pods run as a user without rights, on a read-only root, without capabilities, with the runtime's own seccomp
//! profile and without a token of the API server: they need none.

use std::collections::BTreeMap;

use freshet_crds::control::{CONTROL_PORT, PreflightReport};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Map, Value, json};

use super::names::{self, Component};
use super::validate::{Asks, Valid};

/// Where a pod finds its manifests.
pub const MANIFESTS: &str = "/etc/freshet/job";
/// The file of manifests: one for all, so that pods stay as they are when the job names another Topic.
const FILE: &str = "job.yaml";
/// Where a worker finds the control token.
const CONTROL: &str = "/etc/freshet/control";
/// Where a pod finds certificates for Kafka.
const KAFKA: &str = "/etc/freshet/kafka";
/// Port of metrics and health.
pub const METRICS_PORT: u16 = 9400;
/// Annotation of the workers' ConfigMap: the report of the preflight that accepted it.
pub const REPORT: &str = "freshet.dev/preflight";
/// Annotation of the StatefulSet: when its controller was last asked to try again to make pods.
pub const ASKED_AGAIN: &str = "freshet.dev/asked-again";
/// The user that containers run as.
const USER: i64 = 65_532;
/// How long a pod stays bound to a node that does not answer, seconds.
const LOST_NODE_SECONDS: i64 = 10;
/// How long a preflight or a retirement may take, its pod's start included, seconds.
const PREFLIGHT_SECONDS: i64 = 300;
/// How long a finished one is kept, seconds.
const PREFLIGHT_KEPT_SECONDS: i32 = 3_600;

/// A kind of child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildKind {
    /// A core ServiceAccount.
    ServiceAccount,
    /// A core ConfigMap.
    ConfigMap,
    /// A core Service.
    Service,
    /// A core Secret.
    Secret,
    /// An apps StatefulSet.
    StatefulSet,
    /// A policy PodDisruptionBudget.
    PodDisruptionBudget,
    /// A batch Job.
    Job,
}

impl ChildKind {
    /// `apiVersion` and `kind`.
    #[must_use]
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("v1", "ServiceAccount"),
            Self::ConfigMap => ("v1", "ConfigMap"),
            Self::Service => ("v1", "Service"),
            Self::Secret => ("v1", "Secret"),
            Self::StatefulSet => ("apps/v1", "StatefulSet"),
            Self::PodDisruptionBudget => ("policy/v1", "PodDisruptionBudget"),
            Self::Job => ("batch/v1", "Job"),
        }
    }
}

/// A child as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: ChildKind,
    /// Its name.
    pub name: String,
    /// The whole object.
    pub json: Value,
}

/// A Secret with certificates, and where a pod finds them.
struct Certificates<'a> {
    volume: &'static str,
    secret: &'a str,
    folder: String,
    keys: Vec<&'a str>,
}

/// Builds the children of one job.
#[derive(Debug)]
pub struct Builder<'a> {
    valid: &'a Valid,
    owner: OwnerReference,
}

impl<'a> Builder<'a> {
    /// Builds for `valid`, which `owner` refers to.
    #[must_use]
    pub const fn new(valid: &'a Valid, owner: OwnerReference) -> Self {
        Self { valid, owner }
    }

    fn child(&self, kind: ChildKind, name: &str, component: Component, more: Value) -> Child {
        let (api_version, kind_name) = kind.names();
        let mut object = json!({
            "apiVersion": api_version,
            "kind": kind_name,
            "metadata": {
                "name": name,
                "namespace": self.valid.namespace,
                "labels": names::labels(&self.valid.name, component),
                "ownerReferences": [self.owner],
            },
        });
        merge(&mut object, more);
        Child { kind, name: name.to_owned(), json: object }
    }

    fn account(&self) -> &str {
        self.valid.pods.service_account.as_deref().unwrap_or(&self.valid.name)
    }

    /// The ServiceAccount that the job's pods run as, unless the user names one.
    #[must_use]
    pub fn service_account(&self) -> Option<Child> {
        if self.valid.pods.service_account.is_some() {
            return None;
        }
        let token = json!({ "automountServiceAccountToken": false });
        Some(self.child(ChildKind::ServiceAccount, &self.valid.name, Component::Worker, token))
    }

    /// The Secret with the control token. It can't be changed, so that whoever may edit Secrets does not cut the
    /// operator off; deleted, it is made again.
    #[must_use]
    pub fn secret(&self, token: &str) -> Child {
        let data = json!({ "type": "Opaque", "immutable": true, "stringData": { "token": token } });
        self.child(ChildKind::Secret, &names::secret(&self.valid.name), Component::Worker, data)
    }

    /// The ConfigMap that a preflight looks at.
    #[must_use]
    pub fn candidate(&self) -> Child {
        let revision = &self.valid.revision;
        let name = names::preflight_manifests(&self.valid.name, revision);
        let labels =
            json!({ "metadata": { "labels": { names::REVISION: revision } }, "data": { FILE: self.valid.manifests } });
        self.child(ChildKind::ConfigMap, &name, Component::Preflight, labels)
    }

    /// The ConfigMap that workers read: with it a revision is accepted.
    #[must_use]
    pub fn manifests(&self, report: &PreflightReport) -> Child {
        let report = serde_json::to_string(report).unwrap_or_default();
        let more = json!({
            "metadata": {
                "labels": { names::REVISION: self.valid.revision },
                "annotations": { REPORT: report },
            },
            "data": { FILE: self.valid.manifests },
        });
        self.child(ChildKind::ConfigMap, &self.valid.name, Component::Worker, more)
    }

    /// The headless Service that gives workers names, and monitoring a place to scrape.
    #[must_use]
    pub fn service(&self) -> Child {
        let spec = json!({ "spec": {
            "clusterIP": "None",
            // A worker that is not ready is the one whose metrics are wanted.
            "publishNotReadyAddresses": true,
            "selector": names::selector(&self.valid.name, Component::Worker),
            "ports": [{ "name": "metrics", "port": METRICS_PORT, "protocol": "TCP", "targetPort": "metrics" }],
        } });
        self.child(ChildKind::Service, &self.valid.name, Component::Worker, spec)
    }

    /// Keeps a drain from taking more than one worker at once.
    #[must_use]
    pub fn disruption_budget(&self) -> Child {
        let spec = json!({ "spec": {
            "maxUnavailable": 1,
            "selector": { "matchLabels": names::selector(&self.valid.name, Component::Worker) },
        } });
        self.child(ChildKind::PodDisruptionBudget, &self.valid.name, Component::Worker, spec)
    }

    /// The workers.
    #[must_use]
    pub fn stateful_set(&self, pods: u32) -> Child {
        let selector = names::selector(&self.valid.name, Component::Worker);
        let args = json!([
            "worker",
            MANIFESTS,
            "--slot",
            "$(POD_INDEX)",
            "--listen",
            format!("0.0.0.0:{METRICS_PORT}"),
            "--control-listen",
            format!("0.0.0.0:{CONTROL_PORT}"),
            "--control-token-file",
            format!("{CONTROL}/token"),
            "--report",
            "/dev/termination-log",
            "--cluster-id",
            self.valid.pods.cluster_id,
        ]);
        let index = json!({ "fieldRef": { "fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']" } });
        let mut env = vec![json!({ "name": "POD_INDEX", "valueFrom": index })];
        env.extend(self.environment());
        let probe = |path: &str, period: i32, failures: i32| {
            json!({
                "httpGet": { "path": path, "port": "metrics" },
                "periodSeconds": period,
                "failureThreshold": failures,
                "timeoutSeconds": 3,
            })
        };
        let container = json!({
            "name": "worker",
            "args": args,
            "env": env,
            "ports": [
                { "name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP" },
                { "name": "control", "containerPort": CONTROL_PORT, "protocol": "TCP" },
            ],
            "livenessProbe": probe("/livez", 10, 6),
            "readinessProbe": probe("/readyz", 2, 2),
            "volumeMounts": [{ "name": "control", "mountPath": CONTROL, "readOnly": true }],
        });
        let volume = json!({
            "name": "control",
            "secret": { "secretName": names::secret(&self.valid.name), "items": [{ "key": "token", "path": "token" }] },
        });
        let mut pod = self.pod(container, &self.valid.name, Component::Worker, vec![volume]);
        pod["spec"]["terminationGracePeriodSeconds"] = json!(30);
        // What a worker reads once at its start; a new plan or new settings reach it through the generation log.
        pod["metadata"]["annotations"] = json!({
            "freshet.dev/places": self.valid.pods.places,
            "freshet.dev/restart": self.valid.pods.restart_nonce,
        });
        let spec = json!({ "spec": {
            "replicas": pods,
            "serviceName": self.valid.name,
            "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": selector },
            "template": pod,
            "updateStrategy": { "type": "RollingUpdate" },
        } });
        self.child(ChildKind::StatefulSet, &self.valid.name, Component::Worker, spec)
    }

    /// A Job that looks whether the revision can run with `slots` workers, and hands out the generation; `asks`: in the
    /// lineage that `restoreFrom` names.
    #[must_use]
    pub fn preflight(&self, attempt: u32, slots: u32, asks: bool) -> Child {
        let (job, revision) = (&self.valid.name, &self.valid.revision);
        let mut args = vec![
            "preflight".to_owned(),
            MANIFESTS.to_owned(),
            "--slots".to_owned(),
            slots.to_string(),
            "--report".to_owned(),
            "/dev/termination-log".to_owned(),
            "--cluster-id".to_owned(),
            self.valid.pods.cluster_id.clone(),
        ];
        if asks {
            let Asks { made_ms, generation, .. } = &self.valid.asks;
            args.extend([format!("--asked-by={}", self.valid.uid), format!("--asked-at={made_ms}")]);
            args.push(format!("--asked-in={generation}"));
        }
        let container = json!({ "name": "preflight", "args": args, "env": self.environment() });
        let candidate = names::preflight_manifests(job, revision);
        let pod = self.pod(container, &candidate, Component::Preflight, Vec::new());
        let about = json!({
            names::REVISION: revision,
            names::ATTEMPT: attempt.to_string(),
            names::POD: self.valid.pods.hash(),
        });
        self.job(&names::preflight(job, revision, attempt), Component::Preflight, &about, pod)
    }

    /// The ConfigMap that a retirement reads.
    #[must_use]
    pub fn retirement_manifests(&self) -> Child {
        let name = names::retirement_manifests(&self.valid.name);
        let data = json!({ "data": { FILE: self.valid.manifests } });
        self.child(ChildKind::ConfigMap, &name, Component::Retirement, data)
    }

    /// A Job that deletes what the job leaves.
    #[must_use]
    pub fn retirement(&self, attempt: u32) -> Child {
        let job = &self.valid.name;
        let args = json!([
            "retire",
            MANIFESTS,
            "--report",
            "/dev/termination-log",
            "--cluster-id",
            self.valid.pods.cluster_id,
        ]);
        let container = json!({ "name": "retirement", "args": args, "env": self.environment() });
        let manifests = names::retirement_manifests(job);
        let pod = self.pod(container, &manifests, Component::Retirement, Vec::new());
        let about = json!({ names::ATTEMPT: attempt.to_string() });
        self.job(&names::retirement(job, attempt), Component::Retirement, &about, pod)
    }

    /// A Job of one pod that is tried once: the operator tries again itself, since it tells refusals from what may
    /// heal.
    fn job(&self, name: &str, component: Component, labels: &Value, mut pod: Value) -> Child {
        pod["spec"]["restartPolicy"] = json!("Never");
        merge(&mut pod["metadata"]["labels"], labels.clone());
        let more = json!({
            "metadata": { "labels": labels },
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": PREFLIGHT_SECONDS,
                "ttlSecondsAfterFinished": PREFLIGHT_KEPT_SECONDS,
                "template": pod,
            },
        });
        self.child(ChildKind::Job, name, component, more)
    }

    /// Credentials, by reference: the operator never sees them.
    fn environment(&self) -> Vec<Value> {
        let key = |variable: &str, secret: &str, key: &str, optional: bool| {
            let mut from = json!({ "name": secret, "key": key });
            if optional {
                from["optional"] = json!(true);
            }
            json!({ "name": variable, "valueFrom": { "secretKeyRef": from } })
        };
        let pods = &self.valid.pods;
        let mut all = Vec::new();
        if let Some(secret) = &pods.s3_secret {
            for (name, optional) in
                [("AWS_ACCESS_KEY_ID", false), ("AWS_SECRET_ACCESS_KEY", false), ("AWS_SESSION_TOKEN", true)]
            {
                all.push(key(name, secret, name, optional));
            }
        }
        if let Some(sasl) = &pods.kafka.sasl {
            all.push(key("FRESHET_KAFKA_SASL_USERNAME", &sasl.secret_ref.name, "username", false));
            all.push(key("FRESHET_KAFKA_SASL_PASSWORD", &sasl.secret_ref.name, "password", false));
        }
        all
    }

    /// Certificates for TLS to Kafka: librdkafka's settings, and the Secrets that hold the files.
    fn certificates(&self) -> (Vec<String>, Vec<Certificates<'a>>) {
        let (mut settings, mut secrets) = (Vec::new(), Vec::new());
        let Some(tls) = &self.valid.pods.kafka.tls else { return (settings, secrets) };
        let mut add = |volume, secret: &'a str, files: Vec<(&'static str, &'a str)>| {
            // The path names Secret and entry: it is what is said when a file is missing.
            let folder = format!("{KAFKA}/{volume}/{secret}");
            for (setting, key) in &files {
                settings.extend(["--kafka-setting".to_owned(), format!("{setting}={folder}/{key}")]);
            }
            let keys = files.into_iter().map(|(_, key)| key).collect();
            secrets.push(Certificates { volume, secret, folder, keys });
        };
        if let Some(ca) = &tls.ca_secret_ref {
            add("kafka-ca", &ca.name, vec![("ssl.ca.location", &ca.key)]);
        }
        if let Some(own) = &tls.certificate_secret_ref {
            let files = vec![("ssl.certificate.location", "tls.crt"), ("ssl.key.location", "tls.key")];
            add("kafka-certificate", &own.name, files);
        }
        (settings, secrets)
    }

    /// A pod template around one container.
    fn pod(&self, container: Value, manifests: &str, component: Component, volumes: Vec<Value>) -> Value {
        let pods = &self.valid.pods;
        let mut container = container;
        merge(
            &mut container,
            json!({
                "image": pods.image,
                "imagePullPolicy": pods.image_pull_policy,
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                },
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }),
        );
        let (settings, certificates) = self.certificates();
        if let Some(args) = container["args"].as_array_mut() {
            args.extend(settings.into_iter().map(Value::from));
        }
        // A preflight's too: a namespace with a quota takes no pod that does not say what it needs.
        if let Some(resources) = pods.template.as_ref().and_then(|template| template.resources.as_ref()) {
            container["resources"] = serde_json::to_value(resources).unwrap_or_default();
        }
        let mut mounts = vec![
            json!({ "name": "job", "mountPath": MANIFESTS, "readOnly": true }),
            json!({ "name": "tmp", "mountPath": "/tmp" }),
        ];
        mounts.extend(container["volumeMounts"].as_array().cloned().unwrap_or_default());
        let mut all = vec![
            // Only our file: whoever adds one to the ConfigMap does not add it to the job.
            json!({ "name": "job", "configMap": { "name": manifests, "items": [{ "key": FILE, "path": FILE }] } }),
            json!({ "name": "tmp", "emptyDir": { "sizeLimit": "64Mi" } }),
        ];
        all.extend(volumes);
        for Certificates { volume, secret, folder, keys } in certificates {
            mounts.push(json!({ "name": volume, "mountPath": folder, "readOnly": true }));
            let items: Vec<Value> = keys.iter().map(|key| json!({ "key": key, "path": key })).collect();
            // Optional, since nobody says of a pod which Secret its volumes wait for; the process says which file
            // is missing.
            let source = json!({ "secretName": secret, "items": items, "optional": true });
            all.push(json!({ "name": volume, "secret": source }));
        }
        container["volumeMounts"] = json!(mounts);
        let lost = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(|key| {
            json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": LOST_NODE_SECONDS })
        });
        let template = pods.template.as_ref();
        let own = template.map(|template| &template.tolerations).into_iter().flatten();
        let own = own.filter_map(|toleration| serde_json::to_value(toleration).ok());
        let tolerations: Vec<Value> = lost.into_iter().chain(own).collect();
        let mut spec = json!({
            "serviceAccountName": self.account(),
            "automountServiceAccountToken": pods.service_account.is_some(),
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [container],
            "volumes": all,
            "tolerations": tolerations,
        });
        if !pods.image_pull_secrets.is_empty() {
            let secrets: Vec<Value> = pods.image_pull_secrets.iter().map(|name| json!({ "name": name })).collect();
            spec["imagePullSecrets"] = json!(secrets);
        }
        let nodes: Option<&BTreeMap<String, String>> = template.map(|template| &template.node_selector);
        if let Some(nodes) = nodes.filter(|nodes| !nodes.is_empty()) {
            spec["nodeSelector"] = json!(nodes);
        }
        json!({ "metadata": { "labels": names::labels(&self.valid.name, component) }, "spec": spec })
    }
}

/// Adds the fields of `more`, map into map.
fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// Whether `actual` lacks, or has otherwise, anything that `desired` has. What others added is theirs; a list is
/// ours as a whole.
#[must_use]
pub fn differs(desired: &Value, actual: &Value) -> bool {
    match (desired, actual) {
        (Value::Object(desired), Value::Object(actual)) => desired.iter().any(|(name, value)| {
            let empty = || matches!(value, Value::Object(fields) if fields == &Map::new());
            actual.get(name).map_or_else(|| !empty(), |actual| differs(value, actual))
        }),
        (Value::Array(desired), Value::Array(actual)) => {
            desired.len() != actual.len()
                || desired.iter().zip(actual).any(|(desired, actual)| differs(desired, actual))
        }
        (desired, actual) => desired != actual,
    }
}

/// Whether a list of `actual` holds more than the list of `desired` at its place.
#[must_use]
pub fn holds_more(desired: &Value, actual: &Value) -> bool {
    match (desired, actual) {
        (Value::Object(desired), Value::Object(actual)) => {
            desired.iter().any(|(name, value)| actual.get(name).is_some_and(|actual| holds_more(value, actual)))
        }
        (Value::Array(desired), Value::Array(actual)) => {
            actual.len() > desired.len() || desired.iter().zip(actual).any(|(one, other)| holds_more(one, other))
        }
        _ => false,
    }
}
