//! The transactional producer.
//!
//! Two threads serve it: one makes the blocking calls in the order in which they were asked for, one takes
//! librdkafka's events, without which a failed delivery would never be counted as done. Both hold the
//! client, so that the slot's thread is never the one that has to destroy it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use freshet_env::SharedEnv;
use freshet_log::{CommittedOffset, LogError, Outgoing, OutgoingRecord, Producer, TopicPartition};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::config::KafkaConfig;
use crate::error::{Action, Failure, classify};
use crate::events::Events;
use crate::limits::{Limits, TooLarge};
use crate::native::{self, TopicHandles};
use crate::thread::{away, spawn};

/// How long the event thread waits before it looks whether it is still wanted.
const LOOK_UP_EVERY: Duration = Duration::from_millis(500);
/// How often a full queue is looked at: librdkafka does not say when a record has left it.
const DRAIN_LOOK: Duration = Duration::from_millis(2);
/// How long it is asked for a transactional id before it is looked how the connections are.
const INITIALISE_SLICE: Duration = Duration::from_secs(1);
/// For so many slices credentials may be refused: a broker that has just started may not know its users yet.
const DENIED_SLICES: u32 = 5;
/// More events than a client that begins has.
const EVENTS_AT_MOST: usize = 64;
/// Kafka takes 0 for "now" and refuses what is before 1970.
const EARLIEST_TIMESTAMP_MS: i64 = 1;
/// Kafka 4 refuses what is more than an hour ahead of its own clock (`message.timestamp.after.max.ms`), and the clocks
/// of the two may differ.
const MOST_AHEAD_MS: i64 = 30 * 60 * 1000;

/// The timestamp of a record whose event time is `event_ms`, at `now_ms`: one that a broker takes. An event time in a
/// distant future (a device's clock is wrong) must not stop the job, nor keep its segment from ever expiring; the value
/// holds it unchanged.
fn timestamp_ms(event_ms: i64, now_ms: i64) -> i64 {
    let timestamp_ms = if event_ms > now_ms.saturating_add(MOST_AHEAD_MS) { now_ms } else { event_ms };
    timestamp_ms.max(EARLIEST_TIMESTAMP_MS)
}

type Client = BaseProducer<Events>;
type Command = Box<dyn FnOnce(&Client) + Send>;

/// A producer that holds one transactional id.
pub(crate) struct KafkaProducer {
    /// Declared before the rest: its reference to the client goes first.
    topics: TopicHandles,
    client: Arc<Client>,
    commands: mpsc::Sender<Command>,
    wanted: Arc<Wanted>,
    env: SharedEnv,
    commit_timeout: Duration,
    limits: Limits,
    /// Why this producer must not be used any more.
    over: Option<LogError>,
}

/// Lowered when the slot lets the producer go.
struct Wanted(AtomicBool);

impl KafkaProducer {
    /// A producer that has fenced every other of `transactional_id`.
    pub(crate) async fn open(
        config: &KafkaConfig,
        env: &SharedEnv,
        transactional_id: &str,
        limits: &Limits,
    ) -> Result<Self, LogError> {
        let (own, id) = (config.clone(), transactional_id.to_owned());
        let client = away("freshet-init", move || initialise(&own, &id)).await?;
        let client = Arc::new(client);
        let wanted = Arc::new(Wanted(AtomicBool::new(true)));
        let (commands, queue) = mpsc::channel::<Command>();
        {
            let client = client.clone();
            spawn("freshet-producer", move || {
                while let Ok(command) = queue.recv() {
                    command(&client);
                }
            })?;
        }
        {
            let (client, wanted) = (client.clone(), wanted.clone());
            spawn("freshet-events", move || {
                while wanted.0.load(Ordering::Relaxed) {
                    client.poll(LOOK_UP_EVERY);
                }
            })?;
        }
        Ok(Self {
            topics: TopicHandles::new(client.clone()),
            client,
            commands,
            wanted,
            env: env.clone(),
            commit_timeout: config.commit_timeout(),
            limits: limits.clone(),
            over: None,
        })
    }

