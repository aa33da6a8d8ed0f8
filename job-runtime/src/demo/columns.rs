//! Records as rows of a table: JSON objects of the same fields line up under the fields' names.

use serde_json::Value;

/// Records that line up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The fields' names.
    pub names: Vec<String>,
    /// For each record, its values in that order.
    pub rows: Vec<Vec<String>>,
}

impl Columns {
    /// The records as a table; `None` when one of them is no JSON object, or has other fields than the first.
    #[must_use]
    pub fn of(records: &[String]) -> Option<Self> {
        let objects = records
            .iter()
            .map(|record| match serde_json::from_str(record) {
                Ok(Value::Object(fields)) => Some(fields),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()?;
        let names: Vec<String> = objects.first()?.keys().cloned().collect();
        let same = objects.iter().all(|fields| fields.keys().eq(names.iter()));
        let rows = objects.iter().map(|fields| fields.values().map(text).collect()).collect();
        same.then_some(Self { names, rows })
    }

    /// How wide each column must be, in characters.
    #[must_use]
    pub fn widths(&self) -> Vec<u16> {
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| &row[at]).chain([&self.names[at]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..self.names.len()).map(|at| u16::try_from(width(at)).unwrap_or(u16::MAX)).collect()
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => time(text).unwrap_or_else(|| text.clone()),
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

/// A timestamp as people write it: without the `T`, and without milliseconds that are none.
fn time(text: &str) -> Option<String> {
    let parsed = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    let whole = parsed.and_utc().timestamp_subsec_nanos() == 0;
    Some(parsed.format(if whole { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M:%S%.3f" }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(records: &[&str]) -> Option<Columns> {
        Columns::of(&records.iter().map(|record| (*record).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn records_of_the_same_fields_line_up() {
        let columns = of(&[
            r#"{"who":"a","at":"2026-03-01T00:01:00.000","total":1.50,"more":null}"#,
            r#"{"who":"bcd","at":"2026-03-01T00:01:00.250","total":12,"more":{"x":[1]}}"#,
        ])
        .expect("a table");
        assert_eq!(columns.names, ["who", "at", "total", "more"]);
        assert_eq!(columns.rows[0], ["a", "2026-03-01 00:01:00", "1.5", "null"]);
        assert_eq!(columns.rows[1], ["bcd", "2026-03-01 00:01:00.250", "12", r#"{"x":[1]}"#]);
        assert_eq!(columns.widths(), [3, 23, 5, 9]);
    }

    #[test]
    fn others_do_not() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["text"]), None);
        assert_eq!(of(&["[1]"]), None);
        assert_eq!(of(&[r#"{"a":1}"#, r#"{"b":1}"#]), None);
        assert_eq!(of(&[r#"{"a":1}"#, "cut of"]), None);
    }
}
