//! Does IO: one watch a kind, shared by all rooms that want to know of it: a store of what is there, and a stream
//! of what changes.
//!
//! A reader of the stream that falls behind is told [`Change::Many`], and looks at everything once more: nothing
//! that happened goes unseen. What a store shows may be older than what was just written, so no room decides
//! anything by it that a second pass could not put right.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{WatchStreamExt, utils::Backoff};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

/// The label that everything carries which the operator makes.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by=freshet";

/// What a reader of changes sees.
#[derive(Debug, Clone)]
pub enum Change<K> {
    /// This object was made, changed or deleted, or was there when the watch began.
    One(Arc<K>),
    /// The reader fell behind: any of them may have changed.
    Many,
}

/// What is known of all objects of a kind. Cheap to clone.
pub struct Watched<K: Resource + 'static>
where
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    /// What is there, as far as is known.
    pub store: Store<K>,
    changes: broadcast::Sender<Arc<K>>,
}

impl<K: Resource + 'static> Clone for Watched<K>
where
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), changes: self.changes.clone() }
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
    /// Begins to watch. The watch goes on, through failures of the API server, until `tasks` is dropped.
    pub fn start(api: Api<K>, config: watcher::Config, tasks: &mut JoinSet<()>) -> Self {
        let (store, writer) = reflector::store();
        let (changes, _) = broadcast::channel(BACKLOG);
        let sender = changes.clone();
        let seen = reflector::reflector(
            writer,
            watcher(api, config).modify(|object| {
                // Nobody reads it, and it is often the larger half of an object.
                object.meta_mut().managed_fields = None;
            }),
        );
        let mut touched = Box::pin(seen.backoff(Patience::default()).touched_objects());
        tasks.spawn(async move {
            while let Some(object) = touched.next().await {
                match object {
                    Ok(object) => {
                        // No reader is no failure: there is none before the controllers begin.
                        let _ = sender.send(Arc::new(object));
                    }
                    Err(error) => tracing::warn!(%error, kind = std::any::type_name::<K>(), "a watch was cut off"),
                }
            }
        });
        Self { store, changes }
    }

    /// Completes once everything that was there is known.
    pub async fn known(&self) {
        let _ = self.store.wait_until_ready().await;
    }

    /// What changes from now on.
    pub fn changes(&self) -> impl Stream<Item = Change<K>> + Send + use<K> {
        stream::unfold(self.changes.subscribe(), |mut receiver| async move {
            match receiver.recv().await {
                Ok(object) => Some((Change::One(object), receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((Change::Many, receiver)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
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
