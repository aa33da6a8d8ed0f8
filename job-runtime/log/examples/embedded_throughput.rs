//! How fast the embedded log is by itself: a generator appends, a slot reads and copies every record to
//! another topic in transactions, and a reader consumes those, all on one thread.
//!
//! ```text
//! cargo run -p freshet-log --example embedded_throughput
//! ```
#![allow(clippy::disallowed_methods, reason = "a measurement reads the machine's clock")]

use std::rc::Rc;
use std::time::Instant;

use freshet_env::{RealEnv, SharedEnv};
use freshet_log::Log as _;
use freshet_log::model::{ModelBroker, ModelLog};
use freshet_log::{CommittedOffset, LogError, Outgoing, TopicPartition};

const RECORDS: usize = 5_000_000;
const PARTITIONS: u32 = 8;
const BATCH: usize = 5_000;
const HELD_BYTES: u64 = 64 << 20;

async fn generate(broker: ModelBroker) -> Result<(), LogError> {
    let value = [b'v'; 192];
    let mut batch = Outgoing::new(vec!["in".to_owned()]);
    for from in (0..RECORDS).step_by(BATCH) {
        broker.room("in", HELD_BYTES).await?;
        batch.clear();
        for n in from..from + BATCH {
            batch.push(0, n as u32 % PARTITIONS, n as i64, Some(&(n as u64).to_le_bytes()), Some(&value));
        }
        broker.append_batch(&batch)?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn copy(log: ModelLog) -> Result<(), LogError> {
    let partitions: Vec<TopicPartition> = (0..PARTITIONS).map(|p| TopicPartition::new("in", p)).collect();
    let starts: Vec<(TopicPartition, i64)> = partitions.iter().map(|p| (p.clone(), 0)).collect();
    let mut producer = log.producer("copier").await?;
    let mut consumer = log.consumer(&starts).await?;
    let mut out = Outgoing::new(vec!["out".to_owned()]);
    let mut positions = vec![0; PARTITIONS as usize];
    let (mut copied, mut in_epoch) = (0, 0);
    producer.begin()?;
    while copied < RECORDS {
        let batch = consumer.next().await?;
        out.clear();
        for record in &batch.records {
            out.push(0, batch.partition.partition, record.timestamp_ms, batch.key(record), batch.value(record));
        }
        producer.send(&out, 0)?;
        positions[batch.partition.partition as usize] = batch.next_offset;
        copied += batch.records.len();
        in_epoch += batch.records.len();
        if in_epoch > 200_000 || copied == RECORDS {
            in_epoch = 0;
            producer.acknowledged().await?;
            let offsets: Vec<(TopicPartition, CommittedOffset)> = partitions
                .iter()
                .zip(&positions)
                .map(|(p, offset)| (p.clone(), CommittedOffset { offset: *offset, metadata: "v1|1|1|0|x".to_owned() }))
                .collect();
            producer.send_offsets("copier", &offsets).await?;
            producer.commit().await?;
            producer.begin()?;
        }
    }
    Ok(())
}

async fn read(log: ModelLog) -> Result<usize, LogError> {
    let starts: Vec<(TopicPartition, i64)> = (0..PARTITIONS).map(|p| (TopicPartition::new("out", p), 0)).collect();
    let mut consumer = log.consumer(&starts).await?;
    let (mut seen, mut bytes) = (0, 0);
    while seen < RECORDS {
        let batch = consumer.next().await?;
        seen += batch.records.len();
        bytes += batch.bytes.len();
    }
    Ok(bytes)
}

async fn measure() -> Result<(), LogError> {
    let broker = ModelBroker::embedded();
    for topic in ["in", "out"] {
        broker.create_topic(topic, PARTITIONS);
        broker.retain_bytes(topic, 0)?;
    }
    let env: SharedEnv = Rc::new(RealEnv::new());
    let log = broker.client(env);
    let started = Instant::now();
    let ((), (), bytes) = futures::try_join!(generate(broker.clone()), copy(log.clone()), read(log))?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{RECORDS} records of 200 B appended, read, copied in transactions and read again in {seconds:.2} s: \
         {:.2} M records/s on one thread, {} MB read at the end",
        RECORDS as f64 / seconds / 1e6,
        bytes / 1_000_000
    );
    Ok(())
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio starts");
    if let Err(error) = runtime.block_on(measure()) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
