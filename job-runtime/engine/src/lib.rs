//! The engine: records in, records and state out, no IO.
//!
//! A [`Task`] is one partition of one stage: a single-threaded pipeline with its own keyed state. It is
//! handed batches of records, the time, and rows of state to begin from; it gives records to write and
//! rows of state that changed. It reads no clock and talks to nobody, so the same input gives the same
//! output on Kafka, on the embedded log and in the simulation.
//!
//! ```text
//! Fetched ─▶ format::Decoder ─▶ Rows ─▶ operators… ─▶ format::Encoder ─▶ Outgoing
//!                 │ bad records           │ dirty state
//!                 ▼                       ▼
//!           dead letters              RowBuffer
//! ```
//!
//! # Event time
//! A task's watermark W says that every record with event time ≤ W has been seen. A source partition's
//! is the greatest event time seen, minus the allowed disorder, minus 1 ms. A window `[start, end)` fires
//! once W ≥ end − 1; a record is late when its window's end − 1 ≤ the watermark that the records before
//! it in its partition gave: judged record by record, so that it does not depend on how records are cut
//! into batches.

pub mod accumulate;
pub mod changelog;
mod column;
pub mod expr;
pub mod format;
pub mod group;
pub mod operator;
pub mod repartition;
pub mod task;
pub mod types;
pub mod watermark;

use arrow::array::{Int64Array, RecordBatch, UInt8Array, UInt32Array};

pub use task::{JobContext, OnBadRecord, OnLate, OutputTopic, StageProgram, Task, TaskStats};

/// Rows between operators.
#[derive(Debug, Clone)]
pub struct Rows {
    /// n rows by the schema of the step.
    pub batch: RecordBatch,
    /// n event times, ms since the Unix epoch; never null.
    pub event_time: Int64Array,
    /// The watermark that held just before each row (n values, never null; `i64::MIN` before there was
    /// one), by which a window operator judges lateness. A filter keeps it aligned with its rows.
    pub watermark: Int64Array,
    /// For each row, its source record's position in the batch that is being processed; `None` for rows
    /// that don't stand for one record.
    pub origin: Option<UInt32Array>,
    /// For each row, its kind ([`changelog::RowKind`], n values, never null); `None` where all rows are new ones.
    pub kinds: Option<UInt8Array>,
}

/// What went wrong in a task. All of it is deterministic: the same input fails again.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// A record could not be decoded or breaks its contract, and `errors.onBadRecord` is `Fail`.
    #[error("{topic}[{partition}]@{offset}: {reason}: {detail}")]
    BadRecord {
        /// The topic's name in Kafka.
        topic: String,
        /// The partition.
        partition: u32,
        /// The record's offset.
        offset: i64,
        /// Why, as a constant ([`format::BadReason::as_str`]).
        reason: &'static str,
        /// The details.
        detail: String,
    },
    /// An expression failed on some row: overflow, division by zero, a cast that can't be.
    #[error("{operator}: {detail}")]
    Expression {
        /// Which operator or step.
        operator: String,
        /// The details.
        detail: String,
    },
    /// Rows of state are not what this operator writes.
    #[error("state of operator {operator} can't be read: {detail}")]
    State {
        /// Which operator.
        operator: String,
        /// The details.
        detail: String,
    },
    /// The plan asks for something that this runtime does not do.
    #[error("this runtime can't run the plan: {0}")]
    Plan(String),
    /// An internal record is not what the upstream stage writes.
    #[error("{topic}[{partition}]@{offset}: damaged internal record: {detail}")]
    Internal {
        /// The internal topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset.
        offset: i64,
        /// The details.
        detail: String,
    },
}
