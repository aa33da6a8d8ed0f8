//! The shared broker, and short forms of what every test does.

use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use freshet_e2e::servers::SharedKafka;
use freshet_env::{RealEnv, SharedEnv, deadline};
use freshet_kafka::{KafkaConfig, KafkaLog};
use freshet_log::{CommittedOffset, Consumer, Fetched, Log, LogError, Outgoing, Producer, TopicPartition, TopicSpec};

/// No wait of a test lasts longer, on whatever machine.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// The broker that these tests share.
pub fn broker() -> &'static SharedKafka {
    SharedKafka::get()
}

/// Settings for the shared broker.
pub fn config() -> KafkaConfig {
    KafkaConfig::new(broker().bootstrap(), "kafka-log-test")
}

/// Settings that take a topic which no broker knows for missing after a second.
pub fn impatient() -> KafkaConfig {
    let mut config = config();
    config.extra.insert("topic.metadata.propagation.max.ms".to_owned(), "1000".to_owned());
    config
}

/// The real clock and timers.
pub fn env() -> SharedEnv {
    Rc::new(RealEnv::new())
}

/// The log on the shared broker.
pub fn log() -> KafkaLog {
    KafkaLog::connect(config(), env()).unwrap()
}

/// A name that no other test has.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A new topic.
pub async fn topic(log: &KafkaLog, what: &str, partitions: u32) -> String {
    let name = unique(what);
    // The records of these tests are of 1970: they would be deleted for their age.
    let config = vec![("retention.ms".to_owned(), "-1".to_owned())];
    let spec = [TopicSpec { name: name.clone(), partitions, replicas: None, config }];
    within("the topic", async {
        // A broker that has just started may be slow; a slot tries again too.
        while let Err(error) = log.ensure_topics(&spec).await {
            assert!(matches!(error, LogError::Unavailable(_)), "{error}");
        }
    })
    .await;
    name
}

/// Runs a test's future on one thread, with a deadline.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async { deadline(&env(), PATIENCE * 3, test).await });
    assert!(
        ended.is_some(),
        "the test did not end within {:?}; the broker's log ends:\n{}",
        PATIENCE * 3,
        broker().log_tail()
    );
}

/// `work`, or a panic that says what was waited for.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    deadline(&env(), PATIENCE, work).await.unwrap_or_else(|| panic!("waited {PATIENCE:?} for {what}, in vain"))
}

/// Records with these values, without keys, for partition 0.
pub fn values(topic: &str, values: &[&str]) -> Outgoing {
    let mut batch = Outgoing::new(vec![topic.to_owned()]);
    for (index, value) in values.iter().enumerate() {
        batch.push(0, 0, 1_000 + index as i64, None, Some(value.as_bytes()));
    }
    batch
}

/// Sends all of `batch`, waiting while the queue is full.
pub async fn send_all(producer: &mut Box<dyn Producer>, batch: &Outgoing) {
    let mut sent = 0;
    while sent < batch.records.len() {
        sent += producer.send(batch, sent).unwrap();
        if sent < batch.records.len() {
            within("room in the producer's queue", producer.drained()).await.unwrap();
        }
    }
}

/// One whole transaction.
pub async fn commit(producer: &mut Box<dyn Producer>, batch: &Outgoing) {
    producer.begin().unwrap();
    send_all(producer, batch).await;
    within("acknowledgements", producer.acknowledged()).await.unwrap();
    within("the commit", producer.commit()).await.unwrap();
}

/// Waits until partition 0 of `topic` is stable up to `end`. A commit is confirmed a little before its marker
/// is written.
pub async fn stable_at(log: &KafkaLog, topic: &str, end: i64) {
    let partition = TopicPartition::new(topic, 0);
    within("every transaction's marker", async {
        while log.bounds(&partition).await.unwrap().stable != end {
            env().sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until nothing in partition 0 of `topic` is pending.
pub async fn settled(log: &KafkaLog, topic: &str) {
    let partition = TopicPartition::new(topic, 0);
    within("every transaction's end", async {
        loop {
            let bounds = log.bounds(&partition).await.unwrap();
            if bounds.stable == bounds.high {
                return;
            }
            env().sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Reads partition 0 of `topic` from its beginning to its end, once nothing in it is pending.
pub async fn read_settled(log: &KafkaLog, topic: &str) -> Vec<String> {
    settled(log, topic).await;
    read_all(log, topic).await
}

/// Reads what is visible of partition 0 of `topic` now.
pub async fn read_all(log: &KafkaLog, topic: &str) -> Vec<String> {
    let mut consumer = log.consumer(&[(TopicPartition::new(topic, 0), 0)]).await.unwrap();
    texts_until_end(&mut consumer).await
}

/// Values of a consumer of one partition, until the end is reached.
pub async fn texts_until_end(consumer: &mut Box<dyn Consumer>) -> Vec<String> {
    let mut seen = Vec::new();
    for batch in until_end(consumer).await {
        seen.extend(batch.records.iter().map(|record| text(batch.value(record).unwrap())));
    }
    seen
}

/// Batches of a consumer of one partition, until the end is reached.
pub async fn until_end(consumer: &mut Box<dyn Consumer>) -> Vec<Fetched> {
    let mut batches = Vec::new();
    loop {
        let batch = within("the end of the partition", consumer.next()).await.unwrap();
        let end = batch.at_end;
        batches.push(batch);
        if end {
            return batches;
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn offset(offset: i64, metadata: &str) -> CommittedOffset {
    CommittedOffset { offset, metadata: metadata.to_owned() }
}
