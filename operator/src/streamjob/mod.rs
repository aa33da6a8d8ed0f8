//! StreamJobs: the workers that each names, made, resized, changed and stopped as the resource says.
//!
//! One pass goes through the steps of the crate's essay: [`observe`] gathers [`facts`], [`validate`] resolves the
//! spec, [`decide`](mod@decide) says what is next, [`build`] and [`apply`] do it, [`status`] says how things are. [`tale`] makes
//! events of what changed. Where all is well only the workers are asked, until something is otherwise ([`rest`]).

pub mod apply;
pub mod build;
pub mod decide;
mod ending;
pub mod facts;
mod key;
pub mod names;
pub mod observe;
pub mod pods;
pub mod refused;
pub mod remembered;
pub mod rest;
pub mod rollout;
pub mod shapes;
pub mod status;
pub mod tale;
#[cfg(test)]
mod tests;
mod trim;
pub mod validate;
pub mod workers;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freshet_crds::{StreamJob, Topic};
use futures::future::try_join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::PostParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use key::{ControlKey, KeyError};

use crate::context::Context;
use crate::controller::{self, Pass, Reconcile, Setup, Triggers};
use crate::metrics::Outcome;
use crate::run::Watches;
use apply::{Applier, ApplyError};
use build::Builder;
use decide::{Action, Decision, Stage, decide};
use facts::Facts;
use observe::{ChildWatches, Eyes};
use remembered::Remembered;
use rest::{Rest, Rests, Stamp};
use shapes::Shapes;
use workers::Workers;

/// The kind's name in metrics and logs.
const KIND: &str = "StreamJob";

/// When to look again: while something is under way, while all is well, and while there is nothing to look at.
const SOON: Duration = Duration::from_secs(1);
const STEADY: Duration = Duration::from_secs(5);
const RESTING: Duration = Duration::from_secs(60);

/// How often it is tried to make a job's Secret again, which may have been deleted, ms: at least this, and so much for
/// each job.
const SECRET_MS: i64 = 20_000;
const SECRET_EACH_MS: i64 = 100;

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// An action was not carried out; the status says so too.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The status can't be written.
    #[error("writing the status of StreamJob `{name}`: {source}")]
    Status {
        /// Which job.
        name: String,
        /// The API server's answer.
        source: kube::Error,
    },
}

/// Reconciles StreamJobs until `stopping` is true.
pub async fn control(context: Context, watches: Watches, key: ControlKey, stopping: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    let children = ChildWatches::start(&context, &mut tasks);
    let workers = match Workers::new(context.metrics.clone()) {
        Ok(workers) => workers,
        Err(error) => {
            tracing::error!(%error, "StreamJobs are not reconciled: the HTTP client can't be made");
            return;
        }
    };
    let known = async {
        tokio::join!(watches.jobs.known(), watches.topics.known(), children.known());
    };
    tokio::select! {
        () = known => {}
        () = crate::run::asked(stopping.clone()) => return,
    }
    let setup = Setup {
        kind: KIND,
        concurrency: context.config.concurrency,
        metrics: context.metrics.clone(),
        clock: context.clock.clone(),
        stopping,
    };
    let remembered = Arc::new(Remembered::default());
    let triggers = triggers(&watches, &children, &remembered);
    let jobs = watches.jobs.clone();
    let reconciler = Reconciler {
        context,
        watches,
        children,
        workers,
        key,
        written: Mutex::default(),
        secrets: Mutex::default(),
        remembered,
        rests: Rests::default(),
        shapes: Shapes::default(),
    };
    let metrics = reconciler.context.metrics.clone();
    tokio::select! {
        () = controller::drive(setup, &jobs, triggers, Arc::new(reconciler)) => {}
        () = controller::counted(KIND, &jobs, conditions, &metrics) => {}
    }
}

/// StreamJobs alone, with watches of their own: what a test of this room needs of an operator.
pub async fn alone(context: Context, key: ControlKey, stopping: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    let watches = Watches::start(&context, &mut tasks);
    control(context, watches, key, stopping).await;
}

fn conditions(job: &StreamJob) -> &[Condition] {
    job.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
}

