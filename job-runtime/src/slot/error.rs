//! What ends a slot, or an attempt of it, by what comes next.

use freshet_engine::EngineError;
use freshet_log::{LogError, TopicPartition};
use freshet_state::lineage::LineageError;
use freshet_state::store::StoreError;
use freshet_state::{StateError, TaskId};

/// What went wrong in a slot.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SlotError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store or an object in it failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The lineage can't be used.
    #[error(transparent)]
    Lineage(#[from] LineageError),
    /// A task failed on its input; it would fail again.
    #[error("task {task}: {error}")]
    Engine {
        /// Which task.
        task: TaskId,
        /// Why.
        error: EngineError,
    },
    /// The plan can't be run.
    #[error("the plan can't be run: {0}")]
    Plan(String),
    /// The log no longer has records that the job has not read yet.
    #[error(
        "{partition}: records {from} to {to} are gone before the job has read them (deleted, or past the topic's \
         retention). Nothing was skipped. Restore them, or start a new lineage"
    )]
    InputTruncated {
        /// Which input.
        partition: TopicPartition,
        /// The first lost offset.
        from: i64,
        /// The last lost offset.
        to: i64,
    },
    /// State exists, but Kafka has lost the offsets that belong to it.
    #[error(
        "task {task} has begun before, but Kafka has no committed offset for it: it expired \
         (offsets.retention.minutes) or was deleted. Where to go on is not guessed. Restore the group's offsets with \
         their metadata, or start a new lineage"
    )]
    OffsetsLost {
        /// Which task.
        task: TaskId,
    },
    /// Something else commits offsets in the job's consumer group.
    #[error("task {task}: {detail}. Does something else use the job's consumer group?")]
    ForeignOffset {
        /// Which task.
        task: TaskId,
        /// What was found.
        detail: String,
    },
    /// A task of an input that the lineage did not have when its start positions were resolved.
    #[error(
        "task {task} has no start position in this lineage: its input was not there when the lineage began. Start a new lineage"
    )]
    NoStartPosition {
        /// Which task.
        task: TaskId,
    },
    /// An input has other partitions than the generation was planned for.
    #[error(
        "{topic} has {found} partitions, generation {generation} was planned for {planned}: nothing is read from \
         partitions outside the plan. {remedy}"
    )]
    PartitionsChanged {
        /// Which topic.
        topic: String,
        /// The generation.
        generation: u64,
        /// What it was planned for.
        planned: u32,
        /// What is there.
        found: u32,
        /// What to do.
        remedy: String,
    },
    /// A later generation has committed.
    #[error("generation {by} has committed: this worker belongs to an earlier one")]
    SupersededByCommit {
        /// Its number.
        by: u64,
    },
    /// A later generation was handed out while this worker stood still.
    #[error("generation {by} was handed out meanwhile: this worker belongs to an earlier one")]
    Superseded {
        /// Its number.
        by: u64,
    },
    /// The same slot was started again elsewhere.
    #[error("slot {slot} was started again elsewhere (start {by}, this is {ours}): this worker ends for good")]
    Replaced {
        /// Which slot.
        slot: u32,
        /// Its latest start.
        by: u64,
        /// Our start.
        ours: u64,
    },
    /// The lineage has ended.
    #[error("the lineage has ended: {0}")]
    LineageEnded(String),
}

impl From<StoreError> for SlotError {
    fn from(error: StoreError) -> Self {
        Self::State(error.into())
    }
}

impl SlotError {
    /// Whether taking over anew may help without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Log(error) => error.is_transient(),
            Self::State(error) | Self::Lineage(LineageError::State(error)) => error.is_transient(),
            Self::SupersededByCommit { .. } | Self::Superseded { .. } => true,
            _ => false,
        }
    }

    /// The reason as a constant, for conditions and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Log(LogError::Fenced(_) | LogError::Indefinite(_)) => "TakingOver",
            Self::Log(LogError::OffsetGone { .. }) | Self::InputTruncated { .. } => "InputTruncated",
            Self::Log(LogError::UnknownTopic(_)) => "TopicNotFound",
            Self::Log(LogError::Unauthorised(_)) => "KafkaNotAuthorized",
            Self::Log(LogError::Unavailable(_)) => "KafkaUnavailable",
            Self::Log(LogError::Refused(_)) => "KafkaRefused",
            Self::State(StateError::Store(StoreError::Unavailable(_))) => "StoreUnavailable",
            Self::State(StateError::Store(StoreError::Unauthorised(_))) => "StoreNotAuthorized",
            Self::State(StateError::Store(StoreError::Unusable(_))) => "StoreUnusable",
            Self::State(StateError::Store(StoreError::NoCreateOnly)) => "StoreNotCreateOnly",
            Self::State(StateError::Missing { .. }) => "StateMissing",
            Self::State(StateError::Corrupt { .. }) => "StateCorrupt",
            Self::State(_) => "StateUnusable",
            Self::Lineage(LineageError::OwnedElsewhere { .. }) => "LineageOwnedElsewhere",
            Self::Lineage(_) => "LineageUnusable",
            Self::Engine { error: EngineError::BadRecord { .. }, .. } => "BadRecord",
            Self::Engine { .. } => "ProcessingFailed",
            Self::Plan(_) => "PlanUnusable",
            Self::OffsetsLost { .. } => "OffsetsLost",
            Self::ForeignOffset { .. } => "ForeignOffsets",
            Self::NoStartPosition { .. } => "NoStartPosition",
            Self::PartitionsChanged { .. } => "PartitionsChanged",
            Self::SupersededByCommit { .. } | Self::Superseded { .. } => "Superseded",
            Self::Replaced { .. } => "Replaced",
            Self::LineageEnded(_) => "LineageEnded",
        }
    }
}
