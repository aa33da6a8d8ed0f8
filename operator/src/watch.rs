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
use kube::api::ObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, utils::Backoff};
use kube::{Api, Client, Resource};
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
    owned: Arc<RwLock<Owned>>,
}

/// Names of objects by the instance that they are labelled with: so that whoever looks for a few of many needs not look at
/// all. What is found by a name is to be looked at: the label may have changed since.
#[derive(Debug, Default)]
struct Owned {
    /// By namespace, then by instance.
    by_namespace: HashMap<String, HashMap<String, Parts>>,
    /// How many events there were: no two of an instance's states have the same number.
    events: u64,
}

#[derive(Debug, Default)]
struct Parts {
    names: BTreeSet<String>,
    /// The event that changed any of them last.
    changed: u64,
}

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
            let mut coming = Owned::default();
            while let Some(event) = events.next().await {
                let change = match event {
                    Ok(Event::Init) => {
                        // Numbers go on: what has come anew has changed.
                        let events = owned.read().unwrap_or_else(PoisonError::into_inner).events;
                        coming = Owned { events, ..Owned::default() };
                        continue;
                    }
                    Ok(Event::InitApply(object)) => {
                        coming.note(&object, true);
                        continue;
                    }
                    Ok(Event::InitDone) => {
                        *owned.write().unwrap_or_else(PoisonError::into_inner) = std::mem::take(&mut coming);
                        Change::Many
                    }
                    Ok(Event::Apply(object)) => {
                        owned.write().unwrap_or_else(PoisonError::into_inner).note(&object, true);
                        Change::One(Arc::new(object))
                    }
                    Ok(Event::Delete(object)) => {
                        owned.write().unwrap_or_else(PoisonError::into_inner).note(&object, false);
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
            owned.parts(namespace, instance).map(|parts| parts.names.clone()).unwrap_or_default()
        };
        names.iter().filter_map(|name| self.get(namespace, name)).collect()
    }

    /// A number that is another one after every change of an object that is labelled as a part of `instance`. Asked for
    /// before one looks: the store is never older than it.
    #[must_use]
    pub fn changed(&self, namespace: &str, instance: &str) -> u64 {
        let owned = self.owned.read().unwrap_or_else(PoisonError::into_inner);
        owned.parts(namespace, instance).map_or(0, |parts| parts.changed)
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

impl Owned {
    fn parts(&self, namespace: &str, instance: &str) -> Option<&Parts> {
        self.by_namespace.get(namespace)?.get(instance)
    }

    /// Takes note of an object that is there, or not any more.
    fn note<K: Resource>(&mut self, object: &K, there: bool) {
        self.events += 1;
        let labelled = instance(object);
        // Whoever takes the label away takes the object from its owner, who is to know of it.
        let owner = owner(object).filter(|owner| labelled != Some(owner));
        for (instance, there) in labelled.map(|instance| (instance, there)).into_iter().chain(owner.zip(Some(false))) {
            self.change(object.meta(), instance, there);
        }
    }

    fn change(&mut self, meta: &ObjectMeta, instance: &str, there: bool) {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        if !self.by_namespace.contains_key(namespace) {
            self.by_namespace.insert(namespace.to_owned(), HashMap::new());
        }
        let Some(instances) = self.by_namespace.get_mut(namespace) else { return };
        if !instances.contains_key(instance) {
            instances.insert(instance.to_owned(), Parts::default());
        }
        let Some(parts) = instances.get_mut(instance) else { return };
        parts.changed = self.events;
        let name = meta.name.as_deref().unwrap_or_default();
        if there {
            if !parts.names.contains(name) {
                parts.names.insert(name.to_owned());
            }
        } else {
            parts.names.remove(name);
            // What is gone has no number; what comes next has one that was never there.
            if parts.names.is_empty() {
                instances.remove(instance);
            }
        }
    }
}

/// The resource that an object is labelled as a part of.
pub fn instance<K: Resource>(object: &K) -> Option<&str> {
    object.meta().labels.as_ref()?.get(INSTANCE).map(String::as_str)
}

/// The resource of ours that owns an object.
pub fn owner<K: Resource>(object: &K) -> Option<&str> {
    let owners = object.meta().owner_references.iter().flatten();
    let mut ours = owners.filter(|owner| owner.api_version.starts_with(freshet_crds::GROUP));
    ours.next().map(|owner| owner.name.as_str())
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    fn service(namespace: &str, name: &str, instance: &str) -> Service {
        let mut service = Service::default();
        (service.metadata.name, service.metadata.namespace) = (Some(name.to_owned()), Some(namespace.to_owned()));
        service.metadata.labels = Some([(INSTANCE.to_owned(), instance.to_owned())].into());
        service
    }

    #[test]
    fn every_change_of_a_part_changes_the_number_of_its_instance_alone() {
        let mut owned = Owned::default();
        let number = |owned: &Owned, instance: &str| owned.parts("n", instance).map_or(0, |parts| parts.changed);
        let mut seen = vec![number(&owned, "a")];
        owned.note(&service("n", "x", "a"), true);
        seen.push(number(&owned, "a"));
        owned.note(&service("n", "x", "a"), true);
        seen.push(number(&owned, "a"));
        owned.note(&service("n", "other", "b"), true);
        owned.note(&service("elsewhere", "x", "a"), true);
        assert_eq!(number(&owned, "a"), seen[2], "others' changes are none of it");
        owned.note(&service("n", "y", "a"), true);
        seen.push(number(&owned, "a"));
        owned.note(&service("n", "y", "a"), false);
        seen.push(number(&owned, "a"));
        owned.note(&service("n", "x", "a"), false);
        assert_eq!(number(&owned, "a"), 0, "nothing is left");
        owned.note(&service("n", "x", "a"), true);
        seen.push(number(&owned, "a"));
        // Somebody labels it as another's: its owner is to know.
        let mut taken = service("n", "x", "b");
        taken.metadata.owner_references = Some(vec![OwnerReference {
            api_version: freshet_crds::API_VERSION.to_owned(),
            name: "a".to_owned(),
            ..OwnerReference::default()
        }]);
        let b = number(&owned, "b");
        owned.note(&taken, true);
        assert!(number(&owned, "b") > b);
        assert_ne!(seen.last(), Some(&number(&owned, "a")));
        let mut sorted = seen.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted, seen, "each is greater than the one before");
    }
}
