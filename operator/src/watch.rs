//! Does IO: one watch a kind, shared by all rooms that want to know of it: a store of what is there, and a stream
//! of what changes.
//!
//! A reader of the stream that falls behind is told [`Change::Many`], and looks at everything once more; so it is when
//! a watch began anew, since what went meanwhile is not told one by one: nothing that happened goes unseen. What a store shows may be older than what was just written, so no room decides
//! anything by it that a second pass could not put right.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, utils::Backoff};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

/// The label that names the resource which an object is a part of.
pub const INSTANCE: &str = "app.kubernetes.io/instance";

/// The label that everything carries which the operator makes.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by=freshet";

/// What a reader of changes sees.
#[derive(Debug)]
pub enum Change<K> {
    /// This object was made, changed or deleted, or was there when the watch began.
    One(Arc<K>),
    /// The reader fell behind, or the watch began anew: any of them may have changed, or gone.
    Many,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::One(object) => Self::One(Arc::clone(object)),
            Self::Many => Self::Many,
        }
    }
}

/// What is known of all objects of a kind. Cheap to clone.
pub struct Watched<K: Resource + 'static>
where
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    /// What is there, as far as is known.
    pub store: Store<K>,
    changes: broadcast::Sender<Change<K>>,
    owned: Arc<RwLock<Names>>,
}

/// Names of objects by the namespace and the instance that they are labelled with: so that whoever looks for a few of
/// many needs not look at all. What is found by a name is to be looked at: the label may have changed since.
type Names = HashMap<(String, String), BTreeSet<String>>;

impl<K: Resource + 'static> Clone for Watched<K>
where
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), changes: self.changes.clone(), owned: Arc::clone(&self.owned) }
    }
}

/// Changes that wait for a reader; beyond it the reader is told [`Change::Many`].
const BACKLOG: usize = 4_096;

/// The objects of one namespace, or of all.
#[must_use]
pub fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

impl<K> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Begins to watch. The watch goes on, through failures of the API server, until `tasks` is dropped. `trim` takes
    /// away what nobody reads of an object, since all of them are kept.
    pub fn start(
        api: Api<K>,
        config: watcher::Config,
        tasks: &mut JoinSet<()>,
        trim: impl Fn(&mut K) + Send + 'static,
    ) -> Self {
        let (store, writer) = reflector::store();
        let (changes, _) = broadcast::channel(BACKLOG);
        let owned = Arc::default();
        let watched = Self { store, changes, owned };
        let (sender, owned) = (watched.changes.clone(), Arc::clone(&watched.owned));
        let seen = reflector::reflector(
            writer,
            watcher(api, config).modify(move |object| {
                // Nobody reads it, and it is often the larger half of an object.
                object.meta_mut().managed_fields = None;
                trim(object);
            }),
        );
        let mut events = Box::pin(seen.backoff(Patience::default()));
        tasks.spawn(async move {
            let mut coming = Names::new();
            while let Some(event) = events.next().await {
                let change = match event {
                    Ok(Event::Init) => {
                        coming.clear();
                        continue;
                    }
                    Ok(Event::InitApply(object)) => {
                        note(&mut coming, &object, true);
                        continue;
                    }
                    Ok(Event::InitDone) => {
                        *owned.write().unwrap_or_else(PoisonError::into_inner) = std::mem::take(&mut coming);
                        Change::Many
                    }
                    Ok(Event::Apply(object)) => {
                        note(&mut owned.write().unwrap_or_else(PoisonError::into_inner), &object, true);
                        Change::One(Arc::new(object))
                    }
                    Ok(Event::Delete(object)) => {
                        note(&mut owned.write().unwrap_or_else(PoisonError::into_inner), &object, false);
                        Change::One(Arc::new(object))
                    }
                    Err(error) => {
                        tracing::warn!(%error, kind = std::any::type_name::<K>(), "a watch was cut off");
                        continue;
                    }
                };
                // No reader is no failure: there is none before the controllers begin.
                let _ = sender.send(change);
            }
        });
        watched
    }

    /// The objects that are labelled as parts of `instance`.
    #[must_use]
    pub fn of_instance(&self, namespace: &str, instance: &str) -> Vec<Arc<K>> {
        let names = {
            let owned = self.owned.read().unwrap_or_else(PoisonError::into_inner);
            owned.get(&(namespace.to_owned(), instance.to_owned())).cloned().unwrap_or_default()
        };
        names.iter().filter_map(|name| self.get(namespace, name)).collect()
    }

    /// An object by its name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// Completes once everything that was there is known.
    pub async fn known(&self) {
        let _ = self.store.wait_until_ready().await;
    }

    /// What changes from now on.
    pub fn changes(&self) -> impl Stream<Item = Change<K>> + Send + use<K> {
        stream::unfold(self.changes.subscribe(), |mut receiver| async move {
            match receiver.recv().await {
                Ok(change) => Some((change, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((Change::Many, receiver)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
    }
}

/// Takes note of the name of an object that is there, or not any more.
fn note<K: Resource>(names: &mut Names, object: &K, there: bool) {
    let Some(instance) = object.meta().labels.as_ref().and_then(|labels| labels.get(INSTANCE)) else { return };
    let key = (object.namespace().unwrap_or_default(), instance.clone());
    if there {
        names.entry(key).or_default().insert(object.name_any());
    } else if let Some(of_instance) = names.get_mut(&key) {
        of_instance.remove(&object.name_any());
        if of_instance.is_empty() {
            names.remove(&key);
        }
    }
}

/// How long a watch waits after it was cut off: soon again, and never longer than a few seconds, since a person
/// may be waiting.
#[derive(Debug, Clone)]
struct Patience(Duration);

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(4);

impl Default for Patience {
    fn default() -> Self {
        Self(SHORTEST)
    }
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.0;
        self.0 = (now * 2).min(LONGEST);
        Some(now)
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.0 = SHORTEST;
    }
}
