//! The table of the queries, and rows for it from a seed: JSON records for Freshet, and SQL for Postgres.

use std::fmt::Write;

use freshet_plan::{Column, EventTime, Format};
use freshet_sql::{Catalog, Table};

use crate::run::SOURCE_PARTITIONS;

/// How far out of order records may come, ms.
pub const DISORDER_MS: i64 = 3_000;

const COLUMNS: [(&str, &str, bool); 13] = [
    ("id", "BIGINT", true),
    ("k", "STRING", false),
    ("i", "INT", false),
    ("b", "BIGINT", false),
    ("d", "DOUBLE", false),
    ("m", "DECIMAL(12,2)", false),
    ("w", "DECIMAL(38,10)", false),
    ("s", "STRING", false),
    ("t", "BOOLEAN", false),
    ("day", "DATE", false),
    ("ts", "TIMESTAMP(3)", false),
    ("tz", "TIMESTAMP_LTZ(3)", false),
    ("st", "STRUCT<id STRING, n INT, inner STRUCT<x BIGINT>>", false),
];

/// `name TYPE [key], …` of a query's results as columns.
pub fn columns(text: &str) -> Vec<Column> {
    parts(text).into_iter().map(|(name, data_type, _)| Column::new(name, data_type.parse().expect(data_type))).collect()
}

/// The columns among them that are the record's key.
fn key(text: &str) -> Vec<String> {
    parts(text).into_iter().filter(|(_, _, is_key)| *is_key).map(|(name, ..)| name.to_owned()).collect()
}

fn parts(text: &str) -> Vec<(&str, &str, bool)> {
    let (mut columns, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, c) in text.char_indices().chain([(text.len(), ',')]) {
        match c {
            '(' | '<' => depth += 1,
            ')' | '>' => depth -= 1,
            ',' if depth == 0 => {
                let (name, data_type) = text[start..at].trim().split_once(' ').expect("a name and a type");
                let plain = data_type.strip_suffix(" key");
                columns.push((name, plain.unwrap_or(data_type), plain.is_some()));
                start = at + 1;
            }
            _ => {}
        }
    }
    columns
}

/// A table without key or event time.
pub fn table(name: &str, columns: Vec<Column>, partitions: u32) -> Table {
    Table {
        name: name.to_owned(),
        resource_name: name.to_owned(),
        topic: name.to_owned(),
        format: Format::Json,
        columns,
        key: Vec::new(),
        key_trusted: false,
        event_time: None,
        partitions,
    }
}

/// The tables: `events`, whose key `k` is trusted or not, and `out` with these columns.
pub fn catalog(out: &str, key_trusted: bool) -> Catalog {
    let column = |(name, data_type, required): &(&str, &str, bool)| Column {
        name: (*name).to_owned(),
        data_type: data_type.parse().expect(data_type),
        required: *required,
    };
    let events = Table {
        key: vec!["k".to_owned()],
        key_trusted,
        event_time: Some(EventTime {
            column: "ts".to_owned(),
            max_out_of_orderness_ms: DISORDER_MS,
            idle_timeout_ms: None,
        }),
        ..table("events", COLUMNS.iter().map(column).collect(), SOURCE_PARTITIONS)
    };
    let out = Table { key: key(out), ..table("out", columns(out), SOURCE_PARTITIONS) };
    Catalog { tables: vec![events, out] }
}

/// A source of numbers that a seed decides (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 ≤ n < `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub const fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as u64) as i64
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// One row. Texts are as the value is written in SQL and, but for quotes, in JSON; `None` is null.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: i64,
    pub time: i64,
    pub key: Option<&'static str>,
    values: Vec<(&'static str, Option<String>)>,
    nested: Nested,
}

#[derive(Debug, Clone)]
struct Nested {
    there: bool,
    id: Option<&'static str>,
    n: Option<i64>,
    x: Option<Option<i64>>,
}

