//! Freshet's data types as Arrow's, and back.
//!
//! The plan speaks [`DataType`]; batches in memory are Arrow's. The translation is one to one for every
//! type that a plan can hold, so an array's type always says which declared type it came from.

use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Field, Fields, Schema, SchemaRef, TimeUnit};
use freshet_plan::{Column, DataType};

/// The zone that marks an instant (`TIMESTAMP_LTZ`) in an Arrow type.
pub const UTC: &str = "UTC";

/// The Arrow type that holds values of `data_type`. Items of arrays and fields of structs may be null.
#[must_use]
pub fn arrow_type(data_type: &DataType) -> ArrowType {
    match data_type {
        DataType::Boolean => ArrowType::Boolean,
        DataType::TinyInt => ArrowType::Int8,
        DataType::SmallInt => ArrowType::Int16,
        DataType::Int => ArrowType::Int32,
        DataType::BigInt => ArrowType::Int64,
        DataType::Float => ArrowType::Float32,
        DataType::Double => ArrowType::Float64,
        DataType::Decimal(precision, scale) => ArrowType::Decimal128(*precision, *scale as i8),
        DataType::String => ArrowType::Utf8,
        DataType::Bytes => ArrowType::Binary,
        DataType::Date => ArrowType::Date32,
        DataType::Timestamp(digits) => ArrowType::Timestamp(time_unit(*digits), None),
        DataType::TimestampLtz(digits) => ArrowType::Timestamp(time_unit(*digits), Some(UTC.into())),
        DataType::Array(item) => ArrowType::List(Arc::new(Field::new_list_field(arrow_type(item), true))),
        DataType::Struct(fields) => ArrowType::Struct(arrow_fields(fields)),
    }
}

/// The fields of the Arrow type of a struct.
pub(crate) fn arrow_fields(fields: &[(String, DataType)]) -> Fields {
    fields.iter().map(|(name, data_type)| Field::new(name, arrow_type(data_type), true)).collect()
}

/// The Arrow schema of rows with these columns.
///
/// Every field may be null, also that of a required column: decoding enforces the contract, and operators
/// are free to make rows (an outer join's, a partial aggregate's) that only their sink's contract judges.
#[must_use]
pub fn arrow_schema(columns: &[Column]) -> SchemaRef {
    let fields: Fields =
        columns.iter().map(|column| Field::new(&column.name, arrow_type(&column.data_type), true)).collect();
    Arc::new(Schema::new(fields))
}

/// The declared type whose values an Arrow type holds; `None` for Arrow types that no column has
/// (unsigned integers, views, intervals…).
#[must_use]
pub fn plan_type(arrow: &ArrowType) -> Option<DataType> {
    Some(match arrow {
        ArrowType::Boolean => DataType::Boolean,
        ArrowType::Int8 => DataType::TinyInt,
        ArrowType::Int16 => DataType::SmallInt,
        ArrowType::Int32 => DataType::Int,
        ArrowType::Int64 => DataType::BigInt,
        ArrowType::Float32 => DataType::Float,
        ArrowType::Float64 => DataType::Double,
        ArrowType::Decimal128(precision, scale) => DataType::Decimal(*precision, u8::try_from(*scale).ok()?),
        ArrowType::Utf8 => DataType::String,
        ArrowType::Binary => DataType::Bytes,
        ArrowType::Date32 => DataType::Date,
        ArrowType::Timestamp(unit, None) => DataType::Timestamp(fraction_digits(*unit)),
        ArrowType::Timestamp(unit, Some(zone)) if &**zone == UTC => DataType::TimestampLtz(fraction_digits(*unit)),
        ArrowType::List(item) => DataType::Array(Box::new(plan_type(item.data_type())?)),
        ArrowType::Struct(fields) => DataType::Struct(
            fields
                .iter()
                .map(|field| Some((field.name().clone(), plan_type(field.data_type())?)))
                .collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}

/// The Arrow unit of a timestamp with this many fractional digits.
///
/// A plan holds 0, 3, 6 and 9 only; any other number gets the next finer unit, so nothing is lost.
pub(crate) fn time_unit(digits: u8) -> TimeUnit {
    match digits {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

/// How many fractional digits of a second a unit has.
pub(crate) fn fraction_digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_goes_to_arrow_and_back() {
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
            "TIMESTAMP_LTZ(6)",
            "TIMESTAMP_LTZ(9)",
            "ARRAY<STRUCT<id STRING, at ARRAY<TIMESTAMP(3)>>>",
        ] {
            let data_type: DataType = text.parse().expect(text);
            assert_eq!(plan_type(&arrow_type(&data_type)), Some(data_type), "{text}");
        }
    }

    #[test]
    fn types_that_no_column_has_are_none() {
        for arrow in [
            ArrowType::UInt64,
            ArrowType::Utf8View,
            ArrowType::Decimal128(5, -2),
            ArrowType::Timestamp(TimeUnit::Second, Some("+02:00".into())),
            ArrowType::new_list(ArrowType::UInt8, true),
        ] {
            assert_eq!(plan_type(&arrow), None, "{arrow}");
        }
    }
}
