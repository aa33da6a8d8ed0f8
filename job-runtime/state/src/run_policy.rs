//! How a plan is run: everything beside the plan that may change from one generation to the next without touching
//! state.

use serde::{Deserialize, Serialize};

/// How a generation's plan is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunPolicy {
    /// What is done with a record that can't be decoded or breaks its contract.
    pub on_bad_record: BadRecords,
    /// What is done with a record whose window has closed.
    pub on_late: LateRecords,
    /// Time between the cuts of two epochs, ms; > 0.
    pub epoch_interval_ms: u64,
}

/// What is done with bad records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "action")]
pub enum BadRecords {
    /// The job stops and names the record.
    Fail,
    /// They are counted.
    Skip,
    /// They are counted, and written to a topic.
    DeadLetter {
        /// The topic's name in Kafka.
        topic: String,
    },
}

/// What is done with late records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "action")]
pub enum LateRecords {
    /// They are counted.
    Drop,
    /// They are counted, and written to a topic.
    DeadLetter {
        /// The topic's name in Kafka.
        topic: String,
    },
}
