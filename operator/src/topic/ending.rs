//! Does IO: the end of a Topic. What it waits for is decided from its policy and its users alone; brokers are looked
//! for only where a Kafka topic is to be deleted.

use std::time::Duration;

use freshet_crds::TOPIC_FINALIZER;
use freshet_kafka::admin::Trouble;
use kube::{Resource, ResourceExt};

use super::claims::Claim;
use super::decide::Seen;
use super::decide_ending::{Ending, FactsOfDeletion, Kept, Policy, decide_ending};
use super::reconcile::{AGAIN_REFUSED, AGAIN_UNAVAILABLE, Subject, TopicError, Topics};
use super::status::{self, Doing, Ended, Failure};
use super::users::users;
use super::wanted::{Wanted, kafka_name, validate};
use crate::clock::{self, millis};
use crate::controller::Pass;
use crate::events::Happening;
use crate::metrics::Outcome;

impl Topics {
    /// Ends a Topic that is being deleted, or waits.
    pub(super) async fn end(&self, subject: &mut Subject) -> Result<Pass, TopicError> {
        if !subject.topic.finalizers().iter().any(|name| name == TOPIC_FINALIZER) {
            return Ok(Pass { outcome: Outcome::Settled, again: self.next_look(&subject.topic) });
        }
        let topic = subject.topic.clone();
        let since = topic.metadata.deletion_timestamp.as_ref().map_or(0, millis);
        let deadline = since + i64::try_from(self.context.config.deletion_deadline.as_millis()).unwrap_or(i64::MAX);
        let own = Claim::of(&topic, self.context.config.kafka.as_deref());
        let others = self.claims.others(&kafka_name(&topic), &own, |access| self.clusters.known_id(access));
        let used_by = users(&topic, &self.watches.jobs.store.state(), &self.watches.topics.store.state());
        let facts = FactsOfDeletion {
            used_by: used_by.into_iter().map(|(job, _)| job).collect(),
            named_by: others.iter().map(Claim::who).collect(),
            deadline_passed: self.context.clock.now_ms() >= deadline,
            known: topic.status.as_ref().and_then(|status| status.topic_id.clone()),
            creating: status::is_creating(topic.status.as_ref()),
        };
        match decide_ending(Policy::of(&topic), &facts) {
            Ending::Wait(jobs) => {
                let until = clock::time(deadline).0.to_string();
                self.wait(subject, None, &Ended::InUse { jobs, until }, deadline, AGAIN_REFUSED).await
            }
            Ending::LetGo(kept) => self.let_go(subject, &kept).await,
            Ending::Delete(id) => {
                let wanted = match validate(&topic, self.context.config.kafka.as_deref()) {
                    Ok(wanted) => wanted,
                    Err(invalid) if facts.deadline_passed => {
                        return self.let_go(subject, &Kept::NotDeleted(invalid.to_string())).await;
                    }
                    Err(invalid) => {
                        let until = clock::time(deadline).0.to_string();
                        let ended = Ended::Undeletable { invalid, until };
                        return self.wait(subject, None, &ended, deadline, AGAIN_REFUSED).await;
                    }
                };
                match self.delete(&wanted, id.as_deref()).await {
                    Ok(Some(kept)) => self.let_go(subject, &kept).await,
                    Ok(None) => {
                        self.gone(subject, "TopicDeleted", format!("deleted the Kafka topic {}", wanted.name)).await
                    }
                    Err(failure) if facts.deadline_passed => {
                        self.let_go(subject, &Kept::NotDeleted(failure.error.to_string())).await
                    }
                    Err(failure) => {
                        let ended = Ended::Failed { topic: None, failed: vec![failure], creating: facts.creating };
                        self.wait(subject, Some(&wanted), &ended, deadline, AGAIN_UNAVAILABLE).await
                    }
                }
            }
        }
    }

    /// Says what is waited for, and looks again after `again` at most, or when the deadline has passed.
    async fn wait(
        &self,
        subject: &mut Subject,
        wanted: Option<&Wanted>,
        ended: &Ended,
        deadline: i64,
        again: Duration,
    ) -> Result<Pass, TopicError> {
        self.conclude(subject, wanted, ended, Vec::new()).await?;
        let left = u64::try_from(deadline - self.context.clock.now_ms()).unwrap_or(0);
        Ok(Pass { outcome: Outcome::Waiting, again: Duration::from_millis(left + 100).min(again) })
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
        let name = kafka_name(&subject.topic);
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
        self.forget(&subject.topic);
        Ok(Pass { outcome: Outcome::Settled, again: AGAIN_REFUSED })
    }
}
