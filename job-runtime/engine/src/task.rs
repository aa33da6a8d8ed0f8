//! Tasks: what a slot drives.

use std::sync::Arc;

use freshet_log::{Fetched, Outgoing};
use freshet_plan::Plan;
use freshet_state::rows::RowBuffer;

use crate::EngineError;

/// What is done with a record that can't be decoded or breaks its contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnBadRecord {
    /// The job stops, naming the record.
    Fail,
    /// It is counted and skipped.
    Skip,
    /// It is counted and written, unchanged, to this topic with the reason in its headers.
    DeadLetter(String),
}

/// What is done with a record whose window has closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnLate {
    /// It is counted and dropped.
    Drop,
    /// It is counted and written, unchanged, to this topic with the reason in its headers.
    DeadLetter(String),
}

/// A topic that tasks write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTopic {
    /// Its name in Kafka.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
}

/// What a stage needs to know besides the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobContext {
    /// The job's name; part of internal topics' names.
    pub job: String,
    /// The lineage; part of internal topics' names.
    pub lineage: String,
    /// Every topic that any task of the job writes to: sinks, repartition topics, dead letters. The
    /// `topic` of outgoing records is a position in this list.
    pub outputs: Vec<OutputTopic>,
    /// What is done with bad records.
    pub on_bad_record: OnBadRecord,
    /// What is done with late records.
    pub on_late: OnLate,
    /// For each stage of the plan, in order, how many tasks it has.
    pub stage_tasks: Vec<u32>,
}

/// Counters of a task since it was made. Never part of its state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskStats {
    /// Records read.
    pub records_in: u64,
    /// Bytes of their keys and values.
    pub bytes_in: u64,
    /// Records written, of each kind of output.
    pub records_out: u64,
    /// Bytes of their keys and values.
    pub bytes_out: u64,
    /// Bad records by reason.
    pub bad: std::collections::BTreeMap<&'static str, u64>,
    /// Records that came after their window had closed.
    pub late: u64,
    /// Keys in the state.
    pub state_keys: u64,
    /// About how many bytes the state takes in memory.
    pub state_bytes: u64,
}
