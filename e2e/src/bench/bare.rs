//! The yardstick: what the same work costs without a runtime around it.
//!
//! Records are consumed in batches with librdkafka, decoded by arrow-json, encoded by arrow-json, and produced in
//! transactions with the offsets that belong to them: the least that an exactly-once pass-through can do with these
//! libraries, in one thread and librdkafka's own. Consumer and producer have the settings of a slot's, arrow-json is
//! built with full optimisation, and a transaction is committed as often as the job commits one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::error::ArrowError;
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use freshet_kafka::KafkaConfig;
use freshet_kafka::bare::{BareReader, BareWriter};
use freshet_log::{CommittedOffset, LogError, TopicPartition};

use crate::LabError;
use crate::scenario::{PARTITIONS, now_ms};

/// Records that are decoded together.
const BATCH: usize = 8192;
/// No record for so long is an error.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a batch that is not full waits for more.
const MOMENT: Duration = Duration::from_millis(5);

/// Copies `records` records from the topic `from` to the topic `to`, says so, and waits to be killed, so that
/// what it has used can be read. A transaction takes `interval_ms` at the least.
///
/// # Errors
/// Whatever goes wrong; the yardstick mends nothing.
pub fn copy(
    bootstrap: &str,
    from: &str,
    to: &str,
    records: u64,
    interval_ms: u64,
) -> Result<std::convert::Infallible, LabError> {
    let failed = |error: LogError| LabError::Wrong(format!("the bare loop: {error}"));
    let decoding = |error: ArrowError| LabError::Wrong(format!("the bare loop: {error}"));
    let config = KafkaConfig::new(bootstrap, format!("bare-{to}"));
    let inputs: Vec<_> = (0..PARTITIONS).map(|partition| TopicPartition::new(from, partition)).collect();
    let positions: Vec<_> = inputs.iter().map(|input| (input.clone(), 0)).collect();
    let mut reader = BareReader::open(&config, &positions).map_err(failed)?;
    let writer = BareWriter::open(&config, &format!("bare-{to}"), to).map_err(failed)?;
    let schema = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, true),
        Field::new("g", DataType::Utf8, true),
        Field::new("seq", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("pad", DataType::Utf8, true),
    ]));
    let mut decoder = ReaderBuilder::new(schema).with_batch_size(BATCH).build_decoder().map_err(decoding)?;
    let mut next = vec![0_i64; inputs.len()];
    // Of each record of the batch, its partition and where its key ends among the keys.
    let (mut places, mut keys, mut lines) = (Vec::<(u32, usize)>::new(), Vec::new(), Vec::new());
    let interval = Duration::from_millis(interval_ms);
    let mut done = 0;
    let mut open: Option<Instant> = None;
    let mut heard = Instant::now();
    while done < records {
        places.clear();
        keys.clear();
        lines.clear();
        let mut wrong = None;
        // One call takes up to 512 records, and a batch holds no more than it is made for.
        while places.len() + 512 <= BATCH {
            let seen = reader.poll(MOMENT, |record| {
                let mut value = record.value.unwrap_or_default();
                while !value.is_empty() && wrong.is_none() {
                    match decoder.decode(value) {
                        Ok(taken) => value = &value[taken..],
                        Err(error) => wrong = Some(error),
                    }
                }
                next[record.place] = record.offset + 1;
                keys.extend_from_slice(record.key.unwrap_or_default());
                places.push((record.place as u32, keys.len()));
            });
            let seen = seen.map_err(failed)?;
            if seen == 0 {
                break;
            }
        }
        wrong.map_or(Ok(()), |error| Err(decoding(error)))?;
        if places.is_empty() {
            if heard.elapsed() > TIMEOUT {
                return Err(LabError::Wrong(format!("the bare loop: no record for {TIMEOUT:?}")));
            }
            continue;
        }
        heard = Instant::now();
        let batch = decoder.flush().map_err(decoding)?;
        let batch = batch.ok_or_else(|| LabError::Wrong("the bare loop decoded nothing".to_owned()))?;
        let mut encoder = LineDelimitedWriter::new(&mut lines);
        encoder.write(&batch).and_then(|()| encoder.finish()).map_err(decoding)?;
        if open.is_none() {
            writer.begin().map_err(failed)?;
            open = Some(Instant::now());
        }
        let at = now_ms();
        let mut from = 0;
        for ((partition, end), line) in places.iter().zip(lines.split(|byte| *byte == b'\n')) {
            writer.send(*partition, at, Some(&keys[from..*end]), Some(line)).map_err(failed)?;
            from = *end;
        }
        done += places.len() as u64;
        if done >= records || open.is_some_and(|began| began.elapsed() >= interval) {
            let committed = |offset: &i64| CommittedOffset { offset: *offset, metadata: String::new() };
            let offsets: Vec<_> = inputs.iter().cloned().zip(next.iter().map(committed)).collect();
            writer.commit(&format!("bare-{to}"), &offsets).map_err(failed)?;
            open = None;
        }
    }
    println!("copied {done}");
    loop {
        std::thread::park();
    }
}
