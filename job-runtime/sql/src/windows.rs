//! Window table functions: `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))` and `TUMBLE(t, ts, …)`.

use freshet_plan::Window;
use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, Ident, Interval, ObjectName, Spanned, Value};
use sqlparser::tokenizer::Span;

use crate::error::{Outcome, Site, SqlError};
use crate::{functions, refuse};

const EXAMPLE: &str = "write TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)";

/// A call of a window table function.
pub(crate) struct WindowCall {
    /// The table's name, its last part.
    pub(crate) table: Ident,
    /// The column by which rows are put into windows.
    pub(crate) time: Ident,
    /// The windows.
    pub(crate) window: Window,
    /// Where the function's name stands.
    pub(crate) span: Span,
}

/// Whether `name` is that of a window table function, supported or not.
pub(crate) fn is_window(name: &ObjectName) -> bool {
    matches!(name.to_string().to_lowercase().as_str(), "tumble" | "hop" | "cumulate" | "session")
}

/// Reads the call of the window table function `name`.
pub(crate) fn window_call(site: &Site<'_>, name: &ObjectName, args: &[FunctionArg]) -> Outcome<WindowCall> {
    let span = name.span();
    let kind = name.to_string().to_uppercase();
    if kind != "TUMBLE" {
        return Err(site
            .error(span, format!("{kind} windows are not supported yet"))
            .help("TUMBLE windows are")
            .into());
    }
    let [table, time, size, offset] = arguments(site, span, args)?;
    let (Some(table), Some(time), Some(size)) = (table, time, size) else {
        return Err(site
            .error(
                span,
                format!("TUMBLE takes a table, a time column, a size and perhaps an offset; {} were given", args.len()),
            )
            .help(EXAMPLE)
            .into());
    };
    let size_ms = interval_ms(site, span, size)?;
    if size_ms <= 0 {
        return Err(site
            .error(place(size, span), "the size of a window must be more than nothing")
            .help("write INTERVAL '10' SECOND")
            .into());
    }
    let offset_ms = offset.map_or(Ok(0), |offset| interval_ms(site, span, offset))?.rem_euclid(size_ms);
    Ok(WindowCall {
        table: table_name(site, span, table)?,
        time: time_column(site, span, time)?,
        window: Window::Tumble { size_ms, offset_ms },
        span,
    })
}

/// The arguments in order: table, time column, size, offset.
fn arguments<'a>(site: &Site<'_>, span: Span, args: &'a [FunctionArg]) -> Outcome<[Option<&'a Expr>; 4]> {
    let mut found: [Option<&Expr>; 4] = [None; 4];
    if args.len() > found.len() {
        return Err(site
            .error(span, format!("TUMBLE takes 3 or 4 arguments; {} were given", args.len()))
            .help(EXAMPLE)
            .into());
    }
    let named = args.iter().any(|arg| matches!(arg, FunctionArg::Named { .. }));
    for (at, argument) in args.iter().enumerate() {
        let (slot, expr) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if !named => (at, expr),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), operator: _ } => {
                let slot = ["DATA", "TIMECOL", "SIZE", "OFFSET"]
                    .iter()
                    .position(|known| name.value.eq_ignore_ascii_case(known));
                let Some(slot) = slot else {
                    return Err(site
                        .error(name.span, format!("TUMBLE has no argument `{}`", name.value))
                        .help("its arguments are DATA, TIMECOL, SIZE and OFFSET")
                        .into());
                };
                if found[slot].is_some() {
                    return Err(site.error(name.span, format!("the argument `{}` is given twice", name.value)).into());
                }
                (slot, expr)
            }
            other => {
                return Err(site
                    .error(place_of(other.span(), span), format!("`{other}` is no argument of TUMBLE here"))
                    .help("give all arguments by position, or all by name")
                    .into());
            }
        };
        found[slot] = Some(expr);
    }
    Ok(found)
}

fn place(expr: &Expr, otherwise: Span) -> Span {
    place_of(expr.span(), otherwise)
}

fn place_of(span: Span, otherwise: Span) -> Span {
    if span.start.line == 0 { otherwise } else { span }
}

fn table_name(site: &Site<'_>, span: Span, expr: &Expr) -> Outcome<Ident> {
    let ident = match expr {
        Expr::Identifier(ident) => Some(ident),
        Expr::Prefixed { prefix: _, value } => match value.as_ref() {
            Expr::CompoundIdentifier(parts) => parts.as_slice().first().filter(|_| parts.len() == 1),
            _ => None,
        },
        _ => None,
    };
    ident.cloned().ok_or_else(|| {
        site.error(place(expr, span), "the first argument of a window function is a table's name")
            .help("write TABLE t; for a query, name it first: WITH q AS (SELECT …), then TABLE q")
            .into()
    })
}

fn time_column(site: &Site<'_>, span: Span, expr: &Expr) -> Outcome<Ident> {
    let inside = match expr {
        Expr::Function(function) if functions::name(function) == "descriptor" => {
            match refuse::bare_call(site, function)? {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] => Some(expr),
                _ => None,
            }
        }
        other => Some(other),
    };
    match inside {
        Some(Expr::Identifier(ident)) => Ok(ident.clone()),
        _ => Err(site
            .error(place(expr, span), "the time column of a window is one column's name")
            .help("write DESCRIPTOR(ts)")
            .into()),
    }
}

/// The length of an interval of fixed units.
fn interval_ms(site: &Site<'_>, span: Span, expr: &Expr) -> Outcome<i64> {
    let span = place(expr, span);
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