/// Children name their job by a label; a Topic concerns the jobs of its namespace that name it.
fn triggers(watches: &Watches, children: &ChildWatches, remembered: &Arc<Remembered>) -> Vec<Triggers<StreamJob>> {
    /// By its label; and, where somebody took that away, by whom it belongs to.
    fn owner<K: Resource<DynamicType = ()>>(child: &K) -> Vec<ObjectRef<StreamJob>> {
        let (labelled, owner) = (crate::watch::instance(child), crate::watch::owner(child));
        let namespace = child.namespace().unwrap_or_default();
        let jobs = labelled.into_iter().chain(owner.filter(|owner| labelled != Some(owner)));
        jobs.map(|job| ObjectRef::new(job).within(&namespace)).collect()
    }
    let store = watches.jobs.store.clone();
    let every =
        move || -> Vec<ObjectRef<StreamJob>> { store.state().iter().map(|job| ObjectRef::from_obj(&**job)).collect() };
    let (store, changed) = (watches.jobs.store.clone(), Arc::clone(remembered));
    let of_topic = move |topic: &Topic| -> Vec<ObjectRef<StreamJob>> {
        let namespace = &topic.metadata.namespace;
        let jobs = store.state_filter(|job| job.metadata.namespace == *namespace && validate::names(&job.spec, topic));
        jobs.iter().filter_map(|job| job.metadata.uid.as_deref()).for_each(|uid| changed.topic_changed(uid));
        jobs.iter().map(|job| ObjectRef::from_obj(&**job)).collect()
    };
    let (all, changed) = (every.clone(), Arc::clone(remembered));
    let of_topics = move || {
        changed.topics_changed();
        all()
    };
    vec![
        controller::triggers(&watches.topics, of_topic, of_topics),
        controller::triggers(&children.accounts, owner, every.clone()),
        controller::triggers(&children.config_maps, owner, every.clone()),
        controller::triggers(&children.services, owner, every.clone()),
        controller::triggers(&children.stateful_sets, owner, every.clone()),
        controller::triggers(&children.budgets, owner, every.clone()),
        controller::triggers(&children.jobs, owner, every.clone()),
        controller::triggers(&children.pods, owner, every),
    ]
}

struct Reconciler {
    context: Context,
    watches: Watches,
    children: ChildWatches,
    workers: Workers,
    key: ControlKey,
    /// Jobs as this process wrote them last, by UID: the watch may be behind.
    written: Mutex<HashMap<String, Arc<StreamJob>>>,
    /// When this process last made a job's Secret, or found it there, by the job's UID; ms since the Unix epoch.
    secrets: Mutex<HashMap<String, i64>>,
    remembered: Arc<Remembered>,
    rests: Rests,
    shapes: Shapes,
}

impl Reconcile<StreamJob> for Reconciler {
    type Error = PassError;

