//! State objects, the generation log, and the store that they live in.
//!
//! A lineage keeps everything that must outlive its workers under one prefix of an object store, in
//! objects that are written once (create-only) and never changed:
//!
//! ```text
//! <url>/<namespace>/<job>/lineages/<n>            which lineage is the job's n-th: numbered, create-only
//! <url>/<namespace>/<job>/<lineage>/birth         who owns it, since when, with which plan
//!                                  /start         the start positions, resolved to numbers once
//!                                  /begun/<g>-<slot>-<n>  tasks whose epoch 0 was committed
//!                                  /generations/<g>       the assignment of generation g
//!                                  /fenced/<g>            "all generations before g are fenced"
//!                                  /<g>/<slot>/start-<n>  the n-th start of a slot in a generation
//!                                  /<g>/<slot>/pointer-<n>  the last commit of a clean stop
//!                                  /<g>/<slot>/<epoch>-<random>  state: what an epoch changed, or a base
//! ```
//!
//! Which of the state objects count is said elsewhere: by the metadata of committed offsets in Kafka.
//! An object that no commit names is garbage.

pub mod generation;
pub mod lineage;
pub mod object;
pub mod rows;
pub mod store;

use serde::{Deserialize, Serialize};

/// One task: a partition of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    /// The stage's id in the plan.
    pub stage: String,
    /// The partition of the stage's input.
    pub partition: u32,
}

impl TaskId {
    /// The task of `partition` in `stage`.
    pub fn new(stage: impl Into<String>, partition: u32) -> Self {
        Self { stage: stage.into(), partition }
    }
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.stage, self.partition)
    }
}
