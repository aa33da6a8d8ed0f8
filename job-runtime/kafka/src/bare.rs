//! What the benchmarks' bare loop is made of: records in by batches, records out in transactions, with the settings,
//! the calls and the threads of librdkafka that a slot uses, and nothing else of the runtime. Blocks.
//!
//! It is the yardstick for the runtime, so it must be as good as this library can be used: a bare loop that is
//! slower than it needs to be would flatter.

use std::sync::Arc;
use std::time::Duration;

use freshet_log::{CommittedOffset, LogError, TopicPartition};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseProducer, Producer};

use crate::config::KafkaConfig;
use crate::error::{Action, Failure, classify};
use crate::events::Events;
use crate::native::{self, BatchQueue, Found, TopicHandles};
use crate::reader::{open_queue, serve_events};
use crate::thread::spawn;
use crate::writer::{initialise, offset_list};

/// How long to wait for room in a full queue before looking again.
const ROOM_LOOK: Duration = Duration::from_millis(2);

/// Reads partitions, without a thread or a buffer of its own.
pub struct BareReader {
    queue: BatchQueue,
}

impl std::fmt::Debug for BareReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BareReader").finish_non_exhaustive()
    }
}

/// A record, as long as it is shown.
#[derive(Debug, Clone, Copy)]
pub struct BareRecord<'a> {
    /// Index of its partition in the list that the reader was opened with.
    pub place: usize,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
}

impl BareReader {
    /// Starts fetching at `positions`.
    ///
    /// # Errors
    /// [`LogError::Refused`] for a setting that librdkafka does not accept.
    pub fn open(config: &KafkaConfig, positions: &[(TopicPartition, i64)]) -> Result<Self, LogError> {
        Ok(Self { queue: open_queue(config, positions)? })
    }

    /// Shows what is there, some hundred records at most; waits up to `wait` for the first. Gives their number.
    ///
    /// # Errors
    /// When a partition can't be fetched.
    pub fn poll(&mut self, wait: Duration, mut show: impl FnMut(BareRecord<'_>)) -> Result<usize, LogError> {
        let (mut records, mut failed) = (0, None);
        serve_events(&self.queue);
        self.queue.poll(wait, |found| match found {
            Found::Record { place, offset, key, value, .. } => {
                records += 1;
                show(BareRecord { place, offset, key, value });
            }
            Found::End { .. } => {}
            Found::Failed { code, text, .. } => {
                let failure = Failure { code, fatal: false, text: text.to_owned() };
                failed.get_or_insert(failure);
            }
        });
        failed.map_or(Ok(records), |failure: Failure| Err(failure.classify(Action::Ask, "reading")))
    }
}

/// Writes to one topic in transactions.
pub struct BareWriter {
    /// Declared first: its reference to the client goes first.
    topics: TopicHandles,
    topic: usize,
    client: Arc<BaseProducer<Events>>,
    wait: Duration,
}

impl std::fmt::Debug for BareWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BareWriter").finish_non_exhaustive()
    }
}

impl BareWriter {
    /// A writer to `topic` that holds `transactional_id`.
    ///
    /// # Errors
    /// What the brokers answered.
    pub fn open(config: &KafkaConfig, transactional_id: &str, topic: &str) -> Result<Self, LogError> {
        let client = Arc::new(initialise(config, transactional_id)?);
        let served = Arc::downgrade(&client);
        spawn("bare-events", move || {
            while let Some(client) = served.upgrade() {
                client.poll(Duration::from_millis(100));
            }
        })?;
        let mut topics = TopicHandles::new(client.clone());
        let topic = topics.index(topic).map_err(|failure| failure.classify(Action::Ask, "opening a topic"))?;
        Ok(Self { topics, topic, client, wait: config.commit_timeout() })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// What librdkafka says.
    pub fn begin(&self) -> Result<(), LogError> {
        self.client.begin_transaction().map_err(|error| classify(&error, Action::Transact, "beginning"))
    }

    /// Queues one record; waits while the queue is full.
    ///
    /// # Errors
    /// When it can't be queued.
    pub fn send(
        &self,
        partition: u32,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(), LogError> {
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        while let Err(code) = self.topics.produce(self.topic, partition, timestamp_ms, key, value) {
            if code != Code::QueueFull {
                return Err(Failure::of(code).classify(Action::Transact, "writing"));
            }
            #[allow(
                clippy::disallowed_methods,
                reason = "the yardstick is a process of its own, with nothing else to do"
            )]
            std::thread::sleep(ROOM_LOOK);
        }
        Ok(())
    }

    /// Waits until everything is written, adds the offsets of `group`, and commits.
    ///
    /// # Errors
    /// What the brokers answered.
    pub fn commit(&self, group: &str, offsets: &[(TopicPartition, CommittedOffset)]) -> Result<(), LogError> {
        if !native::wait_until_delivered(&self.client, self.wait) {
            return Err(LogError::Indefinite(format!("not everything is written within {:?}", self.wait)));
        }
        if let Some(error) = self.client.context().take_undelivered() {
            return Err(error);
        }
        let list = offset_list(offsets).map_err(|error| classify(&error, Action::Transact, "naming offsets"))?;
        let sent = native::send_offsets(&self.client, group, &list, self.wait);
        sent.map_err(|failure| failure.classify(Action::Transact, "adding offsets"))?;
        let committed = self.client.commit_transaction(self.wait);
        committed.map_err(|error| classify(&error, Action::Transact, "committing"))
    }
}
