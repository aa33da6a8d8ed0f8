//! Every form of a window's call over a small table of bids, its results counted again by the definition of windows.

use std::collections::BTreeMap;

use crate::bids::{BIDS, MINUTE, SECOND, iso, results, sorted};

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

fn select(window: &str) -> String {
    format!(
        "INSERT INTO out SELECT who, window_start, window_end, window_time, COUNT(*), SUM(price), MAX(price), AVG(price), \
         COUNT(DISTINCT price % 3) FROM {window} GROUP BY who, window_start, window_end, window_time"
    )
}

/// The results over `bids`, as records.
fn recount(windows: fn(i64) -> Vec<(i64, i64)>) -> Vec<String> {
    let mut groups: BTreeMap<(i64, i64, &str), Vec<i64>> = BTreeMap::new();
    for (seconds, who, price) in BIDS {
        for (start, end) in windows(seconds * SECOND) {
            groups.entry((start, end, who)).or_default().push(price);
        }
    }
    sorted(groups.into_iter().map(|((start, end, who), prices)| {
        let total: i64 = prices.iter().sum();
        let different = prices.iter().map(|price| price % 3).collect::<std::collections::BTreeSet<_>>().len();
        serde_json::json!({
            "who": who, "s": iso(start), "e": iso(end), "t": iso(end - 1), "n": prices.len(), "total": total,
            "most": prices.iter().max(), "mean": total as f64 / prices.len() as f64, "different": different,
        })
    }))
}

fn found(window: &str, key_trusted: bool, batch: usize) -> Vec<String> {
    results(&BIDS, &select(window), OUT, key_trusted, batch)
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
