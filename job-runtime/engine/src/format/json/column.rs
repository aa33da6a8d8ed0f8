//! Columns under construction: each takes the next JSON value, judges it by its type, and can forget what
//! it took.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, NullBufferBuilder,
    PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_schema::{DataType as ArrowType, TimeUnit};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use freshet_plan::DataType;

use super::super::BadReason;
use super::super::time::{parse_date, parse_timestamp};
use super::cursor::{Cursor, Fault};
use super::number::{NoFit, Number};
use super::object::ObjectBuilder;
use crate::types::{arrow_fields, arrow_type, time_unit};

/// Base64 as it is written here, and without its padding too.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A column under construction.
pub(super) struct ColumnBuilder {
    data_type: DataType,
    values: Values,
    validity: NullBufferBuilder,
    /// For texts that must be unescaped before they are read.
    scratch: Vec<u8>,
}

enum Values {
    Boolean(BooleanBufferBuilder),
    TinyInt(Vec<i8>),
    SmallInt(Vec<i16>),
    Int(Vec<i32>),
    BigInt(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: u8 },
    Text { ends: Vec<i32>, bytes: Vec<u8> },
    Bytes { ends: Vec<i32>, bytes: Vec<u8> },
    Date(Vec<i32>),
    Timestamp { values: Vec<i64>, digits: u8 },
    List { ends: Vec<i32>, items: Box<ColumnBuilder> },
    Object(ObjectBuilder),
}

impl ColumnBuilder {
    pub(super) fn new(data_type: &DataType) -> Self {
        let values = match data_type {
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::TinyInt => Values::TinyInt(Vec::new()),
            DataType::SmallInt => Values::SmallInt(Vec::new()),
            DataType::Int => Values::Int(Vec::new()),
            DataType::BigInt => Values::BigInt(Vec::new()),
            DataType::Float => Values::Float(Vec::new()),
            DataType::Double => Values::Double(Vec::new()),
            DataType::Decimal(precision, scale) => {
                Values::Decimal { values: Vec::new(), precision: *precision, scale: *scale }
            }
            DataType::String => Values::Text { ends: vec![0], bytes: Vec::new() },
            DataType::Bytes => Values::Bytes { ends: vec![0], bytes: Vec::new() },
            DataType::Date => Values::Date(Vec::new()),
            DataType::Timestamp(digits) | DataType::TimestampLtz(digits) => {
                Values::Timestamp { values: Vec::new(), digits: *digits }
            }
            DataType::Array(item) => Values::List { ends: vec![0], items: Box::new(Self::new(item)) },
            DataType::Struct(fields) => Values::Object(ObjectBuilder::new(
                fields.iter().map(|(name, data_type)| (name.as_str(), data_type, false)),
            )),
        };
        Self { data_type: data_type.clone(), values, validity: NullBufferBuilder::new(0), scratch: Vec::new() }
    }

