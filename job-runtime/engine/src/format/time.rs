//! Dates and times as ISO 8601 text, without a calendar library: days and seconds are plain integers here,
//! so every value that the types hold can be written and read back, also those far from our era.
//!
//! The calendar is the proleptic Gregorian one, with a year 0. Years outside 0 to 9999 are written with a
//! sign and at least six digits (`+012345-06-07`), as ISO 8601's expanded form asks.

use super::BadReason;

const SECONDS_A_DAY: i64 = 86_400;

/// Days from 1970-01-01 to a date. By Howard Hinnant's `days_from_civil`: years begin in March, so that the
/// leap day is a year's last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`]: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A walk over a text, byte by byte.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    fn digit(&mut self) -> Option<i64> {
        let digit = self.peek()?.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        self.0 = &self.0[1..];
        Some(i64::from(digit))
    }

    fn two(&mut self) -> Option<i64> {
        Some(self.digit()? * 10 + self.digit()?)
    }

    /// A year: four digits, or a sign and four to twelve (the years that 64 bits of seconds reach).
    fn year(&mut self) -> Option<i64> {
        let sign = match self.peek()? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(self.two()? * 100 + self.two()?),
        };
        self.0 = &self.0[1..];
        let mut year = self.two()? * 100 + self.two()?;
        for _ in 4..12 {
            match self.digit() {
                Some(digit) => year = year * 10 + digit,
                None => break,
            }
        }
        Some(sign * year)
    }

    /// A date as days since 1970-01-01.
    fn date(&mut self) -> Option<i64> {
        let year = self.year()?;
        let month = self.eat(b'-').then(|| self.two())??;
        let day = self.eat(b'-').then(|| self.two())??;
        let real = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
        real.then(|| days_from_civil(year, month, day))
    }

    /// A time of day: seconds and nanoseconds. Digits beyond the ninth are cut off.
    fn time(&mut self) -> Option<(i64, i64)> {
        let hour = self.two()?;
        let minute = self.eat(b':').then(|| self.two())??;
        let mut second = 0;
        let mut nanos = 0;
        if self.eat(b':') {
            second = self.two()?;
            if self.eat(b'.') {
                nanos = self.digit()? * 100_000_000;
                let mut unit = 10_000_000;
                while let Some(digit) = self.digit() {
                    nanos += digit * unit;
                    unit /= 10;
                }
            }
        }
        (hour < 24 && minute < 60 && second < 60).then_some((hour * 3600 + minute * 60 + second, nanos))
    }

    /// A zone: how many seconds it is ahead of UTC. Without one, 0.
    fn zone(&mut self) -> Option<i64> {
        let sign = match self.peek() {
            None => return Some(0),
            Some(b'Z' | b'z') => {
                self.0 = &self.0[1..];
                return Some(0);
            }
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(_) => return None,
        };
        self.0 = &self.0[1..];
        let hours = self.two()?;
        let minutes = if self.0.is_empty() {
            0
        } else {
            self.eat(b':');
            self.two()?
        };
        (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
    }
}

/// Reads a date (`2026-01-02`) as days since the Unix epoch.
///
/// # Errors
/// `WrongType` when the text is no date, `OutOfRange` when a DATE can't hold it.
pub(crate) fn parse_date(text: &[u8]) -> Result<i32, BadReason> {
    let mut text = Text(text);
    let days = text.date().filter(|_| text.0.is_empty()).ok_or(BadReason::WrongType)?;
    i32::try_from(days).map_err(|_| BadReason::OutOfRange)
}

/// Reads a point in time (`2026-01-02T03:04:05.678+02:00`) as units of `digits` fractional digits since the
/// Unix epoch, cutting off what is finer.
///
/// Between date and time stands `T` or a space; seconds, their fraction and the zone (`Z`, `±hh`, `±hhmm`,
/// `±hh:mm`) may be left out. Without a zone the text is taken as UTC.
///
/// # Errors
/// `WrongType` when the text is no point in time, `OutOfRange` when 64 bits of such units can't hold it.
pub(crate) fn parse_timestamp(text: &[u8], digits: u8) -> Result<i64, BadReason> {
    let (seconds, nanos) = point_in_time(text).ok_or(BadReason::WrongType)?;
    let per_second = 10_i64.pow(u32::from(digits));
    let fraction = nanos / (1_000_000_000 / per_second);
    // In 128 bits, since whole seconds alone may lie outside the range where the sum lies inside.
    let units = seconds * i128::from(per_second) + i128::from(fraction);
    i64::try_from(units).map_err(|_| BadReason::OutOfRange)
}

/// Seconds since the Unix epoch, rounded down, and nanoseconds.
fn point_in_time(text: &[u8]) -> Option<(i128, i64)> {
    let mut text = Text(text);
    let days = text.date()?;
    if !(text.eat(b'T') || text.eat(b't') || text.eat(b' ')) {
        return None;
    }
    let (second_of_day, nanos) = text.time()?;
    let ahead = text.zone()?;
    let seconds = i128::from(days) * i128::from(SECONDS_A_DAY) + i128::from(second_of_day - ahead);
    text.0.is_empty().then_some((seconds, nanos))
}

/// Appends a date, given as days since the Unix epoch.
pub(crate) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    if (0..=9999).contains(&year) {
        write_digits(year, 4, out);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        let width = year.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1);
        write_digits(year.abs(), width.max(6), out);
    }
    out.push(b'-');
    write_digits(month, 2, out);
    out.push(b'-');
    write_digits(day, 2, out);
}

