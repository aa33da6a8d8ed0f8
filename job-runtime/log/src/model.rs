//! The model broker: a Kafka in memory, as far as Kafka matters to Freshet.
//!
//! One piece of code serves twice. Embedded, it is the log of `freshet run`: no faults, no delays, and
//! fast enough that the engine is what takes the time. Simulated, it stands behind a seeded network that
//! delays, loses and reorders what Kafka's own would, so that the runtime meets in milliseconds what a
//! real cluster shows it in months.
//!
//! ```text
//!   ModelLog, ModelProducer, ModelConsumer      what a slot holds
//!                │ requests
//!              wire        delays, losses, what is under way (none of it when embedded)
//!                │
//!              core        topics, transactional ids, groups: answers at once, or "wait"
//!                │
//!            partition     chunks of records, markers, last stable offset
//! ```
//!
//! # What it models
//! * **Offsets.** Records have them in order; a commit or abort marker takes one too.
//! * **Transactions.** A transactional id has an epoch. [`Log::producer`](crate::Log::producer) and
//!   [`Log::fence`](crate::Log::fence) raise it, which refuses whoever holds an older one, and abort what
//!   is open. A commit is *decided* first and answered then; its markers follow, for each partition and
//!   each group at a time of its own. Whoever initialises the id meanwhile waits for them: what is decided
//!   completes. Records of the same producer's next transaction wait too.
//! * **The last stable offset.** A reader sees nothing behind the first record of a transaction that has
//!   not ended, whosever it is, and never an aborted record or a marker.
//! * **Group offsets** carry metadata, become visible with their transaction, and are read only when no
//!   transaction is pending on them (stable reads). Of two pending ones the later arrival wins.
//! * **Time-outs.** A transaction that stays open too long is aborted and its producer refused.
//! * **Losses.** A request may be lost, or its reply: then nobody knows whether it happened
//!   ([`LogError::Indefinite`] within a transaction). A client's requests may
//!   arrive after its death, and after its successor's.
//! * **Retention.** Records can be deleted, offsets can expire, partitions can grow, the broker can be away.
//!
//! # What it leaves out
//! Brokers fail one by one in a real cluster, compaction makes gaps, and consumer groups rebalance. The
//! first shows to a client as delays and time-outs, the second reads like an aborted record, and the third
//! Freshet doesn't use. Records carry no sequence numbers: the model never doubles or reorders one
//! producer's records within a partition, which is what they are for.
//!
//! # Driving a simulated broker
//! [`ModelBroker::run`] must be running as a task of the broker's own node, or nothing that takes time
//! ever arrives.

mod client;
mod consumer;
mod core;
mod faults;
mod partition;
mod producer;
mod signal;
mod wire;

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use freshet_env::SharedEnv;
use freshet_env::sim::SeededRng;

use self::core::{Later, Session};
pub use client::ModelLog;
pub use faults::ModelFaults;
use partition::NewRecord;
pub use partition::StoredRecord;
use wire::{Shared, Weather};

use crate::{Bounds, CommittedOffset, LogError, Outgoing, TopicPartition};

/// A handle on the broker; clones are the same broker. It is the operator's hand and the oracle's eye:
/// nothing that it does is delayed or lost.
#[derive(Clone)]
pub struct ModelBroker {
    shared: Rc<Shared>,
}

impl std::fmt::Debug for ModelBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.shared.state.borrow();
        f.debug_struct("ModelBroker")
            .field("topics", &state.core.topic_names())
            .field("simulated", &state.weather.is_some())
            .finish_non_exhaustive()
    }
}

/// A transaction of a stranger that stays open, and holds every reader of its partition back.
#[derive(Debug)]
pub struct HangingTransaction {
    session: Session,
}

impl ModelBroker {
    /// A broker without faults or delays, whose transactions never time out.
    #[must_use]
    pub fn embedded() -> Self {
        Self { shared: Shared::new(None) }
    }

    /// A broker behind a network of `faults`. `env` is the broker's node's; see [`ModelBroker::run`].
    #[must_use]
    pub fn simulated(env: SharedEnv, rng: SeededRng, faults: ModelFaults) -> Self {
        Self { shared: Shared::new(Some(Weather { env, rng, faults, available: true })) }
    }