    /// How many values it holds.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.validity.len()
    }

    /// Forgets all values from position `len` on, also one that was begun and not ended.
    pub(super) fn truncate(&mut self, len: usize) {
        self.validity.truncate(len);
        match &mut self.values {
            Values::Boolean(values) => values.truncate(len),
            Values::TinyInt(values) => values.truncate(len),
            Values::SmallInt(values) => values.truncate(len),
            Values::Int(values) | Values::Date(values) => values.truncate(len),
            Values::BigInt(values) | Values::Timestamp { values, .. } => values.truncate(len),
            Values::Float(values) => values.truncate(len),
            Values::Double(values) => values.truncate(len),
            Values::Decimal { values, .. } => values.truncate(len),
            Values::Text { ends, bytes } | Values::Bytes { ends, bytes } => {
                ends.truncate(len + 1);
                bytes.truncate(last(ends));
            }
            Values::List { ends, items } => {
                ends.truncate(len + 1);
                items.truncate(last(ends));
            }
            Values::Object(fields) => fields.truncate(len),
        }
    }

    /// Appends a null.
    pub(super) fn push_null(&mut self) {
        self.validity.append_null();
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::TinyInt(values) => values.push(0),
            Values::SmallInt(values) => values.push(0),
            Values::Int(values) | Values::Date(values) => values.push(0),
            Values::BigInt(values) | Values::Timestamp { values, .. } => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Double(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Text { ends, .. } | Values::Bytes { ends, .. } | Values::List { ends, .. } => {
                ends.push(ends.last().copied().unwrap_or(0));
            }
            Values::Object(fields) => fields.push_null(),
        }
    }

    /// Appends the value that comes next. After an error the column may hold a part of it: the caller
    /// truncates.
    #[inline]
    pub(super) fn take(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        let next = cursor.peek().unwrap_or(0);
        if next == b'n' {
            cursor.word("null")?;
            self.push_null();
            return Ok(());
        }
        let data_type = &self.data_type;
        match (&mut self.values, next) {
            (Values::Text { ends, bytes }, b'"') => {
                cursor.text_into(bytes)?;
                ends.push(bytes.len() as i32);
            }
            (Values::BigInt(values), b'-' | b'0'..=b'9') => values.push(integer(cursor, data_type)?),
            (Values::Int(values), b'-' | b'0'..=b'9') => values.push(integer(cursor, data_type)?),
            (Values::SmallInt(values), b'-' | b'0'..=b'9') => values.push(integer(cursor, data_type)?),
            (Values::TinyInt(values), b'-' | b'0'..=b'9') => values.push(integer(cursor, data_type)?),
            (Values::Double(values), b'-' | b'0'..=b'9') => values.push(number(cursor, data_type, Number::double)?),
            (Values::Float(values), b'-' | b'0'..=b'9') => values.push(number(cursor, data_type, Number::float)?),
            (Values::Decimal { values, precision, scale }, b'-' | b'0'..=b'9') => {
                values.push(number(cursor, data_type, |n| n.decimal(*precision, *scale))?);
            }
            (Values::Timestamp { values, digits }, b'"') => {
                let parsed = parse_timestamp(cursor.text(&mut self.scratch)?, *digits);
                values.push(parsed.map_err(|reason| unreadable(data_type, reason))?);
            }
            (Values::Timestamp { values, digits }, b'-' | b'0'..=b'9') => {
                values.push(number(cursor, data_type, |n| epoch_millis(n, *digits))?);
            }
            (Values::Boolean(values), b't') => {
                cursor.word("true")?;
                values.append(true);
            }
            (Values::Boolean(values), b'f') => {
                cursor.word("false")?;
                values.append(false);
            }
            (Values::Date(values), b'"') => {
                let parsed = parse_date(cursor.text(&mut self.scratch)?);
                values.push(parsed.map_err(|reason| unreadable(data_type, reason))?);
            }
            (Values::Bytes { ends, bytes }, b'"') => {
                let text = cursor.text(&mut self.scratch)?;
                let decoded = BASE64.decode_vec(text, bytes);
                decoded.map_err(|_| unreadable(data_type, BadReason::WrongType))?;
                ends.push(bytes.len() as i32);
            }
            (Values::List { ends, items }, b'[') => {
                take_items(cursor, items)?;
                ends.push(items.len() as i32);
            }
            (Values::Object(fields), b'{') => fields.take(cursor)?,
            _ => return Err(wrong_type(data_type, next)),
        }
        self.validity.append_non_null();
        Ok(())
    }

    /// The values as an Arrow array; the column is empty afterwards.
    pub(super) fn finish(&mut self) -> ArrayRef {
        let nulls = self.validity.finish();
        match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::TinyInt(values) => primitive::<Int8Type>(values, nulls),
            Values::SmallInt(values) => primitive::<Int16Type>(values, nulls),
            Values::Int(values) => primitive::<Int32Type>(values, nulls),
            Values::BigInt(values) => primitive::<Int64Type>(values, nulls),
            Values::Float(values) => primitive::<Float32Type>(values, nulls),
            Values::Double(values) => primitive::<Float64Type>(values, nulls),
            Values::Date(values) => primitive::<Date32Type>(values, nulls),
            Values::Decimal { values, .. } => {
                let array = primitive_array::<Decimal128Type>(values, nulls);
                Arc::new(array.with_data_type(arrow_type(&self.data_type)))
            }
            Values::Timestamp { values, digits } => {
                let zoned = arrow_type(&self.data_type);
                match time_unit(*digits) {
                    TimeUnit::Second => {
                        Arc::new(primitive_array::<TimestampSecondType>(values, nulls).with_data_type(zoned))
                    }
                    TimeUnit::Millisecond => {
                        Arc::new(primitive_array::<TimestampMillisecondType>(values, nulls).with_data_type(zoned))
                    }
                    TimeUnit::Microsecond => {
                        Arc::new(primitive_array::<TimestampMicrosecondType>(values, nulls).with_data_type(zoned))
                    }
                    TimeUnit::Nanosecond => {
                        Arc::new(primitive_array::<TimestampNanosecondType>(values, nulls).with_data_type(zoned))
                    }
                }
            }
            Values::Text { ends, bytes } => {
                // Each text is a part of a record that was checked to be UTF-8, or was unescaped from one.
                let array = StringArray::try_new(offsets(ends), buffer(bytes), nulls);
                Arc::new(array.expect("texts were taken from valid UTF-8"))
            }
            Values::Bytes { ends, bytes } => Arc::new(BinaryArray::new(offsets(ends), buffer(bytes), nulls)),
            Values::List { ends, items } => {
                let ArrowType::List(field) = arrow_type(&self.data_type) else {
                    unreachable!("an ARRAY is a list in Arrow")
                };
                Arc::new(ListArray::new(field, offsets(ends), items.finish(), nulls))
            }
            Values::Object(object) => {
                let DataType::Struct(fields) = &self.data_type else { unreachable!("only a STRUCT has fields") };
                let fields = arrow_fields(fields);
                let columns = object.finish();
                Arc::new(StructArray::new(fields, columns, nulls))
            }
        }
    }
}