    async fn reconcile(&self, object: Arc<StreamJob>) -> Result<Pass, PassError> {
        let job = self.newest(object);
        let uid = job.uid().unwrap_or_default();
        // Before anything is looked at.
        let stamp = self.stamp(&job, &uid);
        if self.still_rests(&job, &uid, &stamp).await {
            return Ok(Pass { outcome: Outcome::Settled, again: steady(self.watches.jobs.store.len()) });
        }
        let token = self.key.token(&uid);
        let eyes = Eyes {
            context: &self.context,
            topics: &self.watches.topics,
            children: &self.children,
            workers: &self.workers,
            remembered: &self.remembered,
            token: &token,
        };
        let (facts, mut children) = eyes.look(&job).await;
        children.secret_made = facts.now_ms < self.secret_seen_until(&uid);
        let deadline = i64::try_from(self.context.config.deletion_deadline.as_millis()).unwrap_or(i64::MAX);
        let decision = decide(&facts, deadline);
        tracing::debug!(job = job.name_any(), stage = ?decision.stage, actions = ?decision.actions, "decided");
        let applier = Applier {
            client: &self.context.client,
            metrics: &self.context.metrics,
            workers: &self.workers,
            job: &job,
            valid: facts.valid.as_ref().ok(),
            children: &children,
            facts: &facts,
            token: &token,
            shapes: &self.shapes,
        };
        // While a pass ends in the finalizer's going, the story and the status come first.
        let (last, first): (Vec<Action>, Vec<Action>) =
            decision.actions.iter().cloned().partition(|action| matches!(action, Action::RemoveFinalizer { .. }));
        let mut done = applier.run(&first).await;
        let applied = done.is_ok() && first.iter().any(|action| matches!(action, Action::ApplyWorkers { .. }));
        if applied && !children.secret_made {
            lock(&self.secrets).insert(uid.clone(), facts.now_ms);
        }
        let happened = tale::told(&job, &facts, &decision, done.as_ref().ok());
        let written = done.as_mut().ok().and_then(|done| done.written.take());
        let newest = written.as_deref().unwrap_or(&job);
        // Pods that will be replaced are not there as the spec says, though the facts were gathered before.
        let restarts = done.as_ref().is_ok_and(|done| done.restarts);
        let told = restarts.then(|| Facts { restarting: true, ..facts.clone() });
        let told = told.as_ref().unwrap_or(&facts);
        let stands = self.write_status(newest, told, &decision, &children, done.as_ref().err(), &happened).await?;
        let done = done?;
        if !last.is_empty() {
            // The status was written just now: the finalizer goes from that version.
            let newest = self.newest(Arc::clone(&job));
            Applier { job: &newest, ..applier }.run(&last).await?;
            lock(&self.written).remove(&uid);
            lock(&self.secrets).remove(&uid);
            self.remembered.forget(&uid);
            self.rests.put(&uid, None);
            self.shapes.forget(&uid);
            return Ok(Pass { outcome: Outcome::Settled, again: RESTING });
        }
        let pass = next_look(&facts, &decision, &done);
        if pass.again != STEADY {
            return Ok(pass);
        }
        // What could not be told yet is told by the next pass.
        self.rests.put(&uid, Rest::of(&facts, stamp).filter(|_| stands));
        Ok(Pass { again: steady(self.watches.jobs.store.len()), ..pass })
    }
}

impl Reconciler {
    /// In which state everything is that a pass looks at.
    fn stamp(&self, job: &StreamJob, uid: &str) -> Stamp {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let name = job.metadata.name.as_deref().unwrap_or_default();
        Stamp {
            version: job.resource_version(),
            topics: self.remembered.topics_of(uid),
            children: self.children.changed(namespace, name),
        }
    }

    /// Whether the job rests, nothing has changed, and its workers say so.
    async fn still_rests(&self, job: &StreamJob, uid: &str, stamp: &Stamp) -> bool {
        let Some(rest) = self.rests.get(uid) else { return false };
        if let Some(workers) = rest.asks(stamp, self.context.clock.now_ms()) {
            let (token, secret) = (self.key.token(uid), names::secret(&job.name_any()));
            let glances = workers.iter().map(|worker| self.workers.glance(&worker.ip, &token, &secret, &worker.tag));
            // One that does not answer is asked once more, with all the others, before anything is said of it.
            let well = try_join_all(glances).await.is_ok_and(|answers| rest.goes_on(&answers));
            if well && self.secret_is_there(job, uid, &token).await {
                return true;
            }
        }
        self.rests.put(uid, None);
        false
    }

    /// Whether the Secret of a job that rests is there: it is made where it is time to look, which needs no whole pass.
    async fn secret_is_there(&self, job: &StreamJob, uid: &str, token: &str) -> bool {
        let now_ms = self.context.clock.now_ms();
        if now_ms < self.secret_seen_until(uid) {
            return true;
        }
        let valid = self.remembered.validate(job, &self.watches.topics, &self.context);
        let (Ok(valid), Some(owner)) = (valid, job.controller_owner_ref(&())) else { return false };
        let secret = Builder::new(&valid, owner).secret(token);
        let (client, metrics) = (&self.context.client, &self.context.metrics);
        let made = apply::make_secret(client, metrics, &valid.namespace, &secret).await;
        if made.is_ok() {
            lock(&self.secrets).insert(uid.to_owned(), now_ms);
        }
        made.is_ok()
    }