    /// Runs a blocking call after those that were asked for before.
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Client) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let (reply, answer) = oneshot::channel();
        let gone = || LogError::Indefinite("the producer's thread has ended".to_owned());
        let command: Command = Box::new(move |client| {
            // Nobody may be waiting any more.
            let _ = reply.send(work(client).map_err(|error| client.context().explain(error)));
        });
        self.commands.send(command).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Remembers an error after which this producer must not be used. Whether it was a batch or a record that was too
    /// large is found out before the next producer is made: until then taking over again may help.
    fn keep<T>(&mut self, result: Result<T, LogError>) -> Result<T, LogError> {
        let result = match result {
            Err(LogError::Refused(text)) if self.client.context().too_large() => {
                self.limits.refused(TooLarge { text: text.clone(), topics: self.topics.names() });
                Err(LogError::Indefinite(text))
            }
            result => result,
        };
        if let Err(error @ (LogError::Fenced(_) | LogError::Indefinite(_))) = &result {
            self.over.get_or_insert(error.clone());
        }
        result
    }

    fn usable(&self) -> Result<(), LogError> {
        self.over.clone().map_or(Ok(()), Err)
    }

    /// Why records can't be queued: what made the whole client fail, where something did.
    fn queue_error(&self, code: Code, topic: &str, record: &OutgoingRecord) -> LogError {
        let doing = format!("writing to {topic}[{}]", record.partition);
        if matches!(code, Code::Fatal | Code::State)
            && let Some((code, text)) = self.client.client().fatal_error()
        {
            return Failure { code, fatal: true, text }.classify(Action::Transact, &doing);
        }
        if code == Code::State {
            // The transaction has failed already. A call that can't succeed in that state says why; in any other state
            // it changes nothing.
            if let Err(KafkaError::Transaction(error)) = self.client.begin_transaction() {
                let failure = Failure::of_transaction(&error);
                if failure.is_too_large() {
                    self.client.context().note_too_large();
                }
                return failure.classify(Action::Transact, &doing);
            }
        }
        Failure::of(code).classify(Action::Transact, &doing)
    }

    /// Why a record could not be delivered, if one could not.
    fn undelivered(&self) -> Option<LogError> {
        let error = self.client.context().take_undelivered()?;
        // A fence shows up first as records that are purged; the client knows why.
        let fatal = self.client.client().fatal_error();
        let fatal = fatal.map(|(code, text)| Failure { code, fatal: true, text });
        Some(fatal.map_or(error, |failure| failure.classify(Action::Transact, "writing records")))
    }

    fn queue(
        &self,
        batch: &Outgoing,
        record: &OutgoingRecord,
        (handle, topic): (usize, &str),
        now_ms: i64,
    ) -> Result<(), Code> {
        let partition = i32::try_from(record.partition).unwrap_or(i32::MAX);
        let timestamp_ms = timestamp_ms(record.timestamp_ms, now_ms);
        let (key, value) = (batch.key(record), batch.value(record));
        let Some(headers) = record.headers.and_then(|index| batch.headers.get(index as usize)) else {
            return self.topics.produce(handle, partition, timestamp_ms, key, value);
        };
        let mut list = OwnedHeaders::new_with_capacity(headers.len());
        for header in headers {
            list = list.insert(Header { key: header.name, value: Some(&header.value) });
        }
        let mut sent = BaseRecord::to(topic).partition(partition).timestamp(timestamp_ms).headers(list);
        sent.key = key;
        sent.payload = value;
        self.client.send(sent).map_err(|(error, _)| error.rdkafka_error_code().unwrap_or(Code::Fail))
    }
}

/// Makes a client and initialises its transactional id. Blocks.
pub(crate) fn initialise(config: &KafkaConfig, transactional_id: &str) -> Result<Client, LogError> {
    let doing = format!("initialising the transactional id {transactional_id}");
    let create = config.for_transactions(transactional_id).create_with_context(Events::default());
    let client: Client = create.map_err(|error: KafkaError| classify(&error, Action::Ask, &doing))?;
    // In slices, which librdkafka takes up where the last one ended: what went wrong with the connections waits among the
    // events, and behind credentials that are refused everything else would only time out.
    let slices = config.commit_timeout().as_secs().max(1);
    let (mut slice, mut denied_in) = (0, 0);
    loop {
        slice += 1;
        let Err(error) = client.init_transactions(INITIALISE_SLICE) else { return Ok(client) };
        drain_events(&client);
        denied_in += u32::from(client.context().denied().is_some());
        // A slice that ends tells how the last attempt within it went: a coordinator that is not there yet, say.
        let error = classify(&error, Action::Ask, &doing);
        let goes_on = matches!(error, LogError::Unavailable(_));
        if !goes_on || slice >= slices || denied_in >= DENIED_SLICES {
            return Err(client.context().explain(error));
        }
    }
}

/// Has the client's context hear what happened so far.
fn drain_events(client: &Client) {
    for _ in 0..EVENTS_AT_MOST {
        client.poll(Duration::ZERO);
    }
}

/// Initialises each of `ids` and lets it go, `at_once` of them side by side.
pub(crate) async fn fence(config: &KafkaConfig, ids: &[String], at_once: usize) -> Result<(), LogError> {
    let (config, ids) = (config.clone(), ids.to_vec());
    away("freshet-fence", move || {
        let next = std::sync::atomic::AtomicUsize::new(0);
        let fence_some = || -> Result<(), LogError> {
            while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                initialise(&config, id)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..at_once.min(ids.len())).map(|_| scope.spawn(fence_some)).collect();
            let ended = |_| Err(LogError::Unavailable("a thread that fences has ended".to_owned()));
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(ended))
        })
    })
    .await
}

