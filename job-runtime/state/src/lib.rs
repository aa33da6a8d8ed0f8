//! State objects, the generation log, and the store that they live in.
//!
//! A lineage keeps everything that must outlive its workers under one prefix of an object store, in
//! objects that are written once (create-only) and never changed:
//!
//! ```text
//! <url>/<namespace>/<job>/lineages/<n>            which lineage is the job's n-th, and who owns it
//! <url>/<namespace>/<job>/<lineage>/birth         the facts that never change
//!                                  /ended         that it has ended, and why
//!                                  /start         start positions, of lineages from before version 2 of generations
//!                                  /begun/g<g>-s<slot>-<n>  tasks whose epoch 0 was committed
//!                                  /generations/g<g>        generation g: plan, how it is run, assignment
//!                                  /fenced/g<g>             "all generations before g are fenced"
//!                                  /g<g>/s<slot>/start-<n>  the n-th start of a slot in a generation
//!                                  /g<g>/s<slot>/pointer-<n>  the last commit of a clean stop
//!                                  /g<g>/s<slot>/e<epoch>-<random>  state: what an epoch changed
//!                                  /g<g>/s<slot>/m<epoch>-<random>  state: several such, merged
//! ```
//!
//! Which of the state objects count is said elsewhere: by the metadata of committed offsets in Kafka.
//! An object that no commit names is garbage.
//!
//! # Rooms
//! * [`store`]: create-only objects by path, in a bucket, a folder or memory.
//! * [`paths`]: the names of all objects, as above.
//! * [`lineage`]: which lineage a job has, who owns it, and the facts that hold as long as it lives.
//! * [`generation`], [`run_policy`] and [`assign`]: what is run and how, who runs which task, and that those before
//!   are fenced.
//! * [`object`] and [`rows`]: what a task's state looks like in objects; reading, writing and merging them.
//! * [`metadata`]: what is committed beside an offset, so that the offset names its state.
//! * [`collect`]: deleting what nothing names.

pub mod assign;
pub mod collect;
mod error;
pub mod generation;
pub mod lineage;
pub mod metadata;
pub mod object;
pub mod paths;
pub mod rows;
pub mod run_policy;
mod sealed;
pub mod store;

use serde::{Deserialize, Serialize};

pub use error::{NEW_LINEAGE, StateError};

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
