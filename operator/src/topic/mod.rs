//! Topics: the Kafka topic that each names, made and kept as the resource says.
//!
//! ```text
//!  reconcile: finalizer ─▶ observe ─▶ decide ─▶ apply ─▶ look until it is shown ─▶ status, one patch ─▶ events
//!                            │  ▲        │         │
//!               cluster: batched calls ──┘◀────────┘
//! ```
//!
//! * [`wanted`] (pure): the spec with its defaults filled in.
//! * [`decide`], [`difference`] (pure): what is done, as enums; `decide_ending` with one that is being deleted.
//! * [`claims`] (pure): whose a Kafka topic is that several Topics name.
//! * [`users`] (pure): which StreamJobs use a Topic, and how.
//! * [`cluster`] (IO): one client a Kafka cluster, with requests for many Topics at once.
//! * [`reconcile`] (IO): one pass; `ending` its last, `written` what it writes, `look` (pure) when the next is due.
//!   [`status`] (pure): what it found, as conditions.
//!
//! What is never done: a topic that was ever known is not made again; a topic is not deleted unless it has the id
//! that is known, its deletionPolicy says so, and nobody else names it; nothing is written that changes nothing.

pub mod claims;
pub mod cluster;
pub mod decide;
mod decide_ending;
pub mod difference;
mod ending;
mod look;
pub mod reconcile;
pub mod secured;
pub mod status;
pub mod users;
pub mod wanted;
mod written;

use std::sync::Arc;

use freshet_crds::reasons::{self, condition};
use freshet_crds::{StreamJob, Topic};
use futures::stream::{self, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::conditions::find;
use crate::context::Context;
use crate::controller::{Setup, Triggers, counted, drive, triggers};
use crate::run::Watches;
use crate::watch::Change;
use claims::Claims;
use cluster::Clusters;
use reconcile::Topics;
use secured::Secured;

const KIND: &str = "Topic";

/// Passes side by side: they wait for answers from Kafka that many of them share.
const AT_ONCE: u16 = 256;

/// Reconciles Topics until `stopping` is true.
pub async fn control(context: Context, watches: Watches, stopping: watch::Receiver<bool>) {
    // Heard from here on, so that nothing is missed between the first look and the first change.
    let changes = watches.topics.changes();
    watches.topics.known().await;
    watches.jobs.known().await;
    let claims = Arc::new(Claims::default());
    let default = context.config.kafka.clone();
    for topic in watches.topics.store.state() {
        claims.note(&topic, default.as_deref());
    }
    let rivals = {
        let (claims, store) = (Arc::clone(&claims), watches.topics.store.clone());
        changes.flat_map(move |change| stream::iter(keep_claims(&claims, &store, default.as_deref(), &change))).boxed()
    };
    let setup = Setup {
        kind: KIND,
        concurrency: AT_ONCE.max(context.config.concurrency),
        metrics: context.metrics.clone(),
        clock: context.clock.clone(),
        stopping,
    };
    let secured = Secured::of(&context.config).unwrap_or_else(|error| {
        tracing::error!(%error, "Kafka is asked without credentials");
        Secured::default()
    });
    let metrics = context.metrics.clone();
    let clusters = Clusters::new(metrics.registry(), secured);
    let waiting = waiting_for_jobs(&watches);
    let topics = Arc::new(Topics::new(context, watches.clone(), clusters, claims));
    tokio::select! {
        () = drive(setup, &watches.topics, vec![rivals, waiting], topics) => {}
        () = counted(KIND, &watches.topics, conditions, &metrics) => {}
    }
}

fn conditions(topic: &Topic) -> &[Condition] {
    topic.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
}

/// Keeps the claims as the Topics are, and gives those Topics that a change of another concerns.
fn keep_claims(
    claims: &Claims,
    store: &Store<Topic>,
    default: Option<&str>,
    change: &Change<Topic>,
) -> Vec<ObjectRef<Topic>> {
    match change {
        Change::One(topic) if store.get(&ObjectRef::from_obj(&**topic)).is_some() => {
            claims.note(topic, default);
            Vec::new()
        }
        Change::One(topic) => claims.forget(topic),
        Change::Many => {
            let there = store.state();
            claims.rebuild(there.iter().map(|topic| &**topic), default);
            there.iter().map(|topic| ObjectRef::from_obj(&**topic)).collect()
        }
    }
}

/// Topics that wait for a StreamJob to go, whenever a StreamJob of their namespace changes.
fn waiting_for_jobs(watches: &Watches) -> Triggers<Topic> {
    let (some, all) = (watches.topics.store.clone(), watches.topics.store.clone());
    let waits = |topic: &Topic| {
        let stalled = find(conditions(topic), condition::STALLED);
        topic.metadata.deletion_timestamp.is_some()
            || stalled.is_some_and(|found| found.reason == reasons::PARTITIONS_IN_USE.name)
    };
    let refs = move |topics: Vec<Arc<Topic>>| topics.iter().map(|topic| ObjectRef::from_obj(&**topic)).collect();
    triggers(
        &watches.jobs,
        move |job: &StreamJob| {
            let namespace = job.namespace();
            refs(some.state_filter(|topic| topic.namespace() == namespace && waits(topic)))
        },
        move || refs(all.state_filter(waits)),
    )
}

/// Topics alone, with watches of their own: what a test or a benchmark of this room needs of an operator.
pub async fn alone(context: Context, stopping: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    let watches = Watches::start(&context, &mut tasks);
    control(context, watches, stopping).await;
}
