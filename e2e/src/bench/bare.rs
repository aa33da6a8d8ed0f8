//! The yardstick: what the same work costs without a runtime around it.
//!
//! Records are consumed one by one with librdkafka, decoded by arrow-json, encoded by arrow-json, and
//! produced in transactions with the offsets that belong to them: the least that an exactly-once
//! pass-through can do, in one thread and librdkafka's own.

use std::sync::Arc;
use std::time::Duration;

use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use rdkafka::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::LabError;
use crate::scenario::PARTITIONS;

/// Records that are decoded together.
const BATCH: usize = 8192;
/// Batches of a transaction.
const BATCHES_OF_A_TRANSACTION: usize = 12;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Copies `records` records from the topic `from` to the topic `to`, says so, and waits to be killed, so that
/// what it has used can be read.
///
/// # Errors
/// Whatever goes wrong; the yardstick mends nothing.
pub fn copy(bootstrap: &str, from: &str, to: &str, records: u64) -> Result<std::convert::Infallible, LabError> {
    let partitions = PARTITIONS as i32;
    let wrong = |error: KafkaError| LabError::Wrong(format!("the bare loop: {error}"));
    let decoding = |error: arrow::error::ArrowError| LabError::Wrong(format!("the bare loop: {error}"));
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", format!("bare-{to}"))
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()
        .map_err(wrong)?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(from, partition, Offset::Beginning).map_err(wrong)?;
    }
    consumer.assign(&list).map_err(wrong)?;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", format!("bare-{to}"))
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "200000")
        .create()
        .map_err(wrong)?;
    producer.init_transactions(TIMEOUT).map_err(wrong)?;
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("g", DataType::Utf8, true),
        Field::new("seq", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("pad", DataType::Utf8, true),
    ]));
    let mut decoder = ReaderBuilder::new(schema).with_batch_size(BATCH).build_decoder().map_err(decoding)?;
    let mut positions = vec![0_i64; partitions as usize];
    let (mut done, mut batches) = (0, 0);
    let mut lines = Vec::new();
    while done < records {
        let mut keys: Vec<(i32, Vec<u8>)> = Vec::with_capacity(BATCH);
        while keys.len() < BATCH && done + (keys.len() as u64) < records {
            let Some(message) = consumer.poll(TIMEOUT) else {
                return Err(LabError::Wrong(format!("the bare loop: no record for {TIMEOUT:?}")));
            };
            let message = message.map_err(wrong)?;
            let mut value = message.payload().unwrap_or_default();
            // A value may be consumed in parts only when it ends a batch, and batches end with their records.
            while !value.is_empty() {
                let taken = decoder.decode(value).map_err(decoding)?;
                value = &value[taken..];
            }
            positions[message.partition() as usize] = message.offset() + 1;
            keys.push((message.partition(), message.key().unwrap_or_default().to_vec()));
        }
        let batch = decoder.flush().map_err(decoding)?;
        let batch = batch.ok_or_else(|| LabError::Wrong("the bare loop decoded nothing".to_owned()))?;
        lines.clear();
        let mut writer = LineDelimitedWriter::new(&mut lines);
        writer.write(&batch).and_then(|()| writer.finish()).map_err(decoding)?;
        if batches % BATCHES_OF_A_TRANSACTION == 0 {
            producer.begin_transaction().map_err(wrong)?;
        }
        batches += 1;
        for ((partition, key), line) in keys.iter().zip(lines.split(|byte| *byte == b'\n')) {
            let mut record = BaseRecord::to(to).partition(*partition).key(key).payload(line);
            while let Err((error, back)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(wrong(error));
                }
                producer.poll(Duration::from_millis(5));
                record = back;
            }
        }
        producer.poll(Duration::ZERO);
        done += keys.len() as u64;
        if batches % BATCHES_OF_A_TRANSACTION == 0 || done >= records {
            let mut offsets = TopicPartitionList::new();
            for (partition, offset) in positions.iter().enumerate() {
                offsets.add_partition_offset(from, partition as i32, Offset::Offset(*offset)).map_err(wrong)?;
            }
            let group = consumer.group_metadata();
            let group = group.ok_or_else(|| LabError::Wrong("the bare loop's consumer has no group".to_owned()))?;
            producer.send_offsets_to_transaction(&offsets, &group, TIMEOUT).map_err(wrong)?;
            producer.commit_transaction(TIMEOUT).map_err(wrong)?;
        }
    }
    println!("copied {done}");
    loop {
        std::thread::park();
    }
}
