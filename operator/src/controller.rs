//! Does IO: runs passes over the resources of one kind: one after another for each, many side by side.
//!
//! Why a pass was asked for is not told to it: it looks at everything and does what is missing. A pass that fails is
//! made again, soon at first and then less often.
//!
//! Passes that must wait for others take their turns in the order in which they were asked for: among many that are busy
//! none waits for ever.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freshet_crds::reasons::condition;
use futures::stream::{BoxStream, Stream, StreamExt, select_all};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::controller::{self, Action, ReconcileRequest, applier};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};

use crate::clock::{self, Clock};
use crate::conditions::holding;
use crate::metrics::{Metrics, Outcome};
use crate::run::asked;
use crate::watch::{Change, Watched};

/// How a pass ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Whether something is under way.
    pub outcome: Outcome,
    /// When to look again if nothing changes before.
    pub again: Duration,
}

/// Makes passes over one resource.
pub trait Reconcile<K>: Send + Sync + 'static {
    /// Why a pass failed.
    type Error: std::error::Error + Send + 'static;

    /// One pass over `object`, which may be older than what was written last.
    fn reconcile(&self, object: Arc<K>) -> impl Future<Output = Result<Pass, Self::Error>> + Send;
}

/// What may make a pass worth while.
pub type Triggers<K> = BoxStream<'static, ObjectRef<K>>;

/// The first pause after a failure, and the longest.
const SHORTEST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(10);

/// How often resources are counted.
const COUNTED_EVERY: Duration = Duration::from_secs(5);

/// Objects that change in bursts are looked at once for all of a burst.
const DEBOUNCE: Duration = Duration::from_millis(30);

/// How the passes of a kind are run.
pub struct Setup {
    /// The kind's name, for metrics and logs.
    pub kind: &'static str,
    /// How many passes run side by side.
    pub concurrency: u16,
    /// Where passes are counted.
    pub metrics: Metrics,
    /// Tells the time.
    pub clock: Clock,
    /// When to begin no more passes.
    pub stopping: watch::Receiver<bool>,
}

/// Makes passes whenever an object of `watched` changes, `triggers` name one, or a pass asked for it. Completes when
/// asked to stop and the passes under way have ended.
pub async fn drive<K, R>(setup: Setup, watched: &Watched<K>, triggers: Vec<Triggers<K>>, reconciler: Arc<R>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    R: Reconcile<K>,
{
    let Setup { kind, concurrency, metrics, clock, stopping } = setup;
    let store = watched.store.clone();
    let every = store.clone();
    let own = watched.changes().flat_map(move |change| {
        let refs: Vec<ObjectRef<K>> = match change {
            Change::One(object) => vec![ObjectRef::from_obj(&*object)],
            Change::Many => every.state().iter().map(|object| ObjectRef::from_obj(&**object)).collect(),
        };
        futures::stream::iter(refs)
    });
    // What was there before anybody listened.
    let first: Vec<ObjectRef<K>> = store.state().iter().map(|object| ObjectRef::from_obj(&**object)).collect();
    let mut all: Vec<Triggers<K>> = vec![futures::stream::iter(first).boxed(), own.boxed()];
    all.extend(triggers);
    let queue = select_all(all)
        .take_until(Box::pin(asked(stopping)))
        .map(|object| Ok::<_, Infallible>(ReconcileRequest::from(object)));
    let failures = Arc::new(Failures::default());
    // Bounded here: a runner with a bound of its own takes what waits in no order.
    let config = controller::Config::default().debounce(DEBOUNCE);
    let turns = Arc::new(Semaphore::new(usize::from(concurrency)));
    let (counted, newest) = (Arc::clone(&failures), store.clone());
    let pass = move |object: Arc<K>, _: Arc<()>| {
        let (reconciler, metrics, clock) = (Arc::clone(&reconciler), metrics.clone(), clock.clone());
        let (failures, turns, newest) = (Arc::clone(&counted), Arc::clone(&turns), newest.clone());
        Box::pin(async move {
            let _turn = turns.acquire().await;
            // It may have changed, or gone, while others had their turns.
            let Some(object) = newest.get(&ObjectRef::from_obj(&*object)) else { return Ok(Action::await_change()) };
            let began = clock.now_ms();
            // Boxed, so that those that wait take little.
            let ended = Box::pin(reconciler.reconcile(Arc::clone(&object))).await;
            let took = Duration::from_millis(u64::try_from(clock.now_ms() - began).unwrap_or(0));
            let outcome = ended.as_ref().map_or(Outcome::Failed, |pass| pass.outcome);
            metrics.reconciled(kind, outcome, took);
            ended.map(|pass| {
                failures.forget(&key(&*object));
                Action::requeue(pass.again)
            })
        })
    };
    let on_error = move |object: Arc<K>, error: &R::Error, _: Arc<()>| {
        let pause = failures.pause(&key(&*object));
        tracing::warn!(kind, name = object.name_any(), namespace = object.namespace(), %error, "a pass failed");
        Action::requeue(pause)
    };
    let mut passes = std::pin::pin!(applier(pass, on_error, Arc::new(()), store, queue, config));
    // What went wrong was logged where it did; an object that is gone is no failure.
    while passes.next().await.is_some() {}
}

/// Maps the changes of another kind to resources of this one; `every` names all of them.
pub fn triggers<K, O, F>(
    watched: &Watched<O>,
    map: F,
    every: impl Fn() -> Vec<ObjectRef<K>> + Send + 'static,
) -> Triggers<K>
where
    K: Resource<DynamicType = ()> + 'static,
    O: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    F: Fn(&O) -> Vec<ObjectRef<K>> + Send + 'static,
{
    let changes: BoxStream<'static, Change<O>> = watched.changes().boxed();
    flatten(changes.map(move |change| match change {
        Change::One(object) => map(&object),
        Change::Many => every(),
    }))
}

fn flatten<K>(refs: impl Stream<Item = Vec<ObjectRef<K>>> + Send + 'static) -> Triggers<K>
where
    K: Resource<DynamicType = ()> + 'static,
{
    refs.flat_map(futures::stream::iter).boxed()
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Passes that failed one after another, for each object.
#[derive(Debug)]
struct Failures<K>(Mutex<HashMap<K, u32>>);

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Failures<K> {
    fn forget(&self, key: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The pause before the next attempt.
    fn pause(&self, key: &K) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.clone()).or_default();
        let pause = SHORTEST.saturating_mul(1 << (*count).min(8)).min(LONGEST);
        *count += 1;
        pause
    }
}

/// Counts the resources of a kind for the metrics, again and again, by whether they are Ready.
pub async fn counted<K>(kind: &'static str, watched: &Watched<K>, conditions: fn(&K) -> &[Condition], metrics: &Metrics)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let is_ready = |object: &Arc<K>| holding(conditions(object), condition::READY).is_some();
    loop {
        let all = watched.store.state();
        let ready = all.iter().filter(|object| is_ready(object)).count();
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        metrics.resources(kind, count(ready), count(all.len() - ready));
        clock::sleep(COUNTED_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_are_forgotten() {
        let failures = Failures::default();
        let pauses: Vec<u128> = (0..7).map(|_| failures.pause(&"a").as_millis()).collect();
        assert_eq!(pauses, vec![500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        assert_eq!(failures.pause(&"b").as_millis(), 500);
        failures.forget(&"a");
        assert_eq!(failures.pause(&"a").as_millis(), 500);
    }
}
