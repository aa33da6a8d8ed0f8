//! How fast many Topics converge: a real API server, a real broker, and the operator as a process of its own.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use freshet_crds::Topic;
use freshet_crds::definition::definitions;
use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};

use super::process::{cpu_seconds, resident_mib};
use super::{Line, Place};
use crate::LabError;
use crate::cluster::{ApiServer, ApiServerOptions, client, wait_for};
use crate::servers::process::{ServerProcess, Undertaking};
use crate::servers::{Scratch, free_port};

/// How many Topics.
const TOPICS: usize = 1_000;
/// How many of them are applied at once, as `kubectl apply` by many hands.
const HANDS: usize = 16;
const NAMESPACE: &str = "bench";
const DEADLINE: Duration = Duration::from_secs(300);
/// How often it is looked how many are ready.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the operator is left alone, to see what it costs.
const IDLE: Duration = Duration::from_secs(30);

/// Topics made, Topics changed, and the operator left alone.
pub(super) fn topics(place: &Place<'_>) -> Result<Vec<Line>, LabError> {
    let server = ApiServer::start_temporary(&ApiServerOptions::default())?;
    let scratch = Scratch::new("operator")?;
    let key = scratch.path().join("key");
    std::fs::write(&key, [7; 32]).map_err(LabError::file("writing", &key))?;
    let port = free_port();
    wait_for(prepare(&server))?;
    let mut command = Command::new(place.binary.with_file_name("freshet-operator"));
    command.env("KUBECONFIG", server.kubeconfig()).args(["--no-leader-election", "--watch-namespace", NAMESPACE]);
    command.args(["--kafka", &place.bootstrap, "--listen", &format!("127.0.0.1:{port}")]);
    command.arg("--control-key-file").arg(&key);
    let log = scratch.path().join("operator.log");
    let mut operator = ServerProcess::spawn("operator", command, &log, &Undertaking::default())?;
    operator.wait_until("its port to accept connections", DEADLINE, || {
        std::net::TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_millis(200)).is_ok()
    })?;
    let lines = wait_for(measure(&server, &operator, port));
    lines.map_err(|error| LabError::Wrong(format!("{error}\nthe operator said:\n{}", operator.log_tail())))
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

async fn measure(server: &ApiServer, operator: &ServerProcess, port: u16) -> Result<Vec<Line>, LabError> {
    let client = client(server.kubeconfig()).await?;
    let api: Api<Topic> = Api::namespaced(client, NAMESPACE);
    let before = cpu_seconds(operator.id());
    let began = Instant::now();
    for_each(&api, |api, name| async move {
        let spec = json!({ "partitions": 1, "config": { "retention.ms": "86400000" } });
        let (version, metadata) = (freshet_crds::API_VERSION, json!({ "name": name }));
        let topic = json!({ "apiVersion": version, "kind": "Topic", "metadata": metadata, "spec": spec });
        api.create(&PostParams::default(), &typed(&topic)?).await.map(drop).map_err(asking("making a Topic"))
    })
    .await?;
    let applied = began.elapsed();
    until_ready(&api).await?;
    let made = began.elapsed();
    let cpu = cpu_seconds(operator.id()) - before;
    let (writes, requests) = counted(port).await?;

    let began = Instant::now();
    for_each(&api, |api, name| async move {
        let patch = Patch::Merge(json!({ "spec": { "config": { "retention.ms": "172800000" } } }));
        api.patch(&name, &PatchParams::default(), &patch).await.map(drop).map_err(asking("changing a Topic"))
    })
    .await?;
    until_ready(&api).await?;
    let changed = began.elapsed();
    let (all_writes, all_requests) = counted(port).await?;

    let before = cpu_seconds(operator.id());
    std::thread::sleep(IDLE);
    let idle = (cpu_seconds(operator.id()) - before) / IDLE.as_secs_f64() * 100.0;
    let (idle_writes, _) = counted(port).await?;
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |time: Duration| TOPICS as f64 / time.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a share for people")]
    let each = |count: u64| count as f64 / TOPICS as f64;
    Ok(vec![
        Line {
            what: "1,000 Topics applied until all are Ready",
            wanted: "≥ 170 a second",
            found: format!(
                "{:.0} a second ({made:.1?}, of which applying took {applied:.1?}; {cpu:.1} CPU s)",
                rate(made)
            ),
        },
        Line {
            what: "writes to the API server and requests to Kafka for a new Topic",
            wanted: "3 writes",
            found: format!("{:.2} writes, {:.2} requests", each(writes), each(requests)),
        },
        Line {
            what: "1,000 Topics changed until all are Ready",
            wanted: "≥ 170 a second",
            found: format!(
                "{:.0} a second; {:.2} writes, {:.2} requests each",
                rate(changed),
                each(all_writes - writes),
                each(all_requests - requests)
            ),
        },
        Line {
            what: "operator with 1,000 Topics in order",
            wanted: "< 2 % of a core, < 128 MB, no write",
            found: format!(
                "{idle:.1} % of a core, {:.0} MiB, {} writes in {} s",
                resident_mib(operator.id()),
                idle_writes - all_writes,
                IDLE.as_secs()
            ),
        },
    ])
}

