//! Questions about topics and offsets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freshet_env::SharedEnv;
use freshet_log::{Bounds, CommittedOffset, LogError, StartPosition, TopicFacts, TopicPartition};
use rdkafka::bindings::rd_kafka_admin_op_t as Op;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use crate::admin::native::{Request, describe_topics};
use crate::admin::{AdminResult, Operation, TopicDescription, Trouble};
use crate::config::{Isolation, KafkaConfig};
use crate::error::{Action, Failure, classify};
use crate::events::Events;
use crate::thread::away;

type Client = BaseConsumer<Events>;

/// How long to wait before asking again for offsets that a transaction is pending on.
const PENDING_LOOK: Duration = Duration::from_millis(20);
/// After this long without an answer a transaction may be pending.
const PENDING_SUSPECTED: Duration = Duration::from_secs(1);

/// Clients that ask questions and read nothing.
pub(crate) struct Query {
    config: KafkaConfig,
    /// Sees ends as the last stable offset.
    committed: Arc<Client>,
    /// Sees ends as the high watermark; made when it is first needed.
    uncommitted: Arc<Mutex<Option<Arc<Client>>>>,
}

impl Query {
    pub(crate) fn new(config: &KafkaConfig) -> Result<Self, LogError> {
        let committed = Arc::new(open(config, Isolation::Committed)?);
        Ok(Self { config: config.clone(), committed, uncommitted: Arc::default() })
    }

    pub(crate) async fn partition_count(&self, topic: &str) -> Result<u32, LogError> {
        let (client, topic, limit) = (self.committed.clone(), topic.to_owned(), self.config.request_timeout);
        away("freshet-query", move || explained(&client, partition_count(&client, &topic, limit))).await
    }

    pub(crate) async fn topics(&self, topics: Vec<String>) -> Result<Vec<TopicFacts>, LogError> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let (client, limit) = (self.committed.clone(), self.config.request_timeout);
        away("freshet-query", move || explained(&client, describe(&client, &topics, limit))).await
    }

    /// Whether all of `partitions` are there.
    pub(crate) async fn ensure_known(&self, partitions: Vec<TopicPartition>) -> Result<(), LogError> {
        let (client, limit) = (self.committed.clone(), self.config.request_timeout);
        away("freshet-query", move || explained(&client, ensure_known(&client, &partitions, limit))).await
    }

    pub(crate) async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        let (committed, cell, config) = (self.committed.clone(), self.uncommitted.clone(), self.config.clone());
        let partition = partition.clone();
        away("freshet-query", move || {
            let (low, stable) = explained(&committed, ends(&committed, &partition, config.request_timeout))?;
            let uncommitted = {
                let mut cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
                match &*cell {
                    Some(client) => client.clone(),
                    None => cell.insert(Arc::new(open(&config, Isolation::Uncommitted)?)).clone(),
                }
            };
            let (_, high) = explained(&uncommitted, ends(&uncommitted, &partition, config.request_timeout))?;
            Ok(Bounds { low, stable, high })
        })
        .await
    }

    pub(crate) async fn resolve(&self, partition: &TopicPartition, start: StartPosition) -> Result<i64, LogError> {
        let (client, partition, limit) = (self.committed.clone(), partition.clone(), self.config.request_timeout);
        away("freshet-query", move || {
            let ends = || ends(&client, &partition, limit);
            let resolved = match start {
                StartPosition::Earliest => ends().map(|(low, _)| low),
                StartPosition::Latest => ends().map(|(_, stable)| stable),
                StartPosition::Timestamp(at_ms) => {
                    at_time(&client, &partition, at_ms, limit).and_then(|found| match found {
                        Some(offset) => Ok(offset),
                        None => ends().map(|(_, stable)| stable),
                    })
                }
            };
            explained(&client, resolved)
        })
        .await
    }
}

fn open(config: &KafkaConfig, isolation: Isolation) -> Result<Client, LogError> {
    let create = config.for_queries(isolation).create_with_context(Events::default());
    create.map_err(|error| classify(&error, Action::Ask, "connecting"))
}

