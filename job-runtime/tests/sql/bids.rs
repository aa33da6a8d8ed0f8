//! A small table of bids, and what a query over it gives.

use freshet_plan::EventTime;
use freshet_sql::{Catalog, PlanOptions, Table};

use crate::events::{columns, table};
use crate::run::{Manner, SOURCE_PARTITIONS, run};

pub const SECOND: i64 = 1_000;
pub const MINUTE: i64 = 60 * SECOND;

/// When (in seconds), who, how much.
pub type Bid = (i64, &'static str, i64);

/// Out of order by up to two minutes.
pub const BIDS: [Bid; 14] = [
    (65, "ann", 4),
    (190, "bob", 2),
    (70, "bob", 7),
    (299, "ann", 1),
    (300, "ann", 5),
    (301, "cyd", 3),
    (599, "bob", 9),
    (600, "bob", 2),
    (480, "ann", 6),
    (1_203, "cyd", 8),
    (1_799, "ann", 2),
    (1_800, "ann", 1),
    (3_599, "bob", 5),
    (3_600, "bob", 4),
];

fn catalog(out: &str, key_trusted: bool) -> Catalog {
    let event_time =
        EventTime { column: "bidtime".to_owned(), max_out_of_orderness_ms: 2 * MINUTE, idle_timeout_ms: None };
    let bids = Table {
        key: vec!["who".to_owned()],
        key_trusted,
        event_time: Some(event_time),
        ..table("bids", columns("who STRING, price BIGINT, bidtime TIMESTAMP(3)"), SOURCE_PARTITIONS)
    };
    Catalog { tables: vec![bids, table("out", columns(out), SOURCE_PARTITIONS)] }
}

/// A time as records have it.
pub fn iso(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).expect("a time").naive_utc();
    time.format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

pub fn sorted(rows: impl Iterator<Item = serde_json::Value>) -> Vec<String> {
    let mut rows: Vec<String> = rows.map(|row| row.to_string()).collect();
    rows.sort();
    rows
}

/// What `sql` writes into `out` of these columns, when all windows have closed.
pub fn results(bids: &[Bid], sql: &str, out: &str, key_trusted: bool, batch: usize) -> Vec<String> {
    let plan = freshet_sql::plan(
        &catalog(out, key_trusted),
        sql,
        &PlanOptions { max_parallelism: 2, ..PlanOptions::default() },
    )
    .unwrap_or_else(|errors| panic!("{sql}: {errors:?}"));
    let mut partitions = vec![Vec::new(); SOURCE_PARTITIONS as usize];
    for (at, (seconds, who, price)) in bids.iter().enumerate() {
        // Where the key is not trusted, a group's bids lie in several partitions.
        let partition = if key_trusted { usize::from(who.as_bytes()[0]) } else { at };
        let json = serde_json::json!({"who": who, "price": price, "bidtime": seconds * SECOND}).to_string();
        partitions[partition % SOURCE_PARTITIONS as usize].push(json);
    }
    for partition in &mut partitions {
        // Far ahead, so that all windows close.
        partition.push(r#"{"who":"~","price":0,"bidtime":9000000000000}"#.to_owned());
    }
    let outcome = run(&plan, &partitions, Manner { batch, crash: true, epoch: 1 })
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(outcome.late, 0, "{sql}");
    sorted(outcome.values.iter().map(|json| serde_json::from_str(json).expect("JSON")))
}
