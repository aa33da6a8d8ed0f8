//! The consumer: a thread that fetches, groups by partition and pushes into the buffer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freshet_log::{Consumer, Fetched, LogError, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use crate::buffer::Buffer;
use crate::config::KafkaConfig;
use crate::error::{Action, Failure, classify};
use crate::events::Events;
use crate::native::{BatchQueue, Found};
use crate::query::ensure_known;
use crate::thread::spawn;

/// How long the thread waits for records before it looks whether it is still wanted.
const LOOK_UP_EVERY: Duration = Duration::from_millis(500);
/// Records and bytes that one round collects before they are handed over.
const MOST_RECORDS: usize = 16 * 1024;
const MOST_BYTES: usize = 4 << 20;

/// Reads partitions from given offsets on.
pub(crate) struct KafkaConsumer {
    buffer: Arc<Buffer>,
}

impl KafkaConsumer {
    /// Starts fetching at `positions`. Contacts the brokers in the background: what goes wrong comes out of
    /// `next`.
    pub(crate) fn open(config: &KafkaConfig, positions: &[(TopicPartition, i64)]) -> Result<Self, LogError> {
        let buffer = Arc::new(Buffer::new((config.fetch_buffer_bytes / 2).max(1)));
        if positions.is_empty() {
            // Nothing to read: `next` waits for ever, and no thread is needed for that.
            return Ok(Self { buffer });
        }
        let queue = open_queue(config, positions)?;
        let reader = Reader {
            queue,
            batches: Batches::new(positions),
            buffer: buffer.clone(),
            request_timeout: config.request_timeout,
        };
        spawn("freshet-consumer", move || reader.run())?;
        Ok(Self { buffer })
    }
}

/// A consumer that is assigned to `positions`, with its queue.
pub(crate) fn open_queue(config: &KafkaConfig, positions: &[(TopicPartition, i64)]) -> Result<BatchQueue, LogError> {
    const DOING: &str = "opening a consumer";
    let refused = |error| classify(&error, Action::Ask, DOING);
    let consumer: BaseConsumer<Events> =
        config.for_reading().create_with_context(Events::default()).map_err(refused)?;
    let partitions: Vec<_> = positions.iter().map(|(partition, _)| partition.clone()).collect();
    let queue = BatchQueue::new(consumer, &partitions).map_err(|failure| failure.classify(Action::Ask, DOING))?;
    let mut assignment = TopicPartitionList::with_capacity(positions.len());
    for (partition, offset) in positions {
        let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
        assignment.add_partition_offset(&partition.topic, number, Offset::Offset(*offset)).map_err(refused)?;
    }
    queue.consumer().assign(&assignment).map_err(refused)?;
    Ok(queue)
}

#[async_trait(?Send)]
impl Consumer for KafkaConsumer {
    async fn next(&mut self) -> Result<Fetched, LogError> {
        self.buffer.pop().await
    }

    fn set_paused(&mut self, paused: bool) {
        self.buffer.set_paused(paused);
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        // The thread sees it soon and destroys the client there, where it may take its time.
        self.buffer.close();
    }
}

/// What runs on the consumer's thread.
struct Reader {
    queue: BatchQueue,
    batches: Batches,
    buffer: Arc<Buffer>,
    request_timeout: Duration,
}

impl Reader {
    fn run(mut self) {
        // Should this thread panic, the slot must hear of it instead of waiting for ever.
        let _last_words = LastWords(self.buffer.clone());
        while self.buffer.wait_while_paused(LOOK_UP_EVERY) {
            serve_events(&self.queue);
            if let Some(denied) = self.queue.consumer().context().denied() {
                return self.buffer.fail(denied);
            }
            if self.queue.consumer().context().take_doubt()
                && let Err(error @ LogError::UnknownTopic(_)) =
                    ensure_known(self.queue.consumer(), &self.batches.partitions, self.request_timeout)
            {
                return self.buffer.fail(error);
            }
            if self.buffer.is_paused() {
                continue;
            }
            let failed = self.batches.collect(&mut self.queue, LOOK_UP_EVERY);
            for batch in self.batches.take(&self.queue) {
                if !self.buffer.push(batch) {
                    return;
                }
            }
            if let Some(failed) = failed {
                match self.explain(failed) {
                    // librdkafka goes on trying by itself.
                    LogError::Unavailable(text) => tracing::warn!("consumer: {text}"),
                    error => return self.buffer.fail(error),
                }
            }
        }
    }

