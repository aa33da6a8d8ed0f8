//! Every form of a call of SESSION over a small table of bids, its results counted again by the definition of sessions.

use std::collections::BTreeMap;

use crate::bids::{BIDS, Bid, MINUTE, SECOND, iso, results, sorted};

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

/// The results over `bids`, as records.
fn recount(bids: &[Bid], gap: i64) -> Vec<String> {
    let mut by_who: BTreeMap<&str, Vec<(i64, i64)>> = BTreeMap::new();
    for (seconds, who, price) in bids {
        by_who.entry(who).or_default().push((seconds * SECOND, *price));
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

fn found(bids: &[Bid], sessions: &str, key_trusted: bool, batch: usize) -> Vec<String> {
    let sql = format!(
        "INSERT INTO out SELECT who, window_start, window_end, window_time, COUNT(*), SUM(price), COUNT(DISTINCT price % 3) \
         FROM {sessions} GROUP BY who, window_start, window_end, window_time"
    );
    results(bids, &sql, OUT, key_trusted, batch)
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
