//! Does IO: publishes events, which `kubectl describe` shows as a story.
//!
//! An event is told after the status that it speaks of was written: a crash between the two loses the event, never
//! the fact. One that can't be published is logged and forgotten, since a story must not hold up the work.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

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

/// Publishes events. Cheap to clone.
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    /// Publishes through `client` in the name of the replica `identity`.
    #[must_use]
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: "freshet-operator".to_owned(), instance: Some(identity.to_owned()) };
        Self(Recorder::new(client, reporter))
    }

    /// Tells what happened to the resource `about`.
    pub async fn tell(&self, about: &ObjectReference, happening: Happening) {
        // The API refuses longer notes.
        const MOST: usize = 1_000;
        let mut note = happening.note;
        if note.len() > MOST {
            let end = (0..=MOST - 4).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
            note.truncate(end);
            note.push('…');
        }
        let event = Event {
            type_: if happening.warning { EventType::Warning } else { EventType::Normal },
            reason: happening.reason,
            note: Some(note),
            action: happening.action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, about).await {
            tracing::warn!(%error, reason = event.reason, "an event can't be published");
        }
    }
}