    /// Until when the job's Secret, which was there a short while ago, is taken to be there; ms since the Unix epoch. The
    /// operator can't read Secrets: it looks by trying to make it, less often where there are many.
    fn secret_seen_until(&self, uid: &str) -> i64 {
        let secrets = lock(&self.secrets);
        let every = i64::try_from(secrets.len()).unwrap_or(i64::MAX).saturating_mul(SECRET_EACH_MS).max(SECRET_MS);
        secrets.get(uid).map_or(0, |seen| seen.saturating_add(every))
    }

    /// The newer of what the watch shows and what was written last.
    fn newest(&self, seen: Arc<StreamJob>) -> Arc<StreamJob> {
        let mut written = lock(&self.written);
        let uid = seen.uid().unwrap_or_default();
        // Versions of one resource are numbers that grow.
        let version = |job: &StreamJob| job.resource_version().and_then(|version| version.parse::<u64>().ok());
        match written.get(&uid) {
            Some(own) if version(own) > version(&seen) => Arc::clone(own),
            _ => {
                written.remove(&uid);
                seen
            }
        }
    }

    /// Writes the status where it changed, and then tells what happened. Says whether the status stands: somebody else may
    /// have changed the resource meanwhile.
    async fn write_status(
        &self,
        job: &StreamJob,
        facts: &Facts,
        decision: &Decision,
        children: &observe::Children,
        failure: Option<&ApplyError>,
        happened: &[crate::events::Happening],
    ) -> Result<bool, PassError> {
        let status = status::status(job, facts, decision, children.pods, failure);
        let about = job.object_ref(&());
        let changed = job.status.as_ref() != Some(&status);
        let mut told = tale::of_status(job.status.as_ref(), &status, facts);
        let mut stands = true;
        if changed {
            let mut new = job.clone();
            new.status = Some(status);
            new.metadata.managed_fields = None;
            let api: Api<StreamJob> =
                Api::namespaced(self.context.client.clone(), &job.namespace().unwrap_or_default());
            match api.replace_status(&job.name_any(), &PostParams::default(), &new).await {
                Ok(mut job) => {
                    self.context.metrics.wrote(KIND, "status");
                    // Often the larger half of it, and it is kept until the watch has it.
                    job.metadata.managed_fields = None;
                    lock(&self.written).insert(job.uid().unwrap_or_default(), Arc::new(job));
                }
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                // Somebody changed the resource meanwhile: that asks for another pass, which sees more.
                Err(kube::Error::Api(status)) if status.is_conflict() => {
                    told.clear();
                    stands = false;
                }
                Err(source) => return Err(PassError::Status { name: job.name_any(), source }),
            }
        }
        for happening in happened.iter().cloned().chain(told) {
            self.context.events.tell(&about, happening).await;
        }
        Ok(stands)
    }
}

/// How often workers are asked that run: less often where there are many jobs, so that asking does not become all that
/// the operator does. Their pods' readiness is watched beside.
fn steady(jobs: usize) -> Duration {
    let each = Duration::from_millis(10).saturating_mul(u32::try_from(jobs).unwrap_or(u32::MAX));
    each.clamp(STEADY, 3 * STEADY)
}

/// When to look again.
fn next_look(facts: &Facts, decision: &Decision, done: &apply::Done) -> Pass {
    let moved = done.handed_out.is_some() || !done.force_deleted.is_empty();
    let good = status::health(facts) == status::Health::Good;
    match &decision.stage {
        _ if moved => Pass { outcome: Outcome::Waiting, again: SOON },
        Stage::Running if good => Pass { outcome: Outcome::Settled, again: STEADY },
        Stage::Refused(_) if good => Pass { outcome: Outcome::Settled, again: STEADY },
        Stage::Suspended | Stage::Refused(_) | Stage::WaitingForTopics(_) => {
            Pass { outcome: Outcome::Settled, again: if good { STEADY } else { RESTING } }
        }
        Stage::CheckFailed(_) | Stage::Checking { .. } => {
            Pass { outcome: Outcome::Waiting, again: Duration::from_secs(2) }
        }
        _ => Pass { outcome: Outcome::Waiting, again: SOON },
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is in it is whole after a panic too: every change is one call.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
