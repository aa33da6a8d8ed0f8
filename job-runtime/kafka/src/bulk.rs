//! Loading and recounting whole topics, outside any slot: for generators, tests and benchmarks. Blocks.

use std::sync::Arc;
use std::time::Duration;

use freshet_log::{Fetched, LogError, Outgoing, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer};

use crate::config::{Isolation, KafkaConfig};
use crate::error::{Action, Failure, classify};
use crate::events::Events;
use crate::native::{self, TopicHandles};
use crate::reader::{Batches, open_queue, serve_events};
use crate::thread::spawn;

/// How long to wait for room in a full queue before looking again.
const ROOM_LOOK: Duration = Duration::from_millis(5);

/// Writes records without transactions, each exactly once unless the process dies.
pub struct Loader {
    topics: TopicHandles,
    client: Arc<BaseProducer<Events>>,
    limit: Duration,
}

impl Loader {
    /// A loader for the cluster of `config`.
    ///
    /// # Errors
    /// [`LogError::Refused`] for a setting that librdkafka does not accept.
    pub fn new(config: &KafkaConfig) -> Result<Self, LogError> {
        let create = config.for_loading().create_with_context(Events::default());
        let client: BaseProducer<Events> = create.map_err(|error| classify(&error, Action::Ask, "connecting"))?;
        let client = Arc::new(client);
        let served = Arc::downgrade(&client);
        spawn("freshet-events", move || {
            while let Some(client) = served.upgrade() {
                client.poll(Duration::from_millis(100));
            }
        })?;
        Ok(Self { topics: TopicHandles::new(client.clone()), client, limit: config.commit_timeout() })
    }

    /// Queues all records of `batch`; waits while the queue is full. Headers are left out.
    ///
    /// # Errors
    /// When a record can't be queued, or an earlier one could not be written.
    pub fn send(&mut self, batch: &Outgoing) -> Result<(), LogError> {
        for record in &batch.records {
            let topic = &batch.topics[usize::from(record.topic)];
            let doing = || format!("writing to {topic}[{}]", record.partition);
            let handle = self.topics.index(topic).map_err(|failure| failure.classify(Action::Ask, &doing()))?;
            let partition = i32::try_from(record.partition).unwrap_or(i32::MAX);
            let (key, value) = (batch.key(record), batch.value(record));
            while let Err(code) = self.topics.produce(handle, partition, record.timestamp_ms.max(1), key, value) {
                if code != Code::QueueFull {
                    return Err(Failure::of(code).classify(Action::Ask, &doing()));
                }
                if let Some(error) = self.client.context().take_undelivered() {
                    return Err(error);
                }
                // Waits for all of them at most this long; some will have left the queue.
                native::wait_until_delivered(&self.client, ROOM_LOOK);
            }
        }
        Ok(())
    }

    /// Waits until everything that was sent is written.
    ///
    /// # Errors
    /// When something could not be written, or not in time.
    pub fn finish(&self) -> Result<(), LogError> {
        let written = native::wait_until_delivered(&self.client, self.limit);
        if let Some(error) = self.client.context().take_undelivered() {
            return Err(self.client.context().explain(error));
        }
        if written {
            return Ok(());
        }
        let left = self.client.in_flight_count();
        let text = format!("{left} records are not written after {:?}", self.limit);
        Err(self.client.context().explain(LogError::Unavailable(text)))
    }
}

/// Waits until nothing in `topic` is pending: every record that is written is committed or aborted. A commit is
/// confirmed a little before its markers are written and readers see it; a recount waits for them here.
///
/// # Errors
/// When something is still pending after `limit`, or the brokers can't be reached.
pub fn wait_until_settled(config: &KafkaConfig, topic: &str, limit: Duration) -> Result<(), LogError> {
    const LOOK: Duration = Duration::from_millis(10);
    let stable = open_query(config, Isolation::Committed)?;
    let written = open_query(config, Isolation::Uncommitted)?;
    let mut waited = Duration::ZERO;
    for (partition, _, mut end) in ends(&stable, config, topic)? {
        let number = partition.partition as i32;
        let failed = |error: KafkaError| classify(&error, Action::Ask, "asking for the bounds of a topic");
        let (_, high) = written.fetch_watermarks(topic, number, config.request_timeout).map_err(failed)?;
        while end < high {
            if waited >= limit {
                let text = format!("{partition}: offsets {end}..{high} are still pending after {limit:?}");
                return Err(LogError::Unavailable(text));
            }
            stable.poll(LOOK);
            waited += LOOK;
            end = stable.fetch_watermarks(topic, number, config.request_timeout).map_err(failed)?.1;
        }
    }
    Ok(())
}

