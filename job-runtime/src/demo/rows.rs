//! Rows of the pilot's results: one group in one window.

use std::fmt;

use chrono::{DateTime, NaiveDateTime};
use serde_json::Value;

/// One row of `alerts` or `country_totals`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowRow {
    /// The account or the country; `None` is null.
    pub group: Option<String>,
    /// First instant of the window, ms since the Unix epoch.
    pub window_start_ms: i64,
    /// First instant after it.
    pub window_end_ms: i64,
    /// Transactions.
    pub txns: u64,
    /// Their amounts in hundredths; `None` when every one was null.
    pub total_cents: Option<i128>,
    /// The largest of them, where the row has it (`country_totals`).
    pub largest_cents: Option<i128>,
}

impl WindowRow {
    /// What names the row: two rows of one group and window contradict each other.
    #[must_use]
    pub fn identity(&self) -> (&Option<String>, i64) {
        (&self.group, self.window_start_ms)
    }

    /// Reads a row as the job wrote it, with the group in `group_column`.
    ///
    /// # Errors
    /// What is missing or can't be read, with the whole value.
    pub fn from_json(value: &[u8], group_column: &str) -> Result<Self, String> {
        let broken = |what: &str| format!("{what} in {}", String::from_utf8_lossy(value));
        let row: Value = serde_json::from_slice(value).map_err(|error| broken(&format!("no JSON ({error})")))?;
        let group = match row.get(group_column) {
            Some(Value::String(group)) => Some(group.clone()),
            None | Some(Value::Null) => None,
            Some(_) => return Err(broken(&format!("no text as {group_column}"))),
        };
        let time =
            |column: &str| row.get(column).and_then(time_ms).ok_or_else(|| broken(&format!("no time as {column}")));
        let amount = |column: &str| match row.get(column) {
            None | Some(Value::Null) => Ok(None),
            Some(amount) => cents(amount).map(Some).ok_or_else(|| broken(&format!("no amount as {column}"))),
        };
        Ok(Self {
            group,
            window_start_ms: time("window_start")?,
            window_end_ms: time("window_end")?,
            txns: row.get("txns").and_then(Value::as_u64).ok_or_else(|| broken("no count as txns"))?,
            total_cents: amount("total")?,
            largest_cents: amount("largest")?,
        })
    }
}

impl fmt::Display for WindowRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |ms| DateTime::from_timestamp_millis(ms).unwrap_or_default();
        let (start, end) = (time(self.window_start_ms), time(self.window_end_ms));
        let group = self.group.as_deref().unwrap_or("(null)");
        write!(f, "{group}  {}–{}  {} txns  ", start.format("%Y-%m-%d %H:%M:%S"), end.format("%H:%M:%S"), self.txns)?;
        f.write_str(&self.total_cents.map_or_else(|| "no amount".to_owned(), amount))?;
        match self.largest_cents {
            Some(largest) => write!(f, "  largest {}", amount(largest)),
            None => Ok(()),
        }
    }
}

/// `1234` hundredths as `12.34`.
fn amount(cents: i128) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.unsigned_abs() / 100, cents.unsigned_abs() % 100)
}

/// A time: ISO 8601 without zone or in UTC, or ms since the Unix epoch.
#[must_use]
pub fn time_ms(value: &Value) -> Option<i64> {
    match value {
        Value::Number(ms) => ms.as_i64(),
        Value::String(text) => {
            let text = text.strip_suffix('Z').unwrap_or(text);
            ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
                .iter()
                .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
                .map(|time| time.and_utc().timestamp_millis())
        }
        _ => None,
    }
}

/// An amount with at most two digits after its point, as hundredths.
#[must_use]
pub fn cents(value: &Value) -> Option<i128> {
    let Value::Number(number) = value else { return None };
    // The shortest text that gives the same double is what was written, up to 15 digits.
    let text = number.to_string();
    let (sign, digits) = text.strip_prefix('-').map_or((1, text.as_str()), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let only_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let significant = fraction.trim_end_matches('0');
    if !only_digits(whole) || !only_digits(fraction) || significant.len() > 2 {
        return None;
    }
    let hundredths: i128 = format!("{significant:0<2}").parse().ok()?;
    let whole: i128 = whole.parse().ok()?;
    whole.checked_mul(100)?.checked_add(hundredths).map(|cents| sign * cents)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (value, expected) in [
            (json!(12), Some(1_200)),
            (json!(12.3), Some(1_230)),
            (json!(12.34), Some(1_234)),
            (json!(-0.07), Some(-7)),
            (json!(9_999_999_999.99), Some(999_999_999_999)),
            (json!(2.345), None),
            (json!(1e30), None),
            (json!("0.10"), None),
            (json!("a lot"), None),
            (json!(true), None),
        ] {
            assert_eq!(cents(&value), expected, "{value}");
        }
    }

    #[test]
    fn times_are_iso_or_milliseconds() {
        for (value, expected) in [
            (json!("1970-01-01T00:00:01.5"), Some(1_500)),
            (json!("1970-01-01T00:00:01.500Z"), Some(1_500)),
            (json!("2026-03-01 00:00:00"), Some(1_772_323_200_000)),
            (json!(1_772_323_200_000_i64), Some(1_772_323_200_000)),
            (json!("yesterday"), None),
            (json!(null), None),
        ] {
            assert_eq!(time_ms(&value), expected, "{value}");
        }
    }

    #[test]
    fn rows_are_read_as_the_job_writes_them() {
        let value = br#"{"account_id":"a1","window_start":"1970-01-01T00:01:00.000","window_end":"1970-01-01T00:02:00.000","txns":5,"total":101.5}"#;
        let row = WindowRow::from_json(value, "account_id").expect("a row");
        assert_eq!(
            row,
            WindowRow {
                group: Some("a1".into()),
                window_start_ms: 60_000,
                window_end_ms: 120_000,
                txns: 5,
                total_cents: Some(10_150),
                largest_cents: None
            }
        );
        assert_eq!(row.to_string(), "a1  1970-01-01 00:01:00–00:02:00  5 txns  101.50");
        let error = WindowRow::from_json(br#"{"account_id":"a1"}"#, "account_id").expect_err("columns are missing");
        assert!(error.contains("window_start") && error.contains("a1"), "{error}");
    }
}
