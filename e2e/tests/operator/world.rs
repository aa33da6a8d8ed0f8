//! A namespace with its Topics and a job, an operator that looks after it, and what is waited for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use freshet_crds::definition::definitions;
use freshet_crds::{StreamJob, Topic};
use freshet_e2e::cluster::SharedApiServer;
use freshet_operator::config::Config;
use freshet_operator::context::Context;
use freshet_operator::metrics::Metrics;
use freshet_operator::{client, streamjob};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{conditions as wait, wait::await_condition};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::fakes::Fakes;
use crate::gate::{Gate, Weather};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Longer than the operator waits between two looks at what is under way.
const LOOK: Duration = Duration::from_millis(1_300);

/// Longer than the operator waits between two looks at a job that runs.
const STEADY: Duration = Duration::from_millis(6_500);

pub const SQL: &str = "INSERT INTO alerts SELECT account_id, window_start, window_end, COUNT(*) AS txns FROM \
    TABLE(TUMBLE(TABLE transactions, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY account_id, window_start, window_end";

pub struct World {
    pub client: Client,
    pub namespace: String,
    pub fakes: Fakes,
    /// How long a deletion may wait.
    pub deletion_deadline: &'static str,
    key: PathBuf,
    _tasks: JoinSet<()>,
}

/// An operator that runs in this process.
pub struct Operator {
    pub gate: Gate,
    task: JoinHandle<()>,
    _stop: watch::Sender<bool>,
}

impl Operator {
    /// Waits until it has written nothing for longer than it waits between two looks at what is under way.
    pub async fn quiet(&self) {
        let began = std::time::Instant::now();
        loop {
            let before = self.gate.writes().len();
            tokio::time::sleep(LOOK).await;
            let writes = self.gate.writes();
            if writes.len() == before {
                return;
            }
            assert!(began.elapsed() < DEADLINE, "the operator does not stop writing: {writes:?}");
        }
    }

    /// Asserts that it writes nothing while nothing changes, for longer than it waits between two looks at what runs.
    pub async fn writes_nothing(&self) {
        self.quiet().await;
        let before = self.gate.writes().len();
        tokio::time::sleep(STEADY).await;
        let writes = self.gate.writes();
        // A Secret that is there is not made again: to try is how the operator looks, since it reads none.
        let writes: Vec<&String> = writes[before..].iter().filter(|write| *write != "POST secrets").collect();
        assert!(writes.is_empty(), "all is well, and it is written: {writes:?}");
    }

    /// Ends it as `kill -9` would: nothing that it has begun is finished.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Applies the definitions, and waits until they are served.
async fn define(client: &Client) {
    for definition in definitions() {
        let name = definition.json["metadata"]["name"].as_str().unwrap().to_owned();
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        let by = PatchParams::apply("test").force();
        api.patch(&name, &by, &Patch::Apply(&definition.json)).await.unwrap();
        let established = await_condition(api, &name, wait::is_crd_established());
        tokio::time::timeout(DEADLINE, established).await.expect("the CRD is established").unwrap();
    }
}

async fn config() -> kube::Config {
    let read = Kubeconfig::read_from(SharedApiServer::get().kubeconfig()).unwrap();
    kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap()
}

impl World {
    /// A namespace of this name, with ready Topics `transactions` and `alerts`.
    pub async fn new(name: &str, net: [u8; 2]) -> Self {
        let client = SharedApiServer::get().client().await;
        static DEFINED: OnceCell<()> = OnceCell::const_new();
        DEFINED.get_or_init(|| define(&client)).await;
        let namespace = format!("{name}-{}", std::process::id());
        let made: Namespace = serde_json::from_value(json!({ "metadata": { "name": namespace } })).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &made).await.unwrap();
        // As its controller would: no pod is admitted without it.
        let account = serde_json::from_value(json!({ "metadata": { "name": "default" } })).unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
        accounts.create(&PostParams::default(), &account).await.unwrap();
        let key = std::env::temp_dir().join(format!("{namespace}.key"));
        std::fs::write(&key, [7; 32]).unwrap();
        let mut tasks = JoinSet::new();
        let fakes = Fakes::start(client.clone(), &namespace, net, &mut tasks);
        let world = Self { client, namespace, fakes, deletion_deadline: "20s", key, _tasks: tasks };
        world
            .topic(
                "transactions",
                json!([{ "name": "account_id", "type": "STRING" }, { "name": "ts", "type": "TIMESTAMP(3)" }]),
                Some("ts"),
            )
            .await;
        let out = ["account_id:STRING", "window_start:TIMESTAMP(3)", "window_end:TIMESTAMP(3)", "txns:BIGINT"];
        let columns: Vec<Value> = out
            .iter()
            .map(|column| column.split_once(':').unwrap())
            .map(|(name, type_)| json!({ "name": name, "type": type_ }))
            .collect();
        world.topic("alerts", json!(columns), None).await;
        world
    }

