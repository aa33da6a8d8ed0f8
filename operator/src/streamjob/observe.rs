//! Does IO: gathers what one pass knows: the resource, its children as the watches have them, and what workers say.

use std::collections::BTreeMap;
use std::sync::Arc;

use freshet_crds::control::{PreflightReport, WorkerEnd};
use freshet_crds::reasons::{self, PREFLIGHT_FAILED, condition};
use freshet_crds::{DeletionPolicy, StreamJob, Topic};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ObjectMeta;
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use serde_json::Value;
use tokio::task::JoinSet;

use super::build::{ASKED_AGAIN, ChildKind, REPORT};
use super::decide::kind_of;
use super::facts::{
    Accepted, Facts, Legacy, PreflightFact, PreflightFailure, PreflightState, RetirementFact, RetirementState,
    WorkerFact,
};
use super::names::{self, Component};
use super::pods::{self, PodFact, Trouble};
use super::refused::refused;
use super::remembered::Remembered;
use super::rest::KINDS;
use super::rollout;
use super::validate::remnant;
use super::workers::Workers;
use crate::clock::millis;
use crate::conditions;
use crate::context::Context;
use crate::held::{Held, Trim};
use crate::watch::{MANAGED_BY, Watched, api};

/// The watches of children. Cheap to clone.
#[derive(Clone)]
pub struct ChildWatches {
    /// ServiceAccounts.
    pub accounts: Watched<Held<ServiceAccount>>,
    /// ConfigMaps.
    pub config_maps: Watched<Held<ConfigMap>>,
    /// Services.
    pub services: Watched<Held<Service>>,
    /// StatefulSets.
    pub stateful_sets: Watched<Held<StatefulSet>>,
    /// PodDisruptionBudgets.
    pub budgets: Watched<Held<PodDisruptionBudget>>,
    /// Jobs.
    pub jobs: Watched<Held<Job>>,
    /// Pods.
    pub pods: Watched<Held<Pod>>,
}

impl ChildWatches {
    /// Begins to watch everything that carries our label.
    pub fn start(context: &Context, tasks: &mut JoinSet<()>) -> Self {
        let (client, namespace) = (&context.client, context.config.watch_namespace.as_deref());
        let config = || watcher::Config::default().labels(MANAGED_BY);
        Self {
            accounts: Watched::start(api(client, namespace), config(), tasks, |_| {}),
            config_maps: Watched::start(api(client, namespace), config(), tasks, |_| {}),
            services: Watched::start(api(client, namespace), config(), tasks, |_| {}),
            stateful_sets: Watched::start(api(client, namespace), config(), tasks, |_| {}),
            budgets: Watched::start(api(client, namespace), config(), tasks, |_| {}),
            jobs: Watched::start(api(client, namespace), config(), tasks, |_| {}),
            pods: Watched::start(api(client, namespace), config(), tasks, |_| {}),
        }
    }

    /// Numbers of the last changes of what is labelled as a part of this job.
    #[must_use]
    pub fn changed(&self, namespace: &str, job: &str) -> [u64; KINDS] {
        [
            self.accounts.changed(namespace, job),
            self.config_maps.changed(namespace, job),
            self.services.changed(namespace, job),
            self.stateful_sets.changed(namespace, job),
            self.budgets.changed(namespace, job),
            self.jobs.changed(namespace, job),
            self.pods.changed(namespace, job),
        ]
    }

    /// Completes once everything that was there is known: what is not seen yet must not be taken for missing.
    pub async fn known(&self) {
        tokio::join!(
            self.accounts.known(),
            self.config_maps.known(),
            self.services.known(),
            self.stateful_sets.known(),
            self.budgets.known(),
            self.jobs.known(),
            self.pods.known(),
        );
    }
}

