//! Every form of a call of SESSION over a small table of bids, its results counted again by the definition of sessions.

use std::collections::BTreeMap;

use freshet_plan::EventTime;
use freshet_sql::{Catalog, PlanOptions, Table};

use crate::events::{columns, table};
use crate::run::{Manner, SOURCE_PARTITIONS, run};

const MINUTE: i64 = 60_000;

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

/// How sessions with a gap of so many minutes are called.
const FORMS: [(&str, i64); 7] = [
    ("TABLE(SESSION(TABLE bids PARTITION BY who, DESCRIPTOR(bidtime), INTERVAL '5' MINUTES))", 5),
    ("TABLE(SESSION(TABLE bids PARTITION BY (who), DESCRIPTOR(bidtime), INTERVAL '4' MINUTES))", 4),
    (
        "TABLE(SESSION(DATA => TABLE bids PARTITION BY who, TIMECOL => DESCRIPTOR(bidtime), GAP => INTERVAL '7' MINUTES))",
        7,
    ),
    (
        "SESSION(GAP => INTERVAL '20 minutes', TIMECOL => DESCRIPTOR(bidtime), DATA => TABLE bids PARTITION BY (`who`))",
        20,
    ),
    ("SESSION(TABLE bids PARTITION BY who, DESCRIPTOR(bidtime), INTERVAL '1 minute')", 1),
    ("SESSION(TABLE bids PARTITION BY who, bidtime, INTERVAL '60' MINUTE)", 60),
    ("SESSION(TABLE bids PARTITION BY who, DESCRIPTOR(bidtime), INTERVAL '2' MINUTE)", 2),
];

const OUT: &str =
    "who STRING, s TIMESTAMP(3), e TIMESTAMP(3), t TIMESTAMP(3), n BIGINT, total BIGINT, different BIGINT";

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

fn iso(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).expect("a time").naive_utc();
    time.format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

fn sorted(rows: impl Iterator<Item = serde_json::Value>) -> Vec<String> {
    let mut rows: Vec<String> = rows.map(|row| row.to_string()).collect();
    rows.sort();
    rows
}

/// The results over `bids`, as records.
fn recount(bids: &[(i64, &str, i64)], gap: i64) -> Vec<String> {
    let mut by_who: BTreeMap<&str, Vec<(i64, i64)>> = BTreeMap::new();
    for (seconds, who, price) in bids {
        by_who.entry(who).or_default().push((seconds * 1_000, *price));
    }
    let sessions = by_who.into_iter().flat_map(|(who, mut bids)| {
        bids.sort_unstable();
        let cut = bids.chunk_by(|(before, _), (after, _)| after - before <= gap).map(<[_]>::to_vec);
        cut.map(|bids| (who, bids)).collect::<Vec<_>>()
    });
    sorted(sessions.map(|(who, bids)| {
        let end = bids[bids.len() - 1].0 + gap;
        let different = bids.iter().map(|(_, price)| price % 3).collect::<std::collections::BTreeSet<_>>().len();
        serde_json::json!({
            "who": who, "s": iso(bids[0].0), "e": iso(end), "t": iso(end - 1), "n": bids.len(),
            "total": bids.iter().map(|(_, price)| price).sum::<i64>(), "different": different,
        })
    }))
}

fn found(bids: &[(i64, &str, i64)], sessions: &str, key_trusted: bool, batch: usize) -> Vec<String> {
    let sql = format!(
        "INSERT INTO out SELECT who, window_start, window_end, window_time, COUNT(*), SUM(price), COUNT(DISTINCT price % 3) \
         FROM {sessions} GROUP BY who, window_start, window_end, window_time"
    );
    let plan = freshet_sql::plan(&catalog(key_trusted), &sql, &PlanOptions { max_parallelism: 2, state_ttl_ms: None })
        .unwrap_or_else(|errors| panic!("{sessions}: {errors:?}"));
    let mut partitions = vec![Vec::new(); SOURCE_PARTITIONS as usize];
    for (at, (seconds, who, price)) in bids.iter().enumerate() {
        // Where the key is not trusted, a group's bids lie in several partitions.
        let partition = if key_trusted { usize::from(who.as_bytes()[0]) } else { at };
        let json = serde_json::json!({"who": who, "price": price, "bidtime": seconds * 1_000}).to_string();
        partitions[partition % SOURCE_PARTITIONS as usize].push(json);
    }
    for partition in &mut partitions {
        // Far ahead, so that all sessions end.
        partition.push(r#"{"who":"~","price":0,"bidtime":9000000000000}"#.to_owned());
    }
    let outcome = run(&plan, &partitions, Manner { batch, crash: true, epoch: 1 })
        .unwrap_or_else(|error| panic!("{sessions}: {error}"));
    assert_eq!(outcome.late, 0, "{sessions}");
    sorted(outcome.values.iter().map(|json| serde_json::from_str(json).expect("JSON")))
}

#[test]
fn every_form_of_sessions_gives_what_their_definition_says() {
    for (sessions, minutes) in FORMS {
        for key_trusted in [true, false] {
            for batch in [1, 3, 100] {
                let found = found(&BIDS, sessions, key_trusted, batch);
                assert_eq!(found, recount(&BIDS, minutes * MINUTE), "{sessions}, key trusted: {key_trusted}");
            }
        }
    }
}

/// By hand, so that the recount is not only compared with itself: bids at 08:07, 08:06, 08:09, 08:08 and 08:17.
#[test]
fn sessions_end_a_gap_after_their_last_row() {
    let at = |minutes: i64| (8 * 60 + minutes) * 60;
    let bids = [(at(7), "A", 4), (at(6), "A", 2), (at(9), "B", 5), (at(8), "A", 3), (at(17), "B", 1)];
    let rows = found(&bids, FORMS[0].0, true, 1);
    let row = |who: &str, start: &str, end: &str, time: &str, n: i64, total: i64, different: i64| {
        serde_json::json!({
            "who": who, "s": format!("1970-01-01T{start}:00.000"), "e": format!("1970-01-01T{end}:00.000"),
            "t": format!("1970-01-01T{time}:59.999"), "n": n, "total": total, "different": different,
        })
    };
    let wanted = [
        row("A", "08:06", "08:13", "08:12", 3, 9, 3),
        row("B", "08:09", "08:14", "08:13", 1, 5, 1),
        row("B", "08:17", "08:22", "08:21", 1, 1, 1),
    ];
    assert_eq!(rows, sorted(wanted.into_iter()));
}
