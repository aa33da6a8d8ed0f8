//! What is stored about a lineage.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::restore::Asked;
use crate::TaskId;
use crate::sealed::Sealed;

/// Whose a lineage is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The UID of the cluster's `kube-system` namespace; `local` outside a cluster.
    pub cluster: String,
    /// The StreamJob's namespace.
    pub namespace: String,
    /// The StreamJob's name.
    pub name: String,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} of cluster {}", self.namespace, self.name, self.cluster)
    }
}

/// Facts that never change in a lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FixedFacts {
    /// Partitions of internal topics.
    pub max_parallelism: u32,
}

/// A job's n-th lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LineageRecord {
    /// The lineage's id.
    pub lineage: String,
    /// Whose it is.
    pub owner: Owner,
    /// When this record was written, ms since the Unix epoch.
    pub created_at_ms: i64,
    /// The job's lineage before.
    pub previous: Option<String>,
    /// The request that this record answers; absent where nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
}

impl Sealed for LineageRecord {
    const KIND: &'static str = "lineage";
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Birth {
    pub(super) lineage: String,
    pub(super) born_to: Owner,
    pub(super) born_at_ms: i64,
    pub(super) facts: FixedFacts,
}

impl Sealed for Birth {
    const KIND: &'static str = "birth";
}

/// That a lineage has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Why, for people.
    pub reason: String,
    /// When, ms since the Unix epoch.
    pub at_ms: i64,
}

impl Sealed for Ended {
    const KIND: &'static str = "ended";
}

/// Start positions, resolved to offsets: (topic, partition) to the first offset to read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, BTreeMap<u32, i64>>", into = "BTreeMap<String, BTreeMap<u32, i64>>")]
pub struct StartPositions(pub BTreeMap<(String, u32), i64>);

impl Sealed for StartPositions {
    const KIND: &'static str = "start";
}

impl From<BTreeMap<String, BTreeMap<u32, i64>>> for StartPositions {
    fn from(topics: BTreeMap<String, BTreeMap<u32, i64>>) -> Self {
        let flat = topics.into_iter().flat_map(|(topic, partitions)| {
            partitions.into_iter().map(move |(partition, offset)| ((topic.clone(), partition), offset))
        });
        Self(flat.collect())
    }
}

impl From<StartPositions> for BTreeMap<String, BTreeMap<u32, i64>> {
    fn from(positions: StartPositions) -> Self {
        let mut topics = Self::new();
        for ((topic, partition), offset) in positions.0 {
            topics.entry(topic).or_default().insert(partition, offset);
        }
        topics
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) tasks: BTreeSet<TaskId>,
}

impl Sealed for Begun {
    const KIND: &'static str = "begun";
}