/// The children of one job, as the watches have them.
#[derive(Default)]
pub struct Children {
    objects: BTreeMap<(ChildKind, String), Arc<dyn Object>>,
    /// How many of the StatefulSet's pods there are, as its controller says.
    pub pods: Option<i32>,
    /// Whether this process has made the Secret with the control token, or found it there, a short while ago.
    pub secret_made: bool,
}

/// An object of any kind. It becomes JSON only where it is compared.
trait Object: Send + Sync {
    fn json(&self) -> Value;
    fn about(&self) -> &ObjectMeta;
}

impl<K: Resource> Object for Held<K> {
    fn json(&self) -> Value {
        Self::json(self)
    }

    fn about(&self) -> &ObjectMeta {
        self.meta()
    }
}

impl Children {
    /// A child as it is.
    #[must_use]
    pub fn json(&self, kind: ChildKind, name: &str) -> Option<Value> {
        self.objects.get(&(kind, name.to_owned())).map(|object| object.json())
    }

    /// Names and versions of all of them: what was compared with them once need not be compared again.
    pub fn versions(&self) -> impl Iterator<Item = (ChildKind, &str, Option<&str>)> {
        self.objects
            .iter()
            .map(|((kind, name), object)| (*kind, name.as_str(), object.about().resource_version.as_deref()))
    }

    /// Names of the ConfigMaps that preflights read.
    pub fn candidates(&self) -> impl Iterator<Item = String> {
        let of_preflight = |((kind, _), object): &(&(ChildKind, String), &Arc<dyn Object>)| {
            let component = object.about().labels.as_ref().and_then(|labels| labels.get(names::COMPONENT));
            *kind == ChildKind::ConfigMap
                && component.is_some_and(|component| component == Component::Preflight.label())
        };
        self.objects.iter().filter(of_preflight).map(|((_, name), _)| name.clone())
    }

    fn add<K>(&mut self, kind: ChildKind, watched: &Watched<Held<K>>, job: &StreamJob)
    where
        K: Resource<DynamicType = ()> + Trim + Clone + serde::Serialize + 'static,
        K: std::fmt::Debug + serde::de::DeserializeOwned,
    {
        for object in parts(watched, job).filter(|object| belongs(&**object, job)) {
            self.objects.insert((kind, object.name_any()), object);
        }
    }
}

/// What is labelled as a part of this job.
fn parts<K>(watched: &Watched<K>, job: &StreamJob) -> impl Iterator<Item = Arc<K>> + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    K: std::fmt::Debug + serde::de::DeserializeOwned,
{
    watched.of_instance(&job.namespace().unwrap_or_default(), &job.name_any()).into_iter()
}

/// Whether an object is a child of this very job.
fn belongs(object: &impl Resource, job: &StreamJob) -> bool {
    let meta = object.meta();
    meta.namespace == job.metadata.namespace
        && meta.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
}

/// Whether a pod carries the labels of this job's component.
fn is_of(pod: &Held<Pod>, job: &StreamJob, component: Component) -> bool {
    let label = |name: &str| pod.labels().get(name).map(String::as_str);
    pod.meta().namespace == job.metadata.namespace
        && label(names::INSTANCE) == job.metadata.name.as_deref()
        && label(names::COMPONENT) == Some(component.label())
}

/// What one pass needs to look.
pub struct Eyes<'a> {
    /// The context.
    pub context: &'a Context,
    /// All Topics.
    pub topics: &'a Watched<Topic>,
    /// The children.
    pub children: &'a ChildWatches,
    /// Talks to workers.
    pub workers: &'a Workers,
    /// What was found in specs before.
    pub remembered: &'a Remembered,
    /// The job's control token.
    pub token: &'a str,
}