#[async_trait(?Send)]
impl Producer for KafkaProducer {
    fn begin(&mut self) -> Result<(), LogError> {
        self.usable()?;
        // What an aborted transaction left behind is not this one's.
        self.client.context().take_undelivered();
        let begun = self.client.begin_transaction();
        let begun = begun.map_err(|error| classify(&error, Action::Transact, "beginning a transaction"));
        self.keep(begun)
    }

    fn send(&mut self, batch: &Outgoing, from: usize) -> Result<usize, LogError> {
        self.usable()?;
        let mut handles = Vec::with_capacity(batch.topics.len());
        for topic in &batch.topics {
            let handle = self.topics.index(topic);
            handles.push(handle.map_err(|failure| failure.classify(Action::Transact, &format!("topic {topic}")))?);
        }
        let now_ms = self.env.now_ms();
        for (taken, record) in batch.records.iter().skip(from).enumerate() {
            let index = usize::from(record.topic);
            match self.queue(batch, record, (handles[index], &batch.topics[index]), now_ms) {
                Ok(()) => {}
                Err(Code::QueueFull) => return Ok(taken),
                Err(code) => {
                    let error = self.queue_error(code, &batch.topics[index], record);
                    return self.keep(Err(error));
                }
            }
        }
        Ok(batch.records.len().saturating_sub(from))
    }

    async fn drained(&mut self) -> Result<(), LogError> {
        self.usable()?;
        let full = self.in_flight();
        while self.in_flight() > full / 2 {
            if let Some(error) = self.undelivered() {
                return self.keep(Err(error));
            }
            self.env.sleep(DRAIN_LOOK).await;
        }
        Ok(())
    }

    async fn acknowledged(&mut self) -> Result<(), LogError> {
        self.usable()?;
        if self.in_flight() > 0 {
            let wait = self.commit_timeout;
            let delivered = self.call(move |client| Ok(native::wait_until_delivered(client, wait))).await?;
            if !delivered {
                let text = format!("{} records are not acknowledged after {wait:?}", self.in_flight());
                let error = self.client.context().explain(LogError::Indefinite(text));
                return self.keep(Err(error));
            }
        }
        let undelivered = self.undelivered().map_or(Ok(()), Err);
        self.keep(undelivered)
    }

    async fn send_offsets(
        &mut self,
        group: &str,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<(), LogError> {
        self.usable()?;
        let doing = format!("adding offsets of {group} to the transaction");
        let list = offset_list(offsets).map_err(|error| classify(&error, Action::Transact, &doing))?;
        let (group, wait) = (group.to_owned(), self.commit_timeout);
        let sent = self
            .call(move |client| {
                native::send_offsets(client, &group, &list, wait)
                    .map_err(|failure| failure.classify(Action::Transact, &doing))
            })
            .await;
        self.keep(sent)
    }

    async fn commit(&mut self) -> Result<(), LogError> {
        self.usable()?;
        let wait = self.commit_timeout;
        let committed = self.call(move |client| {
            let commit = client.commit_transaction(wait);
            commit.map_err(|error| classify(&error, Action::Transact, "committing"))
        });
        let committed = committed.await;
        self.keep(committed)
    }

    async fn abort(&mut self) -> Result<(), LogError> {
        self.usable()?;
        let wait = self.commit_timeout;
        let aborted = self.call(move |client| {
            let abort = client.abort_transaction(wait);
            abort.map_err(|error| classify(&error, Action::Transact, "aborting"))
        });
        let aborted = aborted.await;
        self.keep(aborted)
    }

    fn in_flight(&self) -> usize {
        usize::try_from(self.client.in_flight_count()).unwrap_or(0)
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        self.wanted.0.store(false, Ordering::Relaxed);
    }
}

pub(crate) fn offset_list(offsets: &[(TopicPartition, CommittedOffset)]) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, committed) in offsets {
        let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
        let mut entry = list.add_partition(&partition.topic, number);
        entry.set_offset(Offset::Offset(committed.offset))?;
        entry.set_metadata(&committed.metadata);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_such_that_brokers_take_them() {
        let now = 1_700_000_000_000;
        for (event, wanted) in [
            (now, now),
            (now - 1_000_000_000_000, now - 1_000_000_000_000),
            (-5, 1),
            (0, 1),
            (now + MOST_AHEAD_MS, now + MOST_AHEAD_MS),
            (now + MOST_AHEAD_MS + 1, now),
            (i64::MAX, now),
        ] {
            assert_eq!(timestamp_ms(event, now), wanted, "{event}");
        }
    }
}