const KEYS: [Option<&str>; 9] =
    [None, Some(""), Some("a"), Some("b"), Some("A"), Some("a b"), Some("ü"), Some("日本"), Some("a")];
const TEXTS: [Option<&str>; 18] = [
    None,
    Some(""),
    Some("a"),
    Some("abc"),
    Some("ABC"),
    Some("aBd"),
    Some("%"),
    Some("a_c"),
    Some("x\"y"),
    Some("\\"),
    Some("line\nfeed"),
    Some("Grün"),
    Some("emoji 🚲"),
    Some("NULL"),
    Some("  lead"),
    Some("it's"),
    Some("bbb"),
    Some("\u{1}\u{7f}"),
];
const BIGS: [i64; 8] = [
    9_007_199_254_740_991,
    9_007_199_254_740_992,
    9_007_199_254_740_993,
    -9_007_199_254_740_993,
    0,
    1,
    -1,
    40_000_000_000_000_001,
];
const DOUBLES: [&str; 9] = ["0.0", "-0.0", "1.5", "-1.5", "0.125", "1e10", "-2.25e3", "1024", "3"];
const DECIMALS: [&str; 8] = ["0", "0.01", "-0.01", "9999999999.99", "-9999999999.99", "1.05", "2.5", "-0.5"];
const WIDE: [&str; 6] = [
    "0.0000000001",
    "-123456789012345678901234.0123456789",
    "123456789012345678901234.9999999999",
    "1",
    "-0.5",
    "1000000000000000000000.5",
];
const DAYS: [&str; 6] = ["1969-12-31", "1970-01-01", "2000-02-29", "1900-03-01", "2026-11-24", "0001-01-01"];
/// Each with the same instant as Postgres reads it.
const INSTANTS: [&str; 5] = [
    "2026-03-29T00:30:00Z",
    "2026-03-29T02:30:00+02:00",
    "2026-03-29T01:30:00.123+01:00",
    "1969-12-31T23:59:59.999Z",
    "2026-11-24T12:00:00-05:30",
];

/// `count` rows, in an order that the allowed disorder allows.
pub fn events(seed: u64, count: i64) -> Vec<Event> {
    let mut dice = Dice::new(seed);
    let mut time: i64 = -25_000;
    let mut events: Vec<Event> = (0..count)
        .map(|id| {
            time += match dice.below(6) {
                0 => 0,
                1 => 1_000 - time.rem_euclid(1_000),
                2 => 999 - time.rem_euclid(1_000),
                _ => dice.between(1, 900),
            };
            event(&mut dice, id, time)
        })
        .collect();
    shuffle(&mut dice, &mut events);
    events
}

/// Puts rows into an order in which none comes more than the allowed disorder behind any before it; some come exactly
/// that much behind.
pub fn shuffle(dice: &mut Dice, events: &mut [Event]) {
    let reach = DISORDER_MS as u64;
    events.sort_by_cached_key(|event| {
        let late = match dice.below(4) {
            0 => 0,
            1 => reach,
            _ => dice.below(reach + 1),
        };
        (event.time + late as i64, dice.next())
    });
}

fn event(dice: &mut Dice, id: i64, time: i64) -> Event {
    let some = |text: String, dice: &mut Dice| (dice.below(6) != 0).then_some(text);
    let key = *dice.pick(&KEYS);
    let text = dice.pick(&TEXTS).map(str::to_owned);
    let i = dice.between(-5, 5).to_string();
    let i = some(i, dice);
    let b = if dice.below(2) == 0 { *dice.pick(&BIGS) } else { dice.between(-1_000, 1_000) };
    let b = some(b.to_string(), dice);
    let d = if dice.below(2) == 0 {
        (*dice.pick(&DOUBLES)).to_owned()
    } else {
        format!("{:?}", dice.between(-800, 800) as f64 / 8.0)
    };
    let d = some(d, dice);
    let cents = dice.between(-100_000, 100_000);
    let m = if dice.below(4) == 0 {
        (*dice.pick(&DECIMALS)).to_owned()
    } else {
        format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
    };
    let m = some(m, dice);
    let w = some((*dice.pick(&WIDE)).to_owned(), dice);
    let t = some((dice.below(2) == 0).to_string(), dice);
    let day = some((*dice.pick(&DAYS)).to_owned(), dice);
    let tz = some((*dice.pick(&INSTANTS)).to_owned(), dice);
    let nested = Nested {
        there: dice.below(5) != 0,
        id: *dice.pick(&KEYS),
        n: (dice.below(5) != 0).then(|| dice.between(-2, 2)),
        x: (dice.below(5) != 0).then(|| (dice.below(4) != 0).then(|| dice.between(0, 3))),
    };
    let values =
        vec![("i", i), ("b", b), ("d", d), ("m", m), ("w", w), ("s", text), ("t", t), ("day", day), ("tz", tz)];
    Event { id, time, key, values, nested }
}