impl Eyes<'_> {
    /// Looks at everything once.
    pub async fn look(&self, job: &StreamJob) -> (Facts, Children) {
        let mut children = self.children_of(job);
        let valid = self.remembered.validate(job, self.topics, self.context);
        let used = valid.as_ref().map(|valid| valid.topics.as_slice()).unwrap_or_default();
        let namespace = job.namespace().unwrap_or_default();
        let topic = |name: &String| self.topics.get(&namespace, name);
        let set = self.set_of(job);
        children.pods = set.as_ref().and_then(|set| Some(set.status.as_ref()?.replicas));
        let asked_pods = set.as_ref().and_then(|set| u32::try_from(set.spec.replicas?).ok());
        let now_ms = self.context.clock.now_ms();
        let facts = Facts {
            now_ms,
            created_ms: job.metadata.creation_timestamp.as_ref().map_or(0, millis),
            deleted_ms: job.metadata.deletion_timestamp.as_ref().map(millis),
            finalizer: job.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER),
            unready_topics: used.iter().filter_map(topic).filter_map(|topic| unready(&topic)).collect(),
            accepted: self.accepted(job),
            asked_pods,
            restarting: set.as_ref().is_some_and(|set| rollout::is_under_way(set, job.status.as_ref())),
            refused_pods: self.refused_pods(job, asked_pods, set.as_ref()).await,
            asked_again_ms: set.as_ref().map_or(0, asked_again),
            workers: self.workers_of(job).await,
            legacy: self.legacy(job, &children),
            preflights: self.preflights(job).await,
            candidates: children.candidates().collect(),
            valid,
        };
        (facts, children)
    }

    fn children_of(&self, job: &StreamJob) -> Children {
        let watches = self.children;
        let mut children = Children::default();
        children.add(ChildKind::ServiceAccount, &watches.accounts, job);
        children.add(ChildKind::ConfigMap, &watches.config_maps, job);
        children.add(ChildKind::Service, &watches.services, job);
        children.add(ChildKind::StatefulSet, &watches.stateful_sets, job);
        children.add(ChildKind::PodDisruptionBudget, &watches.budgets, job);
        children.add(ChildKind::Job, &watches.jobs, job);
        children
    }

    fn set_of(&self, job: &StreamJob) -> Option<StatefulSet> {
        let set = self.children.stateful_sets.get(&job.namespace()?, &job.name_any());
        set.filter(|set| belongs(&**set, job))?.object()
    }

    /// The pods of `component`.
    fn pods_of(&self, job: &StreamJob, component: Component) -> Vec<Pod> {
        let pods = parts(&self.children.pods, job).filter(|pod| is_of(pod, job, component));
        pods.filter_map(|pod| pod.object()).collect()
    }

    fn accepted(&self, job: &StreamJob) -> Option<Accepted> {
        let map = self.children.config_maps.get(&job.namespace()?, &job.name_any());
        let map = map.filter(|map| belongs(&**map, job))?.object()?;
        let report: PreflightReport = serde_json::from_str(map.annotations().get(REPORT)?).ok()?;
        Some(Accepted { revision: map.labels().get(names::REVISION)?.clone(), report })
    }

    /// All workers' pods, and what those say that can be asked, side by side.
    async fn workers_of(&self, job: &StreamJob) -> Vec<WorkerFact> {
        let secret = names::secret(&job.name_any());
        let ask = |pod: PodFact| {
            let secret = &secret;
            async move {
                let slot = pod.ordinal.unwrap_or(u32::MAX);
                let status = match &pod.ip {
                    Some(ip) if pod.trouble.is_none() => {
                        Some(self.workers.status(ip, self.token, secret).await.map_err(|error| error.to_string()))
                    }
                    _ => None,
                };
                WorkerFact { pod, slot, status }
            }
        };
        let pods = self.pods_of(job, Component::Worker);
        let live: Vec<PodFact> = pods.iter().filter(|pod| !ended(pod)).map(pods::fact).collect();
        let mut workers = join_all(live.into_iter().map(ask)).await;
        workers.sort_by_key(|worker| worker.slot);
        workers
    }

    /// Why there are fewer pods than the StatefulSet asks for. Only asked for then: it is a request.
    async fn refused_pods(&self, job: &StreamJob, asked: Option<u32>, set: Option<&StatefulSet>) -> Option<Trouble> {
        let pods: Vec<Arc<Held<Pod>>> =
            parts(&self.children.pods, job).filter(|pod| is_of(pod, job, Component::Worker)).collect();
        if pods.len() >= asked? as usize {
            return None;
        }
        let uid = set?.metadata.uid.as_deref()?;
        let newest = pods.iter().filter_map(|pod| pod.meta().creation_timestamp.as_ref()).map(millis).max();
        refused(&self.context.client, &job.namespace()?, uid, newest.unwrap_or(0)).await
    }

    /// The Jobs of `component`, each with its pod.
    fn jobs_of(&self, job: &StreamJob, component: Component) -> Vec<(Job, Option<PodFact>)> {
        let is_one = |child: &Arc<Held<Job>>| {
            let label = child.labels().get(names::COMPONENT).map(String::as_str);
            belongs(&**child, job) && label == Some(component.label()) && child.meta().deletion_timestamp.is_none()
        };
        let jobs: Vec<Job> =
            parts(&self.children.jobs, job).filter(is_one).filter_map(|child| child.object()).collect();
        if jobs.is_empty() {
            return Vec::new();
        }
        let pods = self.pods_of(job, component);
        let with_pod = |child: Job| {
            let name = child.name_any();
            let pod = pods.iter().find(|pod| pod.labels().get("job-name") == Some(&name)).map(pods::fact);
            (child, pod)
        };
        jobs.into_iter().map(with_pod).collect()
    }

    async fn preflights(&self, job: &StreamJob) -> Vec<PreflightFact> {
        let fact = |(child, pod): (Job, Option<PodFact>)| {
            let label = |label: &str| child.labels().get(label).cloned();
            let made = child.metadata.creation_timestamp.as_ref().map_or(0, millis);
            let podless = pod.is_none().then(|| child.uid()).flatten();
            let fact = PreflightFact {
                revision: label(names::REVISION)?,
                attempt: label(names::ATTEMPT)?.parse().ok()?,
                pod: label(names::POD),
                made_ms: made,
                state: preflight_state(&child, pod),
                name: child.name_any(),
            };
            Some((podless, fact))
        };
        let there = self.jobs_of(job, Component::Preflight).into_iter().filter_map(fact);
        let asked = there.map(|(podless, mut fact)| async move {
            if let (Some(uid), PreflightState::Running(trouble @ None)) = (podless, &mut fact.state) {
                *trouble = refused(&self.context.client, &job.namespace().unwrap_or_default(), &uid, 0).await;
            }
            fact
        });
        join_all(asked).await
    }

    /// What is to become of what the job leaves; asked when it is deleted.
    fn legacy(&self, job: &StreamJob, children: &Children) -> Legacy {
        if job.metadata.deletion_timestamp.is_none() || job.spec.deletion_policy != Some(DeletionPolicy::Delete) {
            return Legacy::Kept;
        }
        // A lineage may be there as soon as a preflight has begun.
        let begun = job.status.as_ref().is_some_and(|status| status.lineage.is_some())
            || self.accepted(job).is_some()
            || children.candidates().next().is_some();
        if !begun {
            return Legacy::None;
        }
        let fact = |(child, pod): (Job, Option<PodFact>)| {
            let attempt = child.labels().get(names::ATTEMPT)?.parse().ok()?;
            Some(RetirementFact { attempt, state: retirement_state(&child, pod) })
        };
        match remnant(job, &self.context.config, &self.context.cluster_id) {
            Ok(remnant) => Legacy::Deleted {
                job: Box::new(remnant),
                attempts: self.jobs_of(job, Component::Retirement).into_iter().filter_map(fact).collect(),
            },
            Err(refusal) => Legacy::Lost(refusal),
        }
    }
}