    fn explain(&self, failed: FetchFailure) -> LogError {
        let FetchFailure { partition, offset, failure } = failed;
        if !matches!(failure.code, Code::AutoOffsetReset | Code::OffsetOutOfRange) {
            return failure.classify(Action::Ask, &format!("reading {partition} at offset {offset}"));
        }
        let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
        // librdkafka has given this partition up. So the reader must not go on before it can say so.
        loop {
            let error = match self.queue.consumer().fetch_watermarks(&partition.topic, number, self.request_timeout) {
                Ok((low, high)) => return LogError::OffsetGone { partition, wanted: offset, low, high },
                Err(error) => classify(&error, Action::Ask, &format!("asking for the bounds of {partition}")),
            };
            if !matches!(error, LogError::Unavailable(_)) || self.buffer.wait_until_closed(LOOK_UP_EVERY) {
                return error;
            }
        }
    }
}

struct LastWords(Arc<Buffer>);

impl Drop for LastWords {
    fn drop(&mut self) {
        self.0.fail(LogError::Unavailable("the consumer's thread has ended".to_owned()));
    }
}

/// Hands log lines and client errors to the consumer's [`Events`].
pub(crate) fn serve_events(queue: &BatchQueue) {
    // Records have a queue of their own, so that nothing but events comes out here.
    while queue.consumer().poll(Duration::ZERO).is_some() {}
}

/// A partition that could not be fetched.
pub(crate) struct FetchFailure {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: i64,
    pub(crate) failure: Failure,
}

/// Groups records by partition.
pub(crate) struct Batches {
    partitions: Vec<TopicPartition>,
    /// The position of each partition: after everything that was taken.
    positions: Vec<i64>,
    /// The batch of each partition in this round.
    open: Vec<Option<Fetched>>,
    /// Bytes and records of each partition's last batch, as a guess for the next.
    guesses: Vec<(usize, usize)>,
    /// Partitions with an open batch, in the order in which they came.
    order: Vec<usize>,
}

impl Batches {
    pub(crate) fn new(positions: &[(TopicPartition, i64)]) -> Self {
        Self {
            partitions: positions.iter().map(|(partition, _)| partition.clone()).collect(),
            positions: positions.iter().map(|(_, offset)| *offset).collect(),
            open: vec![None; positions.len()],
            guesses: vec![(0, 0); positions.len()],
            order: Vec::new(),
        }
    }

    /// Collects what `queue` has, waiting for the first thing up to `wait`. A failure ends the round.
    pub(crate) fn collect(&mut self, queue: &mut BatchQueue, wait: Duration) -> Option<FetchFailure> {
        let (mut records, mut bytes, mut wait) = (0, 0, wait);
        let mut failed = None;
        while records < MOST_RECORDS && bytes < MOST_BYTES && failed.is_none() {
            let found = queue.poll(wait, |found| {
                match found {
                    Found::Record { place, offset, timestamp_ms, key, value } => {
                        records += 1;
                        bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                        self.record(place, offset, timestamp_ms, key, value);
                    }
                    Found::End { place, offset } => self.end(place, offset),
                    Found::Failed { place, offset, code, text } => {
                        let failure = Failure { code, fatal: false, text: text.to_owned() };
                        let partition = self.partitions[place].clone();
                        failed.get_or_insert(FetchFailure { partition, offset, failure });
                    }
                };
            });
            if found == 0 {
                break;
            }
            wait = Duration::ZERO;
        }
        failed
    }

    fn record(&mut self, place: usize, offset: i64, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        let batch = self.batch(place);
        batch.push(offset, timestamp_ms, key, value);
        batch.at_end = false;
    }

    fn end(&mut self, place: usize, offset: i64) {
        let batch = self.batch(place);
        batch.next_offset = batch.next_offset.max(offset);
        batch.at_end = true;
    }

    fn batch(&mut self, place: usize) -> &mut Fetched {
        let Self { partitions, positions, open, guesses, order } = self;
        open[place].get_or_insert_with(|| {
            order.push(place);
            let (bytes, records) = guesses[place];
            let mut batch = Fetched::empty(partitions[place].clone(), positions[place]);
            batch.bytes.reserve(bytes);
            batch.records.reserve(records);
            batch
        })
    }

    /// The batches of this round.
    pub(crate) fn take(&mut self, queue: &BatchQueue) -> Vec<Fetched> {
        let order = std::mem::take(&mut self.order);
        let taken = order.iter().filter_map(|&place| {
            let mut batch = self.open[place].take()?;
            self.positions[place] = batch.next_offset;
            self.guesses[place] = (batch.bytes.len(), batch.records.len());
            let high = queue.high(place);
            // What lies between here and the high watermark after an end is not visible yet.
            let visible = high.filter(|_| !batch.at_end).unwrap_or(batch.next_offset);
            batch.high = visible.max(batch.next_offset);
            batch.at_end |= high.is_some_and(|high| batch.next_offset >= high);
            Some(batch)
        });
        let taken = taken.collect();
        self.order = order;
        self.order.clear();
        taken
    }
}
