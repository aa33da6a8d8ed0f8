//! The one mapping between the plan's data types and Arrow's.
//!
//! | plan | Arrow |
//! | --- | --- |
//! | `BOOLEAN`, `TINYINT` … `BIGINT`, `FLOAT`, `DOUBLE` | `Boolean`, `Int8` … `Int64`, `Float32`, `Float64` |
//! | `DECIMAL(p,s)` | `Decimal128(p, s)` |
//! | `STRING`, `BYTES`, `DATE` | `Utf8`, `Binary`, `Date32` |
//! | `TIMESTAMP(0 / 3 / 6 / 9)` | `Timestamp(Second / Millisecond / Microsecond / Nanosecond, None)` |
//! | `TIMESTAMP_LTZ(p)` | the same with the zone `UTC` |
//! | `ARRAY<T>`, `STRUCT<…>` | `List` of nullable `item`, `Struct` of nullable fields |

use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Field, TimeUnit};
use freshet_plan::DataType;

/// The zone of instants.
pub const UTC: &str = "UTC";

/// The Arrow type that holds values of `data_type`.
#[must_use]
pub fn to_arrow(data_type: &DataType) -> ArrowType {
    match data_type {
        DataType::Boolean => ArrowType::Boolean,
        DataType::TinyInt => ArrowType::Int8,
        DataType::SmallInt => ArrowType::Int16,
        DataType::Int => ArrowType::Int32,
        DataType::BigInt => ArrowType::Int64,
        DataType::Float => ArrowType::Float32,
        DataType::Double => ArrowType::Float64,
        DataType::Decimal(precision, scale) => ArrowType::Decimal128(*precision, scale.cast_signed()),
        DataType::String => ArrowType::Utf8,
        DataType::Bytes => ArrowType::Binary,
        DataType::Date => ArrowType::Date32,
        DataType::Timestamp(digits) => ArrowType::Timestamp(unit(*digits), None),
        DataType::TimestampLtz(digits) => ArrowType::Timestamp(unit(*digits), Some(UTC.into())),
        DataType::Array(item) => ArrowType::List(Arc::new(Field::new_list_field(to_arrow(item), true))),
        DataType::Struct(fields) => {
            ArrowType::Struct(fields.iter().map(|(name, field)| Field::new(name, to_arrow(field), true)).collect())
        }
    }
}

