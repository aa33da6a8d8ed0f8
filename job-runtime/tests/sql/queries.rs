//! The queries, what a query gives in every manner of running it, and what is recorded of Postgres.

use std::collections::BTreeMap;
use std::fmt::Write;

use freshet_plan::{Column, DataType, Plan};
use freshet_sql::PlanOptions;

use crate::events::{self, Dice, Event};
use crate::run::{Manner, Outcome, run};
use crate::spelling::Windows;

/// A query of `queries.txt`.
pub struct Query {
    pub name: String,
    out: String,
    columns: Vec<Column>,
    /// With `{events}` or windows ([`Windows`]) where its table stands.
    sql: String,
    /// The same for Postgres, where that spells it otherwise.
    postgres: Option<String>,
}

pub fn queries() -> Vec<Query> {
    let cases = include_str!("queries.txt").split("=== ").skip(1);
    let queries: Vec<Query> = cases
        .map(|case| {
            let mut lines = case.lines();
            let name = lines.next().expect("a name").to_owned();
            let out = lines.next().and_then(|line| line.strip_prefix("out: ")).expect("columns").to_owned();
            let sql = lines.next().expect("SQL").to_owned();
            let postgres = lines.next().map(|line| line.strip_prefix("pg: ").expect("Postgres' spelling").to_owned());
            Query { name, columns: events::columns(&out), out, sql, postgres }
        })
        .collect();
    assert!(queries.len() >= 90, "there are only {} queries", queries.len());
    queries
}

/// What stands in braces: `events` for the table, or windows over it.
fn windows(sql: &str) -> (&str, Option<Windows>, &str) {
    let (before, rest) = sql.split_once('{').expect("a table in braces");
    let (inside, after) = rest.split_once('}').expect("a table in braces");
    (before, (inside != "events").then(|| Windows::of(inside)), after)
}

impl Query {
    /// Whether its rows come when time has passed.
    fn waits(&self) -> bool {
        let first_rows = self.sql.contains("ORDER BY ts) AS rn") || self.sql.contains("ORDER BY ts ASC) AS rn");
        first_rows || windows(&self.sql).1.is_some()
    }

    fn freshet(&self) -> String {
        let (before, found, after) = windows(&self.sql);
        let from = found.map_or_else(|| "events".to_owned(), Windows::freshet);
        format!("INSERT INTO out {before}{from}{after}")
    }

    pub fn postgres(&self) -> String {
        let (before, found, after) = windows(self.postgres.as_ref().unwrap_or(&self.sql));
        let (before, after) = (in_postgres(before), in_postgres(after));
        let from = found.map_or_else(|| "events".to_owned(), Windows::postgres);
        let given: Vec<String> = (0..self.columns.len()).map(|at| format!("c{at}")).collect();
        let cast = self
            .columns
            .iter()
            .zip(&given)
            .map(|(column, c)| format!("{c}::{} AS {c}", postgres_type(&column.data_type)));
        let cast: Vec<String> = cast.collect();
        format!(
            "SELECT row_to_json(q) FROM (SELECT {} FROM ({before}{from}{after}) AS r({})) AS q;",
            cast.join(", "),
            given.join(", ")
        )
    }

    fn plan(&self, key_trusted: bool) -> Result<Plan, String> {
        let options = PlanOptions { max_parallelism: 2, ..PlanOptions::default() };
        freshet_sql::plan(&events::catalog(&self.out, key_trusted), &self.freshet(), &options)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    /// A result as text that is the same for equal values.
    pub fn canonical(&self, json: &str) -> String {
        let values = fields(json);
        assert_eq!(values.len(), self.columns.len(), "{}: {json}", self.name);
        let values = values.iter().zip(&self.columns).map(|(value, column)| canonical(value, &column.data_type));
        values.collect::<Vec<_>>().join(" | ")
    }
}

fn in_postgres(sql: &str) -> String {
    let names = [
        ("st.inner.x", "st_x"),
        ("st.id", "st_id"),
        ("st.n", "st_n"),
        ("AS STRING)", "AS text)"),
        ("AS DOUBLE)", "AS float8)"),
    ];
    names.iter().fold(sql.to_owned(), |sql, (ours, theirs)| sql.replace(ours, theirs))
}

fn postgres_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Double => "float8".to_owned(),
        DataType::String => "text".to_owned(),
        DataType::TimestampLtz(digits) => format!("timestamptz({digits})"),
        other => other.to_string(),
    }
}

/// The values of a flat JSON object, as they are written.
fn fields(json: &str) -> Vec<&str> {
    let text_end = |from: usize| {
        let mut escaped = false;
        let end = json[from + 1..].find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        from + 1 + end.unwrap_or_else(|| panic!("an open text in {json}")) + 1
    };
    let mut values = Vec::new();
    let mut at = 1;
    while json[at..].trim_start().starts_with('"') {
        at += json[at..].find('"').expect("a name");
        let begin = text_end(at) + 1;
        let end = if json[begin..].starts_with('"') {
            text_end(begin)
        } else {
            begin + json[begin..].find([',', '}']).unwrap_or_else(|| panic!("a value without end in {json}"))
        };
        values.push(json[begin..end].trim());
        at = end + 1;
    }
    values
}

