//! What the rest of a cluster does: StatefulSets and Jobs get pods, pods get a status, workers answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use freshet_crds::control::{
    ASSIGNMENT_PATH, Assignment, AssignmentRequest, CONTROL_PORT, PreflightReport, STATUS_PATH, WorkerStatus,
};
use freshet_e2e::fakes;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How often the fakes look. What they do takes a real cluster longer.
const TURN: Duration = Duration::from_millis(60);

/// What a test says of the cluster, and what it sees of it.
#[derive(Debug, Default)]
pub struct Said {
    /// Why preflights are refused, if they are.
    pub refuse: Option<(String, String)>,
    /// What keeps a worker's pod from running, by ordinal: reason and message.
    pub trouble: BTreeMap<u32, (String, String)>,
    /// Workers whose epochs do not commit.
    pub stuck: BTreeSet<u32>,
    /// The generation log: slots of each generation, from 1.
    pub generations: Vec<u32>,
    /// How many lineages there were before this one.
    pub ended: u64,
    /// The last nonce for which another was begun.
    pub answered: Option<String>,
    /// The plan that each preflight saw, to tell another revision.
    pub plan: String,
    /// Whether a slot of the newest generation was ever without a pod after it had one.
    pub orphaned: Vec<String>,
    /// Names of pods, in the order in which they were made.
    pub made: Vec<String>,
    /// What ended the fakes' last turn early.
    pub stopped_by: Option<String>,
    /// Whether the node is lost: workers don't answer, and their pods don't go.
    pub lost: bool,
}

/// The fake parts of one namespace.
#[derive(Clone)]
pub struct Fakes {
    client: Client,
    namespace: String,
    pub said: Arc<Mutex<Said>>,
    net: [u8; 2],
}