/// Behind wrong credentials every question times out; the reason waits among the client's events.
fn explained<T>(client: &Client, result: Result<T, LogError>) -> Result<T, LogError> {
    result.map_err(|error| {
        while client.poll(Duration::ZERO).is_some() {}
        client.context().explain(error)
    })
}

/// Whether all of `partitions` are there; the first that is not is the error.
pub(crate) fn ensure_known(client: &Client, partitions: &[TopicPartition], limit: Duration) -> Result<(), LogError> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for partition in partitions {
        let count = match counts.get(partition.topic.as_str()) {
            Some(count) => *count,
            None => partition_count(client, &partition.topic, limit)?,
        };
        counts.insert(&partition.topic, count);
        if partition.partition >= count {
            return Err(LogError::UnknownTopic(format!("{partition}: the topic has {count} partitions")));
        }
    }
    Ok(())
}

fn partition_count(client: &Client, topic: &str, limit: Duration) -> Result<u32, LogError> {
    let doing = format!("asking for the partitions of {topic}");
    let metadata = client.fetch_metadata(Some(topic), limit);
    let metadata = metadata.map_err(|error| classify(&error, Action::Ask, &doing))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or_else(|| LogError::UnknownTopic(topic.to_owned()))?;
    if let Some(error) = found.error() {
        return Err(failure(error).classify(Action::Ask, &doing));
    }
    match u32::try_from(found.partitions().len()) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(LogError::UnknownTopic(topic.to_owned())),
    }
}

/// Which topics `topics` are; the first that can't be told is the error.
fn describe(client: &Client, topics: &[String], limit: Duration) -> Result<Vec<TopicFacts>, LogError> {
    let request = Request::new(client.client(), Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, limit);
    let described = request.and_then(|request| describe_topics(&request, topics, true));
    let described = described.map_err(|error| error.into_log_error("describing topics"))?;
    let facts = |(name, described): (&String, AdminResult<TopicDescription>)| {
        let described = described.map_err(|error| match error.trouble {
            Trouble::NotFound => LogError::UnknownTopic(name.clone()),
            _ => error.into_log_error(&format!("describing {name}")),
        })?;
        let may = |operation| described.rights.as_ref().is_none_or(|rights| rights.contains(&operation));
        let (readable, writable) = (may(Operation::Read), may(Operation::Write));
        Ok(TopicFacts { id: described.id, readable, writable })
    };
    topics.iter().zip(described).map(facts).collect()
}

fn failure(error: RDKafkaRespErr) -> Failure {
    Failure::of(Code::from(error))
}

/// First offset and end of a partition, as far as the client's isolation lets it see.
fn ends(client: &Client, partition: &TopicPartition, limit: Duration) -> Result<(i64, i64), LogError> {
    let number = number(partition)?;
    let answer = client.fetch_watermarks(&partition.topic, number, limit);
    answer.map_err(|error| classify(&error, Action::Ask, &format!("asking for the bounds of {partition}")))
}

/// The first offset at or after a time; `None` when there is none yet.
fn at_time(client: &Client, partition: &TopicPartition, at_ms: i64, limit: Duration) -> Result<Option<i64>, LogError> {
    let doing = format!("asking for the offset of {partition} at {at_ms} ms");
    let failed = |error: KafkaError| classify(&error, Action::Ask, &doing);
    let number = number(partition)?;
    let mut times = TopicPartitionList::with_capacity(1);
    // Negative numbers stand for positions, not times.
    times.add_partition_offset(&partition.topic, number, Offset::Offset(at_ms.max(0))).map_err(failed)?;
    let found = client.offsets_for_times(times, limit).map_err(failed)?;
    let entry = found.find_partition(&partition.topic, number);
    let entry = entry.ok_or_else(|| LogError::UnknownTopic(partition.to_string()))?;
    entry.error().map_err(failed)?;
    match entry.offset() {
        Offset::Offset(offset) => Ok(Some(offset)),
        _ => Ok(None),
    }
}