/// The data type whose values an Arrow type holds: the exact inverse of [`to_arrow`]. `None` for types that no
/// column of a topic can have (intervals, durations, unsigned integers, dictionaries…).
#[must_use]
pub fn from_arrow(data_type: &ArrowType) -> Option<DataType> {
    Some(match data_type {
        ArrowType::Boolean => DataType::Boolean,
        ArrowType::Int8 => DataType::TinyInt,
        ArrowType::Int16 => DataType::SmallInt,
        ArrowType::Int32 => DataType::Int,
        ArrowType::Int64 => DataType::BigInt,
        ArrowType::Float32 => DataType::Float,
        ArrowType::Float64 => DataType::Double,
        ArrowType::Decimal128(precision, scale) => {
            let scale = u8::try_from(*scale).ok().filter(|scale| scale <= precision)?;
            DataType::Decimal(*precision, scale)
        }
        ArrowType::Utf8 => DataType::String,
        ArrowType::Binary => DataType::Bytes,
        ArrowType::Date32 => DataType::Date,
        ArrowType::Timestamp(unit, None) => DataType::Timestamp(digits(*unit)),
        ArrowType::Timestamp(unit, Some(zone)) if zone.as_ref() == UTC => DataType::TimestampLtz(digits(*unit)),
        ArrowType::List(item) => DataType::Array(Box::new(from_arrow(item.data_type())?)),
        ArrowType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| Some((field.name().clone(), from_arrow(field.data_type())?)))
                .collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}

/// The nearest data type for an Arrow type that a function may give although no column has it: other layouts of
/// text, bytes and arrays, unsigned integers as the next wider signed ones, and instants of any zone.
#[must_use]
pub fn nearest(data_type: &ArrowType) -> Option<DataType> {
    Some(match data_type {
        ArrowType::Utf8View | ArrowType::LargeUtf8 => DataType::String,
        ArrowType::BinaryView | ArrowType::LargeBinary | ArrowType::FixedSizeBinary(_) => DataType::Bytes,
        ArrowType::UInt8 => DataType::SmallInt,
        ArrowType::UInt16 => DataType::Int,
        ArrowType::UInt32 | ArrowType::UInt64 => DataType::BigInt,
        ArrowType::Float16 => DataType::Float,
        ArrowType::Date64 => DataType::Timestamp(3),
        ArrowType::Dictionary(_, value) => return nearest(value),
        ArrowType::Timestamp(unit, Some(_)) => DataType::TimestampLtz(digits(*unit)),
        ArrowType::List(item) | ArrowType::LargeList(item) | ArrowType::FixedSizeList(item, _) => {
            DataType::Array(Box::new(nearest(item.data_type())?))
        }
        ArrowType::Struct(fields) => {
            let field = |field: &Arc<Field>| Some((field.name().clone(), nearest(field.data_type())?));
            DataType::Struct(fields.iter().map(field).collect::<Option<_>>()?)
        }
        ArrowType::Decimal32(precision, scale) | ArrowType::Decimal64(precision, scale) => {
            return from_arrow(&ArrowType::Decimal128(*precision, *scale));
        }
        other => return from_arrow(other),
    })
}

const fn unit(digits: u8) -> TimeUnit {
    match digits {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

const fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// Arrow's names of types in a message, in SQL's words.
pub(crate) fn in_words(message: &str) -> String {
    const WORDS: [(&str, &str); 21] = [
        ("LargeUtf8", "STRING"),
        ("Utf8View", "STRING"),
        ("Utf8", "STRING"),
        ("UInt64", "BIGINT"),
        ("UInt32", "BIGINT"),
        ("Int64", "BIGINT"),
        ("Int32", "INT"),
        ("Int16", "SMALLINT"),
        ("Int8", "TINYINT"),
        ("Float64", "DOUBLE"),
        ("Float32", "FLOAT"),
        ("Decimal128", "DECIMAL"),
        ("Boolean", "BOOLEAN"),
        ("Date32", "DATE"),
        ("LargeBinary", "BYTES"),
        ("Binary", "BYTES"),
        ("Timestamp(s)", "TIMESTAMP(0)"),
        ("Timestamp(ms)", "TIMESTAMP(3)"),
        ("Timestamp(µs)", "TIMESTAMP(6)"),
        ("Timestamp(ns)", "TIMESTAMP(9)"),
        ("Interval(MonthDayNano)", "INTERVAL"),
    ];
    WORDS.iter().fold(message.to_owned(), |message, (arrow, sql)| message.replace(arrow, sql))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_the_way_there_and_back() {
        for text in [
            "BOOLEAN",
            "TINYINT",
            "SMALLINT",
            "INT",
            "BIGINT",
            "FLOAT",
            "DOUBLE",
            "DECIMAL(38,9)",
            "STRING",
            "BYTES",
            "DATE",
            "TIMESTAMP(0)",
            "TIMESTAMP(3)",
            "TIMESTAMP(6)",
            "TIMESTAMP(9)",
            "TIMESTAMP_LTZ(3)",
            "ARRAY<STRUCT<a INT, b ARRAY<STRING>>>",
        ] {
            let data_type: DataType = text.parse().expect(text);
            assert_eq!(from_arrow(&to_arrow(&data_type)), Some(data_type), "{text}");
        }
    }

    #[test]
    fn foreign_types_are_no_columns() {
        for arrow in [
            ArrowType::UInt64,
            ArrowType::Utf8View,
            ArrowType::Decimal128(5, -2),
            ArrowType::Duration(TimeUnit::Second),
            ArrowType::Timestamp(TimeUnit::Second, Some("Europe/Paris".into())),
        ] {
            assert_eq!(from_arrow(&arrow), None, "{arrow}");
        }
    }
}
