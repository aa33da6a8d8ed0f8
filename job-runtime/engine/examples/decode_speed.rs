//! How fast JSON is decoded and encoded here, beside arrow-json, in records per CPU-second.
//!
//! ```text
//! cargo run -p freshet-engine --example decode_speed [RECORDS]
//! ```
//! Records are about 160 bytes with 7 columns, all of which are wanted; then the same with 2 of the 7. The
//! time is what this thread spent on a CPU, so other work on the machine matters little. Linux only.

use arrow::array::RecordBatch;
use freshet_engine::format::{decoder, encoder};
use freshet_engine::types::arrow_schema;
use freshet_log::{Fetched, TopicPartition};
use freshet_plan::{Column, DataType, Format};

const BATCH: usize = 4096;

fn main() {
    #[allow(clippy::disallowed_methods, reason = "a program for people, not part of the runtime")]
    let records = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let all = columns(&[
        ("txn_id", "STRING"),
        ("account_id", "STRING"),
        ("amount", "DECIMAL(12,2)"),
        ("merchant", "STRING"),
        ("country", "STRING"),
        ("attempts", "BIGINT"),
        ("ts", "TIMESTAMP(3)"),
    ]);
    let some = columns(&[("account_id", "STRING"), ("amount", "DECIMAL(12,2)")]);
    let batches = batches(records);
    let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
    println!("{records} records of {} bytes in batches of {BATCH}", bytes / records.max(1));

    for (what, columns) in [("7 of 7 columns", &all), ("2 of 7 columns", &some)] {
        let mut ours = decoder(Format::Json, columns);
        report(&format!("decode, {what}, this crate"), records, || {
            batches.iter().map(|batch| ours.decode(batch).rows.num_rows()).sum()
        });
        let builder = arrow::json::ReaderBuilder::new(arrow_schema(columns)).with_batch_size(BATCH);
        let mut theirs = builder.build_decoder().expect("a decoder for these columns");
        report(&format!("decode, {what}, arrow-json"), records, || {
            let rows = batches.iter().map(|batch| {
                for record in &batch.records {
                    theirs.decode(batch.value(record).unwrap_or_default()).expect("good records");
                }
                theirs.flush().expect("good records").map_or(0, |rows| rows.num_rows())
            });
            rows.sum()
        });
    }

    let mut ours = decoder(Format::Json, &all);
    let rows: Vec<RecordBatch> = batches.iter().map(|batch| ours.decode(batch).rows).collect();
    let mut writer = encoder(Format::Json, &all);
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    report("encode, this crate", records, || {
        let written = rows.iter().map(|rows| {
            bytes.clear();
            ends.clear();
            writer.encode(rows, &mut bytes, &mut ends).expect("rows of the columns");
            ends.len()
        });
        written.sum()
    });
    let mut out = Vec::new();
    report("encode, arrow-json", records, || {
        let written = rows.iter().map(|rows| {
            out.clear();
            let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
            writer.write(rows).expect("rows that it can write");
            rows.num_rows()
        });
        written.sum()
    });
}

fn columns(columns: &[(&str, &str)]) -> Vec<Column> {
    columns.iter().map(|(name, text)| Column::new(*name, text.parse::<DataType>().expect("a type"))).collect()
}

fn batches(records: usize) -> Vec<Fetched> {
    let partition = TopicPartition::new("transactions", 0);
    let mut batches = Vec::new();
    for first in (0..records).step_by(BATCH) {
        let mut batch = Fetched::empty(partition.clone(), first as i64);
        for at in first..records.min(first + BATCH) {
            let mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            let (account, cents) = (mixed % 100_000, mixed % 1_000_000);
            let value = format!(
                "{{\"txn_id\":\"txn-{at:012}\",\"account_id\":\"acc-{account:06}\",\"amount\":{}.{:02},\
                 \"merchant\":\"merchant-{:05}\",\"country\":\"DE\",\"attempts\":{},\
                 \"ts\":\"2026-01-02T03:{:02}:{:02}.{:03}\"}}",
                cents / 100,
                cents % 100,
                mixed % 50_000,
                mixed % 7,
                at / 60_000 % 60,
                at / 1000 % 60,
                at % 1000,
            );
            batch.push(at as i64, -1, Some(format!("acc-{account:06}").as_bytes()), Some(value.as_bytes()));
        }
        batches.push(batch);
    }
    batches
}

fn report(what: &str, records: usize, mut run: impl FnMut() -> usize) {
    let best = (0..3)
        .map(|_| {
            let start = cpu_seconds();
            assert_eq!(run(), records, "{what}");
            cpu_seconds() - start
        })
        .fold(f64::INFINITY, f64::min);
    println!("{what:<38} {:>6.2} M records per CPU-second", records as f64 / best / 1e6);
}

/// How long this thread has run on a CPU.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos: f64 = text.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    nanos / 1e9
}
