//! Pure (decide): from what is wanted and what is there to what is done with a Topic that is to stay. What is done with
//! one that is being deleted is decided by `super::decide_ending`.
//!
//! ```text
//! claimed by an older Topic? ──────────────────────────────────────────────────▶ Refuse
//!      │ no
//! not there ──▶ was it known? ──▶ Refuse (deleted)   to be managed? ──▶ Create   else ──▶ Refuse (not found)
//! there     ──▶ another id than the known one? ──▶ Refuse (made again)
//!           ──▶ not known yet, and not ours to take? ──▶ Refuse (exists), saying what would change
//!           ──▶ Keep: what changes, and what is refused
//! ```
//!
//! A topic that was ever known by its id is never made again: it would be empty, and its readers would not know.

use std::collections::BTreeMap;
use std::fmt;

use freshet_crds::{DeletionPolicy, ManagementPolicy};
use freshet_kafka::admin::{ConfigChange, NewTopic};

use super::difference::{self, Changes};
use super::wanted::Wanted;

/// The Kafka topic, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It is not there.
    Absent,
    /// It is there.
    There(KafkaTopic),
}

/// A Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaTopic {
    /// Its id.
    pub id: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// The smallest and the largest number of copies that a partition of it has.
    pub replicas: (u16, u16),
    /// What is set on the topic itself, by name.
    pub set: BTreeMap<String, String>,
    /// Every entry's value, wherever it comes from; entries that no broker knows are not there.
    pub effective: BTreeMap<String, String>,
}

/// What is known when it is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The Kafka topic.
    pub seen: Seen,
    /// The id by which the Topic knows its Kafka topic (`status.topicId`).
    pub known: Option<String>,
    /// Whether the status says that the Kafka topic is being made: the step was written down before it was taken.
    pub creating: bool,
    /// The older Topic that names the same Kafka topic, as namespace/name.
    pub rival: Option<String>,
    /// StreamJobs that keep state by the topic's own partitions. Known where partitions should grow.
    pub keyed_by: Vec<String>,
}

/// What is done with a Topic that is to stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The Kafka topic is made, after the status says so.
    Create(NewTopic),
    /// The Kafka topic is the Topic's: these changes are made, and these wishes refused. Often both are none.
    Keep {
        /// The Kafka topic.
        topic: KafkaTopic,
        /// What is changed.
        changes: Changes,
        /// What is wanted and can't be.
        refused: Vec<Refusal>,
    },
    /// The Kafka topic is not touched.
    Refuse(Refusal),
}

/// Why the Kafka topic is not as the Topic says, where a person must change something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// An older Topic names the same Kafka topic.
    Claimed {
        /// It, as namespace/name.
        by: String,
    },
    /// The Kafka topic was there before the Topic, and would change.
    Exists {
        /// What would change; empty where only its deletion with the Topic is in question.
        changes: Vec<String>,
    },
    /// Only what is there may be taken or looked at, and nothing is.
    NotFound,
    /// The Kafka topic with this id is gone.
    Deleted {
        /// The id that was known.
        known: String,
    },
    /// The Kafka topic is another one.
    Recreated {
        /// The id that was known.
        known: String,
        /// The id that it has.
        is: String,
    },
    /// Kafka can't shrink a topic.
    FewerPartitions {
        /// How many it has.
        is: u32,
    },
    /// StreamJobs keep state by the partitions that there are.
    PartitionsInUse {
        /// How many it has.
        is: u32,
        /// The jobs.
        by: Vec<String>,
    },
    /// Replicas are not moved.
    Replicas {
        /// The smallest and the largest number of copies that there are.
        is: (u16, u16),
    },
    /// Nothing may be written, and it is not as it should be.
    Differs {
        /// How.
        differences: Vec<String>,
    },
}