fn number(partition: &TopicPartition) -> Result<i32, LogError> {
    i32::try_from(partition.partition).map_err(|_| LogError::UnknownTopic(partition.to_string()))
}

/// What a question about committed offsets found.
enum Stable {
    Offsets(Vec<Option<CommittedOffset>>),
    Pending,
}

/// Committed offsets of `group`, once no transaction is pending on them.
pub(crate) async fn committed(
    config: &KafkaConfig,
    env: &SharedEnv,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<Vec<Option<CommittedOffset>>, LogError> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let started = env.monotonic();
    let doing = format!("reading the committed offsets of {group}");
    let group = Arc::new(Group::open(config, group)?);
    let result = loop {
        let (asked, list, limit) = (group.clone(), partitions.to_vec(), config.request_timeout);
        let text = doing.clone();
        match away("freshet-query", move || asked.ask(&list, limit, &text)).await {
            Ok(Stable::Offsets(offsets)) => break Ok(offsets),
            Ok(Stable::Pending) if env.monotonic() - started < config.stable_timeout => {
                env.sleep(PENDING_LOOK).await;
            }
            Ok(Stable::Pending) => {
                break Err(LogError::Unavailable(format!(
                    "{doing}: a transaction is still pending on them after {:?}",
                    config.stable_timeout
                )));
            }
            Err(error) => break Err(error),
        }
    };
    // Closing a client waits for its threads.
    away("freshet-close", move || {
        drop(group);
        Ok(())
    })
    .await?;
    result
}

/// Clients that read the committed offsets of one group.
struct Group {
    stable: Client,
    /// Reads offsets even while a transaction is pending on them; only to tell a pending transaction from a
    /// coordinator that does not answer.
    pending: Client,
}

impl Group {
    fn open(config: &KafkaConfig, group: &str) -> Result<Self, LogError> {
        let open = |isolation| {
            let create = config.for_group(group, isolation).create_with_context(Events::default());
            create.map_err(|error| classify(&error, Action::Ask, "connecting"))
        };
        Ok(Self { stable: open(Isolation::Committed)?, pending: open(Isolation::Uncommitted)? })
    }

    fn ask(&self, partitions: &[TopicPartition], limit: Duration, doing: &str) -> Result<Stable, LogError> {
        // librdkafka itself asks again while offsets are pending, and then says only that time is over. So its
        // time is short, and what a time-out means is asked for.
        match ask_committed(&self.stable, partitions, limit.min(PENDING_SUSPECTED), doing) {
            Err(LogError::Unavailable(_)) => {}
            answer => return explained(&self.stable, answer),
        }
        let answer = ask_committed(&self.pending, partitions, limit, doing);
        explained(&self.pending, answer).map(|_| Stable::Pending)
    }
}

fn ask_committed(
    client: &Client,
    partitions: &[TopicPartition],
    limit: Duration,
    doing: &str,
) -> Result<Stable, LogError> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, number(partition)?);
    }
    let pending = |error: &KafkaError| error.rdkafka_error_code() == Some(Code::UnstableOffsetCommit);
    let answer = match client.committed_offsets(list, limit) {
        Ok(answer) => answer,
        Err(error) if pending(&error) => return Ok(Stable::Pending),
        Err(error) => return Err(classify(&error, Action::Ask, doing)),
    };
    let mut offsets = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let entry = answer.find_partition(&partition.topic, number(partition)?);
        let entry = entry.ok_or_else(|| LogError::UnknownTopic(partition.to_string()))?;
        match entry.error() {
            Ok(()) => {}
            Err(error) if pending(&error) => return Ok(Stable::Pending),
            Err(error) => return Err(classify(&error, Action::Ask, &format!("{doing} for {partition}"))),
        }
        offsets.push(match entry.offset() {
            Offset::Offset(offset) => Some(CommittedOffset { offset, metadata: entry.metadata().to_owned() }),
            _ => None,
        });
    }
    Ok(Stable::Offsets(offsets))
}
