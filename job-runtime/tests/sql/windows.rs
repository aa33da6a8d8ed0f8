//! Every form of a window's call over a small table of bids, its results counted again by the definition of windows.

use std::collections::BTreeMap;

use freshet_plan::EventTime;
use freshet_sql::{Catalog, PlanOptions, Table};

use crate::events::{columns, table};
use crate::run::{Manner, SOURCE_PARTITIONS, run};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

/// When (in seconds), who, how much; out of order by up to two minutes.
const BIDS: [(i64, &str, i64); 14] = [
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

/// How windows are called, and which of them hold a time, each as start and end, by the definition.
type Example = (&'static str, fn(i64) -> Vec<(i64, i64)>);

/// Windows of `size` that begin at the multiples of `every` behind `offset`.
fn hops(time: i64, every: i64, size: i64, offset: i64) -> Vec<(i64, i64)> {
    let starts = (-1_000..2_000).map(|n| offset + n * every);
    starts.map(|start| (start, start + size)).filter(|(start, end)| (*start..*end).contains(&time)).collect()
}

/// Windows that begin at the multiples of `size` behind `offset`, each a `step` longer than the one before.
fn steps(time: i64, step: i64, size: i64, offset: i64) -> Vec<(i64, i64)> {
    let longest = hops(time, size, size, offset);
    let windows = longest.into_iter().flat_map(|(start, _)| (1..=size / step).map(move |n| (start, start + n * step)));
    windows.filter(|(start, end)| (*start..*end).contains(&time)).collect()
}

const EXAMPLES: [Example; 17] = [
    ("TABLE(TUMBLE(TABLE bids, DESCRIPTOR(bidtime), INTERVAL '10' MINUTES))", |time| {
        hops(time, 10 * MINUTE, 10 * MINUTE, 0)
    }),
    ("TABLE(TUMBLE(DATA => TABLE bids, TIMECOL => DESCRIPTOR(bidtime), SIZE => INTERVAL '10' MINUTES))", |time| {
        hops(time, 10 * MINUTE, 10 * MINUTE, 0)
    }),
    ("TABLE(TUMBLE(TABLE bids, DESCRIPTOR(bidtime), INTERVAL '10' MINUTES, INTERVAL '1' MINUTES))", |time| {
        hops(time, 10 * MINUTE, 10 * MINUTE, MINUTE)
    }),
    ("TABLE(HOP(TABLE bids, DESCRIPTOR(bidtime), INTERVAL '5' MINUTES, INTERVAL '10' MINUTES))", |time| {
        hops(time, 5 * MINUTE, 10 * MINUTE, 0)
    }),
    (
        "TABLE(HOP(DATA => TABLE bids, TIMECOL => DESCRIPTOR(bidtime), SLIDE => INTERVAL '5' MINUTES, SIZE => INTERVAL '10' MINUTES))",
        |time| hops(time, 5 * MINUTE, 10 * MINUTE, 0),
    ),
    (
        "TABLE(HOP(SIZE => INTERVAL '10' MINUTES, OFFSET => INTERVAL '90' SECOND, SLIDE => INTERVAL '5' MINUTES, TIMECOL => DESCRIPTOR(bidtime), DATA => TABLE bids))",
        |time| hops(time, 5 * MINUTE, 10 * MINUTE, 90 * SECOND),
    ),
    ("HOP(bids, bidtime, INTERVAL '5 minutes', INTERVAL '10 minutes')", |time| hops(time, 5 * MINUTE, 10 * MINUTE, 0)),
    ("HOP(TABLE bids, DESCRIPTOR(bidtime), INTERVAL '1' MINUTE, INTERVAL '1' HOUR, INTERVAL '-7' SECOND)", |time| {
        hops(time, MINUTE, 60 * MINUTE, -7 * SECOND)
    }),
    ("HOP(bids, bidtime, INTERVAL '4' MINUTE, INTERVAL '10' MINUTE)", |time| hops(time, 4 * MINUTE, 10 * MINUTE, 0)),
    ("HOP(bids, bidtime, INTERVAL '0.5' SECOND, INTERVAL '1.5' SECOND)", |time| {
        let around = time.div_euclid(500) * 500;
        [around - 1_000, around - 500, around].map(|start| (start, start + 1_500)).to_vec()
    }),
    ("HOP(bids, bidtime, INTERVAL '10' MINUTE, INTERVAL '10' MINUTE)", |time| hops(time, 10 * MINUTE, 10 * MINUTE, 0)),
    ("HOP(bids, bidtime, INTERVAL '10' MINUTE, INTERVAL '4' MINUTE)", |time| hops(time, 10 * MINUTE, 4 * MINUTE, 0)),
    ("TABLE(CUMULATE(TABLE bids, DESCRIPTOR(bidtime), INTERVAL '2' MINUTES, INTERVAL '10' MINUTES))", |time| {
        steps(time, 2 * MINUTE, 10 * MINUTE, 0)
    }),
    (
        "TABLE(CUMULATE(DATA => TABLE bids, TIMECOL => DESCRIPTOR(bidtime), STEP => INTERVAL '2' MINUTES, SIZE => INTERVAL '10' MINUTES))",
        |time| steps(time, 2 * MINUTE, 10 * MINUTE, 0),
    ),
    (
        "TABLE(CUMULATE(TABLE bids, DESCRIPTOR(bidtime), INTERVAL '2' MINUTES, INTERVAL '10' MINUTES, INTERVAL '1' MINUTES))",
        |time| steps(time, 2 * MINUTE, 10 * MINUTE, MINUTE),
    ),
    ("CUMULATE(bids, bidtime, INTERVAL '15 minutes', INTERVAL '1 hour')", |time| {
        steps(time, 15 * MINUTE, 60 * MINUTE, 0)
    }),
    ("CUMULATE(bids, bidtime, INTERVAL '10' MINUTE, INTERVAL '10' MINUTE)", |time| {
        hops(time, 10 * MINUTE, 10 * MINUTE, 0)
    }),
];

const OUT: &str = "who STRING, s TIMESTAMP(3), e TIMESTAMP(3), t TIMESTAMP(3), n BIGINT, total BIGINT, most BIGINT, mean DOUBLE, different BIGINT";

fn catalog(key_trusted: bool) -> Catalog {
    let event_time =
        EventTime { column: "bidtime".to_owned(), max_out_of_orderness_ms: 2 * MINUTE, idle_timeout_ms: None };
    let bids = Table {
        key: vec!["who".to_owned()],
        key_trusted,
        event_time: Some(event_time),
        ..table("bids", columns("who STRING, price BIGINT, bidtime TIMESTAMP(3)"), SOURCE_PARTITIONS)
    };
    Catalog { tables: vec![bids, table("out", columns(OUT), SOURCE_PARTITIONS)] }
}

fn select(window: &str) -> String {
    format!(
        "INSERT INTO out SELECT who, window_start, window_end, window_time, COUNT(*), SUM(price), MAX(price), AVG(price), \
         COUNT(DISTINCT price % 3) FROM {window} GROUP BY who, window_start, window_end, window_time"
    )
}

fn iso(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).expect("a time").naive_utc();
    time.format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

/// The results over `bids`, as records.
fn recount(windows: fn(i64) -> Vec<(i64, i64)>) -> Vec<String> {
    let mut groups: BTreeMap<(i64, i64, &str), Vec<i64>> = BTreeMap::new();
    for (seconds, who, price) in BIDS {
        for (start, end) in windows(seconds * SECOND) {
            groups.entry((start, end, who)).or_default().push(price);
        }
    }
    let rows = groups.into_iter().map(|((start, end, who), prices)| {
        let total: i64 = prices.iter().sum();
        let different = prices.iter().map(|price| price % 3).collect::<std::collections::BTreeSet<_>>().len();
        serde_json::json!({
            "who": who, "s": iso(start), "e": iso(end), "t": iso(end - 1), "n": prices.len(), "total": total,
            "most": prices.iter().max(), "mean": total as f64 / prices.len() as f64, "different": different,
        })
        .to_string()
    });
    let mut rows: Vec<String> = rows.collect();
    rows.sort();
    rows
}

fn found(window: &str, key_trusted: bool, batch: usize) -> Vec<String> {
    let plan = freshet_sql::plan(
        &catalog(key_trusted),
        &select(window),
        &PlanOptions { max_parallelism: 2, ..PlanOptions::default() },
    )
    .unwrap_or_else(|errors| panic!("{window}: {errors:?}"));
    let mut partitions = vec![Vec::new(); SOURCE_PARTITIONS as usize];
    for (seconds, who, price) in BIDS {
        let partition = usize::from(who.as_bytes()[0]) % partitions.len();
        partitions[partition]
            .push(serde_json::json!({"who": who, "price": price, "bidtime": seconds * SECOND}).to_string());
    }
    for partition in &mut partitions {
        // Far ahead, so that all windows close.
        partition.push(r#"{"who":"~","price":0,"bidtime":9000000000000}"#.to_owned());
    }
    let outcome = run(&plan, &partitions, Manner { batch, crash: true, epoch: 1 })
        .unwrap_or_else(|error| panic!("{window}: {error}"));
    assert_eq!(outcome.late, 0, "{window}");
    let values =
        outcome.values.iter().map(|json| serde_json::from_str::<serde_json::Value>(json).expect("JSON").to_string());
    let mut rows: Vec<String> = values.collect();
    rows.sort();
    rows
}

#[test]
fn every_form_of_a_window_gives_what_its_definition_says() {
    for (window, definition) in EXAMPLES {
        for key_trusted in [true, false] {
            for batch in [1, 3, 100] {
                assert_eq!(
                    found(window, key_trusted, batch),
                    recount(definition),
                    "{window}, key trusted: {key_trusted}"
                );
            }
        }
    }
}

/// One of them by hand, so that the recount is not only compared with itself.
#[test]
fn a_bid_counts_in_both_windows_that_hold_it() {
    let rows = found("HOP(bids, bidtime, INTERVAL '5' MINUTE, INTERVAL '10' MINUTE)", true, 1);
    let of = |who: &str| -> Vec<(String, String, i64, i64)> {
        let rows = rows.iter().map(|row| serde_json::from_str::<serde_json::Value>(row).expect("JSON"));
        let text = |value: &serde_json::Value| value.as_str().expect("a text")[11..16].to_owned();
        let number = |value: &serde_json::Value| value.as_i64().expect("a number");
        let of_who = rows.filter(|row| row["who"] == who);
        let mut rows: Vec<_> =
            of_who.map(|row| (text(&row["s"]), text(&row["e"]), number(&row["n"]), number(&row["total"]))).collect();
        rows.sort();
        rows
    };
    let row = |start: &str, end: &str, n, total| (start.to_owned(), end.to_owned(), n, total);
    assert_eq!(
        of("bob"),
        [
            row("00:00", "00:10", 3, 18),
            row("00:05", "00:15", 2, 11),
            row("00:10", "00:20", 1, 2),
            row("00:50", "01:00", 1, 5),
            row("00:55", "01:05", 2, 9),
            row("01:00", "01:10", 1, 4),
            row("23:55", "00:05", 2, 9),
        ]
    );
}
