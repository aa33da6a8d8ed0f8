//! Does IO: what Kubernetes says of pods that it does not make. It says so nowhere but in events.

use freshet_crds::reasons::FAILED_CREATE;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};

use super::pods::Trouble;
use crate::clock::millis;

/// Why the controller of the object `uid`, which lacks pods, makes none: its last words, unless a pod was made after
/// them (`since_ms`, since the Unix epoch). Nothing, too, where events can't be read: what they say is an extra.
pub async fn refused(client: &Client, namespace: &str, uid: &str, since_ms: i64) -> Option<Trouble> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let about = ListParams::default().fields(&format!("regarding.uid={uid},reason={}", FAILED_CREATE.name));
    let events = match api.list(&about).await {
        Ok(events) => events.items,
        Err(error) => {
            tracing::debug!(%error, "events can't be read");
            return None;
        }
    };
    let newest = events.into_iter().max_by_key(last)?;
    let message = newest.note.clone().unwrap_or_default();
    // Both are written in whole seconds.
    (last(&newest) >= since_ms).then(|| Trouble { reason: FAILED_CREATE.name.to_owned(), message })
}

/// When an event was last seen, ms since the Unix epoch.
fn last(event: &Event) -> i64 {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0.as_millisecond());
    let first = event.event_time.as_ref().map(|time| time.0.as_millisecond());
    let former = event.deprecated_last_timestamp.as_ref().map(millis);
    series.max(first).max(former).unwrap_or(0)
}
