//! What is stored about generations.

use std::collections::BTreeMap;

use freshet_plan::Plan;
use freshet_plan::fingerprint::short_hash;
use serde::{Deserialize, Serialize};

use crate::TaskId;
use crate::run_policy::RunPolicy;
use crate::sealed::Sealed;

/// One generation of a lineage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Generation {
    /// From 1.
    pub number: u64,
    /// How many slots there are: 0 to `slots` − 1. None: the lineage has ended.
    pub slots: u32,
    /// Which slot runs a task.
    #[serde(with = "by_stage")]
    pub assignment: BTreeMap<TaskId, u32>,
    /// How many partitions each input topic has, by its name in Kafka.
    pub partition_counts: BTreeMap<String, u32>,
    /// Which topics are read, by their names in Kafka: another topic of the same name has another id. Topics that are
    /// read no longer stay in it; absent in generations that know no ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topic_ids: BTreeMap<String, String>,
    /// The fingerprint of the plan as it came from the SQL, with ids from meaning alone.
    pub plan_fingerprint: String,
    /// The plan, with the ids that things have in this lineage: see `renamed`.
    pub plan: Plan,
    /// How it is run; absent in generations of version 1, which can be gone on from, but not be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RunPolicy>,
    /// Where each task begins that has not begun yet: the first offset to read, resolved once in the task's life.
    #[serde(default, with = "by_stage", skip_serializing_if = "BTreeMap::is_empty")]
    pub starts: BTreeMap<TaskId, i64>,
    /// Ids of the plan that are others than those from meaning: from meaning → in this lineage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub renamed: BTreeMap<String, String>,
    /// Ids of stages and operators that the lineage once had and has no longer. They are never used again: what
    /// they named (state, offsets, internal topics) may still be there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retired: BTreeMap<String, Retired>,
    /// When it was proposed, ms since the Unix epoch.
    pub created_at_ms: i64,
}

/// A stage or an operator that the lineage has no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retired {
    /// The first generation without it.
    pub since: u64,
    /// What the stage read, by the topic's name in Kafka; absent for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

impl Sealed for Generation {
    const KIND: &'static str = "generation";
    const VERSION: u32 = 2;
}

/// JSON's keys are texts: stage → partition → slot or offset.
mod by_stage {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::TaskId;

    pub(super) fn serialize<S: Serializer, V: Serialize>(
        tasks: &BTreeMap<TaskId, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut stages: BTreeMap<&str, BTreeMap<u32, &V>> = BTreeMap::new();
        for (task, value) in tasks {
            stages.entry(&task.stage).or_default().insert(task.partition, value);
        }
        stages.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
        from: D,
    ) -> Result<BTreeMap<TaskId, V>, D::Error> {
        let stages = BTreeMap::<String, BTreeMap<u32, V>>::deserialize(from)?;
        let tasks = stages.into_iter().flat_map(|(stage, partitions)| {
            partitions.into_iter().map(move |(partition, value)| (TaskId::new(stage.clone(), partition), value))
        });
        Ok(tasks.collect())
    }
}

impl Generation {
    /// The tasks of `slot`, in order.
    pub fn tasks_of(&self, slot: u32) -> impl Iterator<Item = &TaskId> {
        self.assignment.iter().filter(move |(_, owner)| **owner == slot).map(|(task, _)| task)
    }

    /// The generation after this one that has no slots: it ends the lineage.
    #[must_use]
    pub fn tombstone(&self, now_ms: i64) -> Self {
        Self { number: self.number + 1, slots: 0, assignment: BTreeMap::new(), created_at_ms: now_ms, ..self.clone() }
    }

    /// The fingerprint of what is run and how: 12 hexadecimal digits, which change with the SQL's plan and with the
    /// policy, and with nothing else.
    #[must_use]
    pub fn revision(&self) -> String {
        revision(&self.plan_fingerprint, self.policy.as_ref())
    }

    /// Whether it ends the lineage.
    #[must_use]
    pub const fn is_tombstone(&self) -> bool {
        self.slots == 0
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.number == 0 {
            return Err("generations are numbered from 1".to_owned());
        }
        match self.assignment.iter().find(|(_, slot)| **slot >= self.slots) {
            Some((task, slot)) => Err(format!("task {task} is given to slot {slot} of {}", self.slots)),
            None => Ok(()),
        }
    }
}

/// The fingerprint of a plan, by its own, and of how it is run: see [`Generation::revision`].
#[must_use]
pub fn revision(plan_fingerprint: &str, policy: Option<&RunPolicy>) -> String {
    short_hash(&(plan_fingerprint, policy), 12)
}

/// What is stored under the number that was proposed.
#[derive(Debug, Clone, PartialEq)]
pub enum Proposed {
    /// The very generation that was proposed, whoever wrote it.
    Ours(Generation),
    /// Another one, which stood there before: it is the assignment.
    Adopted(Generation),
}

impl Proposed {
    /// The stored generation.
    #[must_use]
    pub fn into_stored(self) -> Generation {
        match self {
            Self::Ours(generation) | Self::Adopted(generation) => generation,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FenceMark {
    pub(super) before: u64,
}

impl Sealed for FenceMark {
    const KIND: &'static str = "fence";
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Start {
    pub(super) started_at_ms: i64,
    /// Which process of the slot it was, by its rank.
    pub(super) process: u64,
}

impl Sealed for Start {
    const KIND: &'static str = "incarnation";
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Process {
    pub(super) started_at_ms: i64,
    /// A random name.
    pub(super) name: String,
}

impl Sealed for Process {
    const KIND: &'static str = "process";
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resumed {
    pub(super) resumed_at_ms: i64,
}

impl Sealed for Resumed {
    const KIND: &'static str = "resumed";
}

/// The last commit of a slot that stopped cleanly: stands in for offsets that have expired since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pointer {
    /// The slot's last epoch.
    pub epoch: u64,
    /// When it stopped, ms since the Unix epoch.
    pub stopped_at_ms: i64,
    /// What was committed, for every input partition of every task.
    pub offsets: Vec<PointerOffset>,
}

/// One committed offset in a [`Pointer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PointerOffset {
    /// The consumer group.
    pub group: String,
    /// The topic's name in Kafka.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next offset to read.
    pub offset: i64,
    /// The metadata that was committed beside it.
    pub metadata: String,
}

impl Sealed for Pointer {
    const KIND: &'static str = "pointer";
}
