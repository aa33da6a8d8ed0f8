//! Pure (status): what a pass found and did, as conditions and as a story. All of a Topic's status is made here.

use freshet_crds::reasons::{self, Kind, Reason};
use freshet_crds::{ManagementPolicy, TopicStatus};
use freshet_kafka::admin::{AdminError, Trouble};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::{KafkaTopic, Refusal};
use super::difference::range;
use super::wanted::{Invalid, Wanted};
use crate::conditions::{Fact, Verdict, holding};

/// How a pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The Kafka topic is as the Topic says.
    InSync(KafkaTopic),
    /// The step of making the Kafka topic is about to be taken.
    Creating,
    /// Kafka took a change, but does not show it yet.
    Applying {
        /// The Kafka topic as it was seen last, if it was.
        topic: Option<KafkaTopic>,
    },
    /// A person must change something; the topic is the Kafka topic, where it is the Topic's.
    Refused {
        /// The Kafka topic, where it is the Topic's.
        topic: Option<KafkaTopic>,
        /// What is refused; at least one.
        refused: Vec<Refusal>,
        /// What Kafka said to changes, beside.
        failed: Vec<Failure>,
    },
    /// Kafka did not do what it was asked.
    Failed {
        /// The Kafka topic, where it is the Topic's.
        topic: Option<KafkaTopic>,
        /// What it said; at least one.
        failed: Vec<Failure>,
        /// Whether the step of making the Kafka topic may have been taken.
        creating: bool,
    },
    /// The spec can't work.
    Invalid(Invalid),
    /// The Topic is being deleted with its Kafka topic, which can't be asked for.
    Undeletable {
        /// Why.
        invalid: Invalid,
        /// How long that may be mended, in whole minutes and seconds, for people.
        until: String,
    },
    /// The Topic is being deleted and waits for these StreamJobs.
    InUse {
        /// They.
        jobs: Vec<String>,
        /// How long it still waits, in whole minutes and seconds, for people.
        until: String,
    },
}

/// What Kafka said to something that it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was done.
    pub doing: Doing,
    /// Its words.
    pub error: AdminError,
}

/// What is asked of Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Looking.
    Looking,
    /// Making the topic.
    Creating,
    /// Adding partitions.
    Growing,
    /// Changing its configuration.
    Configuring,
    /// Deleting it.
    Deleting,
}

impl Doing {
    const fn words(self) -> &'static str {
        match self {
            Self::Looking => "asking for the topic",
            Self::Creating => "making the topic",
            Self::Growing => "adding partitions",
            Self::Configuring => "changing its configuration",
            Self::Deleting => "deleting the topic",
        }
    }
}

/// The status after a pass. Fields of a Kafka topic that this pass did not see stay as they were.
#[must_use]
pub fn status(
    wanted: Option<&Wanted>,
    ended: &Ended,
    old: Option<&TopicStatus>,
    generation: i64,
    now: &Time,
) -> TopicStatus {
    let before = old.cloned().unwrap_or_default();
    let mut verdict = verdict(wanted, ended);
    if is_creating(old) && matches!(ended, Ended::InUse { .. } | Ended::Undeletable { .. }) {
        // That the Kafka topic may have been made stays written down until it is known what becomes of it.
        let words = verdict.ready.message.clone();
        (verdict.stalled, verdict.reconciling) = (None, Some(Fact::yes(reasons::CREATING.name, words)));
    }
    let conditions = verdict.conditions(&before.conditions, generation, now);
    let mut status = TopicStatus { observed_generation: generation, conditions, ..before };
    let topic = match ended {
        Ended::InSync(topic) => Some(topic),
        Ended::Applying { topic } | Ended::Refused { topic, .. } | Ended::Failed { topic, .. } => topic.as_ref(),
        Ended::Creating | Ended::Invalid(_) | Ended::Undeletable { .. } | Ended::InUse { .. } => None,
    };
    if let (Some(topic), Some(wanted)) = (topic, wanted) {
        status.topic_id = Some(topic.id.clone());
        status.active_topic = Some(wanted.name.clone());
        status.partitions = i32::try_from(topic.partitions).ok();
    }
    status
}

