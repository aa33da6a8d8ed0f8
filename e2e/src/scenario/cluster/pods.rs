//! Pods of a scene: plain ones that run an image of the lab, watched, asked and deleted.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Pod};
use kube::api::{AttachParams, DeleteParams, LogParams};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use super::operator::STORE_SECRET;
use super::scene::{Scene, from_json};
use crate::LabError;
use crate::faults::Container;
use crate::images::USER;

/// No wait for a pod lasts longer, on whatever machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Where a worker's manifests are in its pod.
const MANIFESTS: &str = "/etc/freshet/job";

/// A pod with one container.
#[derive(Debug, Clone)]
pub struct PlainPod {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// The program, where it is not the image's own.
    pub command: Vec<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment.
    pub variables: Vec<(String, String)>,
    /// Whether it gets the store's keys as variables.
    pub store: bool,
    /// The ConfigMap that is mounted as the job's manifests.
    pub manifests: Option<String>,
    /// A folder in memory: its path and its size in bytes.
    pub memory: Option<(String, u64)>,
    /// How long it may take to end, s.
    pub grace_seconds: u32,
    /// A port that it serves metrics and health on.
    pub port: Option<u16>,
    /// Notes about it, for others: names and texts.
    pub annotations: Vec<(String, String)>,
    /// Whether it is over when its program has ended; otherwise that is started again.
    pub once: bool,
}

impl PlainPod {
    /// A pod of `image` that does what the image does.
    #[must_use]
    pub fn new(name: &str, image: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            command: Vec::new(),
            args: Vec::new(),
            variables: Vec::new(),
            store: false,
            manifests: None,
            memory: None,
            grace_seconds: 10,
            port: None,
            annotations: Vec::new(),
            once: false,
        }
    }

    /// The resource: not root, nothing of the node, no token, a root file system that can't be written.
    #[must_use]
    pub fn resource(&self) -> Pod {
        let variables: Vec<Value> =
            self.variables.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        let annotations: serde_json::Map<String, Value> =
            self.annotations.iter().map(|(name, text)| (name.clone(), text.clone().into())).collect();
        let from = if self.store { json!([{"secretRef": {"name": STORE_SECRET}}]) } else { json!([]) };
        let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
        if let Some(map) = &self.manifests {
            volumes.push(json!({"name": "manifests", "configMap": {"name": map}}));
            mounts.push(json!({"name": "manifests", "mountPath": MANIFESTS, "readOnly": true}));
        }
        if let Some((path, bytes)) = &self.memory {
            volumes.push(json!({"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": bytes.to_string()}}));
            mounts.push(json!({"name": "memory", "mountPath": path}));
        }
        from_json(json!({
            "metadata": {"name": self.name, "labels": {"app.kubernetes.io/name": self.name}, "annotations": annotations},
            "spec": {
                "restartPolicy": if self.once { "Never" } else { "Always" },
                "terminationGracePeriodSeconds": self.grace_seconds,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "securityContext": {
                    "runAsNonRoot": true,
                    "runAsUser": USER,
                    "runAsGroup": USER,
                    "fsGroup": USER,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "main",
                    "image": self.image,
                    // Nobody serves images under this name: the nodes have it, or nobody has.
                    "imagePullPolicy": if self.image.starts_with("localhost/") { "Never" } else { "IfNotPresent" },
                    "command": self.command,
                    "args": self.args,
                    "env": variables,
                    "envFrom": from,
                    "ports": self.port.iter().map(|port| json!({"name": "metrics", "containerPort": port})).collect::<Vec<_>>(),
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "resources": {"requests": {"cpu": "20m", "memory": "48Mi"}, "limits": {"memory": "512Mi"}},
                    "volumeMounts": mounts,
                }],
                "volumes": volumes,
            },
        }))
    }
}

impl Scene {
    /// Starts a pod; does not wait for it.
    ///
    /// # Errors
    /// What the API server answered.
    pub fn start(&self, pod: &PlainPod) -> Result<(), LabError> {
        self.kubernetes.create(&self.namespace, &pod.resource()).map(drop)
    }

    /// Makes a ConfigMap of files: names and texts.
    ///
    /// # Errors
    /// What the API server answered.
    pub fn config_map(&self, name: &str, files: &[(String, String)]) -> Result<(), LabError> {
        let data: serde_json::Map<String, Value> =
            files.iter().map(|(name, text)| (name.clone(), text.clone().into())).collect();
        let map = from_json::<ConfigMap>(json!({"metadata": {"name": name}, "data": data}));
        self.kubernetes.create(&self.namespace, &map).map(drop)
    }

    /// The pod as it is now.
    ///
    /// # Errors
    /// When it is not there, or the API server does not answer.
    pub fn pod(&self, name: &str) -> Result<Pod, LabError> {
        self.kubernetes
            .ask(&format!("looking at the pod {name}"), self.kubernetes.api::<Pod>(&self.namespace).get(name))
    }

