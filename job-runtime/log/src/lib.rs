//! The log: what a slot needs of Kafka, as one small set of traits.
//!
//! Three implementations stand behind it: Kafka (crate `freshet-kafka`), the simulation log and, on
//! the same code, the embedded log of `freshet run` (module [`model`]): a model broker in memory with
//! transactions, producer epochs, fencing, time-outs and the last stable offset.
//!
//! All of it is asynchronous but local to one thread, so that a simulation can drive every slot from
//! one seed. Records cross the trait in batches: [`Fetched`] on the way in, [`Outgoing`] on the way
//! out, each one buffer of bytes and a list of ranges, so that nothing is allocated per record.
//!
//! # Rules that every implementation keeps
//! * A consumer reads committed records only (`read_committed`), in offset order, without gaps other
//!   than compaction, aborted records and transaction markers.
//! * A position that the log no longer has is [`LogError::OffsetGone`], never a jump.
//! * [`Log::committed`] waits until no transaction is pending on the group's offsets (stable reads).
//! * [`Log::producer`] has fenced every earlier producer of the same transactional id, and aborted
//!   what it left open, when it returns.
//! * After [`LogError::Indefinite`] or [`LogError::Fenced`] a producer is never used again.

pub mod model;
mod records;

use async_trait::async_trait;

pub use records::{Fetched, FetchedRecord, Header, Outgoing, OutgoingRecord, SpanRange};

/// A partition of a topic, by the name that the topic has in the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name in Kafka.
    pub topic: String,
    /// The partition's number, from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<String>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// An offset that a consumer group has committed, with the metadata that was committed beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// At most 4096 bytes on a broker with default settings.
    pub metadata: String,
}

/// Where a partition's first position comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// The first offset that the log still has.
    Earliest,
    /// The end as of the last committed transaction.
    Latest,
    /// The first record at or after this time (ms since the Unix epoch); the end if there is none.
    Timestamp(i64),
}

/// First and next offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset that is still there.
    pub low: i64,
    /// One past the last offset that a `read_committed` consumer can see (last stable offset).
    pub stable: i64,
    /// One past the last offset that is written, committed or not.
    pub high: i64,
}

/// What a topic is, beside its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// Another topic that comes to have the same name has another one.
    pub id: String,
    /// Whether its records may be read, as far as the log says.
    pub readable: bool,
    /// Whether records may be written to it, as far as the log says.
    pub writable: bool,
}

/// A topic that a slot asks the log to make if it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// The topic's name in Kafka.
    pub name: String,
    /// How many partitions it gets.
    pub partitions: u32,
    /// Copies of each partition; `None` leaves it to the broker's default.
    pub replicas: Option<u16>,
    /// Topic configuration, for instance `retention.ms`.
    pub config: Vec<(String, String)>,
}

/// What went wrong with the log, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A newer producer holds the transactional id: this one is a zombie or was timed out. Take over
    /// again or stop; never use the producer again.
    #[error("fenced: a newer producer holds the transactional id, or the broker timed the transaction out ({0})")]
    Fenced(String),
    /// The outcome of a commit is unknown, or the transaction must be aborted. Destroy the producer and
    /// take over from oneself.
    #[error("the transaction's outcome is unknown or it must be aborted: {0}")]
    Indefinite(String),
    /// The log no longer has this offset.
    #[error("{partition}: offset {wanted} is gone; the log holds {low}..{high}")]
    OffsetGone {
        /// Which partition.
        partition: TopicPartition,
        /// The position that was asked for.
        wanted: i64,
        /// The first offset that is there.
        low: i64,
        /// One past the last.
        high: i64,
    },
    /// No such topic or partition.
    #[error("unknown topic or partition: {0}")]
    UnknownTopic(String),
    /// Credentials or rights are missing. Only a person can mend it.
    #[error("not authorised: {0}")]
    Unauthorised(String),
    /// The log can't be reached or is not ready; trying again later may help.
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// The request itself is wrong (a record too large, metadata too long, a bad setting).
    #[error("the log refused the request: {0}")]
    Refused(String),
}

impl LogError {
    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Indefinite(_) | Self::Fenced(_))
    }
}

/// A log, as one slot sees it.
#[async_trait(?Send)]
pub trait Log {
    /// How many partitions `topic` has.
    async fn partition_count(&self, topic: &str) -> Result<u32, LogError>;

    /// Which topics `topics` are, and what this client's user may do to them; in their order.
    async fn topics(&self, topics: &[String]) -> Result<Vec<TopicFacts>, LogError>;

    /// Makes the topics that are not there yet. One that is there stays as it is, even where it differs.
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError>;

    /// First and next offsets of a partition.
    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError>;

    /// Resolves a start position to an offset.
    async fn resolve(&self, partition: &TopicPartition, start: StartPosition) -> Result<i64, LogError>;

    /// Committed offsets of `group` for `partitions`, in that order, after every pending transaction on
    /// them has ended. `None` where the group has none.
    async fn committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<CommittedOffset>>, LogError>;

    /// Initialises each transactional id once and lets it go: whoever used it is fenced, what it left
    /// open is aborted. Idempotent.
    async fn fence(&self, transactional_ids: &[String]) -> Result<(), LogError>;

    /// A producer that holds `transactional_id` from now on.
    async fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>, LogError>;

    /// A reader of `positions`, each from the given offset on, without group membership.
    async fn consumer(&self, positions: &[(TopicPartition, i64)]) -> Result<Box<dyn Consumer>, LogError>;

    /// Deletes the records before each offset.
    async fn delete_records(&self, before: &[(TopicPartition, i64)]) -> Result<(), LogError>;

    /// Deletes topics; one that is not there is no error.
    async fn delete_topics(&self, topics: &[String]) -> Result<(), LogError>;

    /// Deletes consumer groups and all that they have committed; one that is not there is no error.
    async fn delete_groups(&self, groups: &[String]) -> Result<(), LogError>;
}

/// Reads partitions from given offsets on.
#[async_trait(?Send)]
pub trait Consumer {
    /// The next batch of one partition. Waits until there is one. A batch without records says that the
    /// end of that partition was reached (`at_end`), or that the position moved over records that are not
    /// visible. Safe to drop before it completes: nothing is lost.
    async fn next(&mut self) -> Result<Fetched, LogError>;

    /// Stops (or goes on) fetching; batches that were fetched already still come.
    fn set_paused(&mut self, paused: bool);
}

/// One transactional producer: at most one transaction at a time.
#[async_trait(?Send)]
pub trait Producer {
    /// Begins a transaction.
    fn begin(&mut self) -> Result<(), LogError>;

    /// Queues the records of `batch` from `from` on and says how many were taken: fewer than there are
    /// when the queue is full (call again after [`Producer::drained`]).
    fn send(&mut self, batch: &Outgoing, from: usize) -> Result<usize, LogError>;

    /// Waits until the queue has room again.
    async fn drained(&mut self) -> Result<(), LogError>;

    /// Waits until every record of this transaction is acknowledged.
    async fn acknowledged(&mut self) -> Result<(), LogError>;

    /// Adds offsets of `group` to the transaction.
    async fn send_offsets(
        &mut self,
        group: &str,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<(), LogError>;

    /// Commits. `Ok` means that it is visible for ever.
    async fn commit(&mut self) -> Result<(), LogError>;

    /// Aborts the open transaction, for a clean stop.
    async fn abort(&mut self) -> Result<(), LogError>;

    /// Records queued or in flight, for back-pressure and metrics.
    fn in_flight(&self) -> usize;
}
