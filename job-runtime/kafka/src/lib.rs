//! The log on Kafka, through librdkafka.
//!
//! # Threads
//! A slot is one thread, and nothing here blocks it. What librdkafka does by blocking runs elsewhere:
//!
//! ```text
//! slot's thread             consumer's thread                      librdkafka
//!   Consumer::next  <-----    bounded buffer  <-- batches --  own queue  <-- fetch
//!   Producer::send  ------------------------------------->  producer's queue --> broker
//!   acknowledged, commit -->  command thread  -- blocking calls -->
//!                             event thread   <-- failed deliveries, log lines, client errors
//!   committed, bounds ---->   a thread each   -- blocking calls -->
//! ```
//!
//! # Exactly once
//! * A consumer is `assign()`ed to offsets that the caller gives, never to a group's; `read_committed`;
//!   a position that the broker no longer has is an error (`auto.offset.reset=error`).
//! * Committed offsets are read stable: librdkafka asks the broker to refuse while a transaction on them
//!   is pending, and [`freshet_log::Log::committed`] asks again until it is not.
//! * A producer serves one transactional id. Once its state is unknown or it is fenced it refuses
//!   everything else: the caller takes over from itself with a new one. (librdkafka has no KIP-890 v2, so a
//!   delayed commit could hit a later transaction of the same producer.)
//! * Offsets are added to a transaction after its records are acknowledged: asking for both at once makes
//!   the coordinator answer "concurrent transactions", and the retry costs its back-off.
//!
//! # Rooms
//! `config` makes librdkafka's settings for each role, [`error`] sorts its errors by what a caller can do,
//! `native` and [`admin`]'s are the two rooms with unsafe code, `reader` and `buffer` are the consumer, `writer`
//! and `limits` the producer, `query` and `records` the rest of the trait, [`bulk`] loads and recounts topics outside any
//! slot, [`bare`] is the yardstick of the benchmarks, and [`admin`] administers a cluster.

pub mod admin;
pub mod bare;
mod buffer;
pub mod bulk;
mod config;
pub mod error;
mod events;
mod limits;
mod native;
mod query;
mod reader;
mod records;
mod thread;
mod writer;

use std::time::Duration;

use async_trait::async_trait;
use freshet_env::SharedEnv;
use freshet_log::{
    Bounds, CommittedOffset, Consumer, Log, LogError, Producer, StartPosition, TopicFacts, TopicPartition, TopicSpec,
};

pub use admin::Admin;
pub use config::KafkaConfig;

use admin::{NewTopic, Trouble};
use query::Query;

/// Producers that [`Log::fence`] initialises side by side: enough to hide the round trips, few enough not to
/// flood a coordinator.
const FENCES_AT_ONCE: usize = 8;

/// Kafka, as one slot sees it.
pub struct KafkaLog {
    config: KafkaConfig,
    env: SharedEnv,
    query: Query,
    limits: limits::Limits,
}

impl KafkaLog {
    /// A log on the cluster that `config` names. Contacts nobody yet.
    ///
    /// # Errors
    /// [`LogError::Refused`] when librdkafka does not accept a setting; the text names it, never its value.
    pub fn connect(config: KafkaConfig, env: SharedEnv) -> Result<Self, LogError> {
        let query = Query::new(&config)?;
        Ok(Self { config, env, query, limits: limits::Limits::default() })
    }
}

impl std::fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaLog").field("config", &self.config).finish_non_exhaustive()
    }
}

#[async_trait(?Send)]
impl Log for KafkaLog {
    async fn partition_count(&self, topic: &str) -> Result<u32, LogError> {
        self.query.partition_count(topic).await
    }

    async fn topics(&self, topics: &[String]) -> Result<Vec<TopicFacts>, LogError> {
        self.query.topics(topics.to_vec()).await
    }

    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        let mut missing = Vec::new();
        for topic in topics {
            match self.query.partition_count(&topic.name).await {
                Ok(_) => {}
                Err(LogError::UnknownTopic(_)) => missing.push(topic.clone()),
                Err(error) => return Err(error),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = missing.iter().map(|topic| topic.name.clone()).collect();
        create_topics(&self.config, missing).await?;
        for name in names {
            self.wait_until_known(&name).await?;
        }
        Ok(())
    }

    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        self.query.bounds(partition).await
    }

    async fn resolve(&self, partition: &TopicPartition, start: StartPosition) -> Result<i64, LogError> {
        self.query.resolve(partition, start).await
    }

    async fn committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<CommittedOffset>>, LogError> {
        query::committed(&self.config, &self.env, group, partitions).await
    }

    async fn fence(&self, transactional_ids: &[String]) -> Result<(), LogError> {
        writer::fence(&self.config, transactional_ids, FENCES_AT_ONCE).await
    }

    async fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>, LogError> {
        let config = self.limits.settle(&self.config).await?;
        let producer = writer::KafkaProducer::open(&config, &self.env, transactional_id, &self.limits).await?;
        Ok(Box::new(producer))
    }

    async fn consumer(&self, positions: &[(TopicPartition, i64)]) -> Result<Box<dyn Consumer>, LogError> {
        let partitions = positions.iter().map(|(partition, _)| partition.clone()).collect();
        self.query.ensure_known(partitions).await?;
        Ok(Box::new(reader::KafkaConsumer::open(&self.config, positions)?))
    }

    async fn delete_records(&self, before: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        records::delete_records(&self.config, before.to_vec()).await
    }

    async fn delete_topics(&self, topics: &[String]) -> Result<(), LogError> {
        records::delete_topics(&self.config, topics.to_vec()).await
    }

    async fn delete_groups(&self, groups: &[String]) -> Result<(), LogError> {
        records::delete_groups(&self.config, groups.to_vec()).await
    }
}

impl KafkaLog {
    /// A topic that was just made is not known to every broker at once.
    async fn wait_until_known(&self, topic: &str) -> Result<(), LogError> {
        let started = self.env.monotonic();
        loop {
            match self.query.partition_count(topic).await {
                Err(error @ LogError::UnknownTopic(_)) => {
                    if self.env.monotonic() - started > self.config.request_timeout {
                        return Err(LogError::Unavailable(format!(
                            "topic {topic} was created, but the brokers do not show it yet ({error})"
                        )));
                    }
                    self.env.sleep(Duration::from_millis(20)).await;
                }
                known => return known.map(drop),
            }
        }
    }
}

/// Makes `topics`; one that is there already stays as it is.
async fn create_topics(config: &KafkaConfig, topics: Vec<TopicSpec>) -> Result<(), LogError> {
    let names: Vec<_> = topics.iter().map(|topic| topic.name.clone()).collect();
    let new = topics.into_iter().map(|topic| NewTopic {
        name: topic.name,
        partitions: i32::try_from(topic.partitions).unwrap_or(i32::MAX),
        replicas: topic.replicas.map(|replicas| i16::try_from(replicas).unwrap_or(i16::MAX)),
        config: topic.config,
    });
    let answer = Admin::connect(config)?.create_topics(new.collect()).await;
    let results = answer.map_err(|error| error.into_log_error("creating topics"))?;
    for (name, result) in names.iter().zip(results) {
        match result {
            Err(error) if error.trouble != Trouble::Exists => {
                return Err(error.into_log_error(&format!("creating topic {name}")));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
