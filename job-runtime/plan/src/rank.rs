//! The first rows of each key by an order: deduplication and top-N.

use serde::{Deserialize, Serialize};

use crate::changelog::Emits;
use crate::{Column, DataType};

/// The version of the state of a ranking.
pub const RANK_STATE_VERSION: u32 = 1;

/// At most so many rows are kept a key: all of them are written whenever one of them changes.
pub const MAX_RANKS: u64 = 1_000;

/// Numbers the rows of each key by an order, and keeps the first ones: `ROW_NUMBER() OVER (PARTITION BY … ORDER BY …)`
/// up to a limit. Rows that are equal by the order are put in the order of their kept columns, so that the result does
/// not depend on which came first. Output columns: the kept ones, then the number (BIGINT, from 1) where it is wanted.
///
/// With [`Emits::First`] the order is by event time and the limit is 1: a key's first row comes out once, when the
/// watermark says that no earlier one will come. Otherwise what is first changes with each row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rank {
    /// The operator's id, from its meaning: names its state and its repartition topic.
    pub id: String,
    /// Positions of the key's columns in the rows of the step before (the first half of) it.
    pub partition: Vec<usize>,
    /// Their names and types.
    pub partition_columns: Vec<Column>,
    /// What rows are ordered by.
    pub order: Vec<OrderBy>,
    /// How many rows are kept a key; at least 1, at most [`MAX_RANKS`].
    pub limit: u64,
    /// Positions of the columns that are kept.
    pub kept: Vec<usize>,
    /// Their names and types.
    pub kept_columns: Vec<Column>,
    /// Whether the number is a column of the output.
    pub numbered: bool,
    /// Which rows it gives.
    pub emits: Emits,
    /// How long after its last record a key is kept at least, ms of event time; `None` for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_ttl_ms: Option<i64>,
    /// Version of the format of its state.
    pub state_version: u32,
}

/// One column that rows are ordered by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderBy {
    /// Its position.
    pub column: usize,
    /// Its name, for people.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// From the greatest to the least.
    pub descending: bool,
    /// Whether nulls come before all values; otherwise behind them.
    pub nulls_first: bool,
}

impl Rank {
    /// The rows that the (second half of the) ranking gives.
    #[must_use]
    pub fn output_columns(&self) -> Vec<Column> {
        let number = self.numbered.then(|| Column::required("row_number", DataType::BigInt));
        self.kept_columns.iter().cloned().chain(number).collect()
    }
}
