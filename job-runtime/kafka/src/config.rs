//! What a user sets, and the librdkafka settings that each role gets on top of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

/// How to reach a Kafka cluster, and how long to wait for it.
#[derive(Clone)]
pub struct KafkaConfig {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// The name that brokers log for this client; also the formal group of its readers, which join none.
    pub client_id: String,
    /// librdkafka settings beside (or instead of) Freshet's own, for instance `security.protocol`,
    /// `sasl.password`, `compression.type`. Values never appear in errors, logs or `Debug`.
    pub extra: BTreeMap<String, String>,
    /// After this long the coordinator aborts a transaction whose producer is silent. A commit that takes
    /// longer has an unknown outcome.
    pub transaction_timeout: Duration,
    /// How long a question to the cluster may take before it counts as not available.
    pub request_timeout: Duration,
    /// How long to wait for transactions that are pending on committed offsets.
    pub stable_timeout: Duration,
    /// Bytes of records that a consumer fetches ahead.
    pub fetch_buffer_bytes: usize,
    /// Bytes of records that a producer queues before it pushes back.
    pub send_buffer_bytes: usize,
    /// Bytes of records that a producer sends as one batch: a topic's `max.message.bytes` is for a whole one.
    pub batch_bytes: usize,
}

impl KafkaConfig {
    /// Default limits, no extra settings.
    #[must_use]
    pub fn new(bootstrap_servers: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            client_id: client_id.into(),
            extra: BTreeMap::new(),
            transaction_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(15),
            stable_timeout: Duration::from_secs(45),
            fetch_buffer_bytes: 16 << 20,
            send_buffer_bytes: 64 << 20,
            batch_bytes: 1_000_000,
        }
    }

    /// How long a commit may take before its outcome counts as unknown: the coordinator has given up by then.
    pub(crate) fn commit_timeout(&self) -> Duration {
        self.transaction_timeout + Duration::from_secs(5)
    }

    fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", &self.client_id);
        config.set_log_level(RDKafkaLogLevel::Warning);
        // A broker that restarts is back within seconds; find it soon, without hammering it.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        config.set("retry.backoff.ms", "5").set("retry.backoff.max.ms", "20");
        // A client that asked a broker which had just started may be left without a partition's leader, and asks again
        // only when this has passed: five minutes, if nobody says otherwise.
        config.set("topic.metadata.refresh.interval.ms", "10000");
        config.set("socket.keepalive.enable", "true");
        // How long a topic that no broker knows may still be one that was just made.
        config.set("topic.metadata.propagation.max.ms", "10000");
        // Closed idle connections are no news.
        config.set("log.connection.close", "false");
        config
    }

    fn with_extra(&self, mut config: ClientConfig) -> ClientConfig {
        for (name, value) in &self.extra {
            config.set(name, value);
        }
        config
    }

    /// For questions about topics and offsets.
    pub(crate) fn for_queries(&self, isolation: Isolation) -> ClientConfig {
        let mut config = self.base();
        config.set("isolation.level", isolation.name());
        self.with_extra(config)
    }

    /// For administration.
    pub(crate) fn for_administration(&self) -> ClientConfig {
        self.with_extra(self.base())
    }

    /// For reading the committed offsets of `group`.
    pub(crate) fn for_group(&self, group: &str, isolation: Isolation) -> ClientConfig {
        let mut config = self.with_extra(self.base());
        config.set("group.id", group).set("isolation.level", isolation.name()).set("enable.auto.commit", "false");
        config
    }

    /// For reading records.
    pub(crate) fn for_reading(&self) -> ClientConfig {
        let mut config = self.base();
        // Half of the bytes wait inside librdkafka, half in our own buffer.
        config.set("queued.max.messages.kbytes", (self.fetch_buffer_bytes / 2 / 1024).max(64).to_string());
        // Each record that waits inside librdkafka costs some 400 bytes besides its own.
        config.set("queued.min.messages", "20000");
        config.set("fetch.max.bytes", "8388608").set("fetch.message.max.bytes", "1048576");
        // The broker answers as soon as there is one byte. Without any it answers after this long, and only
        // then is the end of a partition certain: often enough for that, seldom enough to cost nothing.
        config.set("fetch.min.bytes", "1").set("fetch.wait.max.ms", "500");
        // The default of a second starves a reader that empties its queue faster than that.
        config.set("fetch.queue.backoff.ms", "5").set("fetch.error.backoff.ms", "50");
        let mut config = self.with_extra(config);
        // What correctness stands on is not for `extra` to change.
        config.set("group.id", &self.client_id).set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false").set("isolation.level", "read_committed");
        config.set("auto.offset.reset", "error").set("enable.partition.eof", "true");
        config
    }

    /// For writing in transactions of `transactional_id`.
    pub(crate) fn for_transactions(&self, transactional_id: &str) -> ClientConfig {
        let mut config = self.writing();
        let timeout_ms = self.transaction_timeout.as_millis().to_string();
        config.set("transactional.id", transactional_id).set("transaction.timeout.ms", &timeout_ms);
        config.set("message.timeout.ms", &timeout_ms).set("enable.idempotence", "true");
        // Success is counted by librdkafka itself; a report for every record would cost more than it says.
        config.set("delivery.report.only.error", "true");
        config
    }

    /// For writing without transactions, each record once.
    pub(crate) fn for_loading(&self) -> ClientConfig {
        let mut config = self.writing();
        config.set("enable.idempotence", "true").set("delivery.report.only.error", "true");
        config
    }

    fn writing(&self) -> ClientConfig {
        let mut config = self.base();
        config.set("linger.ms", "5");
        config.set("queue.buffering.max.messages", "200000");
        config.set("queue.buffering.max.kbytes", (self.send_buffer_bytes / 1024).max(1024).to_string());
        // How large a record may be is the topic's decision, not ours.
        config.set("message.max.bytes", "33554432").set("batch.size", self.batch_bytes.to_string());
        self.with_extra(config)
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("client_id", &self.client_id)
            .field("extra", &self.extra.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// What a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Up to the last stable offset.
    Committed,
    /// Up to the high watermark.
    Uncommitted,
}

impl Isolation {
    const fn name(self) -> &'static str {
        match self {
            Self::Committed => "read_committed",
            Self::Uncommitted => "read_uncommitted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_in_debug_output() {
        let mut config = KafkaConfig::new("broker:9092", "slot-0");
        config.extra.insert("sasl.password".to_owned(), "hunter2".to_owned());
        let shown = format!("{config:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn extra_settings_tune_but_do_not_weaken() {
        let mut config = KafkaConfig::new("broker:9092", "slot-0");
        config.extra.insert("isolation.level".to_owned(), "read_uncommitted".to_owned());
        config.extra.insert("auto.offset.reset".to_owned(), "earliest".to_owned());
        config.extra.insert("enable.idempotence".to_owned(), "false".to_owned());
        config.extra.insert("fetch.wait.max.ms".to_owned(), "7".to_owned());
        let reading = config.for_reading();
        assert_eq!(reading.get("isolation.level"), Some("read_committed"));
        assert_eq!(reading.get("auto.offset.reset"), Some("error"));
        assert_eq!(reading.get("fetch.wait.max.ms"), Some("7"));
        let group = config.for_group("g", Isolation::Committed);
        assert_eq!(group.get("isolation.level"), Some("read_committed"));
        assert_eq!(config.for_transactions("t").get("enable.idempotence"), Some("true"));
    }
}
