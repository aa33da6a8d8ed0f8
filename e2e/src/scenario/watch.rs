//! Follows a job's output as a `read_committed` reader sees it, to know when something has happened.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Role;
use super::job::{Job, PARTITIONS};
use crate::LabError;

/// A reader of some of a job's outputs.
pub struct Watch {
    consumer: BaseConsumer,
    counts: HashMap<String, u64>,
    names: HashMap<Role, String>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Watch {
    /// A reader of the topics of `roles` of `job`, from their beginning.
    ///
    /// # Errors
    /// When librdkafka refuses.
    pub fn new(job: &Job, roles: &[Role]) -> Result<Self, LabError> {
        let failed = |error: rdkafka::error::KafkaError| LabError::Wrong(format!("watching the output: {error}"));
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &job.kafka().bootstrap_servers)
            .set("group.id", "freshet-lab-watch")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "20")
            .set("reconnect.backoff.max.ms", "500")
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Error)
            .create()
            .map_err(failed)?;
        let mut list = TopicPartitionList::new();
        for role in roles {
            for partition in 0..PARTITIONS as i32 {
                list.add_partition_offset(&job.topic(*role), partition, Offset::Beginning).map_err(failed)?;
            }
        }
        consumer.assign(&list).map_err(failed)?;
        let names = roles.iter().map(|role| (*role, job.topic(*role))).collect();
        Ok(Self { consumer, counts: HashMap::new(), names })
    }

    /// Shows what comes within `time`.
    pub fn each_for(&mut self, time: Duration, mut visit: impl FnMut(&BorrowedMessage<'_>)) {
        use rdkafka::Message as _;
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Brokers that are away for a while are part of the scenarios: errors are waited out.
            if let Some(Ok(message)) = self.consumer.poll(left.min(Duration::from_millis(20))) {
                *self.counts.entry(message.topic().to_owned()).or_default() += 1;
                visit(&message);
            }
            if left.is_zero() {
                return;
            }
        }
    }

    /// Follows for so long.
    pub fn follow(&mut self, time: Duration) {
        self.each_for(time, |_| ());
    }

    /// How many records of `role` were seen.
    #[must_use]
    pub fn count(&self, role: Role) -> u64 {
        self.names.get(&role).and_then(|name| self.counts.get(name)).copied().unwrap_or(0)
    }
}
