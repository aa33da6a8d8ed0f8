//! Rows in one spelling. Engines write the same value differently (`12:00:00` and `12:00:00.000`, `1.50` and `1.5`, columns
//! in another order); two rows are equal when their values are.

use chrono::NaiveDateTime;
use serde_json::Value;

use crate::LabError;

/// A row of JSON: columns by name, numbers by value, timestamps as milliseconds.
///
/// # Errors
/// [`LabError::Wrong`] for what is no JSON object.
pub fn spelled(row: &[u8]) -> Result<String, LabError> {
    let wrong = || LabError::Wrong(format!("`{}` is no row", String::from_utf8_lossy(row)));
    let row: Value = serde_json::from_slice(row).map_err(|_| wrong())?;
    of_value(&row).ok_or_else(wrong)
}

/// As [`spelled`], of a row that is JSON already.
pub(super) fn of_value(row: &Value) -> Option<String> {
    let mut columns: Vec<String> =
        row.as_object()?.iter().map(|(name, value)| format!("{name}={}", cell(value))).collect();
    columns.sort_unstable();
    Some(columns.join("|"))
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => match text.parse::<NaiveDateTime>() {
            Ok(time) => format!("@{}", time.and_utc().timestamp_millis()),
            Err(_) => format!("{text:?}"),
        },
        // 15 digits are the same in every spelling of a double; those of the queries' decimals have no more.
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.to_string(),
            (None, Some(fraction)) => fraction.to_string(),
            (None, None) => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Whether two multisets of spelled rows are the same; otherwise what differs, with examples.
///
/// # Errors
/// [`LabError::Wrong`] with how many rows each has too many, and the first of them.
pub fn same(what: &str, mut wanted: Vec<String>, mut found: Vec<String>) -> Result<(), LabError> {
    wanted.sort_unstable();
    found.sort_unstable();
    if wanted == found {
        return Ok(());
    }
    let missing = without(&wanted, &found);
    let more = without(&found, &wanted);
    let some = |rows: &[&String]| rows.iter().take(3).map(|row| format!("\n    {row}")).collect::<String>();
    Err(LabError::Wrong(format!(
        "{what}: {} rows wanted, {} found; missing {}:{}\n  not wanted {}:{}",
        wanted.len(),
        found.len(),
        missing.len(),
        some(&missing),
        more.len(),
        some(&more)
    )))
}

/// The rows of sorted `all` that sorted `others` has not, as often as they are too many.
fn without<'a>(all: &'a [String], others: &[String]) -> Vec<&'a String> {
    let mut others = others.iter().peekable();
    let mut left = Vec::new();
    for row in all {
        while others.next_if(|other| *other < row).is_some() {}
        if others.next_if(|other| *other == row).is_none() {
            left.push(row);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_count_and_not_their_spelling() {
        let ours =
            spelled(br#"{"price":1.50,"at":"2026-01-01T00:00:00.000","name":"a|b","n":7}"#).expect("a test's own data");
        let theirs =
            spelled(br#"{"n":7,"at":"2026-01-01T00:00:00","price":1.5,"name":"a|b"}"#).expect("a test's own data");
        assert_eq!(ours, theirs);
        assert_eq!(ours, r#"at=@1767225600000|n=7|name="a|b"|price=1.5"#);
        assert_ne!(
            ours,
            spelled(br#"{"n":7,"at":"2026-01-01T00:00:00.001","price":1.5,"name":"a|b"}"#).expect("a test's own data")
        );
        assert_ne!(
            ours,
            spelled(br#"{"n":"7","at":"2026-01-01T00:00:00","price":1.5,"name":"a|b"}"#).expect("a test's own data")
        );
        assert!(spelled(b"7").is_err() && spelled(b"{").is_err());
    }

    #[test]
    fn a_row_that_is_doubled_is_a_difference() {
        let rows = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        assert!(same("x", rows("abca"), rows("aabc")).is_ok());
        let said = same("x", rows("aabd"), rows("abbcd")).expect_err("they differ").to_string();
        assert!(said.contains("missing 1:\n    a") && said.contains("not wanted 2:\n    b\n    c"), "{said}");
    }
}
