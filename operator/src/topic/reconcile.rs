//! Does IO (observe, apply): one pass over a Topic. It gathers facts, has them decided, does what was decided, looks
//! whether Kafka shows it, and writes the status once, if it changed.
//!
//! # Order of writes
//! The finalizer comes before anything is done. That the Kafka topic is being made is written into the status before
//! it is made: whoever comes after a crash then knows that a topic which is there is the Topic's own. Every write
//! names the version that it stands on, so that a pass over something stale writes nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freshet_crds::{TOPIC_FINALIZER, Topic, TopicStatus};
use freshet_kafka::admin::{AdminError, Trouble};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::claims::{Claim, Claims, rival};
use super::cluster::{Cluster, Clusters};
use super::decide::{Decision, Ending, Facts, FactsOfDeletion, KafkaTopic, Kept, Refusal, Seen};
use super::decide::{asks_for_jobs, decide, decide_ending, decide_ending_unreached};
use super::difference::Changes;
use super::status::{self, Doing, Ended, Failure};
use super::users::{Use, users};
use super::wanted::{Wanted, validate};
use crate::clock::{self, millis};
use crate::context::Context;
use crate::controller::{Pass, Reconcile};
use crate::events::Happening;
use crate::metrics::Outcome;
use crate::run::Watches;

/// How long Kafka may take to show a change, before the pass ends and another looks.
const SHOWN: Duration = Duration::from_secs(5);
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// A topic that is not there is looked for a second time after this: a broker that has just started may not know it.
const SURELY: Duration = Duration::from_secs(1);
/// When it is looked again at what Kafka refuses, or does not answer.
const AGAIN_REFUSED: Duration = Duration::from_secs(10);
const AGAIN_UNAVAILABLE: Duration = Duration::from_secs(2);
const AGAIN_SOON: Duration = Duration::from_secs(1);

