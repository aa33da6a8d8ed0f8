//! Lengths of time: `INTERVAL '10' SECOND`, `INTERVAL '1 minute 30 seconds'`.

use sqlparser::ast::{Expr, Interval, Value};
use sqlparser::tokenizer::Span;

use crate::error::{Outcome, Site, SqlError};

/// The length of the interval `expr`, which stands at `span`, ms.
pub(crate) fn interval_ms(site: &Site<'_>, span: Span, expr: &Expr) -> Outcome<i64> {
    let wrong = |message: &str| -> SqlError {
        site.error(span, message).help("write INTERVAL '10' SECOND, or INTERVAL '10 seconds'")
    };
    let Expr::Interval(Interval { value, leading_field, leading_precision, last_field, fractional_seconds_precision }) =
        expr
    else {
        return Err(wrong(&format!("`{expr}` is no interval")).into());
    };
    if leading_precision.is_some() || last_field.is_some() || fractional_seconds_precision.is_some() {
        return Err(wrong("an interval of several fields (… TO …) is not supported").into());
    }
    let text = match value.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            Value::Number(number, _) => number.clone(),
            other => return Err(wrong(&format!("`{other}` is no length of time")).into()),
        },
        other => return Err(wrong(&format!("`{other}` is no length of time")).into()),
    };
    let text = match leading_field {
        Some(unit) => format!("{text} {unit}"),
        None => text,
    };
    length_ms(&text).map_err(|message| wrong(&message).into())
}

/// Reads `10 SECOND`, `1 minute 30 seconds`, `0.5 s`.
fn length_ms(text: &str) -> Result<i64, String> {
    let mut words = text.split_whitespace();
    let mut nanos: i128 = 0;
    let mut any = false;
    while let Some(number) = words.next() {
        let unit = words.next().ok_or_else(|| format!("`{text}` has no unit after `{number}`"))?;
        let unit_nanos = unit_nanos(unit)?;
        nanos += scaled(number, unit_nanos).ok_or_else(|| format!("`{number}` is no number in `{text}`"))?;
        any = true;
    }
    if !any {
        return Err("the interval is empty".to_owned());
    }
    if nanos % 1_000_000 != 0 {
        return Err(format!("`{text}` is no whole number of milliseconds"));
    }
    i64::try_from(nanos / 1_000_000).map_err(|_| format!("`{text}` is too long"))
}

fn unit_nanos(unit: &str) -> Result<i128, String> {
    const SECOND: i128 = 1_000_000_000;
    let lower = unit.to_lowercase();
    Ok(match lower.as_str() {
        "millisecond" | "milliseconds" | "ms" => SECOND / 1_000,
        "second" | "seconds" | "sec" | "secs" | "s" => SECOND,
        "minute" | "minutes" | "min" | "mins" => 60 * SECOND,
        "hour" | "hours" | "h" => 3_600 * SECOND,
        "day" | "days" | "d" => 86_400 * SECOND,
        "week" | "weeks" => 7 * 86_400 * SECOND,
        "month" | "months" | "year" | "years" | "quarter" | "quarters" => {
            return Err(format!("a {lower} has no fixed length, so it can't be the size of a window"));
        }
        _ => {
            return Err(format!(
                "`{unit}` is no unit of time: there are MILLISECOND, SECOND, MINUTE, HOUR, DAY and WEEK"
            ));
        }
    })
}

/// `number` × `unit`, exactly; `None` when it is no decimal number or has digits below a nanosecond.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0
        || whole.len() > 18
        || fraction.len() > 9
        || !all_digits(whole)
        || !all_digits(fraction)
    {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let small = fraction * unit;
    (small % scale == 0).then_some(sign * (whole * unit + small / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_exactly() {
        for (text, ms) in [
            ("10 SECOND", 10_000),
            ("10 seconds", 10_000),
            ("1 minute 30 seconds", 90_000),
            ("0.5 s", 500),
            ("250 MILLISECOND", 250),
            ("1 DAY", 86_400_000),
            ("-5 MINUTE", -300_000),
        ] {
            assert_eq!(length_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn other_lengths_are_refused() {
        for (text, why) in [
            ("10", "no unit"),
            ("", "empty"),
            ("1 MONTH", "no fixed length"),
            ("1 fortnight", "no unit of time"),
            ("0.0001 s", "whole number of milliseconds"),
            ("ten seconds", "no number"),
            ("1:30 minute", "no number"),
            ("999999999999999999 weeks", "too long"),
        ] {
            let error = length_ms(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