/// When the StatefulSet was last asked to try again.
fn asked_again(set: &StatefulSet) -> i64 {
    set.annotations().get(ASKED_AGAIN).and_then(|ms| ms.parse().ok()).unwrap_or(0)
}

/// A pod that is over for good is no worker: its StatefulSet makes another.
fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Succeeded") && pod.metadata.deletion_timestamp.is_none()
}

fn unready(topic: &Topic) -> Option<String> {
    let (name, status) = (topic.name_any(), topic.status.as_ref());
    let seen = status.is_some_and(|status| Some(status.observed_generation) == topic.metadata.generation);
    let ready = status.and_then(|status| conditions::find(&status.conditions, condition::READY));
    match ready {
        Some(ready) if ready.status == "True" => None,
        Some(ready) if seen => Some(format!("Topic {name} is not ready: {}: {}", ready.reason, ready.message)),
        _ => Some(format!("Topic {name} is not ready: it was not reconciled yet")),
    }
}

/// How a Job of one pod ended.
enum End<'a> {
    Not,
    Complete(&'a JobCondition),
    Failed(&'a JobCondition),
}

fn end(job: &Job) -> End<'_> {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let holds =
        |type_: &str| conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True");
    match (holds("Complete"), holds("Failed")) {
        (Some(end), _) => End::Complete(end),
        (None, Some(end)) => End::Failed(end),
        (None, None) => End::Not,
    }
}

