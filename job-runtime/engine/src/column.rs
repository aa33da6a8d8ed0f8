//! Typed views of Arrow columns: one match a column and batch instead of one downcast a row.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_schema::DataType as ArrowType;

/// The values of a column (n rows) and which of them are null.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnView<'a> {
    /// The values; what stands at a null is not defined.
    pub values: Values<'a>,
    /// Validity, unless there is no null.
    pub nulls: Option<&'a NullBuffer>,
}

/// Values by their representation in memory.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "named after the representation")]
pub(crate) enum Values<'a> {
    Boolean(&'a BooleanBuffer),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    /// INT and DATE.
    Int32(&'a [i32]),
    /// BIGINT and timestamps in their own unit.
    Int64(&'a [i64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    /// Unscaled decimals.
    Decimal(&'a [i128]),
    String(&'a StringArray),
    Bytes(&'a BinaryArray),
}

impl<'a> ColumnView<'a> {
    /// A view of `array`, or its type where no operator can group or aggregate it.
    pub fn of(array: &'a ArrayRef) -> Result<Self, &'a ArrowType> {
        let values = match array.data_type() {
            ArrowType::Boolean => Values::Boolean(array.as_boolean().values()),
            ArrowType::Int8 => Values::Int8(array.as_primitive::<Int8Type>().values()),
            ArrowType::Int16 => Values::Int16(array.as_primitive::<Int16Type>().values()),
            ArrowType::Int32 => Values::Int32(array.as_primitive::<Int32Type>().values()),
            ArrowType::Date32 => Values::Int32(array.as_primitive::<Date32Type>().values()),
            ArrowType::Int64 => Values::Int64(array.as_primitive::<Int64Type>().values()),
            ArrowType::Timestamp(unit, _) => Values::Int64(match unit {
                TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
                TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
                TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
                TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
            }),
            ArrowType::Float32 => Values::Float32(array.as_primitive::<Float32Type>().values()),
            ArrowType::Float64 => Values::Float64(array.as_primitive::<Float64Type>().values()),
            ArrowType::Decimal128(..) => Values::Decimal(array.as_primitive::<Decimal128Type>().values()),
            ArrowType::Utf8 => Values::String(array.as_string()),
            ArrowType::Binary => Values::Bytes(array.as_binary()),
            other => return Err(other),
        };
        Ok(Self { values, nulls: array.nulls() })
    }

    /// Whether the value of `row` is null.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }
}