fn take_items(cursor: &mut Cursor<'_>, items: &mut ColumnBuilder) -> Result<(), Fault> {
    let first = items.len();
    let mut more = cursor.open(b']');
    while more {
        items.take(cursor).map_err(|fault| match fault {
            Fault::Contract(mut breach) => {
                breach.path = format!("[{}]{}", items.len() - first, breach.path);
                Fault::Contract(breach)
            }
            fault @ Fault::Record(..) => fault,
        })?;
        more = cursor.another(b']')?;
    }
    Ok(())
}

#[inline]
fn integer<T: TryFrom<i64>>(cursor: &mut Cursor<'_>, data_type: &DataType) -> Result<T, Fault> {
    number(cursor, data_type, |number| T::try_from(number.integer()?).map_err(|_| NoFit::Range))
}

#[inline]
fn number<'a, T>(
    cursor: &mut Cursor<'a>,
    data_type: &DataType,
    read: impl FnOnce(&Number<'a>) -> Result<T, NoFit>,
) -> Result<T, Fault> {
    let number = cursor.number()?;
    read(&number).map_err(|misfit| match (misfit, data_type) {
        (NoFit::Range, _) => out_of_range(data_type),
        (NoFit::Fraction, DataType::Decimal(..)) => Fault::contract(
            BadReason::OutOfRange,
            format!("expected {data_type}, found a number with more digits after the point"),
        ),
        (NoFit::Fraction, _) => {
            Fault::contract(BadReason::WrongType, format!("expected {data_type}, found a number with a fraction"))
        }
    })
}

/// Milliseconds since the Unix epoch in units of `digits` fractional digits of a second, rounded down.
fn epoch_millis(number: &Number<'_>, digits: u8) -> Result<i64, NoFit> {
    let nanos = match number.integer() {
        Ok(millis) => i128::from(millis) * 1_000_000,
        Err(_) => number.exact(6)?,
    };
    i64::try_from(nanos.div_euclid(10_i128.pow(9 - u32::from(digits)))).map_err(|_| NoFit::Range)
}

#[cold]
fn wrong_type(data_type: &DataType, next: u8) -> Fault {
    let found = match next {
        b'"' => "a text",
        b'{' => "an object",
        b'[' => "an array",
        b't' | b'f' => "a Boolean",
        b'-' | b'0'..=b'9' => "a number",
        _ => "something that begins no JSON value",
    };
    let wanted = match data_type {
        // A struct's own text can be long; its fields are not what is wrong.
        DataType::Struct(_) => "an object (STRUCT)".to_owned(),
        DataType::Array(_) => "an array (ARRAY)".to_owned(),
        other => other.to_string(),
    };
    Fault::contract(BadReason::WrongType, format!("expected {wanted}, found {found}"))
}

#[cold]
fn out_of_range(data_type: &DataType) -> Fault {
    Fault::contract(BadReason::OutOfRange, format!("expected {data_type}, found a number beyond its range"))
}

#[cold]
fn unreadable(data_type: &DataType, reason: BadReason) -> Fault {
    let wanted = match data_type {
        DataType::Bytes => "base64",
        DataType::Date => "a date like 2026-01-02",
        _ => "a time like 2026-01-02T03:04:05.678Z, or milliseconds since 1970",
    };
    let found = if reason == BadReason::OutOfRange { "one beyond its range" } else { "another text" };
    Fault::contract(reason, format!("expected {data_type} ({wanted}), found {found}"))
}

fn last(ends: &[i32]) -> usize {
    ends.last().map_or(0, |end| *end as usize)
}

/// An empty vector for the next batch, which is likely to be as long as the last one; bounded, since a task
/// that has become idle keeps it.
fn next<T>(last: &[T]) -> Vec<T> {
    const MAX: usize = 1 << 16;
    Vec::with_capacity(last.len().min(MAX))
}

fn primitive_array<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> PrimitiveArray<T> {
    let next = next(values);
    PrimitiveArray::new(ScalarBuffer::from(std::mem::replace(values, next)), nulls)
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(primitive_array::<T>(values, nulls))
}

fn buffer(bytes: &mut Vec<u8>) -> Buffer {
    let next = next(bytes);
    std::mem::replace(bytes, next).into()
}

fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut next = next(ends);
    next.push(0);
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, next)))
}
