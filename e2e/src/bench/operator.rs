//! An operator as a process of its own, on an API server of its own without nodes: what measurements of it share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::pin;
use std::process::Command;
use std::time::Duration;

use freshet_crds::definition::definitions;
use futures::stream::{self, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Place;
use super::process::{cpu_seconds, resident_mib};
use crate::LabError;
use crate::cluster::{ApiServer, ApiServerOptions, client, wait_for};
use crate::servers::process::{ServerProcess, Undertaking};
use crate::servers::{Scratch, free_port};

/// How many resources of a kind are applied.
pub(super) const MANY: usize = 1_000;
/// How many of them at once, as `kubectl apply` by many hands.
const HANDS: usize = 16;
pub(super) const NAMESPACE: &str = "bench";
const DEADLINE: Duration = Duration::from_secs(900);
/// How long the operator is left alone, to see what it costs.
const IDLE: Duration = Duration::from_secs(30);

/// It, and the API server.
pub(super) struct Stand {
    server: ApiServer,
    operator: ServerProcess,
    port: u16,
    _scratch: Scratch,
}

/// What the operator counted since it began: writes to the API server, requests to Kafka, requests to workers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    pub writes: u64,
    pub kafka: u64,
    pub workers: u64,
}

/// What it costs when there is nothing to do.
pub(super) struct Idle {
    pub share_of_core: f64,
    pub resident_mib: f64,
    pub writes: u64,
    /// Requests to workers.
    pub asked: u64,
    pub seconds: u64,
}

impl Stand {
    /// Starts both, with the definitions and the namespace there.
    pub fn start(place: &Place<'_>, arguments: &[&str]) -> Result<Self, LabError> {
        let server = ApiServer::start_temporary(&ApiServerOptions::default())?;
        let scratch = Scratch::new("operator")?;
        let key = scratch.path().join("key");
        std::fs::write(&key, [7; 32]).map_err(LabError::file("writing", &key))?;
        let port = free_port();
        wait_for(prepare(&server))?;
        let mut command = Command::new(place.binary.with_file_name("freshet-operator"));
        command.env("KUBECONFIG", server.kubeconfig()).args(["--no-leader-election", "--watch-namespace", NAMESPACE]);
        command.args(["--kafka", &place.bootstrap, "--listen", &format!("127.0.0.1:{port}")]);
        command.arg("--control-key-file").arg(&key).args(arguments);
        let log = scratch.path().join("operator.log");
        let mut operator = ServerProcess::spawn("operator", command, &log, &Undertaking::default())?;
        operator.wait_until("its port to accept connections", DEADLINE, || {
            std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(200)).is_ok()
        })?;
        Ok(Self { server, operator, port, _scratch: scratch })
    }

    /// Runs a measurement; what the operator said stands beside its failure.
    pub fn measure<T: Send>(&self, work: impl Future<Output = Result<T, LabError>> + Send) -> Result<T, LabError> {
        wait_for(work)
            .map_err(|error| LabError::Wrong(format!("{error}\nthe operator said:\n{}", self.operator.log_tail())))
    }

    pub async fn client(&self) -> Result<Client, LabError> {
        client(self.server.kubeconfig()).await
    }

    /// The processor time that the operator has used, s.
    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.operator.id())
    }

    pub async fn counted(&self) -> Result<Counted, LabError> {
        let wrong = |error: reqwest::Error| LabError::Wrong(format!("asking for metrics: {error}"));
        let answer = reqwest::get(format!("http://127.0.0.1:{}/metrics", self.port)).await.map_err(wrong)?;
        let text = answer.text().await.map_err(wrong)?;
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for line in text.lines() {
            if let Some((name, figure)) = line.rsplit_once(' ') {
                let family = name.split('{').next().unwrap_or_default();
                *sums.entry(family).or_default() += figure.parse().unwrap_or(0);
            }
        }
        let of = |family: &str| sums.get(family).copied().unwrap_or(0);
        Ok(Counted {
            writes: of("freshet_operator_writes_total"),
            kafka: of("freshet_operator_kafka_requests_total"),
            workers: of("freshet_operator_worker_requests_total"),
        })
    }

    /// Leaves it alone for a while.
    pub async fn idle(&self) -> Result<Idle, LabError> {
        let (cpu, counted) = (self.cpu_seconds(), self.counted().await?);
        tokio::time::sleep(IDLE).await;
        let after = self.counted().await?;
        Ok(Idle {
            share_of_core: (self.cpu_seconds() - cpu) / IDLE.as_secs_f64() * 100.0,
            resident_mib: resident_mib(self.operator.id()),
            writes: after.writes - counted.writes,
            asked: after.workers - counted.workers,
            seconds: IDLE.as_secs(),
        })
    }
}