/// Does `work` for each Topic's name, several at once.
async fn for_each<F>(api: &Api<Topic>, work: impl Fn(Api<Topic>, String) -> F) -> Result<(), LabError>
where
    F: Future<Output = Result<(), LabError>> + Send,
{
    let work: Vec<F> = (0..TOPICS).map(|number| work(api.clone(), format!("topic-{number:04}"))).collect();
    let mut done = stream::iter(work).buffer_unordered(HANDS);
    while let Some(result) = done.next().await {
        result?;
    }
    Ok(())
}

/// Waits until every Topic is Ready for its present generation.
async fn until_ready(api: &Api<Topic>) -> Result<(), LabError> {
    let began = Instant::now();
    loop {
        let topics = api.list(&ListParams::default()).await.map_err(asking("listing Topics"))?;
        let ready = topics.iter().filter(|topic| is_ready(topic)).count();
        if ready == TOPICS {
            return Ok(());
        }
        if began.elapsed() > DEADLINE {
            return Err(LabError::Wrong(format!("only {ready} of {TOPICS} Topics are Ready after {DEADLINE:?}")));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_ready(topic: &Topic) -> bool {
    topic.status.as_ref().is_some_and(|status| {
        let ready = status.conditions.iter().any(|found| found.type_ == "Ready" && found.status == "True");
        ready && Some(status.observed_generation) == topic.metadata.generation
    })
}

/// Writes of Topics, and requests to Kafka, that the operator has counted.
async fn counted(port: u16) -> Result<(u64, u64), LabError> {
    let wrong = |error: reqwest::Error| LabError::Wrong(format!("asking for metrics: {error}"));
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.map_err(wrong)?;
    let text = answer.text().await.map_err(wrong)?;
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, figure)) = line.rsplit_once(' ') {
            let family = name.split('{').next().unwrap_or_default();
            *sums.entry(family).or_default() += figure.parse().unwrap_or(0);
        }
    }
    let of = |family: &str| sums.get(family).copied().unwrap_or(0);
    Ok((of("freshet_operator_writes_total"), of("freshet_operator_kafka_requests_total")))
}

fn typed<T: serde::de::DeserializeOwned>(value: &(impl serde::Serialize + ?Sized)) -> Result<T, LabError> {
    let value: Value = serde_json::to_value(value).map_err(|error| LabError::Wrong(error.to_string()))?;
    serde_json::from_value(value).map_err(|error| LabError::Wrong(error.to_string()))
}

fn asking(doing: &'static str) -> impl FnOnce(kube::Error) -> LabError {
    move |error| LabError::Wrong(format!("{doing}: {error}"))
}
