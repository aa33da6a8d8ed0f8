//! Times: distances in units, and units added.
//!
//! Times are TIMESTAMPs and instants of any precision, and DATEs, which are their midnight. Instants are counted in UTC.
//! Units up to a week have one length; months, quarters and years are those of the calendar.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::Int64Type;
use arrow_schema::{DataType, TimeUnit};
use chrono::{DateTime, Datelike, Months, NaiveDateTime};
use datafusion_common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion_expr::ScalarUDF;

use crate::row::{Function, any_null};

/// The functions of this file.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    vec![
        Function::any("timestampdiff", difference_type, difference),
        Function::any("timestampadd", sum_type, sum),
        Function::any("timestampceil", ceiling_type, ceiling),
    ]
}

/// A unit of time.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// Of this many nanoseconds.
    Fixed(i128),
    /// Of this many months.
    Months(u32),
}

/// The units that `timestampdiff` and its kin know, as they are written.
pub const UNITS: [&str; 10] =
    ["MICROSECOND", "MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR"];

fn unit(name: &str) -> Result<Unit> {
    const SECOND: i128 = 1_000_000_000;
    Ok(match name.to_uppercase().as_str() {
        "MICROSECOND" => Unit::Fixed(1_000),
        "MILLISECOND" => Unit::Fixed(1_000_000),
        "SECOND" => Unit::Fixed(SECOND),
        "MINUTE" => Unit::Fixed(60 * SECOND),
        "HOUR" => Unit::Fixed(3_600 * SECOND),
        "DAY" => Unit::Fixed(86_400 * SECOND),
        "WEEK" => Unit::Fixed(7 * 86_400 * SECOND),
        "MONTH" => Unit::Months(1),
        "QUARTER" => Unit::Months(3),
        "YEAR" => Unit::Months(12),
        other => return exec_err!("{other} is no unit of time: there are {}", UNITS.join(", ")),
    })
}

/// How many nanoseconds a step of a time's type has.
fn step(data_type: &DataType) -> Option<i128> {
    Some(match data_type {
        DataType::Date32 => 86_400_000_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
        _ => return None,
    })
}

/// A column of times in steps of its type.
fn steps(array: &ArrayRef) -> Result<(Int64Array, i128)> {
    let Some(step) = step(array.data_type()) else { return exec_err!("{} is no time", array.data_type()) };
    let numbers = match array.data_type() {
        DataType::Date32 => cast(&cast(array, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(array, &DataType::Int64)?,
    };
    Ok((numbers.as_primitive::<Int64Type>().clone(), step))
}

fn calendar(nanos: i128) -> Result<NaiveDateTime> {
    let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let time = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, rest as u32));
    time.map(|time| time.naive_utc()).ok_or_else(|| exec_datafusion_err!("a time is beyond the calendar"))
}

fn nanos(time: NaiveDateTime) -> i128 {
    let time = time.and_utc();
    i128::from(time.timestamp()) * 1_000_000_000 + i128::from(time.timestamp_subsec_nanos())
}

/// `time` and `months` months more, on the same day or the month's last.
fn plus_months(time: NaiveDateTime, months: i64) -> Option<NaiveDateTime> {
    let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    if months < 0 { time.checked_sub_months(count) } else { time.checked_add_months(count) }
}

fn is_unit(data_type: &DataType) -> bool {
    *data_type == DataType::Utf8
}

fn difference_type(arguments: &[DataType]) -> Result<DataType> {
    match arguments {
        [unit, from, to] if is_unit(unit) && step(from).is_some() && step(to).is_some() => Ok(DataType::Int32),
        _ => plan_err!("TIMESTAMPDIFF(unit, from, to) is between two TIMESTAMPs or DATEs"),
    }
}

/// How many whole units lie between two times; negative where the second is before the first.
fn difference(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let [units, from, to] = arguments else { return exec_err!("timestampdiff has three arguments") };
    let units = units.as_string::<i32>();
    let ((from, from_step), (to, to_step)) = (steps(from)?, steps(to)?);
    let one = |row: usize| -> Result<Option<i32>> {
        if any_null(arguments, row) {
            return Ok(None);
        }
        let (from, to) = (i128::from(from.value(row)) * from_step, i128::from(to.value(row)) * to_step);
        let count = match unit(units.value(row))? {
            Unit::Fixed(length) => (to - from) / length,
            Unit::Months(length) => i128::from(months_between(calendar(from)?, calendar(to)?) / i64::from(length)),
        };
        let count = i32::try_from(count);
        count.map(Some).map_err(|_| exec_datafusion_err!("the distance in {}s exceeds INT", units.value(row)))
    };
    Ok(Arc::new((0..from.len()).map(one).collect::<Result<Int32Array>>()?))
}