/// Whether `status` says that the Kafka topic is being made: the step that was written down before it was taken.
#[must_use]
pub fn is_creating(status: Option<&TopicStatus>) -> bool {
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let reconciling = holding(conditions, reasons::condition::RECONCILING);
    status.is_some_and(|status| status.topic_id.is_none())
        && reconciling.is_some_and(|found| found.reason == reasons::CREATING.name)
}

/// What the conditions say.
#[must_use]
pub fn verdict(wanted: Option<&Wanted>, ended: &Ended) -> Verdict {
    let name = wanted.map_or("", |wanted| wanted.name.as_str());
    match ended {
        Ended::InSync(topic) => {
            let observes = wanted.is_some_and(|wanted| wanted.management == ManagementPolicy::Observe);
            let (reason, tail) =
                if observes { (&reasons::OBSERVED, "; nothing is written to it") } else { (&reasons::IN_SYNC, "") };
            let replicas = range(topic.replicas);
            let message = format!(
                "the Kafka topic {name} is as this Topic says: {} partitions, {replicas} replicas{tail}",
                topic.partitions
            );
            Verdict::good(reason, message)
        }
        Ended::Creating => Verdict::not_ready(&reasons::CREATING, format!("the Kafka topic {name} is being made")),
        Ended::Applying { .. } => {
            let message = format!("Kafka took a change of the topic {name}, but does not show it yet");
            Verdict::not_ready(&reasons::APPLYING, message)
        }
        Ended::Refused { refused, failed, .. } => {
            let mut words: Vec<String> = refused.iter().map(|refusal| refusal_in_words(wanted, refusal)).collect();
            words.extend(failed.iter().map(failure_in_words));
            let reason = refused.first().map_or(&reasons::SPEC_INVALID, reason_of_refusal);
            Verdict::not_ready(reason, words.join(" "))
        }
        Ended::Failed { failed, creating, .. } => {
            // What a person must mend comes before what may pass.
            let worst = failed.iter().find(|failure| reason_of_failure(failure).kind == Kind::Stalled);
            let worst = worst.or(failed.first());
            let reason = worst.map_or(&reasons::KAFKA_UNAVAILABLE, reason_of_failure);
            let words: Vec<String> = failed.iter().map(failure_in_words).collect();
            let mut verdict = Verdict::not_ready(reason, words.join(" "));
            if *creating && reason.kind == Kind::Passing {
                // It stays written down that the topic may have been made.
                verdict.reconciling = Some(Fact::yes(reasons::CREATING.name, words.join(" ")));
            }
            verdict
        }
        Ended::Invalid(invalid) => Verdict::not_ready(&reasons::SPEC_INVALID, invalid.to_string()),
        Ended::Undeletable { invalid, until } => Verdict::not_ready(
            &reasons::SPEC_INVALID,
            format!(
                "the Kafka topic can't be deleted as spec.deletionPolicy asks: {invalid}. At {until} this Topic goes all \
                 the same, and the Kafka topic stays"
            ),
        ),
        Ended::InUse { jobs, until } => Verdict::not_ready(
            &reasons::TOPIC_IN_USE,
            format!(
                "deletion waits for {}: delete what uses this Topic, or wait until {until}; then this Topic goes and \
                 the Kafka topic stays",
                jobs_in_words(jobs)
            ),
        ),
    }
}

/// `StreamJob a`, or `the StreamJobs a, b`.
#[must_use]
pub fn jobs_in_words(jobs: &[String]) -> String {
    match jobs {
        [one] => format!("StreamJob {one}"),
        many => format!("the StreamJobs {}", many.join(", ")),
    }
}

fn reason_of_refusal(refusal: &Refusal) -> &'static Reason {
    match refusal {
        Refusal::Claimed { .. } => &reasons::TOPIC_CLAIMED,
        Refusal::Exists { .. } => &reasons::TOPIC_EXISTS,
        Refusal::NotFound => &reasons::TOPIC_NOT_FOUND,
        Refusal::Deleted { .. } => &reasons::TOPIC_DELETED,
        Refusal::Recreated { .. } => &reasons::TOPIC_RECREATED,
        Refusal::FewerPartitions { .. } => &reasons::PARTITIONS_CANNOT_SHRINK,
        Refusal::PartitionsInUse { .. } => &reasons::PARTITIONS_IN_USE,
        Refusal::Replicas { .. } => &reasons::REPLICAS_CANNOT_CHANGE,
        Refusal::Differs { .. } => &reasons::TOPIC_DIFFERS,
    }
}

