//! What each query must write, from the records alone, by rules that the documentation gives: no engine, no SQL.
//!
//! A window's rows come once the watermark has passed its end: in each partition the newest event time less the allowed
//! disorder, and of all partitions the least. No record comes later than that, so none is late.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, Timelike};
use serde_json::{Value, json};

use super::records::{Kind, Record};
use super::row::of_value;
use super::{DISORDER_MS, PARTITIONS};
use crate::LabError;

/// The queries that examples/nexmark holds, by the names of their manifests.
pub const QUERIES: [&str; 8] = ["q0", "q1", "q2", "q5-counts", "q7-highest", "q8-sellers", "q12-event-time", "q14"];

/// A window of the queries, ms.
const SIZE_MS: i64 = 10_000;
/// How often a hopping one begins, ms.
const SLIDE_MS: i64 = 2_000;

/// A query, by how it is recounted.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Each row of bids by itself.
    Each(fn(&Value) -> Option<Value>),
    /// By windows and groups.
    Windows(Windows),
}

#[derive(Debug, Clone, Copy)]
struct Windows {
    of: Kind,
    slide_ms: i64,
    /// The column of the groups; one for all when there is none.
    by: Option<&'static str>,
    /// What becomes of a group's figure with a further row.
    fold: fn(i64, &Value) -> i64,
    /// Window's begin and end as texts, group, figure.
    row: fn(&str, &str, i64, i64) -> Value,
}

/// The recount of one query.
#[derive(Debug)]
pub struct Recount {
    rule: Rule,
    rows: Vec<String>,
    /// Figures by window's begin and group.
    open: BTreeMap<(i64, i64), i64>,
    newest_ms: [Option<i64>; PARTITIONS as usize],
}

impl Recount {
    /// Of the query whose manifest has this name.
    ///
    /// # Errors
    /// [`LabError::Wrong`] for a query that there is no recount of.
    pub fn new(query: &str) -> Result<Self, LabError> {
        let rule = match query {
            "q0" => Rule::Each(|bid| Some(with_price(bid, &bid["price"]))),
            "q1" => Rule::Each(|bid| Some(with_price(bid, &euros(bid)))),
            "q2" => Rule::Each(|bid| {
                let row = || json!({ "auction": bid["auction"], "price": bid["price"] });
                (number(bid, "auction") % 123 == 0).then(row)
            }),
            "q14" => Rule::Each(large),
            "q5-counts" => Rule::Windows(Windows {
                of: Kind::Bid,
                slide_ms: SLIDE_MS,
                by: Some("auction"),
                fold: |count, _| count + 1,
                row: |start, end, auction, num| json!({ "auction": auction, "num": num, "starttime": start, "endtime": end }),
            }),
            "q7-highest" => Rule::Windows(Windows {
                of: Kind::Bid,
                slide_ms: SIZE_MS,
                by: None,
                fold: |highest, bid| highest.max(number(bid, "price")),
                row: |_, end, _, highest| json!({ "maxprice": highest, "dateTime": end }),
            }),
            "q8-sellers" => Rule::Windows(Windows {
                of: Kind::Auction,
                slide_ms: SIZE_MS,
                by: Some("seller"),
                fold: |count, _| count,
                row: |start, end, seller, _| json!({ "seller": seller, "starttime": start, "endtime": end }),
            }),
            "q12-event-time" => Rule::Windows(Windows {
                of: Kind::Bid,
                slide_ms: SIZE_MS,
                by: Some("bidder"),
                fold: |count, _| count + 1,
                row: |start, end, bidder, count| json!({ "bidder": bidder, "bid_count": count, "starttime": start, "endtime": end }),
            }),
            _ => {
                return Err(LabError::Wrong(format!("there is no recount of {query}, only of {}", QUERIES.join(", "))));
            }
        };
        Ok(Self { rule, rows: Vec::new(), open: BTreeMap::new(), newest_ms: [None; PARTITIONS as usize] })
    }

    /// Which records it looks at.
    #[must_use]
    pub const fn reads(&self) -> Kind {
        match self.rule {
            Rule::Each(_) => Kind::Bid,
            Rule::Windows(windows) => windows.of,
        }
    }

    /// Takes the next record; others than those that the query reads are passed over.
    ///
    /// # Panics
    /// When it is none of [`super::Records`].
    pub fn add(&mut self, record: &Record) {
        if record.kind != self.reads() {
            return;
        }
        let newest = &mut self.newest_ms[record.partition as usize];
        *newest = (*newest).max(Some(record.at_ms));
        let row: Value = serde_json::from_str(&record.value).expect("the generator writes JSON");
        match self.rule {
            Rule::Each(rule) => self.rows.extend(rule(&row).as_ref().and_then(of_value)),
            Rule::Windows(Windows { slide_ms, by, fold, .. }) => {
                let group = by.map_or(0, |column| number(&row, column));
                let mut start = record.at_ms - record.at_ms.rem_euclid(slide_ms);
                while start + SIZE_MS > record.at_ms {
                    let figure = self.open.entry((start, group)).or_insert(0);
                    *figure = fold(*figure, &row);
                    start -= slide_ms;
                }
            }
        }
    }