async fn prepare(server: &ApiServer) -> Result<(), LabError> {
    let client = client(server.kubeconfig()).await?;
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in definitions() {
        let object: CustomResourceDefinition = typed(&definition.json)?;
        let name = object.name_any();
        crds.create(&PostParams::default(), &object).await.map_err(asking("making the definitions"))?;
        let served = await_condition(crds.clone(), &name, conditions::is_crd_established());
        served.await.map_err(|error| LabError::Wrong(error.to_string()))?;
    }
    let namespace: Namespace = typed(&json!({ "metadata": { "name": NAMESPACE } }))?;
    Api::all(client).create(&PostParams::default(), &namespace).await.map_err(asking("making a namespace"))?;
    Ok(())
}

/// Does `work` for each number up to [`MANY`], several at once.
pub(super) async fn for_each<F>(work: impl Fn(usize) -> F) -> Result<(), LabError>
where
    F: Future<Output = Result<(), LabError>> + Send,
{
    let work: Vec<F> = (0..MANY).map(work).collect();
    let mut done = stream::iter(work).buffer_unordered(HANDS);
    while let Some(result) = done.next().await {
        result?;
    }
    Ok(())
}

/// Completes once all are Ready for their present generation; `status` gives a status' generation and conditions. They are
/// watched: to list a thousand again and again would take the machine's time from what is measured.
pub(super) async fn until_ready<K>(
    api: &Api<K>,
    status: impl Fn(&K) -> Option<(i64, &[Condition])>,
) -> Result<(), LabError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let is_ready = |object: &K| {
        status(object).is_some_and(|(generation, conditions)| {
            Some(generation) == object.meta().generation
                && conditions.iter().any(|found| found.type_ == "Ready" && found.status == "True")
                && !conditions.iter().any(|found| found.type_ == "Reconciling" && found.status == "True")
        })
    };
    let mut seen = pin!(watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects());
    let mut late: BTreeMap<String, K> = BTreeMap::new();
    let mut ready = BTreeSet::new();
    let all_ready = async {
        while ready.len() < MANY {
            let Some(Ok(object)) = seen.next().await else { continue };
            let name = object.name_any();
            if is_ready(&object) {
                late.remove(&name);
                ready.insert(name);
            } else {
                ready.remove(&name);
                late.insert(name, object);
            }
        }
    };
    if tokio::time::timeout(DEADLINE, all_ready).await.is_err() {
        let (kind, ready, late) = (K::kind(&()), ready.len(), late.into_values().next());
        return Err(LabError::Wrong(format!(
            "only {ready} of {MANY} {kind}s are Ready after {DEADLINE:?}; one that is not: {late:?}"
        )));
    }
    Ok(())
}

/// How many of [`MANY`] in a second.
#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
pub(super) fn rate(time: Duration) -> f64 {
    MANY as f64 / time.as_secs_f64()
}

/// How much of `count` is each one's.
#[allow(clippy::cast_precision_loss, reason = "a share for people")]
pub(super) fn each(count: u64) -> f64 {
    count as f64 / MANY as f64
}

pub(super) fn typed<T: DeserializeOwned>(value: &(impl serde::Serialize + ?Sized)) -> Result<T, LabError> {
    let value: Value = serde_json::to_value(value).map_err(|error| LabError::Wrong(error.to_string()))?;
    serde_json::from_value(value).map_err(|error| LabError::Wrong(error.to_string()))
}

pub(super) fn asking(what: &'static str) -> impl Fn(kube::Error) -> LabError {
    move |error| LabError::Wrong(format!("{what}: {error}"))
}
