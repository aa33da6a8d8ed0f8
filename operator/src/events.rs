//! Does IO: publishes events, which `kubectl describe` shows as a story.
//!
//! An event is told after the status that it speaks of was written: a crash between the two loses the event, never
//! the fact. One that can't be published is logged and forgotten, since a story must not hold up the work.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::clock::Clock;

/// What happened to a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// Whether a person should look.
    pub warning: bool,
    /// CamelCase, as `Planned`.
    pub reason: String,
    /// What the operator was doing, in one CamelCase word.
    pub action: &'static str,
    /// The story, with figures.
    pub note: String,
}

impl Happening {
    /// Something went as it should.
    #[must_use]
    pub fn normal(reason: &str, action: &'static str, note: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.to_owned(), action, note: note.into() }
    }

    /// Something went wrong.
    #[must_use]
    pub fn warning(reason: &str, action: &'static str, note: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.to_owned(), action, note: note.into() }
    }
}

/// Publishes events. Cheap to clone. Each is an object of its own: those of one reason differ in their figures, which
/// a series would hide behind the first one's.
#[derive(Clone)]
pub struct Events {
    client: Client,
    identity: String,
    clock: Clock,
}

impl Events {
    /// Publishes through `client` in the name of the replica `identity`.
    #[must_use]
    pub fn new(client: Client, identity: &str, clock: Clock) -> Self {
        Self { client, identity: identity.to_owned(), clock }
    }

    /// Tells what happened to the resource `about`.
    pub async fn tell(&self, about: &ObjectReference, happening: Happening) {
        let name = about.name.clone().unwrap_or_default();
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let now = Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or(Timestamp::UNIX_EPOCH);
        let event = Event {
            metadata: ObjectMeta {
                // The API server makes it unique.
                generate_name: Some(format!("{name}-")),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            regarding: Some(about.clone()),
            type_: Some(if happening.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(happening.reason.clone()),
            action: Some(happening.action.to_owned()),
            note: Some(limited(happening.note)),
            reporting_controller: Some("freshet-operator".to_owned()),
            reporting_instance: Some(self.identity.clone()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::warn!(%error, reason = happening.reason, "an event can't be published");
        }
    }
}

/// The API refuses longer notes.
fn limited(mut note: String) -> String {
    const MOST: usize = 1_000;
    if note.len() > MOST {
        let end = (0..=MOST - 4).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    note
}
