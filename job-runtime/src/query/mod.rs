//! A query that is tried out: a SELECT over topics, its rows shown as they come, and nothing left behind.
//!
//! It is the same plan, the same operators and the same watermarks as a job's, without what makes a job last: no slot,
//! no lineage, no epochs, no state in a store, no consumer group, no transaction, no topic. Where a job's stages meet
//! in a repartition topic, a query hands the records over in memory.
//!
//! ```text
//! log ──▶ reading (up to where?) ──▶ pipeline: tasks of stage 1 ──▶ tasks of stage 2 ──▶ output ──▶ show
//! IO                pure                              pure                                 IO        pure
//! ```
//!
//! # What is shown
//! The rows that a job with this SELECT would have written by now, had it read the topics from the same place on: a
//! window's rows when the watermark passes its end, never before, and never again. So what is shown is never taken
//! back; windows that are still open at the end are counted, and not shown.
//!
//! # Where it ends
//! By itself at the ends of the topics as they were when it began, as a `read_committed` reader sees them. Records that
//! come while it runs belong to the next query, unless it follows.
//!
//! # Idleness
//! A partition that is at its end holds windows back until its Topic's `idleTimeout` is over, and a job measures that
//! from when it saw the end. A query was not there. It takes the timestamp of the partition's last record instead, and
//! an empty partition for one that has been so for ever ([`reading`]).

pub mod output;
pub mod pipeline;
pub mod reading;
pub mod report;
mod run;
pub mod show;

pub use output::{Output, Terminal};
pub use report::{Ending, Report};
pub use run::{Begin, Options, Supply, run};

use freshet_engine::EngineError;
use freshet_log::LogError;

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The log has no such topic, and a query makes none.
    #[error("there is no topic `{0}`")]
    NoTopic(String),
    /// The log's words.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A row could not be computed, or the plan can't be run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The input that was to be read could not be written.
    #[error("{0}")]
    Supply(String),
    /// Rows could not be written.
    #[error("rows can't be written: {0}")]
    Output(#[from] std::io::Error),
}

impl QueryError {
    /// Whether the same query may work later without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Log(error) => error.is_transient(),
            Self::NoTopic(_) | Self::Engine(_) => false,
            Self::Supply(_) | Self::Output(_) => true,
        }
    }
}