    /// Carries out requests, replies, markers and time-outs as they fall due, for ever. Embedded, it has
    /// nothing to do.
    pub fn run(&self) -> impl Future<Output = ()> + 'static {
        let shared = self.shared.clone();
        async move { shared.run().await }
    }

    /// A client. Its time-outs run on `env`, its node's.
    #[must_use]
    pub fn client(&self, env: SharedEnv) -> ModelLog {
        ModelLog::new(self.shared.clone(), env)
    }

    // ---- topics and records ----

    /// Makes a topic; one that is there stays as it is.
    pub fn create_topic(&self, topic: &str, partitions: u32) {
        self.shared.touch(|core| core.create_topic(topic, partitions));
    }

    /// Grows a topic to `partitions`; never shrinks it.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn grow_topic(&self, topic: &str, partitions: u32) -> Result<(), LogError> {
        self.shared.touch(|core| {
            let topic = core.topic_mut(topic)?;
            while topic.partitions.len() < partitions as usize {
                topic.partitions.push(partition::Partition::default());
            }
            Ok(())
        })
    }

    /// All topics, sorted.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.shared.state.borrow().core.topic_names()
    }

    /// How many partitions `topic` has.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn partition_count(&self, topic: &str) -> Result<u32, LogError> {
        Ok(self.shared.state.borrow().core.topic(topic)?.partitions.len() as u32)
    }

    /// Appends a record outside of any transaction, visible at once unless an open transaction lies before
    /// it. Gives its offset.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn append(
        &self,
        partition: &TopicPartition,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<i64, LogError> {
        self.shared.touch(|core| {
            let place = core.place(partition)?;
            core.append(None, place, NewRecord { timestamp_ms, key, value, headers: &[] })?;
            core.partition(place).notify();
            Ok(core.partition(place).bounds().high - 1)
        })
    }

    /// Appends many records outside of any transaction: the fast way for generators.
    ///
    /// # Errors
    /// When a topic or partition is not there; the records before it are written then.
    pub fn append_batch(&self, batch: &Outgoing) -> Result<(), LogError> {
        self.shared.touch(|core| {
            let route = core.route(batch)?;
            let mut written = std::collections::BTreeSet::new();
            let mut last = None;
            for record in &batch.records {
                let unknown = || LogError::Refused(format!("a record points to topic {}", record.topic));
                let place = (*route.get(usize::from(record.topic)).ok_or_else(unknown)?, record.partition);
                let headers = record.headers.map_or(&[][..], |at| &batch.headers[at as usize]);
                let (key, value) = (batch.key(record), batch.value(record));
                core.append(None, place, NewRecord { timestamp_ms: record.timestamp_ms, key, value, headers })?;
                if last.replace(place) != Some(place) {
                    written.insert(place);
                }
            }
            written.into_iter().for_each(|place| core.partition(place).notify());
            Ok(())
        })
    }

    /// Everything that a committed reader of `topic` can see, by partition and offset.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn committed_records(&self, topic: &str) -> Result<Vec<StoredRecord>, LogError> {
        let state = self.shared.state.borrow();
        let partitions = state.core.topic(topic)?.partitions.iter().enumerate();
        Ok(partitions.flat_map(|(number, partition)| partition.committed_records(number as u32)).collect())
    }

    /// First and next offsets of a partition.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        let state = self.shared.state.borrow();
        Ok(state.core.partition(state.core.place(partition)?).bounds())
    }

    /// Deletes the records of `partition` before `offset`, as retention does.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn delete_records(&self, partition: &TopicPartition, offset: i64) -> Result<(), LogError> {
        self.shared.touch(|core| {
            let place = core.place(partition)?;
            core.partition_mut(place).delete_before(offset);
            Ok(())
        })
    }

    /// Lets go of records of `topic` that are consumed, as long as it holds more than `bytes`. Consumed
    /// means: every group that has committed offsets on the partition and every consumer that reads it is
    /// past them, and there is at least one of either. So a topic that nobody reads is kept whole.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn retain_bytes(&self, topic: &str, bytes: u64) -> Result<(), LogError> {
        self.shared.touch(|core| {
            core.topic_mut(topic)?.retain_bytes = Some(bytes);
            core.trim(topic);
            Ok(())
        })
    }

    /// Bytes that `topic` holds in memory, about.
    ///
    /// # Errors
    /// When there is no such topic.
    pub fn stored_bytes(&self, topic: &str) -> Result<u64, LogError> {
        self.shared.state.borrow().core.stored_bytes(topic)
    }

    /// Waits until `topic` holds less than `bytes`: what keeps a generator from running ahead of its readers.
    ///
    /// # Errors
    /// When there is no such topic.
    pub async fn room(&self, topic: &str, bytes: u64) -> Result<(), LogError> {
        poll_fn(|context| {
            let mut state = self.shared.state.borrow_mut();
            match state.core.stored_bytes(topic) {
                Ok(stored) if stored >= bytes => {
                    state.core.waiting_for_room.push(context.waker().clone());
                    Poll::Pending
                }
                Ok(_) => Poll::Ready(Ok(())),
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    // ---- groups ----

    /// All groups that have committed offsets, sorted.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        self.shared.state.borrow().core.group_names()
    }

    /// The committed offsets of `group` as they are now, pending transactions or not.
    #[must_use]
    pub fn group_offsets(&self, group: &str) -> Vec<(TopicPartition, CommittedOffset)> {
        self.shared.state.borrow().core.group_offsets(group)
    }

    /// Forgets the committed offsets of `group`, as a broker does after `offsets.retention.minutes`.
    pub fn expire_offsets(&self, group: &str) {
        self.shared.touch(|core| core.forget_group(group));
    }

    // ---- transactions ----

    /// Opens a transaction of a stranger with one record in `partition`. It is never timed out.
    ///
    /// # Errors
    /// When there is no such partition.
    pub fn hang_transaction(&self, partition: &TopicPartition) -> Result<HangingTransaction, LogError> {
        self.shared.touch(|core| {
            let place = core.place(partition)?;
            let name = format!("stranger/{partition}/{}", core.partition(place).bounds().high);
            let session = core.hang(&name, place);
            session
                .map(|session| HangingTransaction { session })
                .ok_or_else(|| LogError::Refused(format!("{name} has an open transaction already")))
        })
    }

    /// Ends it at last.
    pub fn end_hanging(&self, transaction: &HangingTransaction, commit: bool) {
        self.shared.touch(|core| {
            let _ = core.end(&transaction.session, commit);
        });
    }

    /// The transactional ids that have an open transaction, sorted.
    #[must_use]
    pub fn open_transactions(&self) -> Vec<String> {
        self.shared.state.borrow().core.open_transactions().into_iter().map(|(id, _)| id).collect()
    }

    /// Times every open transaction out now: each is aborted and its producer refused.
    pub fn time_out_transactions(&self) {
        self.shared.touch(|core| {
            for (id, transaction) in core.open_transactions() {
                core.time_out(&id, transaction);
            }
        });
    }

    // ---- weather ----

    /// Takes the broker away, or brings it back. While it is away nothing arrives, and what was sent waits.
    pub fn set_available(&self, available: bool) {
        self.shared.set_available(available);
    }

    /// Changes the faults from now on; what is under way already is not changed. Embedded, it does nothing.
    pub fn set_faults(&self, faults: ModelFaults) {
        if let Some(weather) = &mut self.shared.state.borrow_mut().weather {
            weather.faults = faults;
        }
    }

    /// Requests that wait for a transaction to end: what a stuck simulation waits for.
    #[must_use]
    pub fn waiting(&self) -> Vec<&'static str> {
        self.shared.state.borrow().parked()
    }
}

impl std::fmt::Display for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Marker { id, target } => write!(f, "marker of {id} to {target:?}"),
            Self::TimeOut { id, transaction } => write!(f, "time-out of {id}'s transaction {transaction}"),
        }
    }
}
