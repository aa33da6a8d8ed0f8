//! Does IO (observe, apply): one pass over a Topic. It gathers facts, has them decided, does what was decided, looks
//! whether Kafka shows it, and writes the status once, if it changed.
//!
//! # Order of writes
//! The finalizer comes before anything is done. That the Kafka topic is being made is written into the status before
//! it is made: whoever comes after a crash then knows that a topic which is there is the Topic's own. Every write
//! names the version that it stands on, so that a pass over something stale writes nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freshet_crds::{Topic, TopicStatus};
use freshet_kafka::admin::{AdminError, Trouble};
use kube::api::Api;
use kube::{Resource, ResourceExt};

use super::claims::{Claim, Claims, rival};
use super::cluster::{Cluster, Clusters};
use super::decide::{Decision, Facts, KafkaTopic, Refusal, Seen, asks_for_jobs, decide};
use super::difference::Changes;
use super::look;
use super::status::{self, Doing, Ended, Failure};
use super::users::{Use, users};
use super::wanted::{Wanted, validate};
use super::written::{Written, uid, version};
use crate::clock;
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
pub(super) const AGAIN_REFUSED: Duration = Duration::from_secs(10);
pub(super) const AGAIN_UNAVAILABLE: Duration = Duration::from_secs(2);
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
    pub(super) context: Context,
    pub(super) watches: Watches,
    pub(super) clusters: Clusters,
    pub(super) claims: Arc<Claims>,
    /// What this process wrote last, by the Topic's uid.
    pub(super) written: Mutex<HashMap<String, Written>>,
}

/// A pass's own copy of the Topic, as of its last write.
pub(super) struct Subject {
    pub api: Api<Topic>,
    pub topic: Topic,
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

    /// Writes the status, tells the story, and says when to look again.
    pub(super) async fn conclude(
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
            Ended::Failed { .. }
            | Ended::Refused { .. }
            | Ended::Invalid(_)
            | Ended::InUse { .. }
            | Ended::Undeletable { .. } => AGAIN_REFUSED,
        };
        let until = self.context.clock.now_ms() + i64::try_from(again.as_millis()).unwrap_or(0);
        let written = Written { version: version(&subject.topic), rests_until: until, settled };
        self.remember(&subject.topic, written);
        Ok(Pass { outcome: if settled { Outcome::Settled } else { Outcome::Waiting }, again })
    }

    /// When it is looked again at a Topic that is in order.
    pub(super) fn next_look(&self, topic: &Topic) -> Duration {
        let seed = uid(topic).bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        look::next_look(self.context.clock.now_ms(), self.context.config.topic_resync, seed)
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

/// Whether a person had to change something when it was last looked.
fn refused_before(status: Option<&TopicStatus>) -> bool {
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    crate::conditions::holding(conditions, freshet_crds::reasons::condition::STALLED).is_some()
}

fn reason(status: Option<&TopicStatus>) -> Option<(String, String)> {
    let ready = crate::conditions::find(&status?.conditions, freshet_crds::reasons::condition::READY)?;
    Some((ready.reason.clone(), ready.message.clone()))
}
