//! Durations as manifests write them: `200ms`, `5s`, `10m`, `1h`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the schema demands of a duration. Nine digits of hours are about 114,000 years: no text that
/// matches overflows 64 bits of milliseconds.
pub const PATTERN: &str = "^(0|[1-9][0-9]{0,8})(ms|s|m|h)$";

/// The longest text that [`PATTERN`] matches.
const MAX_LENGTH: u32 = 11;

/// A length of time in whole milliseconds, seconds, minutes or hours. There are no days: a day is not
/// always 24 hours long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    millis: u64,
}

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no duration: write a whole number and a unit, for instance 200ms, 5s, 10m or 1h (no days)")]
pub struct DurationError {
    /// What was written.
    pub text: String,
}

impl Duration {
    /// A duration of so many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self { millis }
    }

    /// The whole of it in milliseconds; what was parsed from a text always fits 63 bits.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.millis
    }
}

impl From<Duration> for time::Duration {
    fn from(duration: Duration) -> Self {
        Self::from_millis(duration.millis)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let error = || DurationError { text: text.to_owned() };
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let (number, unit) = text.split_at(digits);
        if number.is_empty() || number.len() > 9 || (number.len() > 1 && number.starts_with('0')) {
            return Err(error());
        }
        let number: u64 = number.parse().map_err(|_| error())?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(error()),
        };
        Ok(Self { millis: number * factor })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (factor, unit) = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")]
            .into_iter()
            .find(|(factor, _)| self.millis > 0 && self.millis.is_multiple_of(*factor))
            .unwrap_or((1, "ms"));
        write!(f, "{}{unit}", self.millis / factor)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The length bounds what a CEL rule on the field may cost.
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": MAX_LENGTH })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_milliseconds_and_come_back_in_the_largest_whole_unit() {
        for (text, millis, printed) in [
            ("0s", 0, "0ms"),
            ("200ms", 200, "200ms"),
            ("1500ms", 1_500, "1500ms"),
            ("5s", 5_000, "5s"),
            ("90s", 90_000, "90s"),
            ("60m", 3_600_000, "1h"),
            ("999999999h", 3_599_999_996_400_000, "999999999h"),
        ] {
            let duration: Duration = text.parse().expect(text);
            assert_eq!((duration.as_millis(), duration.to_string().as_str()), (millis, printed), "{text}");
            assert_eq!(duration.to_string().parse(), Ok(duration), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "5", "s", "05s", "-5s", "1.5s", "5 s", "1d", "1h30m", "5S", "9999999999h", "+5s", "5s ", "٥s"]
        {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