fn preflight_state(job: &Job, pod: Option<PodFact>) -> PreflightState {
    let report = pod.as_ref().and_then(|pod| serde_json::from_str::<PreflightReport>(pod.message.as_deref()?).ok());
    match (end(job), report) {
        (End::Not, _) => PreflightState::Running(pod.and_then(|pod| pod.trouble)),
        (End::Complete(_), Some(report)) if report.ok => PreflightState::Passed(report),
        // Exit code 2 is a refusal, 1 may heal; a reason that is known says it itself.
        (End::Complete(end) | End::Failed(end), Some(report)) => {
            PreflightState::Failed(failure(end, report.reason, report.message))
        }
        (End::Complete(end) | End::Failed(end), None) => {
            PreflightState::Failed(silent(end, pod, &format!("the preflight Job {}", job.name_any())))
        }
    }
}

fn retirement_state(job: &Job, pod: Option<PodFact>) -> RetirementState {
    let report = pod.as_ref().and_then(|pod| serde_json::from_str::<WorkerEnd>(pod.message.as_deref()?).ok());
    match (end(job), report) {
        (End::Not, _) => RetirementState::Running(pod.and_then(|pod| pod.trouble)),
        (End::Complete(_), _) => RetirementState::Done,
        (End::Failed(end), Some(report)) => RetirementState::Failed(failure(end, report.reason, report.message)),
        (End::Failed(end), None) => {
            RetirementState::Failed(silent(end, pod, &format!("the retirement Job {}", job.name_any())))
        }
    }
}

/// A failure that its pod has reported.
fn failure(end: &JobCondition, reason: String, message: String) -> PreflightFailure {
    let at_ms = end.last_transition_time.as_ref().map_or(0, millis);
    PreflightFailure { kind: kind_of(&reason, true), reason, message, at_ms }
}

/// One that its pod has not reported.
fn silent(end: &JobCondition, pod: Option<PodFact>, what: &str) -> PreflightFailure {
    let trouble = pod.as_ref().and_then(|pod| pod.trouble.clone());
    let known = trouble.as_ref().and_then(|trouble| reasons::find(&trouble.reason)).unwrap_or(&PREFLIGHT_FAILED);
    let words = pod.and_then(|pod| pod.message).unwrap_or_default();
    let why = trouble.map(|trouble| format!("{}: {}", trouble.reason, trouble.message));
    let why = why.unwrap_or_else(|| end.message.clone().unwrap_or_default());
    failure(end, known.name.to_owned(), format!("{what} ended without a report: {why} {words}"))
}
