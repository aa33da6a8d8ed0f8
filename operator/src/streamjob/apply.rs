//! Does IO: carries a decision out. Every write is idempotent or guarded by the version that it was decided on, and
//! touches nothing that is not the job's.

use std::hash::{DefaultHasher, Hash, Hasher};

use freshet_crds::StreamJob;
use freshet_crds::control::{Assignment, PreflightReport};
use freshet_crds::reasons::{self, Kind, Reason};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};

use super::build::{ASKED_AGAIN, Builder, Child, ChildKind, differs, holds_more};
use super::decide::Action;
use super::facts::{Facts, Legacy};
use super::names;
use super::observe::Children;
use super::rollout;
use super::shapes::Shapes;
use super::validate::Valid;
use super::workers::{WorkerError, Workers};
use crate::context::FIELD_MANAGER;
use crate::metrics::Metrics;

/// Why an action was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused or failed.
    #[error("{action} {kind} `{name}`: {}", words(source))]
    Api {
        /// What was being done.
        action: &'static str,
        /// Which kind of object.
        kind: &'static str,
        /// Which object.
        name: String,
        /// The API server's answer.
        source: kube::Error,
    },
    /// An object of this name is there and is not the job's.
    #[error(
        "{kind} `{name}` is there already and belongs to somebody else; rename the StreamJob, or remove that object"
    )]
    NameTaken {
        /// Which kind of object.
        kind: &'static str,
        /// Which object.
        name: String,
    },
    /// An object of a former StreamJob of this name is still going.
    #[error("{kind} `{name}` of a former StreamJob of this name is still being deleted")]
    StillGoing {
        /// Which kind of object.
        kind: &'static str,
        /// Which object.
        name: String,
    },
    /// No worker handed out the next generation.
    #[error("no worker handed out the next generation: {0}")]
    HandOut(WorkerError),
    /// The spec changed between the look and the act.
    #[error("the spec can't be acted on")]
    NoSpec,
}

impl ApplyError {
    /// What a condition says of it: a reason by name, and its kind.
    #[must_use]
    pub fn reason(&self) -> (&str, Kind) {
        let known = |reason: &'static Reason| (reason.name, reason.kind);
        match self {
            Self::Api { .. } => known(&reasons::API_REFUSED),
            Self::NameTaken { .. } => known(&reasons::NAME_TAKEN),
            // They pass: what is in the way goes, or the next pass sees more.
            Self::StillGoing { .. } | Self::NoSpec => known(&reasons::STARTING),
            // It is asked again, whatever it says.
            Self::HandOut(WorkerError::Refused(refusal)) => (&refusal.reason, Kind::Passing),
            Self::HandOut(WorkerError::Silent(_) | WorkerError::Token(_)) => known(&reasons::WORKER_UNREACHABLE),
        }
    }
}

/// The API server's own sentence, where it gave one: the rest of its answer is for programs.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// What was done, beyond what the next look sees.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// The generation that a worker handed out.
    pub handed_out: Option<Assignment>,
    /// Pods that were removed because their nodes are lost.
    pub force_deleted: Vec<String>,
    /// The resource, if it was written.
    pub written: Option<Box<StreamJob>>,
    /// Whether the StatefulSet was told to make its pods otherwise: it replaces those that it has.
    pub restarts: bool,
}

/// Carries decisions out for one job.
pub struct Applier<'a> {
    /// The API client.
    pub client: &'a Client,
    /// Counts writes.
    pub metrics: &'a Metrics,
    /// Talks to workers.
    pub workers: &'a Workers,
    /// The job, as it was seen.
    pub job: &'a StreamJob,
    /// What it asks for.
    pub valid: Option<&'a Valid>,
    /// Its children, as they were seen.
    pub children: &'a Children,
    /// What one pass knows.
    pub facts: &'a Facts,
    /// The job's control token.
    pub token: &'a str,
    /// What the API server makes of what is applied.
    pub shapes: &'a Shapes,
}

