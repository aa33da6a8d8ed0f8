//! Every scalar function that DataFusion registers, by each of its names: it gives the right value, or is refused by name.
//!
//! A new DataFusion that brings a function fails here until somebody has decided about it.

use std::collections::BTreeSet;
use std::fmt::Write;

use freshet_sql::{Catalog, PlanOptions};

use crate::events::{columns, table};
use crate::run::{Manner, run};

const ROW: &str = r#"{"s":"Hello, Wörld","e":"","i":-7,"j":12,"b":9007199254740993,"d":2.25,"m":12.34,"t":true,"ts":"2026-11-24T13:14:15.678","tz":"2026-11-24T13:14:15.678+01:00","day":"2024-02-29","data":"aGVsbG8=","st":{"id":"q","n":5}}"#;
const COLUMNS: &str = "s STRING, e STRING, x STRING, i INT, j INT, b BIGINT, d DOUBLE, m DECIMAL(12,2), t BOOLEAN, ts TIMESTAMP(3), \
    tz TIMESTAMP_LTZ(3), day DATE, data BYTES, st STRUCT<id STRING, n INT>";

/// What an expression gives over the row: JSON, or why it is refused, or how it fails.
fn outcome(data_type: &str, expression: &str) -> String {
    let catalog =
        Catalog { tables: vec![table("t", columns(COLUMNS), 1), table("out", columns(&format!("v {data_type}")), 1)] };
    let sql = format!("INSERT INTO out SELECT {expression} FROM t");
    let plan = match freshet_sql::plan(&catalog, &sql, &PlanOptions::default()) {
        Ok(plan) => plan,
        Err(errors) => {
            return format!("refused: {}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        }
    };
    let manner = Manner { batch: 10, crash: false, epoch: 1 };
    // Two rows: nothing may come from there being one row only.
    match run(&plan, &[vec![ROW.to_owned(), ROW.to_owned()], vec![], vec![]], manner) {
        Ok(outcome) => match outcome.values.as_slice() {
            [one, two] if one == two && outcome.bad.is_empty() => {
                one.strip_prefix("{\"v\":").and_then(|value| value.strip_suffix('}')).unwrap_or(one).to_owned()
            }
            other => format!("{other:?}, bad {:?}", outcome.bad),
        },
        Err(error) => format!("fails: {error}"),
    }
}

#[test]
fn every_function_gives_the_right_value_or_is_refused_by_name() {
    let mut missing: BTreeSet<String> = BTreeSet::new();
    for function in datafusion_functions::all_default_functions() {
        missing.insert(function.name().to_owned());
        missing.extend(function.aliases().iter().cloned());
    }
    let mut wrong = String::new();
    let lines = include_str!("functions.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [name, data_type, expression, wanted] = parts[..] else { panic!("four parts: {line}") };
        missing.remove(name);
        let found = outcome(data_type, expression);
        let right = match wanted.split_once(':') {
            Some((kind @ ("refused" | "fails"), part)) => found.starts_with(kind) && found.contains(part.trim()),
            _ => found == wanted,
        };
        if !right {
            let _ = writeln!(wrong, "{expression} as {data_type}\n    wanted {wanted}\n    found  {found}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(missing.is_empty(), "functions.txt says nothing of {missing:?}");
}