fn canonical(value: &str, data_type: &DataType) -> String {
    if value == "null" {
        return "null".to_owned();
    }
    let text = || serde_json::from_str::<String>(value).unwrap_or_else(|error| panic!("{value}: {error}"));
    match data_type {
        DataType::Double if value.starts_with('"') => "null".to_owned(),
        DataType::Double => format!("{:?}", value.parse::<f64>().expect("a number") + 0.0),
        DataType::Decimal(..) => {
            let short = if value.contains('.') { value.trim_end_matches('0').trim_end_matches('.') } else { value };
            if short == "-0" { "0".to_owned() } else { short.to_owned() }
        }
        DataType::String => format!("{:?}", text()),
        DataType::Timestamp(_) | DataType::TimestampLtz(_) => {
            let text = text();
            let text = text.trim_end_matches('Z').trim_end_matches("+00:00");
            if text.len() == 19 { format!("{text}.000") } else { format!("{text:0<23}") }
        }
        DataType::Date => text(),
        _ => value.to_owned(),
    }
}

/// Each row in the partition of its key, or of its number.
fn partitions(events: &[Event], by_key: bool, close: bool) -> Vec<Vec<String>> {
    let mut partitions = vec![Vec::new(); 3];
    for event in events {
        let number = if by_key { event.key.map_or(0, |key| key.bytes().map(u64::from).sum()) } else { event.id as u64 };
        partitions[(number % 3) as usize].push(event.json());
    }
    if close {
        partitions.iter_mut().for_each(|partition| partition.push(events::closer().json()));
    }
    partitions
}

const MANNERS: [Manner; 3] = [
    Manner { batch: 1, crash: true, epoch: 5 },
    Manner { batch: 7, crash: false, epoch: 2 },
    Manner { batch: 1_000, crash: false, epoch: 1 },
];

/// Runs a query in every manner over rows in several orders; gives its results, sorted, once, or what went wrong.
pub fn results(query: &Query, seed: u64, rows: i64) -> Result<Vec<String>, String> {
    let mut events = events::events(seed, rows);
    let mut dice = Dice::new(seed ^ 0xface);
    let mut first: Option<Vec<String>> = None;
    for key_trusted in [true, false] {
        let plan = query.plan(key_trusted)?;
        for manner in MANNERS {
            events::shuffle(&mut dice, &mut events);
            let partitions = partitions(&events, key_trusted, query.waits());
            let how = format!("{manner:?}, {} stages", plan.stages.len());
            let Outcome { values, bad, late } =
                run(&plan, &partitions, manner).map_err(|error| format!("{how}: {error}"))?;
            if !bad.is_empty() || late > 0 {
                return Err(format!("{how}: {bad:?} bad, {late} late"));
            }
            let mut found: Vec<String> = values.iter().map(|json| query.canonical(json)).collect();
            found.sort();
            match &first {
                None => first = Some(found),
                Some(first) if *first == found => {}
                Some(first) => {
                    let missing: Vec<_> = first.iter().filter(|row| !found.contains(row)).take(5).collect();
                    let extra: Vec<_> = found.iter().filter(|row| !first.contains(row)).take(5).collect();
                    return Err(format!("{how}: other rows than in another manner: {missing:#?} became {extra:#?}"));
                }
            }
        }
    }
    Ok(first.unwrap_or_default())
}

pub const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sql/golden");

/// The seed and rows whose results are written out, and the seeds of which there are digests.
pub const WRITTEN: (u64, i64) = (1, 40);
pub const DIGESTS: (std::ops::RangeInclusive<u64>, i64) = (2..=4, 120);

pub fn digest(rows: &[String]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in rows.iter().flat_map(|row| row.bytes().chain([b'\n'])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x} of {} rows", rows.len())
}

/// Results, or digests of results, by query.
pub fn read(file: &str) -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(format!("{GOLDEN}/{file}")).unwrap_or_else(|error| panic!("{file}: {error}"));
    let blocks = text.split("=== ").skip(1).map(|block| {
        let (name, rows) = block.split_once('\n').expect("a name and rows");
        (name.to_owned(), rows.lines().map(str::to_owned).collect())
    });
    blocks.collect()
}

pub fn compare(failures: &mut String, query: &Query, wanted: &[String], found: Result<Vec<String>, String>) {
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let _ = writeln!(failures, "=== {}\n{}\n{error}", query.name, query.freshet());
            return;
        }
    };
    if wanted != found {
        let missing: Vec<_> = wanted.iter().filter(|row| !found.contains(row)).take(5).collect();
        let extra: Vec<_> = found.iter().filter(|row| !wanted.contains(row)).take(5).collect();
        let (has, wants) = (found.len(), wanted.len());
        let _ = writeln!(
            failures,
            "=== {}: {has} rows, not {wants}\n{}\nonly Postgres {missing:#?}\nonly here {extra:#?}",
            query.name,
            query.freshet()
        );
    }
}