    async fn topic(&self, name: &str, columns: Value, time: Option<&str>) {
        let mut schema = json!({ "format": "JSON", "columns": columns });
        if let Some(column) = time {
            schema["eventTime"] = json!({ "column": column });
        }
        let topic: Topic = serde_json::from_value(json!({
            "apiVersion": "freshet.dev/v1alpha1", "kind": "Topic", "metadata": { "name": name },
            "spec": { "partitions": 4, "schema": schema },
        }))
        .unwrap();
        let api: Api<Topic> = self.api();
        let made = api.create(&PostParams::default(), &topic).await.unwrap();
        let ready = json!({ "status": { "observedGeneration": made.metadata.generation, "conditions": [{
            "type": "Ready", "status": "True", "reason": "InSync", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] } });
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&ready)).await.unwrap();
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Starts an operator for the StreamJobs of the namespace; the Topics are the test's own, so that what is written
    /// is of jobs alone.
    pub async fn operator(&self, weather: Weather) -> Operator {
        let gate = Gate::new(weather);
        let client = client::build(config().await, &gate).unwrap();
        let config = Config::parse_from([
            "freshet-operator",
            "--watch-namespace",
            &self.namespace,
            "--control-key-file",
            self.key.to_str().unwrap(),
            "--kafka=kafka:9092",
            "--checkpoint-url=s3://pipelines/state",
            "--deletion-deadline",
            self.deletion_deadline,
        ]);
        let (stop, stopping) = watch::channel(false);
        let key = streamjob::ControlKey::read(&config.control_key_file).unwrap();
        let context = Context::new(client, Arc::new(config), Metrics::new(), "cluster-1");
        Operator { gate, task: tokio::spawn(streamjob::alone(context, key, stopping)), _stop: stop }
    }

    /// The file with the operator's control key.
    pub fn key(&self) -> &Path {
        &self.key
    }

    pub async fn apply(&self, spec: Value) {
        let mut job = json!({
            "apiVersion": "freshet.dev/v1alpha1", "kind": "StreamJob", "metadata": { "name": "fraud" },
            "spec": { "sql": SQL },
        });
        for (name, value) in spec.as_object().unwrap() {
            job["spec"][name] = value.clone();
        }
        let by = PatchParams::apply("test").force();
        self.api::<StreamJob>().patch("fraud", &by, &Patch::Apply(&job)).await.unwrap();
    }

