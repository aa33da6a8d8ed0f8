//! What ends a slot, or an attempt of it, by what comes next.

use freshet_crds::reasons::{self, Reason};
use freshet_engine::EngineError;
use freshet_log::{LogError, TopicPartition};
use freshet_state::lineage::LineageError;
use freshet_state::store::StoreError;
use freshet_state::{NEW_LINEAGE, StateError, TaskId};

use crate::job::Refusal;

/// How the next generation is handed out, as a sentence.
pub(crate) const NEXT_GENERATION: &str = "Hand out the next (on a cluster: another text in spec.restoreNonce, with \
     spec.restoreFrom left out; elsewhere: `freshet preflight`)";

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
         retention). Nothing was skipped. Restore them, or {anew}",
        anew = NEW_LINEAGE
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
         their metadata, or {anew}",
        anew = NEW_LINEAGE
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
    /// A task that never began, and whose generation does not say where it begins.
    #[error(
        "task {task} never began, and its generation does not say where it begins. {next}",
        next = NEXT_GENERATION
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
    /// An input was deleted, and another topic of its name was made.
    #[error(
        "{topic} was deleted and made again (its id is {found}, the job has read {known}): the job's positions mean \
         nothing in it, and nothing is read from it. To read it from its beginning, {anew}",
        anew = NEW_LINEAGE
    )]
    TopicRecreated {
        /// Which topic.
        topic: String,
        /// The id of the one that was read.
        known: String,
        /// The id of the one that is there.
        found: String,
    },
    /// The plan can't come after the latest generation.
    #[error("generation {generation} goes on as it is: {refusal}")]
    PlanRefused {
        /// The latest generation.
        generation: u64,
        /// Why.
        refusal: Refusal,
    },
    /// Where a topic's reading stopped is not known before a generation is taken over.
    #[error(
        "generation {generation} stopped reading {topic}, but no worker has taken it over yet, so the reading may still \
         go on; try again in a few seconds"
    )]
    NotTakenOver {
        /// The first generation that does not read it.
        generation: u64,
        /// Which topic.
        topic: String,
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
            Self::Lineage(LineageError::Contended(_))
            | Self::NotTakenOver { .. }
            | Self::SupersededByCommit { .. }
            | Self::Superseded { .. } => true,
            _ => false,
        }
    }

    /// The reason as a constant, for conditions and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        self.known_reason().name
    }

    /// The reason, with what it means and what to do.
    #[must_use]
    pub const fn known_reason(&self) -> Reason {
        match self {
            Self::Log(error) => log_reason(error),
            Self::State(error) | Self::Lineage(LineageError::State(error)) => state_reason(error),
            Self::Lineage(LineageError::OwnedElsewhere { .. }) => reasons::LINEAGE_OWNED_ELSEWHERE,
            Self::Lineage(LineageError::Contended(_)) => reasons::STORE_UNAVAILABLE,
            Self::Lineage(
                LineageError::FixedFactChanged { .. }
                | LineageError::NotNewest { .. }
                | LineageError::Overtaken { .. }
                | LineageError::BadId(_),
            ) => reasons::LINEAGE_REFUSED,
            Self::Engine { error, .. } => match error {
                EngineError::BadRecord { .. } => reasons::BAD_RECORD,
                EngineError::Expression { .. } => reasons::EXPRESSION_FAILED,
                EngineError::State { .. } | EngineError::Internal { .. } => reasons::STATE_DAMAGED,
                EngineError::Plan(_) => reasons::PLAN_UNUSABLE,
            },
            Self::Plan(_) => reasons::PLAN_UNUSABLE,
            Self::PlanRefused { refusal, .. } => match refusal {
                Refusal::Incompatible { .. } => reasons::STATE_INCOMPATIBLE,
                Refusal::StateWouldBeDropped { .. } => reasons::STATE_WOULD_BE_DROPPED,
                Refusal::DrainingNeeded { .. } => reasons::DRAINING_NEEDED,
            },
            Self::NotTakenOver { .. } => reasons::TAKE_OVER_PENDING,
            Self::InputTruncated { .. } => reasons::INPUT_TRUNCATED,
            Self::OffsetsLost { .. } => reasons::OFFSETS_LOST,
            Self::ForeignOffset { .. } => reasons::FOREIGN_OFFSETS,
            Self::NoStartPosition { .. } => reasons::START_POSITION_MISSING,
            Self::PartitionsChanged { .. } => reasons::PARTITIONS_CHANGED,
            Self::TopicRecreated { .. } => reasons::TOPIC_RECREATED,
            Self::SupersededByCommit { .. } | Self::Superseded { .. } => reasons::FENCED,
            Self::Replaced { .. } => reasons::REPLACED,
            Self::LineageEnded(_) => reasons::LINEAGE_ENDED,
        }
    }
}

const fn log_reason(error: &LogError) -> Reason {
    match error {
        LogError::Fenced(_) | LogError::Indefinite(_) => reasons::RECOVERING,
        LogError::OffsetGone { .. } => reasons::INPUT_TRUNCATED,
        LogError::UnknownTopic(_) => reasons::TOPIC_NOT_FOUND,
        LogError::Unauthorised(_) => reasons::UNAUTHORISED,
        LogError::Unavailable(_) => reasons::KAFKA_UNAVAILABLE,
        LogError::Refused(_) => reasons::KAFKA_REFUSED,
    }
}

const fn state_reason(error: &StateError) -> Reason {
    match error {
        StateError::Store(StoreError::Unavailable(_)) => reasons::STORE_UNAVAILABLE,
        StateError::Store(StoreError::Unauthorised(_)) => reasons::UNAUTHORISED,
        StateError::Store(StoreError::Unusable(_)) => reasons::STORE_UNUSABLE,
        StateError::Store(StoreError::NoCreateOnly) => reasons::STORE_WITHOUT_CREATE_ONLY,
        StateError::Missing { .. } | StateError::NoTask { .. } => reasons::STATE_MISSING,
        StateError::Corrupt { .. } | StateError::Foreign { .. } => reasons::STATE_DAMAGED,
        StateError::Newer { .. } => reasons::STATE_NEWER,
        StateError::Malformed { .. } | StateError::Interrupted(_) => reasons::INTERNAL_ERROR,
    }
}
