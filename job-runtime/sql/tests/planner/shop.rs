//! The tables that the statements of these tests are about.

use freshet_plan::{Column, EventTime, Format, Plan};
use freshet_sql::{Catalog, PlanOptions, SqlError, Table};

/// `name TYPE [required] [key], …` as columns.
pub fn columns(text: &str) -> Vec<Column> {
    parts(text).into_iter().map(column).collect()
}

/// The columns among them that are the record's key.
fn key(text: &str) -> Vec<String> {
    parts(text).into_iter().filter(|part| part.ends_with(" key")).map(|part| column(part).name).collect()
}

fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '<' => depth += 1,
            ')' | '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn column(text: &str) -> Column {
    let (name, rest) = text.split_once(' ').unwrap_or_else(|| panic!("`{text}` is a name and a type"));
    let rest = rest.strip_suffix(" key").unwrap_or(rest);
    let (data_type, required) = rest.strip_suffix(" required").map_or((rest, false), |rest| (rest, true));
    Column { name: name.to_owned(), data_type: data_type.parse().expect(data_type), required }
}

/// A table of these columns, with no key and no event time.
pub fn table(name: &str, text: &str) -> Table {
    Table {
        name: name.replace('-', "_"),
        resource_name: name.to_owned(),
        topic: format!("shop.{name}"),
        format: Format::Json,
        columns: columns(text),
        key: Vec::new(),
        key_trusted: false,
        event_time: None,
        partitions: 4,
    }
}

fn keyed(table: Table, key: &[&str], key_trusted: bool) -> Table {
    Table { key: key.iter().map(|name| (*name).to_owned()).collect(), key_trusted, ..table }
}

fn timed(table: Table, column: &str) -> Table {
    let event_time =
        EventTime { column: column.to_owned(), max_out_of_orderness_ms: 5_000, idle_timeout_ms: Some(30_000) };
    Table { event_time: Some(event_time), ..table }
}

/// The tables, and `out` with these columns.
pub fn catalog(out: &str) -> Catalog {
    let payments = table(
        "payments",
        "id STRING required, account STRING required, amount DECIMAL(12,2), n INT, big BIGINT, ratio DOUBLE, f FLOAT, \
         ok BOOLEAN, note STRING, data BYTES, day DATE, ts TIMESTAMP(3), at TIMESTAMP_LTZ(3), \
         merchant STRUCT<id STRING, country STRING, place STRUCT<lat DOUBLE, lon DOUBLE>>, tags ARRAY<STRING>",
    );
    let items =
        table("order-items", "id STRING, item STRING, price DECIMAL(10,2), Mixed INT, mixed INT, ts TIMESTAMP(6)");
    let windowed = table("windowed", "k STRING, window_start TIMESTAMP(3), ts TIMESTAMP(3)");
    let numbered = table("numbered", "k STRING, t BIGINT");
    let out = Table { key: key(out), ..table("out", out) };
    Catalog {
        tables: vec![
            keyed(timed(payments, "ts"), &["account"], true),
            timed(items, "ts"),
            timed(windowed, "ts"),
            timed(numbered, "t"),
            table("plain", "a STRING, b INT"),
            keyed(table("keyed", "a STRING required, b INT"), &["a"], true),
            out,
        ],
    }
}

/// Plans `sql` over [`catalog`].
pub fn plan(out: &str, sql: &str) -> Result<Plan, Vec<SqlError>> {
    freshet_sql::plan(&catalog(out), sql, &PlanOptions::default())
}