    /// Waits until the job is as `wanted` says; what it was last is told if it never is.
    pub async fn until(&self, what: &str, wanted: impl Fn(&StreamJob) -> bool) -> StreamJob {
        let api: Api<StreamJob> = self.api();
        let mut last = None;
        let looking = async {
            loop {
                if let Ok(job) = api.get("fraud").await {
                    if wanted(&job) {
                        return job;
                    }
                    last = job.status;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, looking).await {
            Ok(job) => job,
            Err(_) => {
                let stopped_by = self.fakes.said.lock().unwrap().stopped_by.clone();
                panic!("waited for {what}; the job's status was {last:#?}; the fakes' last turn: {stopped_by:?}")
            }
        }
    }

    /// Waits until the job is gone.
    pub async fn until_gone(&self) {
        let gone = || async { self.api::<StreamJob>().get_opt("fraud").await.unwrap().is_none() };
        self.eventually("it is gone", gone).await;
    }

    /// Waits until something else is so.
    pub async fn eventually<F: Future<Output = bool>>(&self, what: &str, wanted: impl Fn() -> F) {
        let looking = async {
            while !wanted().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(tokio::time::timeout(DEADLINE, looking).await.is_ok(), "waited for {what}");
    }

    /// What is there in the end, without what a server or a moment gives.
    pub async fn end_state(&self) -> Vec<String> {
        use k8s_openapi::api::{apps, batch, core, policy};
        async fn names<K>(world: &World, kind: &str) -> Vec<String>
        where
            K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
                + Clone
                + std::fmt::Debug
                + serde::de::DeserializeOwned,
        {
            let all = world.api::<K>().list(&Default::default()).await.unwrap();
            all.iter()
                .filter(|object| object.labels().contains_key("app.kubernetes.io/instance"))
                .map(|object| format!("{kind} {}", object.name_any()))
                .collect()
        }
        let mut all = names::<core::v1::ServiceAccount>(self, "ServiceAccount").await;
        all.extend(names::<core::v1::ConfigMap>(self, "ConfigMap").await);
        all.extend(names::<core::v1::Secret>(self, "Secret").await);
        all.extend(names::<core::v1::Service>(self, "Service").await);
        all.extend(names::<apps::v1::StatefulSet>(self, "StatefulSet").await);
        all.extend(names::<policy::v1::PodDisruptionBudget>(self, "PodDisruptionBudget").await);
        all.extend(names::<batch::v1::Job>(self, "Job").await);
        if let Ok(job) = self.api::<StreamJob>().get("fraud").await {
            let status = job.status.unwrap_or_default();
            all.push(format!("{:?} {:?} {:?}", status.workers, status.revision, status.lineage));
            all.push(format!("{:?} of {:?} pods", status.ready_replicas, status.replicas));
            all.extend(status.conditions.iter().map(|it| format!("{}={} {}", it.type_, it.status, it.reason)));
        }
        // A revision hangs on the namespace too.
        let revisions = self.api::<StreamJob>().get("fraud").await.ok().and_then(|job| job.status?.revision);
        let (current, target) = revisions.map(|it| (it.current, it.target)).unwrap_or_default();
        for (revision, name) in [(current, "CURRENT"), (target, "TARGET")] {
            if let Some(revision) = revision {
                all.iter_mut().for_each(|line| *line = line.replace(&revision, name));
            }
        }
        // Where the job is gone, no status names it.
        for line in &mut all {
            if let Some((job, rest)) = line.split_once("-preflight-").filter(|(_, rest)| !rest.starts_with("CURRENT")) {
                *line = format!("{job}-preflight-REVISION{}", rest.get(6..).unwrap_or_default());
            }
        }
        all
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.key);
    }
}

/// The ready workers of those that there should be, as `2/2`.
pub fn workers(job: &StreamJob) -> &str {
    job.status.as_ref().and_then(|status| status.workers.as_deref()).unwrap_or_default()
}

/// Whether a condition has this status and reason.
pub fn says(job: &StreamJob, type_: &str, status: &str, reason: &str) -> bool {
    let seen = job.status.as_ref();
    seen.is_some_and(|seen| {
        Some(seen.observed_generation) == job.metadata.generation
            && seen.conditions.iter().any(|it| it.type_ == type_ && it.status == status && it.reason == reason)
    })
}

/// Whether it runs as its spec says, and nothing is under way.
pub fn runs(job: &StreamJob) -> bool {
    let reconciling = |it: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        it.type_ == "Reconciling" && it.status == "True"
    };
    says(job, "Ready", "True", "Running") && !job.status.iter().flat_map(|it| &it.conditions).any(reconciling)
}
