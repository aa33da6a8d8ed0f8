//! Updating results: what an operator's rows say about the rows before them, and what a topic is told of it.
//!
//! The result of a grouping without a window is never final: a group has one row, and each new record of the group
//! replaces it. Such a result is a *changelog*: a row comes with its kind (+I a row is new, −U and +U a row before and
//! after a change, −D a row is gone). A topic holds it as *upserts*: a record replaces the one before it with the same
//! record key, and a record without a value (a tombstone) takes it away.
//!
//! | operator | its rows |
//! | --- | --- |
//! | [`Emits::First`] | one row a group, when the group is new: an ordinary stream of rows |
//! | [`Emits::Latest`] | the row of each group that changed within an epoch: enough where every row reaches its topic |
//! | [`Emits::Changes`] | the same, after the row that it replaces: where a condition behind may let one of them through and not the other |

use serde::{Deserialize, Serialize};

use crate::{Aggregate, AggregateFunction, Column, DataType, Plan, Rank, Step};

/// The version of the state of a grouping without a window.
pub const GROUP_STATE_VERSION: u32 = 1;

/// Which rows an operator with an updating result gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Emits {
    /// A group's row once, when it is new.
    First,
    /// The row of each group that changed since the last epoch.
    Latest,
    /// The row before the change, if there was one, and the row after it.
    Changes,
}

/// What a topic is told of a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Changes {
    /// Nothing: every row is a record, and there are no others than new ones.
    #[default]
    Append,
    /// Upserts and tombstones by the record's key, which is never null.
    Upsert,
    /// Every change as a record of its own, with its kind in a first column [`OP_COLUMN`]: what `freshet query` shows.
    Log,
}

impl Changes {
    /// Whether it is [`Changes::Append`].
    #[must_use]
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub const fn is_append(&self) -> bool {
        matches!(self, Self::Append)
    }
}

/// The column that holds a row's kind: `+I`, `-U`, `+U` or `-D`.
pub const OP_COLUMN: &str = "op";

/// Grouping without a window. Output columns: the group's columns, then the aggregates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupAggregate {
    /// The operator's id, from its meaning: names its state and its repartition topic.
    pub id: String,
    /// Positions of the grouping columns in the rows of the step before (the first half of) it.
    pub group: Vec<usize>,
    /// Their names and types.
    pub group_columns: Vec<Column>,
    /// What is computed a group.
    pub aggregates: Vec<Aggregate>,
    /// Which rows it gives.
    pub emits: Emits,
    /// How long after its last record a group is kept at least, ms of event time; `None` for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_ttl_ms: Option<i64>,
    /// Version of the format of its state.
    pub state_version: u32,
}

impl GroupAggregate {
    /// The rows that the (second half of the) grouping gives.
    #[must_use]
    pub fn output_columns(&self) -> Vec<Column> {
        let aggregates = self.aggregates.iter().map(|aggregate| Column {
            name: aggregate.name.clone(),
            data_type: aggregate.data_type.clone(),
            required: aggregate.function == AggregateFunction::Count,
        });
        self.group_columns.iter().cloned().chain(aggregates).collect()
    }
}

/// An operator that keeps the state of every key for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptForEver {
    /// The operator's id.
    pub id: String,
    /// What it is, for people: `GROUP BY account`.
    pub what: String,
    /// About how many bytes of memory a key takes, without what DISTINCT aggregates have seen.
    pub bytes_a_key: u64,
}

impl Plan {
    /// The operators that keep the state of every key for ever, in the order of the data.
    #[must_use]
    pub fn kept_for_ever(&self) -> Vec<KeptForEver> {
        let steps = self.stages.iter().flat_map(|stage| &stage.chains).flat_map(|chain| &chain.steps);
        let kept = steps.filter_map(|step| match step {
            // Without columns to tell keys apart there is one.
            Step::GroupAggregate(group) | Step::GroupMerge(group)
                if group.state_ttl_ms.is_none() && !group.group_columns.is_empty() =>
            {
                Some(KeptForEver { id: group.id.clone(), what: group.what(), bytes_a_key: group.bytes_a_key() })
            }
            Step::Rank(rank) | Step::RankMerge(rank)
                if rank.state_ttl_ms.is_none() && !rank.partition_columns.is_empty() =>
            {
                Some(KeptForEver {
                    id: rank.id.clone(),
                    what: format!("ROW_NUMBER by {}", names(&rank.partition_columns)),
                    bytes_a_key: rank_bytes(rank),
                })
            }
            _ => None,
        });
        kept.collect()
    }
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// About how many bytes an encoded value has.
const fn value(data_type: &DataType) -> u64 {
    match data_type {
        DataType::Boolean => 1,
        DataType::String | DataType::Bytes => 18,
        DataType::Decimal(..) => 17,
        _ => 9,
    }
}

/// The key, its place in a table, and its rows: of one whose first row has come out, none.
fn rank_bytes(rank: &Rank) -> u64 {
    let of = |columns: &[Column]| columns.iter().map(|column| value(&column.data_type)).sum::<u64>();
    let row = 24 + of(&rank.kept_columns) + rank.order.iter().map(|by| value(&by.data_type)).sum::<u64>();
    let rows = if rank.emits == Emits::First { 0 } else { rank.limit * row };
    100 + of(&rank.partition_columns) + rows
}

impl GroupAggregate {
    fn what(&self) -> String {
        let keys = names(&self.group_columns);
        if self.emits == Emits::First { format!("distinct {keys}") } else { format!("GROUP BY {keys}") }
    }

    /// Slots of the hash table, the end of the key, the time of the last touch, bits; and the key and the accumulators,
    /// for which texts are taken to have 16 bytes.
    fn bytes_a_key(&self) -> u64 {
        let key: u64 = self.group_columns.iter().map(|column| value(&column.data_type)).sum();
        let cell = |aggregate: &Aggregate| match (aggregate.function, &aggregate.data_type) {
            (AggregateFunction::Count, _) => 8,
            (AggregateFunction::Sum, DataType::Double) => 9,
            (AggregateFunction::Sum, _) => 17,
            (AggregateFunction::Avg, _) => 24,
            (AggregateFunction::Min | AggregateFunction::Max, DataType::String | DataType::Bytes) => 32,
            (AggregateFunction::Min | AggregateFunction::Max, data_type) => value(data_type),
            (function, data_type) => match function {
                AggregateFunction::VarPop
                | AggregateFunction::VarSamp
                | AggregateFunction::StddevPop
                | AggregateFunction::StddevSamp => 64,
                // Sketches: of some hundred values.
                AggregateFunction::ApproxCountDistinct | AggregateFunction::Histogram => 1024,
                _ => 1 + value(data_type),
            },
        };
        30 + key + self.aggregates.iter().map(cell).sum::<u64>()
    }
}