/// Decides about a Topic that is to stay.
#[must_use]
pub fn decide(wanted: &Wanted, facts: &Facts) -> Decision {
    let observed = wanted.management == ManagementPolicy::Observe;
    if let (Some(rival), false) = (&facts.rival, observed) {
        return Decision::Refuse(Refusal::Claimed { by: rival.clone() });
    }
    let topic = match (&facts.seen, &facts.known) {
        (Seen::Absent, Some(known)) => return Decision::Refuse(Refusal::Deleted { known: known.clone() }),
        (Seen::Absent, None) if wanted.management == ManagementPolicy::Managed => {
            return Decision::Create(new_topic(wanted));
        }
        (Seen::Absent, None) => return Decision::Refuse(Refusal::NotFound),
        (Seen::There(topic), Some(known)) if topic.id != *known => {
            return Decision::Refuse(Refusal::Recreated { known: known.clone(), is: topic.id.clone() });
        }
        (Seen::There(topic), _) => topic,
    };
    if observed {
        let differences = difference::observed(wanted, topic);
        if !differences.is_empty() {
            return Decision::Refuse(Refusal::Differs { differences });
        }
        return Decision::Keep { topic: topic.clone(), changes: Changes::default(), refused: Vec::new() };
    }
    let mut changes = difference::changes(wanted, topic);
    let mut refused = Vec::new();
    if wanted.partitions < topic.partitions {
        refused.push(Refusal::FewerPartitions { is: topic.partitions });
    }
    if wanted.replicas.is_some_and(|replicas| topic.replicas != (replicas, replicas)) {
        refused.push(Refusal::Replicas { is: topic.replicas });
    }
    if facts.known.is_none() && !facts.creating && wanted.management == ManagementPolicy::Managed {
        let harmless = changes.is_empty() && refused.is_empty() && wanted.deletion == DeletionPolicy::Retain;
        if !harmless {
            return Decision::Refuse(Refusal::Exists { changes: difference::in_words(wanted, topic, &changes) });
        }
    }
    if changes.grow.is_some() && !facts.keyed_by.is_empty() {
        changes.grow = None;
        refused.push(Refusal::PartitionsInUse { is: topic.partitions, by: facts.keyed_by.clone() });
    }
    Decision::Keep { topic: topic.clone(), changes, refused }
}

/// Whether it must be known which jobs keep state by the topic's own partitions, before it is decided.
#[must_use]
pub fn asks_for_jobs(wanted: &Wanted, seen: &Seen) -> bool {
    let Seen::There(topic) = seen else { return false };
    wanted.trusted_key && wanted.management != ManagementPolicy::Observe && wanted.partitions > topic.partitions
}

