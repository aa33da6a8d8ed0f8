//! Data types as manifests and plans write them: `STRING`, `DECIMAL(12,2)`, `STRUCT<id STRING, …>`.

use serde::{Deserialize, Serialize};

/// A column of a topic or of rows between steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: DataType,
    /// Whether null or absent breaks the contract.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

impl Column {
    /// A column that may be null.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type, required: false }
    }

    /// A column that is never null.
    pub fn required(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type, required: true }
    }
}

/// Columns in order.
pub type Schema = Vec<Column>;

/// A data type. Written and read as Flink SQL writes it; serialised as that text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DataType {
    /// `BOOLEAN`
    Boolean,
    /// `TINYINT`: 8 bits, signed.
    TinyInt,
    /// `SMALLINT`: 16 bits, signed.
    SmallInt,
    /// `INT`: 32 bits, signed.
    Int,
    /// `BIGINT`: 64 bits, signed.
    BigInt,
    /// `FLOAT`: 32 bits.
    Float,
    /// `DOUBLE`: 64 bits.
    Double,
    /// `DECIMAL(precision, scale)`: 1 ≤ precision ≤ 38, 0 ≤ scale ≤ precision.
    Decimal(u8, u8),
    /// `STRING`: UTF-8.
    String,
    /// `BYTES`; in JSON base64.
    Bytes,
    /// `DATE`: days.
    Date,
    /// `TIMESTAMP(p)`: without zone, fractional digits p of 0, 3, 6 or 9. In JSON ISO 8601, or a number:
    /// milliseconds since the Unix epoch.
    Timestamp(u8),
    /// `TIMESTAMP_LTZ(p)`: an instant.
    TimestampLtz(u8),
    /// `ARRAY<T>`
    Array(Box<DataType>),
    /// `STRUCT<name T, …>` (also written `ROW<…>`).
    Struct(Vec<(String, DataType)>),
}

/// Why a text is no data type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no data type: {reason}")]
pub struct TypeError {
    /// What was written.
    pub text: String,
    /// What is wrong with it, and what can be written.
    pub reason: String,
}

impl std::fmt::Display for DataType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::TinyInt => f.write_str("TINYINT"),
            Self::SmallInt => f.write_str("SMALLINT"),
            Self::Int => f.write_str("INT"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::Float => f.write_str("FLOAT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Decimal(precision, scale) => write!(f, "DECIMAL({precision},{scale})"),
            Self::String => f.write_str("STRING"),
            Self::Bytes => f.write_str("BYTES"),
            Self::Date => f.write_str("DATE"),
            Self::Timestamp(p) => write!(f, "TIMESTAMP({p})"),
            Self::TimestampLtz(p) => write!(f, "TIMESTAMP_LTZ({p})"),
            Self::Array(item) => write!(f, "ARRAY<{item}>"),
            Self::Struct(fields) => {
                f.write_str("STRUCT<")?;
                for (at, (name, data_type)) in fields.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{name} {data_type}")?;
                }
                f.write_str(">")
            }
        }
    }
}

impl std::str::FromStr for DataType {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Self, TypeError> {
        let mut parser = Parser { text, at: 0 };
        let data_type = parser.data_type()?;
        parser.skip_space();
        if parser.at < text.len() {
            return Err(parser.error(format!("`{}` is left over at its end", &text[parser.at..])));
        }
        Ok(data_type)
    }
}

impl Serialize for DataType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DataType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

const KNOWN: &str = "BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p,s), STRING, BYTES, DATE, \
                     TIMESTAMP(p), TIMESTAMP_LTZ(p), ARRAY<T> and STRUCT<name T, …>";