impl Fakes {
    /// Fakes for `namespace`; `net` keeps its workers' addresses (127.net.x) from those of other tests.
    pub fn start(client: Client, namespace: &str, net: [u8; 2], tasks: &mut JoinSet<()>) -> Self {
        let fakes = Self { client, namespace: namespace.to_owned(), said: Arc::default(), net };
        let own = fakes.clone();
        tasks.spawn(async move {
            let mut servers: BTreeMap<String, tokio::task::AbortHandle> = BTreeMap::new();
            loop {
                // A conflict or an object that has gone just now: the next turn sees more.
                let turn = own.turn(&mut servers).await;
                own.said.lock().unwrap().stopped_by = turn.err().map(|error| error.to_string());
                tokio::time::sleep(TURN).await;
            }
        });
        fakes
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn turn(&self, servers: &mut BTreeMap<String, tokio::task::AbortHandle>) -> kube::Result<()> {
        for job in self.api::<Job>().list(&ListParams::default()).await? {
            self.preflight(&job).await?;
        }
        let pods = self.api::<Pod>().list(&ListParams::default()).await?.items;
        let sets = self.api::<StatefulSet>().list(&ListParams::default()).await?.items;
        for set in &sets {
            self.stateful_set(set, &pods, servers).await?;
        }
        Ok(())
    }

    /// What the preflight would find; and what a Job's controller and kubelet would write.
    async fn preflight(&self, job: &Job) -> kube::Result<()> {
        let finished = job.status.as_ref().and_then(|status| status.conditions.as_ref()).is_some();
        if finished || job.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let name = job.name_any();
        let template = job.spec.as_ref().unwrap().template.clone();
        let volumes = template.spec.as_ref().unwrap().volumes.clone().unwrap_or_default();
        let map = volumes.iter().find_map(|volume| volume.config_map.as_ref()).map(|map| map.name.clone()).unwrap();
        let manifests = self.api::<ConfigMap>().get(&map).await?.data.unwrap_or_default()["job.yaml"].clone();
        let slots = fakes::slots(job).unwrap();
        let report = {
            let mut said = self.said.lock().unwrap();
            if let Some((reason, message)) = said.refuse.clone() {
                fakes::refused(reason, message)
            } else {
                // As the real one: another lineage for each nonce, where that is asked for.
                let nonce = manifests.lines().find_map(|line| line.trim().strip_prefix("restoreNonce:"));
                let nonce = nonce.map(str::to_owned).filter(|_| fakes::asks(job) && manifests.contains("restoreFrom"));
                if nonce.is_some() && nonce != said.answered {
                    (said.ended, said.answered) = (said.ended + 1, nonce);
                    said.generations.clear();
                }
                // As the real one: the next generation where plan or slots are others.
                let plan = planned(&manifests);
                let changed = said.plan != plan || said.generations.last() != Some(&slots);
                if changed {
                    said.generations.push(slots);
                    said.plan = plan;
                }
                let lineage = Some(fakes::lineage(said.ended + 1));
                PreflightReport { lineage, ..fakes::passed(said.generations.len() as u64, slots, changed) }
            }
        };
        let (pod_name, pod) = fakes::pod_of_job(job);
        self.make_pod(&pod).await?;
        let by = PatchParams::default();
        self.api::<Pod>().patch_status(&pod_name, &by, &Patch::Merge(&fakes::ended(&report))).await?;
        self.api::<Job>().patch_status(&name, &by, &Patch::Merge(&fakes::finished(&report))).await?;
        Ok(())
    }

    async fn make_pod(&self, pod: &Value) -> kube::Result<bool> {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        match self.api::<Pod>().create(&PostParams::default(), &pod).await {
            Ok(pod) => {
                self.said.lock().unwrap().made.push(pod.name_any());
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn stateful_set(
        &self,
        set: &StatefulSet,
        pods: &[Pod],
        servers: &mut BTreeMap<String, tokio::task::AbortHandle>,
    ) -> kube::Result<()> {
        let job = set.name_any();
        let spec = &set.spec;
        let wanted = u32::try_from(spec.replicas.unwrap_or(1)).unwrap();
        let prefix = format!("{job}-");
        let mine: Vec<(u32, &Pod)> = pods
            .iter()
            .filter(|pod| pod.labels().get("app.kubernetes.io/component").map(String::as_str) == Some("worker"))
            .filter_map(|pod| Some((pod.name_any().strip_prefix(&prefix)?.parse().ok()?, pod)))
            .collect();
        for (ordinal, pod) in &mine {
            if *ordinal >= wanted {
                let newest = self.said.lock().unwrap().generations.last().copied().unwrap_or(0);
                if *ordinal < newest && wanted > 0 {
                    let note = format!("{} went although {newest} slots have tasks", pod.name_any());
                    self.said.lock().unwrap().orphaned.push(note);
                }
                self.remove(&pod.name_any(), servers).await?;
            }
        }
        if self.said.lock().unwrap().lost {
            while let Some((_, server)) = servers.pop_first() {
                server.abort();
            }
            return Ok(());
        }
        for ordinal in 0..wanted {
            let name = format!("{job}-{ordinal}");
            if !mine.iter().any(|(there, _)| *there == ordinal) {
                // Kubelet would not start it without these.
                let account = spec.template.spec.as_ref().unwrap().service_account_name.clone().unwrap();
                self.api::<ServiceAccount>().get(&account).await?;
                self.api::<ConfigMap>().get(&job).await?;
                let secret = self.api::<Secret>().get(&format!("{job}-control")).await?;
                let token = String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap();
                self.make_pod(&fakes::pod_of_set(set, ordinal).1).await?;
                self.serve(ordinal, token, &name, servers).await;
            }
            self.pod_status(&name, ordinal, pods).await?;
        }
        let count = i32::try_from(wanted).unwrap();
        if set.status.as_ref().is_none_or(|status| status.replicas != count) {
            let status = json!({ "status": { "replicas": count, "readyReplicas": count } });
            self.api::<StatefulSet>().patch_status(&job, &PatchParams::default(), &Patch::Merge(&status)).await?;
        }
        Ok(())
    }

    async fn remove(&self, name: &str, servers: &mut BTreeMap<String, tokio::task::AbortHandle>) -> kube::Result<()> {
        if self.said.lock().unwrap().lost {
            return Ok(());
        }
        if let Some(server) = servers.remove(name) {
            server.abort();
        }
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
        match self.api::<Pod>().delete(name, &at_once).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            done => done.map(|_| ()),
        }
    }

    async fn pod_status(&self, name: &str, ordinal: u32, pods: &[Pod]) -> kube::Result<()> {
        let trouble = self.said.lock().unwrap().trouble.get(&ordinal).cloned();
        let known = pods.iter().find(|pod| pod.name_any() == name).and_then(|pod| pod.status.as_ref());
        let shown = known.and_then(|status| {
            let waiting = status.container_statuses.as_ref()?.first()?.state.as_ref()?.waiting.as_ref();
            Some(waiting.and_then(|waiting| waiting.reason.clone()))
        });
        if shown == Some(trouble.as_ref().map(|(reason, _)| reason.clone())) {
            return Ok(());
        }
        let status = fakes::runs(self.address(ordinal), trouble.as_ref());
        self.api::<Pod>().patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        Ok(())
    }

    fn address(&self, ordinal: u32) -> Ipv4Addr {
        Ipv4Addr::new(127, self.net[0], self.net[1], u8::try_from(ordinal + 1).unwrap())
    }

    async fn serve(
        &self,
        ordinal: u32,
        token: String,
        name: &str,
        servers: &mut BTreeMap<String, tokio::task::AbortHandle>,
    ) {
        let worker = Worker { ordinal, token, said: Arc::clone(&self.said) };
        let router =
            Router::new().route(STATUS_PATH, get(status)).route(ASSIGNMENT_PATH, post(assign)).with_state(worker);
        if let Some(old) = servers.remove(name) {
            old.abort();
        }
        let address = (self.address(ordinal), CONTROL_PORT);
        // The former server of this address may take a moment to go.
        let listener = loop {
            match tokio::net::TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        servers.insert(name.to_owned(), task.abort_handle());
    }
}

#[derive(Clone)]
struct Worker {
    ordinal: u32,
    token: String,
    said: Arc<Mutex<Said>>,
}

async fn status(State(worker): State<Worker>, headers: HeaderMap) -> Result<Response, StatusCode> {
    if !fakes::knows(&headers, &worker.token) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let said = worker.said.lock().unwrap();
    let slots = said.generations.last().copied().unwrap_or(0);
    let well = fakes::well(worker.ordinal, said.generations.len() as u64, slots);
    let lineage = Some(fakes::lineage(said.ended + 1));
    let progressing = !said.stuck.contains(&worker.ordinal);
    Ok(fakes::answer(&headers, &WorkerStatus { lineage, progressing, ..well }))
}

async fn assign(
    State(worker): State<Worker>,
    headers: HeaderMap,
    Json(request): Json<AssignmentRequest>,
) -> Result<Json<Assignment>, StatusCode> {
    if !fakes::knows(&headers, &worker.token) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let mut said = worker.said.lock().unwrap();
    if said.generations.last() != Some(&request.slots) {
        said.generations.push(request.slots);
    }
    Ok(Json(Assignment { generation: said.generations.len() as u64, slots: request.slots }))
}

/// What of the manifests makes another plan: where state comes from is none of it.
fn planned(manifests: &str) -> String {
    let restores = |line: &&str| !line.contains("restore") && !line.contains("type: None");
    manifests.lines().filter(restores).collect::<Vec<_>>().join("\n")
}