fn new_topic(wanted: &Wanted) -> NewTopic {
    NewTopic {
        name: wanted.name.clone(),
        partitions: i32::try_from(wanted.partitions).unwrap_or(i32::MAX),
        replicas: wanted.replicas.map(|replicas| i16::try_from(replicas).unwrap_or(i16::MAX)),
        config: wanted.config.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}

/// One change in words.
pub(super) struct InWords<'a>(pub(super) &'a ConfigChange, pub(super) &'a KafkaTopic);

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = |name: &str| self.1.effective.get(name).map_or("unknown", String::as_str);
        match self.0 {
            ConfigChange::Set { name, value } => write!(f, "{name}: {} -> {value}", before(name)),
            ConfigChange::Unset { name } => write!(f, "{name}: {} -> the default", before(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::wanted::Access;

    fn wanted() -> Wanted {
        Wanted {
            name: "t".to_owned(),
            access: Access::new("k:1"),
            partitions: 3,
            replicas: None,
            config: BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]),
            unmanaged: ["compression.type".to_owned()].into(),
            management: ManagementPolicy::Managed,
            deletion: DeletionPolicy::Retain,
            trusted_key: true,
        }
    }

    fn entries(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// As [`wanted`] has it, with an entry that is nobody's business.
    fn topic() -> KafkaTopic {
        let set = entries(&[("retention.ms", "1000"), ("compression.type", "lz4")]);
        let mut effective = set.clone();
        effective.extend(entries(&[("cleanup.policy", "delete")]));
        KafkaTopic { id: "one".to_owned(), partitions: 3, replicas: (1, 1), set, effective }
    }

    fn facts(seen: Seen, known: Option<&str>) -> Facts {
        Facts { seen, known: known.map(str::to_owned), creating: false, rival: None, keyed_by: Vec::new() }
    }

    fn there(topic: KafkaTopic) -> Facts {
        facts(Seen::There(topic), Some("one"))
    }

    fn kept(wanted: &Wanted, facts: &Facts) -> (Changes, Vec<Refusal>) {
        match decide(wanted, facts) {
            Decision::Keep { changes, refused, .. } => (changes, refused),
            other => panic!("{other:?}"),
        }
    }

    fn set(name: &str, value: &str) -> ConfigChange {
        ConfigChange::Set { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn a_topic_as_it_should_be_is_left_alone() {
        assert_eq!(kept(&wanted(), &there(topic())), (Changes::default(), Vec::new()));
    }

    #[test]
    fn one_that_is_not_there_is_made_once_and_never_again() {
        let Decision::Create(new) = decide(&wanted(), &facts(Seen::Absent, None)) else { panic!("not made") };
        assert_eq!((new.name.as_str(), new.partitions, new.replicas), ("t", 3, None));
        assert_eq!(new.config, [("retention.ms".to_owned(), "1000".to_owned())]);
        for management in [ManagementPolicy::Managed, ManagementPolicy::Adopt, ManagementPolicy::Observe] {
            let wanted = Wanted { management, ..wanted() };
            let mut facts = facts(Seen::Absent, Some("one"));
            facts.creating = true;
            let deleted = Decision::Refuse(Refusal::Deleted { known: "one".to_owned() });
            assert_eq!(decide(&wanted, &facts), deleted, "{management:?}");
        }
        for management in [ManagementPolicy::Adopt, ManagementPolicy::Observe] {
            let wanted = Wanted { management, ..wanted() };
            assert_eq!(decide(&wanted, &facts(Seen::Absent, None)), Decision::Refuse(Refusal::NotFound));
        }
    }

    #[test]
    fn another_topic_of_the_same_name_is_not_touched_under_any_policy() {
        for management in [ManagementPolicy::Managed, ManagementPolicy::Adopt, ManagementPolicy::Observe] {
            let wanted = Wanted { management, partitions: 9, ..wanted() };
            let recreated = Refusal::Recreated { known: "former".to_owned(), is: "one".to_owned() };
            let facts = facts(Seen::There(topic()), Some("former"));
            assert_eq!(decide(&wanted, &facts), Decision::Refuse(recreated), "{management:?}");
        }
    }

    #[test]
    fn drift_goes_back_but_for_what_is_unmanaged_or_kafkas_own() {
        let mut topic = topic();
        topic.set.extend(entries(&[
            ("retention.ms", "5"),
            ("segment.ms", "7"),
            ("leader.replication.throttled.replicas", "*"),
        ]));
        let (changes, refused) = kept(&wanted(), &there(topic));
        assert_eq!(changes.config, [set("retention.ms", "1000"), ConfigChange::Unset { name: "segment.ms".into() }]);
        assert_eq!((changes.grow, refused.len()), (None, 0));
    }

    #[test]
    fn partitions_grow_unless_a_job_keeps_state_by_them_and_never_shrink() {
        let more = Wanted { partitions: 6, ..wanted() };
        assert_eq!(kept(&more, &there(topic())).0.grow, Some(6));
        let mut used = there(topic());
        used.keyed_by = vec!["fraud".to_owned()];
        let (changes, refused) = kept(&more, &used);
        assert_eq!(changes.grow, None);
        assert_eq!(refused, [Refusal::PartitionsInUse { is: 3, by: vec!["fraud".to_owned()] }]);
        let fewer = Wanted { partitions: 2, ..wanted() };
        let mut drifted = topic();
        drifted.set.insert("retention.ms".to_owned(), "5".to_owned());
        let (changes, refused) = kept(&fewer, &there(drifted));
        assert_eq!(refused, [Refusal::FewerPartitions { is: 3 }]);
        assert_eq!(changes.config, [set("retention.ms", "1000")], "what can be done is done");
        assert!(asks_for_jobs(&more, &Seen::There(topic())));
        assert!(!asks_for_jobs(&Wanted { trusted_key: false, ..more.clone() }, &Seen::There(topic())));
        assert!(!asks_for_jobs(&fewer, &Seen::There(topic())) && !asks_for_jobs(&more, &Seen::Absent));
    }

    #[test]
    fn replicas_are_never_moved() {
        for (is, refused) in [((2, 2), 0), ((1, 1), 1), ((2, 3), 1)] {
            let wanted = Wanted { replicas: Some(2), ..wanted() };
            let (_, found) = kept(&wanted, &there(KafkaTopic { replicas: is, ..topic() }));
            assert_eq!(found.len(), refused, "{is:?}");
        }
    }

    #[test]
    fn a_topic_that_was_there_first_is_taken_only_where_nothing_changes() {
        let first = facts(Seen::There(topic()), None);
        assert_eq!(kept(&wanted(), &first), (Changes::default(), Vec::new()));

        let other = Wanted { partitions: 6, config: entries(&[("retention.ms", "7")]), ..wanted() };
        let Decision::Refuse(Refusal::Exists { changes }) = decide(&other, &first) else { panic!("taken") };
        assert_eq!(changes, ["partitions: 3 -> 6", "retention.ms: 1000 -> 7"]);
        let adopts = Wanted { management: ManagementPolicy::Adopt, ..other.clone() };
        assert_eq!(kept(&adopts, &first).0.grow, Some(6));
        let ours = Facts { creating: true, ..first.clone() };
        assert_eq!(kept(&other, &ours).0.grow, Some(6), "it was written down that it was being made");

        let deletes = Wanted { deletion: DeletionPolicy::Delete, ..wanted() };
        assert_eq!(decide(&deletes, &first), Decision::Refuse(Refusal::Exists { changes: Vec::new() }));
        let adopts = Wanted { management: ManagementPolicy::Adopt, ..deletes };
        assert_eq!(kept(&adopts, &first).0, Changes::default());
    }

    #[test]
    fn the_older_topic_has_it_and_one_that_observes_needs_no_claim() {
        for seen in [Seen::Absent, Seen::There(topic())] {
            let facts = Facts { rival: Some("a/b".to_owned()), ..facts(seen, None) };
            assert_eq!(decide(&wanted(), &facts), Decision::Refuse(Refusal::Claimed { by: "a/b".to_owned() }));
        }
        let observes = Wanted { management: ManagementPolicy::Observe, ..wanted() };
        let facts = Facts { rival: Some("a/b".to_owned()), ..there(topic()) };
        assert_eq!(kept(&observes, &facts), (Changes::default(), Vec::new()));
    }

    #[test]
    fn one_that_observes_says_how_the_topic_differs_and_changes_nothing() {
        let observes = |config: &[(&str, &str)]| Wanted {
            management: ManagementPolicy::Observe,
            config: entries(config),
            unmanaged: [].into(),
            ..wanted()
        };
        // What is set beside does not matter, and neither does where a value comes from.
        assert_eq!(kept(&observes(&[("cleanup.policy", "delete")]), &there(topic())).0, Changes::default());
        let differs =
            Wanted { partitions: 4, replicas: Some(3), ..observes(&[("retention.ms", "5"), ("nonsense", "1")]) };
        let Decision::Refuse(Refusal::Differs { differences }) = decide(&differs, &there(topic())) else {
            panic!("in order")
        };
        assert_eq!(
            differences,
            [
                "spec.partitions is 4, the topic has 3",
                "spec.replicas is 3, the topic has 1",
                "spec.config has nonsense, which the broker does not know",
                "spec.config has retention.ms: 5, the topic has 1000",
            ]
        );
    }
}