/// Whole months from one time to another.
fn months_between(from: NaiveDateTime, to: NaiveDateTime) -> i64 {
    let number = |time: NaiveDateTime| i64::from(time.year()) * 12 + i64::from(time.month0());
    let months = number(to) - number(from);
    // A month is over on its day at its time of day.
    let within = |time: NaiveDateTime| (time.day(), time.time());
    match months {
        months if months > 0 && within(to) < within(from) => months - 1,
        months if months < 0 && within(to) > within(from) => months + 1,
        months => months,
    }
}

fn sum_type(arguments: &[DataType]) -> Result<DataType> {
    match arguments {
        [unit, count, time] if is_unit(unit) && count.is_integer() && step(time).is_some() => Ok(match time {
            DataType::Date32 => DataType::Timestamp(TimeUnit::Millisecond, None),
            other => other.clone(),
        }),
        _ => plan_err!("TIMESTAMPADD(unit, count, time) adds an integer of units to a TIMESTAMP or DATE"),
    }
}

/// A time and this many units more. Months later is the same day, or the month's last.
fn sum(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let [units, counts, times] = arguments else { return exec_err!("timestampadd has three arguments") };
    let given = sum_type(&[units.data_type().clone(), counts.data_type().clone(), times.data_type().clone()])?;
    let (units, counts) = (units.as_string::<i32>(), cast(counts, &DataType::Int64)?);
    let counts = counts.as_primitive::<Int64Type>();
    let (times, from_step) = steps(times)?;
    let to_step = step(&given).unwrap_or(1);
    let one = |row: usize| -> Result<Option<i64>> {
        if any_null(arguments, row) {
            return Ok(None);
        }
        let (time, count) = (i128::from(times.value(row)) * from_step, counts.value(row));
        let beyond = || exec_datafusion_err!("{count} {}s later is beyond the calendar", units.value(row));
        let later = match unit(units.value(row))? {
            Unit::Fixed(length) => time + i128::from(count) * length,
            Unit::Months(length) => {
                let months = count.checked_mul(i64::from(length));
                nanos(months.and_then(|months| plus_months(calendar(time).ok()?, months)).ok_or_else(beyond)?)
            }
        };
        i64::try_from(later.div_euclid(to_step)).map(Some).map_err(|_| beyond())
    };
    let later = (0..times.len()).map(one).collect::<Result<Int64Array>>()?;
    Ok(cast(&later, &given)?)
}

fn ceiling_type(arguments: &[DataType]) -> Result<DataType> {
    match arguments {
        [unit, time] if is_unit(unit) && step(time).is_some() => Ok(time.clone()),
        _ => plan_err!("CEIL(time TO unit) is of a TIMESTAMP or DATE"),
    }
}

/// The first time from this one on at which a unit begins. Weeks begin on Mondays.
fn ceiling(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let [units, times] = arguments else { return exec_err!("timestampceil has two arguments") };
    let (units, given) = (units.as_string::<i32>(), times.data_type().clone());
    let (times, step) = steps(times)?;
    let one = |row: usize| -> Result<Option<i64>> {
        if any_null(arguments, row) {
            return Ok(None);
        }
        let time = i128::from(times.value(row)) * step;
        let beyond = || exec_datafusion_err!("the next {} is beyond the calendar", units.value(row));
        let next = match unit(units.value(row))? {
            Unit::Fixed(length) => {
                // 1970-01-01 was a Thursday: weeks began four days after it.
                let shift = if units.value(row).eq_ignore_ascii_case("WEEK") { 4 * (length / 7) } else { 0 };
                -(-(time - shift)).div_euclid(length) * length + shift
            }
            Unit::Months(length) => {
                let date = calendar(time)?;
                let month = date.month0() - date.month0() % length;
                let begun = date.date().with_day(1).and_then(|day| day.with_month0(month)).ok_or_else(beyond)?;
                let begun = begun.and_time(chrono::NaiveTime::MIN);
                nanos(if begun == date { begun } else { plus_months(begun, i64::from(length)).ok_or_else(beyond)? })
            }
        };
        i64::try_from(next.div_euclid(step)).map(Some).map_err(|_| beyond())
    };
    let next = (0..times.len()).map(one).collect::<Result<Int64Array>>()?;
    match given {
        DataType::Date32 => Ok(cast(&cast(&next, &DataType::Int32)?, &given)?),
        _ => Ok(cast(&next, &given)?),
    }
}
