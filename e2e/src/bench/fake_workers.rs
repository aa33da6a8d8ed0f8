//! What nodes, controllers and workers would do for many jobs at once: an API server without nodes runs no pods. It
//! follows watches, so that a thousand jobs cost it, and the API server, about what their changes cost.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use freshet_crds::control::{CONTROL_PORT, STATUS_PATH};
use futures::stream::{StreamExt, select};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;

use super::operator::NAMESPACE;
use crate::fakes;

/// How many objects are answered for at once.
const HANDS: usize = 16;
/// When it is tried again what failed: another object was not there yet.
const AGAIN: Duration = Duration::from_millis(200);

/// The label that names a child's job.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// The faked cluster of one namespace. Ends when dropped.
pub(super) struct FakeWorkers {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    client: Client,
    jobs: Mutex<HashMap<String, Generation>>,
    served: Mutex<HashSet<String>>,
    awaited: Mutex<HashMap<String, Instant>>,
    answers: Mutex<Vec<Duration>>,
}

#[derive(Debug, Clone, Copy)]
struct Generation {
    number: u64,
    slots: u32,
}

enum Object {
    Job(Box<Job>),
    Set(Box<StatefulSet>),
}

impl FakeWorkers {
    /// Begins to answer for whatever is there, and comes.
    pub fn start(client: Client) -> Self {
        let shared = Arc::new(Shared {
            client,
            jobs: Mutex::default(),
            served: Mutex::default(),
            awaited: Mutex::default(),
            answers: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        let own = Arc::clone(&shared);
        tasks.spawn(async move {
            let jobs = watched::<Job>(&own).map(|job| Object::Job(Box::new(job)));
            let sets = watched::<StatefulSet>(&own).map(|set| Object::Set(Box::new(set)));
            let answer = |object| own.answer(object);
            select(jobs.boxed(), sets.boxed()).for_each_concurrent(HANDS, answer).await;
        });
        let own = Arc::clone(&shared);
        tasks.spawn(async move {
            let maps = watched::<ConfigMap>(&own);
            maps.for_each(|map| {
                own.seen(&map);
                std::future::ready(())
            })
            .await;
        });
        Self { shared, _tasks: tasks }
    }

    /// From now on, the first write of a ConfigMap of `job` is an answer to what is done now.
    pub fn await_write(&self, job: &str) {
        lock(&self.shared.awaited).insert(job.to_owned(), Instant::now());
    }

    /// How long the answers took so far, and how many are still awaited.
    pub fn answers(&self) -> (Vec<Duration>, usize) {
        (lock(&self.shared.answers).clone(), lock(&self.shared.awaited).len())
    }
}

impl Shared {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    fn seen(&self, map: &ConfigMap) {
        let Some(job) = map.labels().get(INSTANCE) else { return };
        if let Some(since) = lock(&self.awaited).remove(job) {
            lock(&self.answers).push(since.elapsed());
        }
    }

    async fn answer(self: &Arc<Self>, object: Object) {
        loop {
            let done = match &object {
                Object::Job(job) => self.preflight(job).await,
                Object::Set(set) => self.pods(set).await,
            };
            if done.is_ok() {
                return;
            }
            // Whoever waits for the job to be Ready says that it never was.
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Every preflight finds all well, and hands out the next generation.
    async fn preflight(&self, job: &Job) -> Result<(), kube::Error> {
        let ended = job.status.as_ref().is_some_and(|status| status.conditions.is_some());
        let (Some(name), false) = (job.labels().get(INSTANCE), ended) else { return Ok(()) };
        let slots = fakes::slots(job).unwrap_or(1);
        let generation = {
            let mut jobs = lock(&self.jobs);
            let number = jobs.get(name).map_or(0, |generation| generation.number) + 1;
            jobs.insert(name.clone(), Generation { number, slots });
            number
        };
        let report = fakes::passed(generation, slots, true);
        let (pod, object) = fakes::pod_of_job(job);
        self.make(&object).await?;
        let by = PatchParams::default();
        self.api::<Pod>().patch_status(&pod, &by, &Patch::Merge(&fakes::ended(&report))).await?;
        let finished = Patch::Merge(fakes::finished(&report));
        self.api::<Job>().patch_status(&job.name_any(), &by, &finished).await.map(drop)
    }

    async fn make(&self, pod: &serde_json::Value) -> Result<(), kube::Error> {
        let pod: Pod = serde_json::from_value(pod.clone()).map_err(kube::Error::SerdeError)?;
        match self.api::<Pod>().create(&PostParams::default(), &pod).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            made => made.map(drop),
        }
    }

    /// The first pod of a set runs at once, and its worker answers. (The measured jobs have one.)
    async fn pods(self: &Arc<Self>, set: &StatefulSet) -> Result<(), kube::Error> {
        let job = set.name_any();
        if set.spec.replicas.unwrap_or(1) == 0 || lock(&self.served).contains(&job) {
            return Ok(());
        }
        let secret = self.api::<Secret>().get(&format!("{job}-control")).await?;
        let token = secret.data.and_then(|mut data| data.remove("token")).unwrap_or_default().0;
        let number = lock(&self.served).len();
        // One address of the loopback network each: a worker's port is the same everywhere.
        let byte = |value: usize| u8::try_from(value % 250 + 1).unwrap_or(1);
        let address = Ipv4Addr::new(127, 40, byte(number / 250), byte(number));
        let listener = tokio::net::TcpListener::bind((address, CONTROL_PORT)).await.map_err(kube::Error::ReadEvents)?;
        lock(&self.served).insert(job.clone());
        let worker =
            Worker { job: job.clone(), token: String::from_utf8_lossy(&token).into_owned(), shared: Arc::clone(self) };
        let router = Router::new().route(STATUS_PATH, get(status)).with_state(worker);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let (pod, object) = fakes::pod_of_set(set, 0);
        self.make(&object).await?;
        let by = PatchParams::default();
        self.api::<Pod>().patch_status(&pod, &by, &Patch::Merge(&fakes::runs(address, None))).await?;
        let counts = Patch::Merge(json!({ "status": { "replicas": 1, "readyReplicas": 1 } }));
        self.api::<StatefulSet>().patch_status(&job, &by, &counts).await.map(drop)
    }
}

/// What is there of a kind, and whatever comes or changes.
fn watched<K>(shared: &Shared) -> impl futures::Stream<Item = K> + Send + use<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let objects = watcher(shared.api::<K>(), watcher::Config::default()).default_backoff().applied_objects();
    objects.filter_map(|object| std::future::ready(object.ok()))
}

#[derive(Clone)]
struct Worker {
    job: String,
    token: String,
    shared: Arc<Shared>,
}

async fn status(State(worker): State<Worker>, headers: HeaderMap) -> Result<Response, StatusCode> {
    if !fakes::knows(&headers, &worker.token) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let generation = lock(&worker.shared.jobs).get(&worker.job).copied();
    let Generation { number, slots } = generation.unwrap_or(Generation { number: 0, slots: 0 });
    Ok(fakes::answer(&headers, &fakes::well(0, number, slots)))
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