/// Shows `visit` everything that a `read_committed` reader sees of `topic` now: from the first offset of each
/// partition to its last stable offset at the time of the call. Gives the number of records. What was committed
/// a moment ago may not be stable yet: see [`wait_until_settled`].
///
/// # Errors
/// When the topic is not there, the brokers can't be reached, or nothing comes for `config.request_timeout`.
pub fn read_committed(config: &KafkaConfig, topic: &str, mut visit: impl FnMut(&Fetched)) -> Result<u64, LogError> {
    let ends = ends(&open_query(config, Isolation::Committed)?, config, topic)?;
    let positions: Vec<_> = ends.iter().map(|(partition, low, _)| (partition.clone(), *low)).collect();
    let mut left = ends.iter().filter(|(_, low, end)| low < end).count();
    if left == 0 {
        return Ok(0);
    }
    let mut done: Vec<bool> = ends.iter().map(|(_, low, end)| low >= end).collect();
    let mut queue = open_queue(config, &positions)?;
    let mut batches = Batches::new(&positions);
    let (mut records, mut silent) = (0, Duration::ZERO);
    let round = Duration::from_millis(200);
    while left > 0 {
        serve_events(&queue);
        let failed = batches.collect(&mut queue, round);
        let taken = batches.take(&queue);
        silent = if taken.is_empty() { silent + round } else { Duration::ZERO };
        for mut batch in taken {
            let place = batch.partition.partition as usize;
            let end = ends[place].2;
            // What was committed after the call is not part of the answer.
            batch.records.retain(|record| record.offset < end);
            records += batch.records.len() as u64;
            if !batch.records.is_empty() {
                visit(&batch);
            }
            if !done[place] && batch.next_offset >= end {
                done[place] = true;
                left -= 1;
            }
        }
        if let Some(failed) = failed {
            let doing = format!("reading {} at offset {}", failed.partition, failed.offset);
            match failed.failure.classify(Action::Ask, &doing) {
                LogError::Unavailable(_) => {}
                error => return Err(error),
            }
        }
        if silent > config.request_timeout {
            let text = format!("{left} partitions of {topic} give no records for {silent:?}");
            return Err(queue.consumer().context().explain(LogError::Unavailable(text)));
        }
    }
    Ok(records)
}

fn open_query(config: &KafkaConfig, isolation: Isolation) -> Result<BaseConsumer<Events>, LogError> {
    let create = config.for_queries(isolation).create_with_context(Events::default());
    create.map_err(|error| classify(&error, Action::Ask, "connecting"))
}

/// Each partition of `topic` with its first offset and its end as `client` sees it, in order.
fn ends(
    client: &BaseConsumer<Events>,
    config: &KafkaConfig,
    topic: &str,
) -> Result<Vec<(TopicPartition, i64, i64)>, LogError> {
    let failed = |error: KafkaError| {
        let error = classify(&error, Action::Ask, &format!("asking for the bounds of {topic}"));
        client.context().explain(error)
    };
    let metadata = client.fetch_metadata(Some(topic), config.request_timeout).map_err(failed)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
    let count = found.map_or(0, |found| found.partitions().len());
    if count == 0 {
        return Err(LogError::UnknownTopic(topic.to_owned()));
    }
    let mut ends = Vec::with_capacity(count);
    for number in 0..u32::try_from(count).unwrap_or(u32::MAX) {
        let (low, end) = client.fetch_watermarks(topic, number as i32, config.request_timeout).map_err(failed)?;
        ends.push((TopicPartition::new(topic, number), low, end));
    }
    Ok(ends)
}
