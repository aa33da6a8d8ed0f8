//! Scenarios: one job of three statements on a real Kafka, and everything that is done to it.
//!
//! ```text
//! feed.rs       writes input, in its own thread, while other things happen
//! options.rs    how a job differs from the usual one
//! job.rs        its manifests and topics, its processes: started, reassigned, ended
//! worker.rs     a worker process: watched, frozen, killed
//! watch.rs      follows what a reader of committed records sees
//! recount.rs    what the job must write, from its input alone
//! difference.rs what it wrote, compared with that: lost, doubled, changed, out of order
//! cluster/      scenarios on a Kubernetes API server, and on a whole cluster
//! kills.rs      the scenario that kills slots again and again, for tests and for the soak
//! ```
//!
//! The job has one statement of each kind: `copies` passes records through, so that order by key can be
//! seen; `by-key` groups by the topic's key, in one stage; `by-group` groups by another column, and so goes
//! through an internal topic to a second stage.

pub mod cluster;
mod difference;
mod feed;
mod job;
mod kills;
mod options;
mod recount;
mod topics;
mod watch;
mod worker;

pub use difference::{Difference, compare};
pub(crate) use feed::now_ms;
pub use feed::{Feed, FeedOptions};
pub(crate) use job::{DISORDER_MS, PARTITIONS};
pub use job::{Job, PATIENCE, sibling_binary};
pub use kills::{KillOptions, KillReport, kill_again_and_again, soak};
pub use options::{Bucket, JobOptions};
pub use recount::{Recount, WINDOW_MS};
pub use watch::Watch;
pub use worker::{Ended, Worker};

/// The topics of a scenario's job, by what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The input.
    Events,
    /// Every input record, passed through.
    Copies,
    /// Counts and sums by the input's key.
    ByKey,
    /// Counts and sums by another column.
    ByGroup,
}

impl Role {
    /// The outputs.
    pub const OUTPUTS: [Self; 3] = [Self::Copies, Self::ByKey, Self::ByGroup];

    /// The last part of the topic's name, and its name in the manifests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Copies => "copies",
            Self::ByKey => "by-key",
            Self::ByGroup => "by-group",
        }
    }
}