/// A row that is so late in time that all windows before it close.
pub fn closer() -> Event {
    let nested = Nested { there: false, id: None, n: None, x: None };
    Event { id: -1, time: 100_000_000_000, key: Some("~"), values: Vec::new(), nested }
}

fn iso(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).expect("a time").naive_utc();
    time.format("%Y-%m-%dT%H:%M:%S%.3f").to_string()
}

impl Event {
    /// The record. Some nulls are left out, others written; some times are numbers.
    pub fn json(&self) -> String {
        let quoted = |text: &str| serde_json::to_string(text).expect("JSON");
        let time = if self.id % 2 == 0 { quoted(&iso(self.time)) } else { self.time.to_string() };
        let mut json = format!("{{\"id\":{},\"ts\":{time}", self.id);
        if self.key.is_some() || self.id % 3 == 0 {
            let _ = write!(json, ", \"k\" : {}", self.key.map_or_else(|| "null".to_owned(), quoted));
        }
        for (name, value) in &self.values {
            match value {
                Some(text) if matches!(*name, "s" | "day" | "tz") => drop(write!(json, ",\"{name}\":{}", quoted(text))),
                Some(text) => drop(write!(json, ",\"{name}\":{text}")),
                None if self.id % 2 == 0 => drop(write!(json, ",\"{name}\":null")),
                None => {}
            }
        }
        let or_null = |number: Option<i64>| number.map_or_else(|| "null".to_owned(), |number| number.to_string());
        if self.nested.there {
            let id = self.nested.id.map_or_else(|| "null".to_owned(), quoted);
            let inner = self.nested.x.map_or_else(|| "null".to_owned(), |x| format!("{{\"x\":{}}}", or_null(x)));
            let _ =
                write!(json, ",\"st\":{{\"id\":{id},\"n\":{},\"inner\":{inner},\"more\":[1]}}", or_null(self.nested.n));
        }
        json.push('}');
        json
    }

    /// The row as Postgres reads it.
    pub fn sql(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let or_null = |text: Option<String>| text.unwrap_or_else(|| "NULL".to_owned());
        let number = |number: Option<i64>| or_null(number.map(|number| number.to_string()));
        let mut row = format!("({}, {}, {}", self.id, quoted(&iso(self.time)), or_null(self.key.map(quoted)));
        for (_, value) in &self.values {
            let _ = write!(row, ", {}", or_null(value.as_deref().map(quoted)));
        }
        let there = self.nested.there;
        let id = or_null(self.nested.id.filter(|_| there).map(quoted));
        let _ = write!(
            row,
            ", {id}, {}, {})",
            number(self.nested.n.filter(|_| there)),
            number(self.nested.x.flatten().filter(|_| there))
        );
        row
    }
}

/// Makes the table for Postgres. Fields of the struct are columns of their own.
pub const POSTGRES_TABLE: &str = "CREATE TEMP TABLE events (id bigint, ts timestamp(3), k text, i int, b bigint, d float8, m numeric(12,2), \
     w numeric(38,10), s text, t boolean, day date, tz timestamptz(3), st_id text, st_n int, st_x bigint);";