fn refusal_in_words(wanted: Option<&Wanted>, refusal: &Refusal) -> String {
    let (name, partitions) = wanted.map_or(("", 0), |wanted| (wanted.name.as_str(), wanted.partitions));
    match refusal {
        Refusal::Claimed { by } => format!(
            "the Kafka topic {name} belongs to the older Topic {by}. Delete one of the two, or set managementPolicy: \
             Observe here if this one only reads."
        ),
        Refusal::Exists { changes } if changes.is_empty() => format!(
            "the Kafka topic {name} was there before this Topic, whose deletionPolicy would delete it one day. Set \
             managementPolicy: Adopt if that is right, or deletionPolicy: Retain."
        ),
        Refusal::Exists { changes } => format!(
            "the Kafka topic {name} was there before this Topic, and taking it over would change it: {}. Set \
             managementPolicy: Adopt to do so, or change the spec to what is there.",
            changes.join("; ")
        ),
        Refusal::NotFound => {
            let policy = wanted.map_or("Observe", |wanted| match wanted.management {
                ManagementPolicy::Managed => "Managed",
                ManagementPolicy::Adopt => "Adopt",
                ManagementPolicy::Observe => "Observe",
            });
            format!(
                "there is no Kafka topic {name}, and managementPolicy: {policy} makes none. Make it, correct the \
                 name, or set managementPolicy: Managed."
            )
        }
        Refusal::Deleted { known } => format!(
            "the Kafka topic {name} (id {known}) is gone, and it was not this operator that deleted it. It is not made \
             again by itself, since it would be empty. To begin anew, delete this Topic and apply it again; if \
             spec.kafka was changed to another cluster, change it back."
        ),
        Refusal::Recreated { known, is } => format!(
            "the Kafka topic {name} is not the one that this Topic had: its id is {is}, it was {known}. Its records \
             and offsets are others. To take it, delete this Topic (the Kafka topic stays) and apply it again."
        ),
        Refusal::FewerPartitions { is } => format!(
            "spec.partitions: {partitions} is fewer than the topic's {is}; Kafka can't shrink a topic. Set {is} or \
             more, or make a new Topic."
        ),
        Refusal::PartitionsInUse { is, by } => format!(
            "spec.partitions: {partitions} is more than the topic's {is}, but {} groups by this topic's own key: its \
             state is placed by these partitions. Set {is}; to grow, delete the job with its state first, or write to \
             a new Topic.",
            jobs_in_words(by)
        ),
        Refusal::Replicas { is } => {
            let replicas = wanted.and_then(|wanted| wanted.replicas).unwrap_or_default();
            let is = range(*is);
            format!(
                "spec.replicas: {replicas} is not the topic's {is}; the operator does not move replicas. Reassign the \
                 partitions with kafka-reassign-partitions.sh, or set {is}."
            )
        }
        Refusal::Differs { differences } => format!(
            "the Kafka topic {name} is not as this Topic says, and managementPolicy: Observe changes nothing: {}. \
             Change the spec to what is there, or have the topic changed.",
            differences.join("; ")
        ),
    }
}

fn reason_of_failure(failure: &Failure) -> &'static Reason {
    match (failure.error.trouble, failure.doing) {
        (Trouble::Unavailable, _) => &reasons::KAFKA_UNAVAILABLE,
        (Trouble::Unauthorised, _) => &reasons::UNAUTHORISED,
        // It came or went between two questions: the next pass sees it.
        (Trouble::NotFound | Trouble::Exists, _) => &reasons::APPLYING,
        (Trouble::Refused, Doing::Configuring) => &reasons::CONFIG_REFUSED,
        (Trouble::Refused, _) if failure.error.code == "INVALID_CONFIG" => &reasons::CONFIG_REFUSED,
        (Trouble::Refused, _) => &reasons::KAFKA_REFUSED,
    }
}