/// Why a pass failed: what the API server did not do. What Kafka does not do is no failure of a pass, but stands in
/// the status.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The finalizer was not set or taken away.
    #[error("the finalizer was not written: {0}")]
    Finalizer(#[source] kube::Error),
    /// The status was not written.
    #[error("the status was not written: {0}")]
    Status(#[source] kube::Error),
}

/// Makes passes over Topics.
pub struct Topics {
    context: Context,
    watches: Watches,
    clusters: Clusters,
    claims: Arc<Claims>,
    /// What this process wrote last, by the Topic's uid.
    written: Mutex<HashMap<String, Written>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Written {
    /// The version that the last write gave.
    version: u64,
    /// Until when nothing need be done, if it is still that version: what a pass wrote itself is no reason for the
    /// next one. Ms since the Unix epoch.
    rests_until: i64,
    /// Whether all was in order.
    settled: bool,
}

/// A pass's own copy of the Topic, as of its last write.
struct Subject {
    api: Api<Topic>,
    topic: Topic,
}

impl Reconcile<Topic> for Topics {
    type Error = TopicError;

    async fn reconcile(&self, topic: Arc<Topic>) -> Result<Pass, TopicError> {
        let written = self.written_of(&topic);
        let version = version(&topic);
        let now = self.context.clock.now_ms();
        if version < written.version {
            // What was written is still on its way here, and brings a pass of its own.
            return Ok(Pass { outcome: Outcome::Waiting, again: AGAIN_SOON });
        }
        if version == written.version && now < written.rests_until && topic.metadata.deletion_timestamp.is_none() {
            let left = u64::try_from(written.rests_until - now).unwrap_or(0);
            let outcome = if written.settled { Outcome::Settled } else { Outcome::Waiting };
            return Ok(Pass { outcome, again: Duration::from_millis(left) });
        }
        let namespace = topic.namespace().unwrap_or_default();
        let api = Api::namespaced(self.context.client.clone(), &namespace);
        let mut subject = Subject { api, topic: Topic::clone(&topic) };
        if topic.metadata.deletion_timestamp.is_some() {
            return self.end(&mut subject).await;
        }
        let wanted = match validate(&topic, self.context.config.kafka.as_deref()) {
            Ok(wanted) => wanted,
            Err(invalid) => return self.conclude(&mut subject, None, &Ended::Invalid(invalid), Vec::new()).await,
        };
        self.finalizer(&mut subject, true).await?;
        let mut story = Vec::new();
        let ended = self.keep(&mut subject, &wanted, &mut story).await?;
        self.conclude(&mut subject, Some(&wanted), &ended, story).await
    }
}

impl Topics {
    /// Passes with these watches, clients and claims.
    #[must_use]
    pub fn new(context: Context, watches: Watches, clusters: Clusters, claims: Arc<Claims>) -> Self {
        Self { context, watches, clusters, claims, written: Mutex::default() }
    }

    /// Does what is to be done for a Topic that stays, and says how it ended.
    async fn keep(
        &self,
        subject: &mut Subject,
        wanted: &Wanted,
        story: &mut Vec<Happening>,
    ) -> Result<Ended, TopicError> {
        let old = subject.topic.status.clone();
        let mut creating = status::is_creating(old.as_ref());
        let failed =
            |doing, error, creating| Ended::Failed { topic: None, failed: vec![Failure { doing, error }], creating };
        let cluster = match self.clusters.at(&wanted.access) {
            Ok(cluster) => cluster,
            Err(error) => return Ok(failed(Doing::Looking, error, creating)),
        };
        let mut facts = match self.observe(subject, wanted, &cluster, creating).await {
            Ok(facts) => facts,
            Err(error) => return Ok(failed(Doing::Looking, error, creating)),
        };
        let mut decision = decide(wanted, &facts);
        if let Decision::Create(new) = &decision {
            let written_down_before = creating;
            if refused_before(old.as_ref())
                && let Err(error) = cluster.check(new.clone()).await
                && error.trouble == Trouble::Refused
            {
                // As before: the status stays as it is.
                return Ok(failed(Doing::Creating, error, creating));
            }
            if !written_down_before {
                self.write(subject, Some(wanted), &Ended::Creating).await?;
            }
            match cluster.create(new.clone()).await {
                Ok(()) => {
                    creating = true;
                    let replicas = wanted.replicas.map_or("the broker's".to_owned(), |replicas| replicas.to_string());
                    let note = format!(
                        "made the Kafka topic {}: {} partitions, {replicas} replicas",
                        new.name, new.partitions
                    );
                    story.push(Happening::normal("TopicCreated", "Create", note));
                }
                // It came between the look and the call: it is this Topic's only if an earlier call may have made it.
                Err(error) if error.trouble == Trouble::Exists => creating = written_down_before,
                Err(error) => return Ok(failed(Doing::Creating, error, true)),
            }
            facts.creating = creating;
            (facts.seen, decision) = match self.until_shown(wanted, &cluster, &facts).await {
                Ok(shown) => shown,
                Err(error) => return Ok(failed(Doing::Looking, error, creating)),
            };
        }
        match decision {
            // Not shown within the time.
            Decision::Create(_) => Ok(Ended::Applying { topic: None }),
            Decision::Refuse(refusal) => Ok(Ended::Refused { topic: None, refused: vec![refusal], failed: Vec::new() }),
            Decision::Keep { topic, changes, refused } => {
                if facts.known.is_none() && !creating {
                    story.push(Happening::normal(
                        "TopicTaken",
                        "Take",
                        format!("took over the Kafka topic {}", wanted.name),
                    ));
                }
                self.change(wanted, &cluster, facts, topic, changes, refused, story).await
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one decision, and what it is carried out with")]
    async fn change(
        &self,
        wanted: &Wanted,
        cluster: &Cluster,
        mut facts: Facts,
        mut topic: KafkaTopic,
        changes: Changes,
        mut refused: Vec<Refusal>,
        story: &mut Vec<Happening>,
    ) -> Result<Ended, TopicError> {
        let failed = apply(wanted, cluster, &topic, &changes, story).await;
        if !changes.is_empty() && failed.is_empty() {
            facts.known = Some(topic.id.clone());
            match self.until_shown(wanted, cluster, &facts).await {
                Ok((_, Decision::Keep { topic: shown, changes, refused: still })) => {
                    if !changes.is_empty() {
                        return Ok(Ended::Applying { topic: Some(shown) });
                    }
                    (topic, refused) = (shown, still);
                }
                Ok((_, Decision::Refuse(refusal))) => {
                    return Ok(Ended::Refused { topic: None, refused: vec![refusal], failed });
                }
                Ok((_, Decision::Create(_))) => return Ok(Ended::Applying { topic: Some(topic) }),
                Err(error) => {
                    let failed = vec![Failure { doing: Doing::Looking, error }];
                    return Ok(Ended::Failed { topic: Some(topic), failed, creating: false });
                }
            }
        }
        let topic = Some(topic);
        Ok(match (refused.is_empty(), failed.is_empty()) {
            (true, true) => topic.map_or(Ended::Creating, Ended::InSync),
            (true, false) => Ended::Failed { topic, failed, creating: false },
            (false, _) => Ended::Refused { topic, refused, failed },
        })
    }

    /// Gathers what is decided by.
    async fn observe(
        &self,
        subject: &Subject,
        wanted: &Wanted,
        cluster: &Cluster,
        creating: bool,
    ) -> Result<Facts, AdminError> {
        let known = subject.topic.status.as_ref().and_then(|status| status.topic_id.clone());
        // By its id a cluster is known under another address; asked once for each. Brokers that keep it to themselves
        // are known by their address alone.
        match cluster.id().await {
            Err(error) if matches!(error.trouble, Trouble::Unavailable | Trouble::Unauthorised) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let mut seen = cluster.look(&wanted.name).await?;
        if seen == Seen::Absent && known.is_some() {
            clock::sleep(SURELY).await;
            seen = cluster.look(&wanted.name).await?;
        }
        let keyed_by = if asks_for_jobs(wanted, &seen) { self.keyed_by(&subject.topic) } else { Vec::new() };
        let own = Claim::of(&subject.topic, self.context.config.kafka.as_deref());
        let others = self.claims.others(&wanted.name, &own, |access| self.clusters.known_id(access));
        Ok(Facts { seen, known, creating, rival: rival(&own, &others), keyed_by })
    }

    fn keyed_by(&self, topic: &Topic) -> Vec<String> {
        let users = users(topic, &self.watches.jobs.store.state(), &self.watches.topics.store.state());
        users.into_iter().filter(|(_, how)| *how == Use::ByPartition).map(|(job, _)| job).collect()
    }

    /// Looks until what is wanted is shown, or the time is over.
    async fn until_shown(
        &self,
        wanted: &Wanted,
        cluster: &Cluster,
        facts: &Facts,
    ) -> Result<(Seen, Decision), AdminError> {
        let deadline = self.context.clock.now_ms() + i64::try_from(SHOWN.as_millis()).unwrap_or(0);
        loop {
            let facts = Facts { seen: cluster.look(&wanted.name).await?, ..facts.clone() };
            let decision = decide(wanted, &facts);
            let waits = match &decision {
                Decision::Create(_) => true,
                Decision::Keep { changes, .. } => !changes.is_empty(),
                Decision::Refuse(_) => false,
            };
            // A topic that was there first is not changed by waiting.
            let foreign = matches!(decision, Decision::Keep { .. }) && facts.known.is_none() && !facts.creating;
            if !waits || foreign || self.context.clock.now_ms() >= deadline {
                return Ok((facts.seen, decision));
            }
            clock::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends a Topic that is being deleted, or waits.
    async fn end(&self, subject: &mut Subject) -> Result<Pass, TopicError> {
        if !subject.topic.finalizers().iter().any(|name| name == TOPIC_FINALIZER) {
            return Ok(Pass { outcome: Outcome::Settled, again: self.next_look(&subject.topic) });
        }
        let topic = subject.topic.clone();
        let since = topic.metadata.deletion_timestamp.as_ref().map_or(0, millis);
        let deadline = since + i64::try_from(self.context.config.deletion_deadline.as_millis()).unwrap_or(i64::MAX);
        let wanted = match validate(&topic, self.context.config.kafka.as_deref()) {
            Ok(wanted) => wanted,
            Err(invalid) => {
                return match decide_ending_unreached(&topic, &invalid, self.context.clock.now_ms() >= deadline) {
                    Some(kept) => self.let_go(subject, &kept).await,
                    None => self.conclude(subject, None, &Ended::Invalid(invalid), Vec::new()).await,
                };
            }
        };
        let own = Claim::of(&topic, self.context.config.kafka.as_deref());
        let others = self.claims.others(&wanted.name, &own, |access| self.clusters.known_id(access));
        let used_by = users(&topic, &self.watches.jobs.store.state(), &self.watches.topics.store.state());
        let facts = FactsOfDeletion {
            used_by: used_by.into_iter().map(|(job, _)| job).collect(),
            named_by: others.iter().map(Claim::who).collect(),
            deadline_passed: self.context.clock.now_ms() >= deadline,
            known: topic.status.as_ref().and_then(|status| status.topic_id.clone()),
            creating: status::is_creating(topic.status.as_ref()),
        };
        match decide_ending(&wanted, &facts) {
            Ending::Wait(jobs) => {
                let until = clock::time(deadline).0.to_string();
                self.conclude(subject, Some(&wanted), &Ended::InUse { jobs, until }, Vec::new()).await?;
                let left = u64::try_from(deadline - self.context.clock.now_ms()).unwrap_or(0);
                Ok(Pass { outcome: Outcome::Waiting, again: Duration::from_millis(left + 100).min(AGAIN_REFUSED) })
            }
            Ending::LetGo(kept) => self.let_go(subject, &kept).await,
            Ending::Delete(id) => match self.delete(&wanted, id.as_deref()).await {
                Ok(kept) => match kept {
                    Some(kept) => self.let_go(subject, &kept).await,
                    None => {
                        self.gone(subject, "TopicDeleted", format!("deleted the Kafka topic {}", wanted.name)).await
                    }
                },
                Err(failure) if facts.deadline_passed => {
                    self.let_go(subject, &Kept::NotDeleted(failure.error.to_string())).await
                }
                Err(failure) => {
                    let ended = Ended::Failed { topic: None, failed: vec![failure], creating: facts.creating };
                    self.conclude(subject, Some(&wanted), &ended, Vec::new()).await?;
                    Ok(Pass { outcome: Outcome::Waiting, again: AGAIN_UNAVAILABLE })
                }
            },
        }
    }

    /// Deletes the Kafka topic, unless it is another one than `id`; then says so.
    async fn delete(&self, wanted: &Wanted, id: Option<&str>) -> Result<Option<Kept>, Failure> {
        let failed = |doing| move |error| Failure { doing, error };
        let cluster = self.clusters.at(&wanted.access).map_err(failed(Doing::Looking))?;
        match cluster.look(&wanted.name).await.map_err(failed(Doing::Looking))? {
            Seen::Absent => Ok(None),
            Seen::There(topic) if id.is_some_and(|id| id != topic.id) => Ok(Some(Kept::NeverTaken)),
            Seen::There(_) => match cluster.delete(&wanted.name).await {
                Ok(()) => Ok(None),
                Err(error) if error.trouble == Trouble::NotFound => Ok(None),
                Err(error) => Err(failed(Doing::Deleting)(error)),
            },
        }
    }

    async fn let_go(&self, subject: &mut Subject, kept: &Kept) -> Result<Pass, TopicError> {
        let name = super::wanted::kafka_name(&subject.topic);
        let why = match kept {
            Kept::AsAsked => "as asked".to_owned(),
            Kept::NeverTaken => "it is not this Topic's".to_owned(),
            Kept::Named(topics) => format!("named by the Topics {} too", topics.join(", ")),
            Kept::InUse(jobs) => format!("{} still used it at the deadline", status::jobs_in_words(jobs)),
            Kept::NotDeleted(words) => format!("it could not be deleted within the deadline: {words}"),
        };
        self.gone(subject, "TopicKept", format!("the Kafka topic {name} stays: {why}")).await
    }

    /// Takes the finalizer away and tells what became of the Kafka topic.
    async fn gone(&self, subject: &mut Subject, reason: &str, note: String) -> Result<Pass, TopicError> {
        let about = subject.topic.object_ref(&());
        self.finalizer(subject, false).await?;
        self.tell(&about, vec![Happening::normal(reason, "Delete", note)]);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid(&subject.topic));
        Ok(Pass { outcome: Outcome::Settled, again: AGAIN_REFUSED })
    }

    /// Writes the status, tells the story, and says when to look again.
    async fn conclude(
        &self,
        subject: &mut Subject,
        wanted: Option<&Wanted>,
        ended: &Ended,
        mut story: Vec<Happening>,
    ) -> Result<Pass, TopicError> {
        let before = reason(subject.topic.status.as_ref());
        self.write(subject, wanted, ended).await?;
        let after = reason(subject.topic.status.as_ref());
        let settled = matches!(ended, Ended::InSync(_));
        if let (Some(ready), true) = (&after, before != after && story.is_empty()) {
            let happening = if settled { Happening::normal } else { Happening::warning };
            story.push(happening(&ready.0, "Reconcile", ready.1.clone()));
        }
        self.tell(&subject.topic.object_ref(&()), story);
        let again = match ended {
            Ended::InSync(_) => self.next_look(&subject.topic),
            Ended::Creating | Ended::Applying { .. } => AGAIN_SOON,
            Ended::Failed { failed, .. }
                if failed.iter().all(|failure| failure.error.trouble == Trouble::Unavailable) =>
            {
                AGAIN_UNAVAILABLE
            }
            Ended::Failed { .. } | Ended::Refused { .. } | Ended::Invalid(_) | Ended::InUse { .. } => AGAIN_REFUSED,
        };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let until = self.context.clock.now_ms() + i64::try_from(again.as_millis()).unwrap_or(0);
        let written_now = Written { version: version(&subject.topic), rests_until: until, settled };
        written.insert(uid(&subject.topic), written_now);
        Ok(Pass { outcome: if settled { Outcome::Settled } else { Outcome::Waiting }, again })
    }

    /// Writes the status, if it changed.
    async fn write(&self, subject: &mut Subject, wanted: Option<&Wanted>, ended: &Ended) -> Result<(), TopicError> {
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
    async fn finalizer(&self, subject: &mut Subject, wanted: bool) -> Result<(), TopicError> {
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
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(uid(topic), Written { version: version(topic), ..Written::default() });
    }

    fn written_of(&self, topic: &Topic) -> Written {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(&uid(topic)).copied().unwrap_or_default()
    }

    /// Tells the story beside the work: it holds nothing up.
    fn tell(&self, about: &ObjectReference, story: Vec<Happening>) {
        let (events, about) = (self.context.events.clone(), about.clone());
        if !story.is_empty() {
            tokio::spawn(async move {
                for happening in story {
                    events.tell(&about, happening).await;
                }
            });
        }
    }

    fn next_look(&self, topic: &Topic) -> Duration {
        let seed = uid(topic).bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        next_look(self.context.clock.now_ms(), self.context.config.topic_resync, seed)
    }
}

/// Makes `changes` of `topic`, and gives what failed.
async fn apply(
    wanted: &Wanted,
    cluster: &Cluster,
    topic: &KafkaTopic,
    changes: &Changes,
    story: &mut Vec<Happening>,
) -> Vec<Failure> {
    let configure = async {
        if changes.config.is_empty() { Ok(()) } else { cluster.alter(&wanted.name, changes.config.clone()).await }
    };
    let grow = async {
        match changes.grow {
            Some(partitions) => cluster.grow(&wanted.name, partitions).await,
            None => Ok(()),
        }
    };
    let (configured, grown) = tokio::join!(configure, grow);
    if configured.is_ok() && !changes.config.is_empty() {
        let alone = Changes { grow: None, config: changes.config.clone() };
        let words =
            super::difference::in_words(&Wanted { partitions: topic.partitions, ..wanted.clone() }, topic, &alone);
        story.push(Happening::normal("ConfigChanged", "Configure", words.join("; ")));
    }
    if let (Ok(()), Some(partitions)) = (&grown, changes.grow) {
        let note = format!("partitions: {} -> {partitions}", topic.partitions);
        story.push(Happening::normal("PartitionsAdded", "Grow", note));
    }
    let failure = |doing| move |error| Failure { doing, error };
    let failures = [configured.map_err(failure(Doing::Configuring)), grown.map_err(failure(Doing::Growing))];
    failures.into_iter().filter_map(Result::err).collect()
}

/// When to look next at what is in order: once a `period`, at a second of it that `seed` chooses. Topics are spread
/// over the period, and those of one second share requests.
fn next_look(now_ms: i64, period: Duration, seed: u64) -> Duration {
    let period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
    let slots = u64::try_from(period_ms / 1_000).unwrap_or(1).max(1);
    let phase = i64::try_from(seed % slots).unwrap_or(0) * 1_000 % period_ms;
    let wait = (phase - now_ms).rem_euclid(period_ms);
    // Not at once again, when its second is just passing.
    let wait = if wait < period_ms / 2 { wait + period_ms } else { wait };
    Duration::from_millis(u64::try_from(wait).unwrap_or(0))
}

/// Whether a person had to change something when it was last looked.
fn refused_before(status: Option<&TopicStatus>) -> bool {
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    crate::conditions::holding(conditions, freshet_crds::reasons::condition::STALLED).is_some()
}

fn uid(topic: &Topic) -> String {
    topic.uid().unwrap_or_default()
}

/// Versions grow; 0 where one is no number.
fn version(topic: &Topic) -> u64 {
    topic.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn reason(status: Option<&TopicStatus>) -> Option<(String, String)> {
    let ready = crate::conditions::find(&status?.conditions, freshet_crds::reasons::condition::READY)?;
    Some((ready.reason.clone(), ready.message.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_spread_over_the_period_and_meet_in_whole_seconds() {
        let period = Duration::from_secs(20);
        let mut phases = std::collections::BTreeSet::new();
        for seed in 0..1_000 {
            for now in [0, 1, 7_777, 19_999, 1_700_000_000_123] {
                let wait = i64::try_from(next_look(now, period, seed).as_millis()).expect("short");
                assert!((10_000..30_000).contains(&wait), "{wait}");
                assert_eq!((now + wait) % 1_000, 0);
                phases.insert((now + wait) % 20_000);
            }
        }
        assert_eq!(phases.len(), 20);
        assert!(next_look(5, Duration::from_millis(300), 3) <= Duration::from_millis(600));
    }
}
