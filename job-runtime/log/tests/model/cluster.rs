//! A simulated cluster of one broker and its clients.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use freshet_env::sim::{NodeId, Sim, Stop};
use freshet_log::model::{ModelBroker, ModelFaults, ModelLog};
use freshet_log::{CommittedOffset, Consumer, Fetched, Log, LogError, Outgoing, Producer, TopicPartition};

pub const BROKER: NodeId = NodeId(0);

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn tp(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

pub struct Cluster {
    pub sim: Sim,
    pub broker: ModelBroker,
}

impl Cluster {
    pub fn new(seed: u64, faults: ModelFaults) -> Self {
        let sim = Sim::new(seed);
        let broker = ModelBroker::simulated(Rc::new(sim.env(BROKER)), sim.fork_rng(), faults);
        sim.spawn("broker", BROKER, broker.run());
        broker.create_topic("in", 2);
        broker.create_topic("out", 2);
        Self { sim, broker }
    }

    pub fn client(&self, node: u32) -> ModelLog {
        self.broker.client(Rc::new(self.sim.env(NodeId(node))))
    }

    /// Runs `work` on `node` to its end.
    pub fn run<T: 'static>(&self, node: u32, work: impl Future<Output = T> + 'static) -> T {
        let task = self.sim.spawn("test", NodeId(node), work);
        let deadline = self.sim.now() + Duration::from_secs(600);
        let stop = self.sim.run_until(deadline, |_| task.is_finished());
        assert_eq!(stop, Stop::Done, "the test's task waits; the broker holds back {:?}", self.broker.waiting());
        task.take().expect("a finished task has a result")
    }

    /// Lets everything that is under way arrive.
    pub fn settle(&self, time: Duration) {
        self.sim.run_until(self.sim.now() + time, |_| false);
    }

    /// The values that a committed reader of a topic sees.
    pub fn values(&self, topic: &str) -> Vec<String> {
        let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap_or_default()).expect("test values are text");
        let records = self.broker.committed_records(topic).expect("the topic is there");
        records.into_iter().map(|record| text(record.value)).collect()
    }
}

/// Records without key for one partition.
pub fn batch(topic: &str, partition: u32, values: &[&str]) -> Outgoing {
    let mut batch = Outgoing::new(vec![topic.to_owned()]);
    for value in values {
        batch.push(0, partition, 1000, None, Some(value.as_bytes()));
    }
    batch
}

pub fn offset(offset: i64, metadata: &str) -> CommittedOffset {
    CommittedOffset { offset, metadata: metadata.to_owned() }
}

/// Sends all of a batch.
pub async fn send_all(producer: &mut dyn Producer, batch: &Outgoing) -> Result<(), LogError> {
    let mut from = 0;
    while from < batch.records.len() {
        from += producer.send(batch, from)?;
        producer.drained().await?;
    }
    Ok(())
}

/// A producer with an open transaction that holds these records, all acknowledged.
pub async fn open_with(log: &ModelLog, id: &str, batch: &Outgoing) -> Box<dyn Producer> {
    let mut producer = log.producer(id).await.expect("the id can be initialised");
    producer.begin().expect("a new producer can begin");
    send_all(producer.as_mut(), batch).await.expect("records are taken");
    producer.acknowledged().await.expect("records arrive");
    producer
}

/// Reads `count` records, and says at which positions the end was told.
pub async fn read(consumer: &mut dyn Consumer, count: usize) -> Vec<(u32, i64, String)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let batch = consumer.next().await.expect("the log is there");
        seen.extend(records(&batch));
    }
    seen
}

pub fn records(batch: &Fetched) -> Vec<(u32, i64, String)> {
    let text = |record| String::from_utf8(batch.value(record).unwrap_or_default().to_vec()).expect("values are text");
    batch.records.iter().map(|record| (batch.partition.partition, record.offset, text(record))).collect()
}