    /// Waits until the pod's container runs after `restarts` restarts; gives it.
    ///
    /// # Errors
    /// When it does not in time; with the pod's state and the end of its log.
    pub fn wait_running(&self, name: &str, restarts: i32) -> Result<Container, LabError> {
        let running = |pod: &Pod| {
            let status = container_status(pod)?;
            let runs = status.state.as_ref().is_some_and(|state| state.running.is_some());
            (runs && status.restart_count >= restarts).then(|| status.container_id.clone()).flatten()
        };
        let id = self.wait_pod(name, "to run", running)?;
        Container::find(&id)
    }

    /// Runs a pod to its end; gives what it said.
    ///
    /// # Errors
    /// When its program fails, or does not end in time.
    pub fn run_once(&self, pod: &PlainPod) -> Result<String, LabError> {
        self.start(&PlainPod { once: true, ..pod.clone() })?;
        let phase = |pod: &Pod| {
            let phase = pod.status.as_ref()?.phase.clone()?;
            matches!(phase.as_str(), "Succeeded" | "Failed").then_some(phase)
        };
        let phase = self.wait_pod(&pod.name, "to end", phase)?;
        let said = self.logs(&pod.name)?;
        if phase == "Succeeded" {
            return Ok(said);
        }
        Err(LabError::Command { command: format!("the pod {}", pod.name), status: phase, output: said })
    }

    /// The pod's address.
    ///
    /// # Errors
    /// When it gets none in time.
    pub fn address(&self, name: &str) -> Result<String, LabError> {
        self.wait_pod(name, "to get an address", |pod| pod.status.as_ref()?.pod_ip.clone())
    }

    /// Waits until `reached` gives something of the pod.
    ///
    /// # Errors
    /// When it does not in time; with the pod's state and the end of its log.
    pub fn wait_pod<T>(&self, name: &str, what: &str, reached: impl Fn(&Pod) -> Option<T>) -> Result<T, LabError> {
        self.kubernetes.wait_for(
            &format!("the pod {name} {what}"),
            PATIENCE,
            || Ok(self.pod(name).ok().as_ref().and_then(&reached)),
            || self.state_of(name),
        )
    }

    /// How often the pod's container was started again.
    ///
    /// # Errors
    /// When the pod is not there.
    pub fn restarts(&self, name: &str) -> Result<i32, LabError> {
        Ok(container_status(&self.pod(name)?).map_or(0, |status| status.restart_count))
    }

    /// What the pod's container has said since it was started last.
    ///
    /// # Errors
    /// When there is none.
    pub fn logs(&self, name: &str) -> Result<String, LabError> {
        let pods = self.kubernetes.api::<Pod>(&self.namespace);
        self.kubernetes.ask(&format!("reading the log of {name}"), pods.logs(name, &LogParams::default()))
    }

    /// Runs a command in the pod's container; gives what it wrote to its standard output and error.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn exec(&self, name: &str, command: &[&str]) -> Result<String, LabError> {
        let doing = format!("running {command:?} in {name}");
        let pods = self.kubernetes.api::<Pod>(&self.namespace);
        self.kubernetes.block_on(async {
            let wrong = |error: &dyn std::fmt::Display| LabError::Wrong(format!("{doing}: {error}"));
            let how = AttachParams::default().stderr(true);
            let mut process = pods.exec(name, command.iter().copied(), &how).await.map_err(|error| wrong(&error))?;
            let (mut said, mut errors) = (String::new(), String::new());
            if let Some(mut output) = process.stdout() {
                output.read_to_string(&mut said).await.map_err(|error| wrong(&error))?;
            }
            if let Some(mut output) = process.stderr() {
                output.read_to_string(&mut errors).await.map_err(|error| wrong(&error))?;
            }
            process.join().await.map_err(|error| wrong(&error))?;
            Ok(said + &errors)
        })
    }

    /// Deletes the pod, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go in time.
    pub fn delete_pod(&self, name: &str) -> Result<(), LabError> {
        let pods = self.kubernetes.api::<Pod>(&self.namespace);
        self.kubernetes.ask(&format!("deleting {name}"), pods.delete(name, &DeleteParams::default()))?;
        self.kubernetes.wait_for(
            &format!("the pod {name} to be gone"),
            PATIENCE,
            || Ok(self.kubernetes.block_on(pods.get_opt(name)).is_ok_and(|pod| pod.is_none()).then_some(())),
            || self.state_of(name),
        )
    }

    /// What the pod is doing, and the end of what it said.
    fn state_of(&self, name: &str) -> String {
        let pod = match self.pod(name) {
            Ok(pod) => pod,
            Err(error) => return error.to_string(),
        };
        let status = serde_json::to_value(&pod.status).unwrap_or_default();
        let containers = &status["containerStatuses"];
        let logs = self.logs(name).unwrap_or_else(|error| error.to_string());
        format!(
            "it is {}, its containers {containers}, its conditions {}; the end of its log:\n{}",
            status["phase"],
            status["conditions"],
            crate::install::command::tail(&logs, 30)
        )
    }
}

fn container_status(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}
