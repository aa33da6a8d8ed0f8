//! Pure (decide): what is done with a Topic that is being deleted, and with its Kafka topic.
//!
//! ```text
//! used by jobs? ──▶ Wait while there is time, then LetGo
//!      │ no
//! kept by its policy, never taken, or named by others too? ──▶ LetGo      else ──▶ Delete
//! ```

use freshet_crds::{DeletionPolicy, ManagementPolicy, Topic};

/// What a Topic says of its end. It is known however little else of the spec can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What may be done with the Kafka topic.
    pub management: ManagementPolicy,
    /// What becomes of it.
    pub deletion: DeletionPolicy,
}

impl Policy {
    /// As `topic` says it.
    #[must_use]
    pub fn of(topic: &Topic) -> Self {
        let spec = &topic.spec;
        let (management, deletion) = (spec.management_policy, spec.deletion_policy);
        Self { management: management.unwrap_or_default(), deletion: deletion.unwrap_or_default() }
    }

    /// Whether the Kafka topic outlives its Topic: nothing may be written, or nobody asks for it to go.
    fn keeps_the_topic(self) -> bool {
        self.management == ManagementPolicy::Observe || self.deletion == DeletionPolicy::Retain
    }
}

/// What is known when a Topic is being deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactsOfDeletion {
    /// StreamJobs that use it.
    pub used_by: Vec<String>,
    /// Other Topics that name the same Kafka topic.
    pub named_by: Vec<String>,
    /// Whether it has waited as long as it may.
    pub deadline_passed: bool,
    /// The id by which the Topic knows its Kafka topic.
    pub known: Option<String>,
    /// Whether the status says that the Kafka topic is being made.
    pub creating: bool,
}

/// What is done with a Topic that is being deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It waits for these StreamJobs.
    Wait(Vec<String>),
    /// The Kafka topic is deleted if it has this id, or, without one, if it is there: it was being made.
    Delete(Option<String>),
    /// The Topic goes and the Kafka topic stays.
    LetGo(Kept),
}

/// Why a Kafka topic stays when its Topic goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// The deletionPolicy is Retain, or nothing may be written.
    AsAsked,
    /// The Topic never had it.
    NeverTaken,
    /// These Topics name it too.
    Named(Vec<String>),
    /// StreamJobs still used it when the time was over.
    InUse(Vec<String>),
    /// Kafka could not be asked, or refused, until the time was over.
    NotDeleted(String),
}

/// Decides about a Topic that is being deleted. How its brokers are reached has no part in it: jobs are waited for
/// whether or not Kafka can be asked.
#[must_use]
pub fn decide_ending(policy: Policy, facts: &FactsOfDeletion) -> Ending {
    if !facts.used_by.is_empty() {
        let jobs = facts.used_by.clone();
        return if facts.deadline_passed { Ending::LetGo(Kept::InUse(jobs)) } else { Ending::Wait(jobs) };
    }
    if policy.keeps_the_topic() {
        return Ending::LetGo(Kept::AsAsked);
    }
    if facts.known.is_none() && !facts.creating {
        return Ending::LetGo(Kept::NeverTaken);
    }
    if !facts.named_by.is_empty() {
        return Ending::LetGo(Kept::Named(facts.named_by.clone()));
    }
    Ending::Delete(facts.known.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_deleted_only_if_asked_for_known_free_and_nobody_elses() {
        let free = FactsOfDeletion {
            used_by: Vec::new(),
            named_by: Vec::new(),
            deadline_passed: false,
            known: Some("one".to_owned()),
            creating: false,
        };
        let policy = |management, deletion| Policy { management, deletion };
        let deletes = policy(ManagementPolicy::Managed, DeletionPolicy::Delete);
        let retains = policy(ManagementPolicy::Managed, DeletionPolicy::Retain);
        assert_eq!(decide_ending(deletes, &free), Ending::Delete(Some("one".to_owned())));
        assert_eq!(decide_ending(retains, &free), Ending::LetGo(Kept::AsAsked));
        let observes = policy(ManagementPolicy::Observe, DeletionPolicy::Delete);
        assert_eq!(decide_ending(observes, &free), Ending::LetGo(Kept::AsAsked));
        let never = FactsOfDeletion { known: None, ..free.clone() };
        assert_eq!(decide_ending(deletes, &never), Ending::LetGo(Kept::NeverTaken));
        let made = FactsOfDeletion { creating: true, ..never.clone() };
        assert_eq!(decide_ending(deletes, &made), Ending::Delete(None));
        let named = FactsOfDeletion { named_by: vec!["a/b".to_owned()], ..free.clone() };
        assert_eq!(decide_ending(deletes, &named), Ending::LetGo(Kept::Named(vec!["a/b".to_owned()])));
        let jobs = vec!["fraud".to_owned()];
        // Whatever becomes of the Kafka topic, known or not.
        for facts in [free, never] {
            let used = FactsOfDeletion { used_by: jobs.clone(), ..facts };
            let late = FactsOfDeletion { deadline_passed: true, ..used.clone() };
            for policy in [deletes, retains, observes] {
                assert_eq!(decide_ending(policy, &used), Ending::Wait(jobs.clone()));
                assert_eq!(decide_ending(policy, &late), Ending::LetGo(Kept::InUse(jobs.clone())));
            }
        }
    }

    #[test]
    fn a_policy_is_read_whatever_else_is_wrong() {
        let topic: Topic = serde_json::from_value(serde_json::json!({
            "apiVersion": freshet_crds::API_VERSION, "kind": "Topic", "metadata": { "name": "t" },
            "spec": { "deletionPolicy": "Delete", "config": { "a": "\0" } },
        }))
        .expect("a Topic");
        assert!(crate::topic::wanted::validate(&topic, None).is_err());
        let managed = Policy { management: ManagementPolicy::Managed, deletion: DeletionPolicy::Delete };
        assert_eq!(Policy::of(&topic), managed);
    }
}