/// Appends a point in time, given in units of `digits` fractional digits since the Unix epoch, with all of
/// its digits; with `Z` after it when it is an instant.
pub(crate) fn write_timestamp(units: i64, digits: u8, instant: bool, out: &mut Vec<u8>) {
    let per_second = 10_i64.pow(u32::from(digits));
    let seconds = units.div_euclid(per_second);
    let second_of_day = seconds.rem_euclid(SECONDS_A_DAY);
    write_date(seconds.div_euclid(SECONDS_A_DAY), out);
    out.push(b'T');
    write_digits(second_of_day / 3600, 2, out);
    out.push(b':');
    write_digits(second_of_day / 60 % 60, 2, out);
    out.push(b':');
    write_digits(second_of_day % 60, 2, out);
    if digits > 0 {
        out.push(b'.');
        write_digits(units.rem_euclid(per_second), usize::from(digits), out);
    }
    if instant {
        out.push(b'Z');
    }
}

/// Appends a number ≥ 0 in at least `width` digits (≤ 20).
fn write_digits(mut number: i64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_spelling() {
        let wanted = 1_767_323_045_678;
        for text in [
            "2026-01-02T03:04:05.678",
            "2026-01-02 03:04:05.678",
            "2026-01-02T03:04:05.678Z",
            "2026-01-02t03:04:05.678z",
            "2026-01-02T05:04:05.678+02:00",
            "2026-01-01T21:34:05.678-0530",
            "2026-01-02T04:04:05.678999999+01",
            "+002026-01-02T03:04:05.6780000000001",
        ] {
            assert_eq!(parse_timestamp(text.as_bytes(), 3), Ok(wanted), "{text}");
        }
        assert_eq!(parse_timestamp(b"1970-01-01T00:00", 9), Ok(0));
        assert_eq!(parse_timestamp(b"1969-12-31T23:59:59.9995", 3), Ok(-1), "cut off towards the past");
        assert_eq!(parse_timestamp(b"1677-09-21T00:12:43.145224192", 9), Ok(i64::MIN));
        assert_eq!(parse_timestamp(b"2262-04-11T23:47:16.854775807", 9), Ok(i64::MAX));
        assert_eq!(parse_timestamp(b"2262-04-11T23:47:16.854775808", 9), Err(BadReason::OutOfRange));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-01-02",
            "2026-01-02T",
            "2026-01-02T03",
            "2026-01-02T03:04:05.",
            "2026-01-02T03:04:60",
            "2026-01-02T24:00:00",
            "2026-13-02T03:04:05",
            "2026-02-29T03:04:05",
            "1900-02-29T03:04:05",
            "2026-1-2T03:04:05",
            "2026-01-02T03:04:05+",
            "2026-01-02T03:04:05+2",
            "2026-01-02T03:04:05+02:",
            "2026-01-02T03:04:05+24:00",
            "2026-01-02T03:04:05Zjunk",
            "2026-01-02T03:04:05 Europe/Berlin",
            "26-01-02T03:04:05",
            "1767323045678",
        ] {
            assert_eq!(parse_timestamp(text.as_bytes(), 3), Err(BadReason::WrongType), "{text}");
        }
        for text in ["", "2026-01-02T03:04", "2026-02-30", "2026-00-01", "20260102", "2026-01-02 "] {
            assert_eq!(parse_date(text.as_bytes()), Err(BadReason::WrongType), "{text}");
        }
        assert_eq!(parse_date(b"+5881580-07-12"), Err(BadReason::OutOfRange), "a day after the last DATE");
    }

    #[test]
    fn the_calendar_agrees_with_chrono() {
        use chrono::{Datelike, NaiveDate};
        let first = NaiveDate::from_ymd_opt(-450, 1, 1).expect("a date");
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
        for date in first.iter_days().take(366 * 3000) {
            let days = (date - epoch).num_days();
            let (year, month, day) = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
            assert_eq!(civil_from_days(days), (year, month, day), "{date}");
            assert_eq!(days_from_civil(year, month, day), days, "{date}");
            assert!(day <= days_in_month(year, month), "{date}");
        }
    }

    #[test]
    fn dates_and_times_survive_write_and_read() {
        let extremes = [i64::from(i32::MIN), -719_529, -719_528, -1, 0, 2_932_896, 2_932_897, i64::from(i32::MAX)];
        for days in extremes {
            let mut text = Vec::new();
            write_date(days, &mut text);
            assert_eq!(parse_date(&text).map(i64::from), Ok(days), "{}", String::from_utf8_lossy(&text));
        }
        for digits in [0, 3, 6, 9] {
            for units in [i64::MIN, -1_000_000_001, -1, 0, 1, 1_767_323_045_678, i64::MAX] {
                let mut text = Vec::new();
                write_timestamp(units, digits, digits == 6, &mut text);
                assert_eq!(parse_timestamp(&text, digits), Ok(units), "{}", String::from_utf8_lossy(&text));
            }
        }
        let mut text = Vec::new();
        write_timestamp(-1, 3, true, &mut text);
        assert_eq!(text, b"1969-12-31T23:59:59.999Z");
        text.clear();
        write_timestamp(253_402_300_800, 0, false, &mut text);
        assert_eq!(text, b"+010000-01-01T00:00:00");
    }
}