impl Applier<'_> {
    /// Carries out `actions`, in order.
    ///
    /// # Errors
    /// [`ApplyError`] of the first that failed; those behind it were not begun.
    pub async fn run(&self, actions: &[Action]) -> Result<Done, ApplyError> {
        let mut done = Done::default();
        let mut accepted = self.facts.accepted.as_ref().map(|accepted| &accepted.report);
        for action in actions {
            match action {
                Action::AddFinalizer => done.written = self.finalizer(true).await?.map(Box::new),
                Action::RemoveFinalizer { .. } => {
                    self.finalizer(false).await?;
                }
                Action::StartPreflight { attempt, slots } => {
                    let builder = self.builder()?;
                    if let Some(account) = builder.service_account() {
                        self.ensure(&account).await?;
                    }
                    self.ensure(&builder.candidate()).await?;
                    let asks = self.valid.is_some_and(|valid| valid.asks.anything(self.has_lineage()));
                    self.ensure(&builder.preflight(*attempt, *slots, asks)).await?;
                }
                Action::StartRetirement { attempt } => {
                    let Legacy::Deleted { job, .. } = &self.facts.legacy else { continue };
                    let builder = Builder::new(job, self.owner()?);
                    if let Some(account) = builder.service_account() {
                        self.ensure(&account).await?;
                    }
                    self.ensure(&builder.retirement_manifests()).await?;
                    self.ensure(&builder.retirement(*attempt)).await?;
                }
                Action::RemovePreflights { jobs, manifests } => {
                    for name in jobs {
                        self.delete::<Job>(name, &DeleteParams::background()).await?;
                    }
                    for name in manifests {
                        self.delete::<ConfigMap>(name, &DeleteParams::background()).await?;
                    }
                }
                Action::Accept(report) => {
                    self.ensure(&self.builder()?.manifests(report)).await?;
                    // What was accepted before is not written over it.
                    accepted = None;
                }
                Action::ApplyWorkers { pods } => done.restarts |= self.workers(*pods, accepted).await?,
                Action::ResizeWorkers { pods } => self.resize(*pods).await?,
                Action::HandOut { slots } => done.handed_out = Some(self.hand_out(*slots).await?),
                Action::AskAgain => self.ask_again().await?,
                Action::Replace { pod } => self.delete::<Pod>(pod, &DeleteParams::default()).await?,
                Action::ForceDelete { pod } => {
                    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                    self.delete::<Pod>(pod, &at_once).await?;
                    done.force_deleted.push(pod.clone());
                }
            }
        }
        Ok(done)
    }

    fn builder(&self) -> Result<Builder<'_>, ApplyError> {
        Ok(Builder::new(self.valid.ok_or(ApplyError::NoSpec)?, self.owner()?))
    }

    /// Whether this resource was ever given a lineage.
    fn has_lineage(&self) -> bool {
        let accepted = self.facts.accepted.as_ref();
        accepted.is_some_and(|accepted| accepted.report.lineage.is_some())
            || self.job.status.as_ref().is_some_and(|status| status.lineage.is_some())
    }

    fn owner(&self) -> Result<OwnerReference, ApplyError> {
        self.job.controller_owner_ref(&()).ok_or(ApplyError::NoSpec)
    }

    /// `accepted`: the report beside the manifests, where they were not written just now. Says whether pods that are there
    /// will be replaced.
    async fn workers(&self, pods: u32, accepted: Option<&PreflightReport>) -> Result<bool, ApplyError> {
        let builder = self.builder()?;
        let stamp = self.stamp(self.valid.ok_or(ApplyError::NoSpec)?, pods);
        // Not watched, since the operator reads no Secrets: made wherever a pod may lack it.
        let all_ready = self.facts.asked_pods == Some(pods)
            && self.facts.workers.len() >= pods as usize
            && self.facts.workers.iter().all(|worker| worker.pod.ready);
        if !all_ready || !self.children.secret_made {
            self.make_secret(&builder.secret(self.token)).await?;
        }
        if accepted.is_some() && self.shapes.is_settled(self.job, stamp) {
            return Ok(false);
        }
        if let Some(account) = builder.service_account() {
            self.ensure(&account).await?;
        }
        let mut wrote = false;
        if let Some(report) = accepted {
            wrote |= self.ensure(&builder.manifests(report)).await?;
        }
        wrote |= self.ensure(&builder.service()).await?;
        wrote |= self.ensure(&builder.disruption_budget()).await?;
        let set = builder.stateful_set(pods);
        let set_wrote = self.ensure(&set).await?;
        if !(wrote || set_wrote) {
            self.shapes.settle(self.job, stamp);
        }
        Ok(set_wrote
            && self.children.json(set.kind, &set.name).is_some_and(|before| rollout::begins(&set.json, &before)))
    }

    /// What the workers' children hang on, and the versions in which they are.
    fn stamp(&self, valid: &Valid, pods: u32) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.job.metadata.generation, &valid.manifests, pods).hash(&mut hasher);
        self.children.versions().for_each(|version| version.hash(&mut hasher));
        hasher.finish()
    }

    /// Writes a child where it is missing or not as it should be, and says whether it did.
    async fn ensure(&self, child: &Child) -> Result<bool, ApplyError> {
        match self.children.json(child.kind, &child.name) {
            Some(actual) if !differs(&child.json, &actual) => return Ok(false),
            // As the API server has written it.
            Some(actual) if self.shapes.is_known(self.job, child, &actual) => return Ok(false),
            Some(_) => {}
            None => {
                // The store may be behind, or not see a foreign object: a look before the first write.
                let (_, kind) = child.kind.names();
                let found = self.api(child.kind).get_metadata_opt(&child.name).await;
                let found = found.map_err(|source| self.error("looking for", kind, &child.name, source))?;
                if let Some(found) = found {
                    self.must_be_ours(&found, kind, &child.name)?;
                }
            }
        }
        self.apply(child).await?;
        Ok(true)
    }

    async fn apply(&self, child: &Child) -> Result<(), ApplyError> {
        let by = PatchParams::apply(FIELD_MANAGER).force();
        let mut written = self.write(child, &by, &Patch::Apply(&child.json), "apply").await?;
        if holds_more(&child.json, &written) {
            // Server-side apply leaves in a list of ours what others put there; this takes it out.
            let by = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            written = self.write(child, &by, &Patch::Merge(&child.json), "patch").await?;
        }
        self.shapes.learn(self.job, child, &written);
        Ok(())
    }

    async fn write(
        &self,
        child: &Child,
        by: &PatchParams,
        patch: &Patch<&Value>,
        verb: &'static str,
    ) -> Result<Value, ApplyError> {
        let (_, kind) = child.kind.names();
        let failed = |source| self.error("writing", kind, &child.name, source);
        let written = self.api(child.kind).patch(&child.name, by, patch).await.map_err(failed)?;
        self.metrics.wrote(kind, verb);
        serde_json::to_value(&written).map_err(|error| failed(kube::Error::SerdeError(error)))
    }

    async fn make_secret(&self, child: &Child) -> Result<(), ApplyError> {
        let made = make_secret(self.client, self.metrics, &self.namespace(), child).await;
        made.map_err(|source| self.error("writing", child.kind.names().1, &child.name, source))
    }

    async fn resize(&self, pods: u32) -> Result<(), ApplyError> {
        self.patch_set("resizing", &json!({ "spec": { "replicas": pods } })).await
    }

    /// A StatefulSet that changes is looked at by its controller at once.
    async fn ask_again(&self) -> Result<(), ApplyError> {
        let now = self.facts.now_ms.to_string();
        self.patch_set("touching", &json!({ "metadata": { "annotations": { ASKED_AGAIN: now } } })).await
    }

    async fn patch_set(&self, action: &'static str, patch: &Value) -> Result<(), ApplyError> {
        let name = self.job.name_any();
        let by = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), &self.namespace());
        match api.patch(&name, &by, &Patch::Merge(patch)).await {
            Ok(_) => self.metrics.wrote("StatefulSet", "patch"),
            Err(error) if is_gone(&error) => {}
            Err(source) => return Err(self.error(action, "StatefulSet", &name, source)),
        }
        Ok(())
    }

    async fn hand_out(&self, slots: u32) -> Result<Assignment, ApplyError> {
        let secret = names::secret(&self.job.name_any());
        let mut last = WorkerError::Silent("none answers".to_owned());
        let reachable = self.facts.workers.iter().filter(|worker| matches!(worker.status, Some(Ok(_))));
        for ip in reachable.filter_map(|worker| worker.pod.ip.as_ref()) {
            match self.workers.hand_out(ip, self.token, &secret, slots).await {
                Ok(assignment) => return Ok(assignment),
                Err(error) => last = error,
            }
        }
        Err(ApplyError::HandOut(last))
    }

    async fn finalizer(&self, wanted: bool) -> Result<Option<StreamJob>, ApplyError> {
        let mut finalizers = self.job.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != names::FINALIZER);
        if wanted {
            finalizers.push(names::FINALIZER.to_owned());
        }
        // Guarded by the version that was seen: somebody else's finalizer must not be lost.
        let patch = json!({
            "metadata": { "finalizers": finalizers, "resourceVersion": self.job.metadata.resource_version },
        });
        let by = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let api: Api<StreamJob> = Api::namespaced(self.client.clone(), &self.namespace());
        match api.patch(&self.job.name_any(), &by, &Patch::Merge(&patch)).await {
            Ok(job) => {
                self.metrics.wrote("StreamJob", "patch");
                Ok(Some(job))
            }
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(self.error("changing the finalizers of", "StreamJob", &self.job.name_any(), source)),
        }
    }

    async fn delete<K>(&self, name: &str, how: &DeleteParams) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + k8s_openapi::Resource,
    {
        let how = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..how.clone() };
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace());
        match api.delete(name, &how).await {
            Ok(_) => self.metrics.wrote(K::KIND, "delete"),
            Err(error) if is_gone(&error) => {}
            Err(source) => return Err(self.error("deleting", K::KIND, name, source)),
        }
        Ok(())
    }

    fn must_be_ours(&self, found: &impl ResourceExt, kind: &'static str, name: &str) -> Result<(), ApplyError> {
        let owners = found.owner_references();
        if owners.iter().any(|owner| Some(&owner.uid) == self.job.metadata.uid.as_ref()) {
            return Ok(());
        }
        let former = owners.iter().any(|owner| owner.kind == "StreamJob" && owner.name == self.job.name_any());
        Err(if former {
            ApplyError::StillGoing { kind, name: name.to_owned() }
        } else {
            ApplyError::NameTaken { kind, name: name.to_owned() }
        })
    }

    fn api(&self, kind: ChildKind) -> Api<DynamicObject> {
        api(self.client, &self.namespace(), kind)
    }

    fn namespace(&self) -> String {
        self.job.namespace().unwrap_or_default()
    }

    fn error(&self, action: &'static str, kind: &'static str, name: &str, source: kube::Error) -> ApplyError {
        ApplyError::Api { action, kind, name: name.to_owned(), source }
    }
}

/// Makes a Secret, and only makes it: one that is there is left as it is, and what it holds is not read.
///
/// # Errors
/// The API server's answer, unless it is that it is there.
pub async fn make_secret(
    client: &Client,
    metrics: &Metrics,
    namespace: &str,
    child: &Child,
) -> Result<(), kube::Error> {
    let object: DynamicObject = serde_json::from_value(child.json.clone()).map_err(kube::Error::SerdeError)?;
    let by = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match api(client, namespace, child.kind).create(&by, &object).await {
        Ok(_) => metrics.wrote(child.kind.names().1, "create"),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn api(client: &Client, namespace: &str, kind: ChildKind) -> Api<DynamicObject> {
    let (api_version, kind) = kind.names();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}