/// How deep types may be nested: a manifest is not trusted with the stack.
const MAX_DEPTH: usize = 32;

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, reason: impl Into<String>) -> TypeError {
        TypeError { text: self.text.to_owned(), reason: reason.into() }
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.skip_space();
        let found = self.text[self.at..].starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), TypeError> {
        if self.eat(wanted) {
            Ok(())
        } else {
            Err(self.error(format!("`{wanted}` is missing at character {}", self.at + 1)))
        }
    }

    fn word(&mut self) -> &str {
        self.skip_space();
        let rest = &self.text[self.at..];
        let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn number(&mut self) -> Result<u8, TypeError> {
        let word = self.word().to_owned();
        word.parse().map_err(|_| self.error(format!("`{word}` is no number of digits")))
    }

    fn data_type(&mut self) -> Result<DataType, TypeError> {
        if self.text[..self.at].matches('<').count() > MAX_DEPTH {
            return Err(self.error(format!("it is nested more than {MAX_DEPTH} deep")));
        }
        let word = self.word().to_ascii_uppercase();
        Ok(match word.as_str() {
            "BOOLEAN" | "BOOL" => DataType::Boolean,
            "TINYINT" => DataType::TinyInt,
            "SMALLINT" => DataType::SmallInt,
            "INT" | "INTEGER" => DataType::Int,
            "BIGINT" => DataType::BigInt,
            "FLOAT" | "REAL" => DataType::Float,
            "DOUBLE" => DataType::Double,
            "STRING" | "TEXT" | "VARCHAR" => DataType::String,
            "BYTES" => DataType::Bytes,
            "DATE" => DataType::Date,
            "DECIMAL" | "NUMERIC" => self.decimal()?,
            "TIMESTAMP" => DataType::Timestamp(self.fraction()?),
            "TIMESTAMP_LTZ" => DataType::TimestampLtz(self.fraction()?),
            "ARRAY" => {
                self.expect('<')?;
                let item = self.data_type()?;
                self.expect('>')?;
                DataType::Array(Box::new(item))
            }
            "STRUCT" | "ROW" => self.fields()?,
            _ => return Err(self.error(format!("`{word}` is unknown; there are {KNOWN}"))),
        })
    }

    fn decimal(&mut self) -> Result<DataType, TypeError> {
        let (mut precision, mut scale) = (10, 0);
        if self.eat('(') {
            precision = self.number()?;
            if self.eat(',') {
                scale = self.number()?;
            }
            self.expect(')')?;
        }
        if !(1..=38).contains(&precision) || scale > precision {
            return Err(self.error("a decimal has 1 to 38 digits, and no more of them after the point than in all"));
        }
        Ok(DataType::Decimal(precision, scale))
    }

    fn fraction(&mut self) -> Result<u8, TypeError> {
        if !self.eat('(') {
            return Ok(6);
        }
        let digits = self.number()?;
        self.expect(')')?;
        if matches!(digits, 0 | 3 | 6 | 9) {
            Ok(digits)
        } else {
            Err(self.error("a timestamp has 0, 3, 6 or 9 fractional digits"))
        }
    }

    fn fields(&mut self) -> Result<DataType, TypeError> {
        self.expect('<')?;
        let mut fields: Vec<(String, DataType)> = Vec::new();
        loop {
            let name = self.word().to_owned();
            if name.is_empty() {
                return Err(self.error(format!("a field's name is missing at character {}", self.at + 1)));
            }
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(self.error(format!("field `{name}` is there twice")));
            }
            let data_type = self.data_type()?;
            fields.push((name, data_type));
            if !self.eat(',') {
                break;
            }
        }
        self.expect('>')?;
        Ok(DataType::Struct(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_survive_print_and_parse() {
        for text in [
            "BOOLEAN",
            "DECIMAL(12,2)",
            "TIMESTAMP(3)",
            "TIMESTAMP_LTZ(6)",
            "ARRAY<STRUCT<id STRING, n ARRAY<INT>>>",
            "STRUCT<id STRING, country STRING>",
        ] {
            assert_eq!(text.parse::<DataType>().map(|t| t.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(
            "row< a int , b decimal >".parse::<DataType>().map(|t| t.to_string()),
            Ok("STRUCT<a INT, b DECIMAL(10,0)>".to_owned())
        );
    }

    #[test]
    fn wrong_types_say_what_is_wrong() {
        for (text, reason) in [
            ("STRNG", "`STRNG` is unknown"),
            ("DECIMAL(39,2)", "1 to 38 digits"),
            ("DECIMAL(2,3)", "1 to 38 digits"),
            ("TIMESTAMP(4)", "0, 3, 6 or 9"),
            ("ARRAY<INT", "`>` is missing"),
            ("STRUCT<a INT, a INT>", "twice"),
            ("INT INT", "left over"),
            ("", "unknown"),
        ] {
            let error = text.parse::<DataType>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!("ARRAY<".repeat(100_000).parse::<DataType>().is_err());
    }
}
