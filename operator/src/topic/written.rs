//! Does IO (status): what a pass writes to the API server, and what this process remembers of it.
//!
//! Every write names the version that it stands on, so that a pass over something stale writes nothing.

use std::sync::PoisonError;

use freshet_crds::{TOPIC_FINALIZER, Topic};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::reconcile::{Subject, TopicError, Topics};
use super::status::{self, Ended};
use super::wanted::Wanted;
use crate::events::Happening;

/// What this process wrote last to a Topic.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    /// The version that the last write gave.
    pub version: u64,
    /// Until when nothing need be done, if it is still that version: what a pass wrote itself is no reason for the
    /// next one. Ms since the Unix epoch.
    pub rests_until: i64,
    /// Whether all was in order.
    pub settled: bool,
}

impl Topics {
    /// Writes the status, if it changed.
    pub(super) async fn write(
        &self,
        subject: &mut Subject,
        wanted: Option<&Wanted>,
        ended: &Ended,
    ) -> Result<(), TopicError> {
        let generation = subject.topic.metadata.generation.unwrap_or_default();
        let old = subject.topic.status.as_ref();
        let new = status::status(wanted, ended, old, generation, &self.context.clock.now());
        if old == Some(&new) {
            return Ok(());
        }
        let patch = json!({
            "metadata": { "resourceVersion": subject.topic.resource_version() },
            "status": {
                "observedGeneration": new.observed_generation,
                // Absent fields are taken away, not left.
                "topicId": new.topic_id, "activeTopic": new.active_topic, "partitions": new.partitions,
                "conditions": new.conditions,
            },
        });
        let name = subject.topic.name_any();
        let patched = subject.api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        subject.topic = patched.map_err(TopicError::Status)?;
        self.wrote(&subject.topic);
        Ok(())
    }

    /// Sets the finalizer, or takes it away, if it is not so.
    pub(super) async fn finalizer(&self, subject: &mut Subject, wanted: bool) -> Result<(), TopicError> {
        let mut finalizers = subject.topic.finalizers().to_vec();
        if finalizers.iter().any(|name| name == TOPIC_FINALIZER) == wanted {
            return Ok(());
        }
        finalizers.retain(|name| name != TOPIC_FINALIZER);
        if wanted {
            finalizers.push(TOPIC_FINALIZER.to_owned());
        }
        let patch = json!({
            "metadata": { "resourceVersion": subject.topic.resource_version(), "finalizers": finalizers },
        });
        let name = subject.topic.name_any();
        match subject.api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(patched) => subject.topic = patched,
            // Somebody else let it go.
            Err(kube::Error::Api(refused)) if refused.code == 404 && !wanted => return Ok(()),
            Err(error) => return Err(TopicError::Finalizer(error)),
        }
        self.wrote(&subject.topic);
        Ok(())
    }

    fn wrote(&self, topic: &Topic) {
        self.context.metrics.wrote("Topic", "patch");
        self.remember(topic, Written { version: version(topic), ..Written::default() });
    }

    pub(super) fn written_of(&self, topic: &Topic) -> Written {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(&uid(topic)).copied().unwrap_or_default()
    }

    /// Tells the story beside the work: it holds nothing up.
    pub(super) fn tell(&self, about: &ObjectReference, story: Vec<Happening>) {
        let (events, about) = (self.context.events.clone(), about.clone());
        if !story.is_empty() {
            tokio::spawn(async move {
                for happening in story {
                    events.tell(&about, happening).await;
                }
            });
        }
    }

    /// Remembers what was written last.
    pub(super) fn remember(&self, topic: &Topic, written: Written) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(uid(topic), written);
    }

    /// Forgets a Topic that is gone.
    pub(super) fn forget(&self, topic: &Topic) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid(topic));
    }
}

pub(super) fn uid(topic: &Topic) -> String {
    topic.uid().unwrap_or_default()
}

/// Versions grow; 0 where one is no number.
pub(super) fn version(topic: &Topic) -> u64 {
    topic.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}
