//! Figures as people read them.

use std::time::Duration;

/// `1234567` as `1,234,567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the unit that leaves one to three digits before the point: `12.3 MB`.
#[must_use]
pub fn bytes(number: u64) -> String {
    let mut amount = number as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        // What would be printed as 1000.0 belongs to the next unit.
        if amount < 999.95 {
            return if unit == "B" { format!("{number} B") } else { format!("{amount:.1} {unit}") };
        }
        amount /= 1_000.0;
    }
    format!("{amount:.1} TB")
}

/// A duration with three digits or so: `12 ms`, `1.5 s`, `4 m 10 s`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", (ms / 100) as f64 / 10.0),
        60_000..3_600_000 => format!("{} m {} s", ms / 60_000, ms / 1_000 % 60),
        3_600_000..86_400_000 => format!("{} h {} m", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{} d {} h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}

/// A time of day in UTC, from ms since the Unix epoch: `12:00:01`; with the date where it is not of the
/// same day as `beside_ms`.
#[must_use]
pub fn time(ms: i64, beside_ms: i64) -> String {
    let Some(time) = chrono::DateTime::from_timestamp_millis(ms) else { return "–".to_owned() };
    let same_day =
        chrono::DateTime::from_timestamp_millis(beside_ms).is_some_and(|now| now.date_naive() == time.date_naive());
    time.format(if same_day { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        for (number, text) in
            [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (999_950, "1.0 MB"), (12_340_000, "12.3 MB")]
        {
            assert_eq!(bytes(number), text);
        }
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_550, "1.5 s"),
            (59_999, "59.9 s"),
            (250_000, "4 m 10 s"),
            (3_600_000, "1 h 0 m"),
            (90_000_000, "1 d 1 h"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(time(1_772_323_201_000, 1_772_323_200_000), "00:00:01");
        assert_eq!(time(1_772_323_201_000, 0), "2026-03-01 00:00:01");
    }
}