    /// The rows that the query must have written by now, as [`super::spelled`] has them.
    #[must_use]
    pub fn rows(self) -> Vec<String> {
        let Rule::Windows(Windows { row, .. }) = self.rule else { return self.rows };
        // Not before every partition has been heard.
        let newest = self.newest_ms.iter().min().copied().flatten();
        let watermark = newest.map_or(i64::MIN, |newest| newest - DISORDER_MS);
        let closed = self.open.iter().filter(|((start, _), _)| start + SIZE_MS <= watermark);
        closed
            .filter_map(|((start, group), figure)| {
                of_value(&row(&time(*start), &time(start + SIZE_MS), *group, *figure))
            })
            .collect()
    }
}

fn number(row: &Value, column: &str) -> i64 {
    row[column].as_i64().expect("the generator writes whole numbers here")
}

fn time(at_ms: i64) -> String {
    DateTime::from_timestamp_millis(at_ms).unwrap_or_default().format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

/// A bid as it came, but for its price.
fn with_price(bid: &Value, price: &Value) -> Value {
    json!({
        "auction": bid["auction"], "bidder": bid["bidder"], "price": price, "dateTime": bid["dateTime"], "extra": bid["extra"],
    })
}

/// The price in euros: a decimal of three digits after the point, from thousandths.
fn euros(bid: &Value) -> Value {
    Value::from((number(bid, "price") * 908) as f64 / 1_000.0)
}

/// The row of q14, of a large bid.
fn large(bid: &Value) -> Option<Value> {
    let thousandths = number(bid, "price") * 908;
    if thousandths <= 1_000_000_000 || thousandths >= 50_000_000_000 {
        return None;
    }
    let at: NaiveDateTime = bid["dateTime"].as_str()?.parse().ok()?;
    let name = match at.hour() {
        8..=18 => "dayTime",
        0..=6 | 20.. => "nightTime",
        _ => "otherTime",
    };
    let mut row = with_price(bid, &euros(bid));
    row["bidTimeType"] = name.into();
    row["c_counts"] = bid["extra"].as_str()?.matches('c').count().into();
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bid(partition: u32, at_ms: i64, auction: i64, price: i64) -> Record {
        let date_time = time(at_ms);
        let value = json!({ "auction": auction, "bidder": 1, "price": price, "dateTime": date_time, "extra": "cacao" });
        Record { kind: Kind::Bid, at_ms, key: auction.to_string(), partition, value: value.to_string() }
    }

    #[test]
    fn a_window_closes_with_its_slowest_partition() {
        let rows = |last_ms: i64| {
            let mut recount = Recount::new("q7-highest").expect("a test's own data");
            for partition in 0..PARTITIONS {
                recount.add(&bid(partition, 9_999, 1, 100 + i64::from(partition)));
                recount.add(&bid(partition, if partition == 0 { last_ms } else { 30_000 }, 1, 900));
            }
            recount.rows()
        };
        assert_eq!(rows(13_999), Vec::<String>::new());
        assert_eq!(rows(14_000), ["dateTime=@10000|maxprice=103"]);
    }

    #[test]
    fn a_bid_counts_in_each_of_its_hopping_windows() {
        let mut recount = Recount::new("q5-counts").expect("a test's own data");
        (0..PARTITIONS).for_each(|partition| recount.add(&bid(partition, 100_000, 7, 1)));
        assert!(recount.rows().is_empty());
        let mut recount = Recount::new("q5-counts").expect("a test's own data");
        recount.add(&bid(0, 11_999, 7, 1));
        recount.add(&bid(0, 12_000, 7, 1));
        (0..PARTITIONS).for_each(|partition| recount.add(&bid(partition, 100_000, 7, 1)));
        let rows = recount.rows();
        // Begins 2,000 to 10,000 hold the first, 4,000 to 12,000 the second.
        assert_eq!(rows.len(), 6);
        assert_eq!(rows[0], "auction=7|endtime=@12000|num=1|starttime=@2000");
        assert_eq!(rows[1], "auction=7|endtime=@14000|num=2|starttime=@4000");
    }

    #[test]
    fn large_bids_are_named_by_their_hour() {
        let mut recount = Recount::new("q14").expect("a test's own data");
        for (hour, price) in [(7, 2_000_000), (12, 1_101_321), (12, 1_101_322), (22, 55_066_080)] {
            recount.add(&bid(0, hour * 3_600_000, 1, price));
        }
        let rows = recount.rows();
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert!(rows[0].contains("otherTime") && rows[1].contains("price=1000000.376"), "{rows:?}");
        assert!(rows[1].contains("c_counts=2") && rows[1].contains("dayTime"), "{rows:?}");
    }
}