fn failure_in_words(failure: &Failure) -> String {
    let remedy = match reason_of_failure(failure).name {
        name if name == reasons::UNAUTHORISED.name => " Grant the operator's Kafka user what is missing.",
        name if name == reasons::CONFIG_REFUSED.name => " Correct spec.config.",
        name if name == reasons::KAFKA_REFUSED.name => " Change the spec, or the cluster.",
        _ => "",
    };
    format!("{}: Kafka says: {}.{remedy}", failure.doing.words(), failure.error)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock::time;

    fn topic() -> KafkaTopic {
        let (set, effective) = (BTreeMap::new(), BTreeMap::new());
        KafkaTopic { id: "id-1".to_owned(), partitions: 3, replicas: (1, 1), set, effective }
    }

    fn failed(trouble: Trouble, doing: Doing) -> Failure {
        let error = AdminError { trouble, code: "CODE".to_owned(), words: "words.".to_owned() };
        Failure { doing, error }
    }

    fn reason(status: &TopicStatus, type_: &str) -> (String, String) {
        let found = crate::conditions::find(&status.conditions, type_).expect("all three are there");
        (found.status.clone(), found.reason.clone())
    }

    #[test]
    fn that_a_topic_is_being_made_stays_written_down_while_kafka_is_away() {
        let journal = status(None, &Ended::Creating, None, 1, &time(0));
        assert!(is_creating(Some(&journal)));
        let away =
            Ended::Failed { topic: None, failed: vec![failed(Trouble::Unavailable, Doing::Creating)], creating: true };
        let away = status(None, &away, Some(&journal), 1, &time(1_000));
        assert!(is_creating(Some(&away)));
        assert_eq!(reason(&away, "Ready"), ("False".to_owned(), "KafkaUnavailable".to_owned()));
        let refused =
            Ended::Failed { topic: None, failed: vec![failed(Trouble::Refused, Doing::Creating)], creating: true };
        let refused = status(None, &refused, Some(&away), 1, &time(2_000));
        assert!(!is_creating(Some(&refused)), "a refusal is known to have made nothing");
        assert_eq!(reason(&refused, "Stalled"), ("True".to_owned(), "KafkaRefused".to_owned()));
    }

    #[test]
    fn that_a_topic_is_being_made_stays_written_down_while_its_end_waits() {
        let journal = status(None, &Ended::Creating, None, 1, &time(0));
        let (jobs, until) = (vec!["fraud".to_owned()], "noon".to_owned());
        let waits = status(None, &Ended::InUse { jobs, until: until.clone() }, Some(&journal), 1, &time(1_000));
        assert!(is_creating(Some(&waits)));
        assert_eq!(reason(&waits, "Ready").1, "TopicInUse");
        let stuck =
            status(None, &Ended::Undeletable { invalid: Invalid::NoCluster, until }, Some(&waits), 1, &time(2_000));
        assert!(is_creating(Some(&stuck)));
        assert_eq!(
            (reason(&stuck, "Ready").1.as_str(), reason(&stuck, "Stalled").0.as_str()),
            ("SpecInvalid", "False")
        );
    }

    #[test]
    fn what_a_person_must_mend_comes_before_what_may_pass() {
        let both = vec![failed(Trouble::Unavailable, Doing::Growing), failed(Trouble::Refused, Doing::Configuring)];
        let ended = Ended::Failed { topic: Some(topic()), failed: both, creating: false };
        let status = status(None, &ended, None, 1, &time(0));
        assert_eq!(reason(&status, "Stalled"), ("True".to_owned(), "ConfigRefused".to_owned()));
        assert_eq!(reason(&status, "Reconciling").0, "False");
        let message = &status.conditions[0].message;
        assert!(message.contains("Kafka says: words (CODE)."), "{message}");
    }

    #[test]
    fn an_unchanged_topic_has_an_unchanged_status() {
        let ended = Ended::InSync(topic());
        let first = status(None, &ended, None, 1, &time(0));
        assert_eq!(status(None, &ended, Some(&first), 1, &time(9_000)), first);
    }
}
