//! Rows, encoded.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowTimestampType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_schema::{DataType as ArrowType, SchemaRef, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freshet_plan::Column;

use super::super::Encoder;
use super::super::time::{write_date, write_timestamp};
use super::cursor::plain_run;
use crate::EngineError;
use crate::types::{arrow_schema, fraction_digits};

/// Encodes rows as JSON objects.
pub(in super::super) struct JsonEncoder {
    schema: SchemaRef,
}

impl JsonEncoder {
    pub(in super::super) fn new(columns: &[Column]) -> Self {
        Self { schema: arrow_schema(columns) }
    }
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, rows: &RecordBatch, bytes: &mut Vec<u8>, ends: &mut Vec<u32>) -> Result<(), EngineError> {
        let wanted = self.schema.fields();
        if wanted.len() != rows.num_columns() {
            let message = format!("rows of {} columns for a topic of {}", rows.num_columns(), wanted.len());
            return Err(EngineError::Plan(message));
        }
        let mut members = Vec::with_capacity(wanted.len());
        for (at, (field, column)) in wanted.iter().zip(rows.columns()).enumerate() {
            if field.data_type() != column.data_type() {
                let (name, wanted, found) = (field.name(), field.data_type(), column.data_type());
                return Err(EngineError::Plan(format!("column `{name}` holds {found}, and its topic wants {wanted}")));
            }
            members.push((name_prefix(at, field.name()), Writer::new(column)?));
        }
        ends.reserve(rows.num_rows());
        for row in 0..rows.num_rows() {
            write_object(&members, row, bytes);
            // The buffers of a task are bounded far below 4 GiB, as the ranges into them assume.
            ends.push(bytes.len() as u32);
        }
        Ok(())
    }
}

/// Writes the values of one array.
pub(in super::super) struct Writer<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    TinyInt(&'a [i8]),
    SmallInt(&'a [i16]),
    Int(&'a [i32]),
    BigInt(&'a [i64]),
    Float(&'a [f32]),
    Double(&'a [f64]),
    Decimal { values: &'a [i128], scale: usize },
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a [i32]),
    Timestamp { values: &'a [i64], digits: u8, instant: bool },
    List { offsets: &'a OffsetBuffer<i32>, items: Box<Writer<'a>> },
    Object(Vec<(Vec<u8>, Writer<'a>)>),
}

impl<'a> Writer<'a> {
    /// A writer of `array`'s values.
    ///
    /// # Errors
    /// [`EngineError::Plan`] for Arrow types that no column has.
    pub(in super::super) fn new(array: &'a ArrayRef) -> Result<Self, EngineError> {
        let values = match array.data_type() {
            ArrowType::Boolean => Values::Boolean(array.as_boolean()),
            ArrowType::Int8 => Values::TinyInt(values::<Int8Type>(array)),
            ArrowType::Int16 => Values::SmallInt(values::<Int16Type>(array)),
            ArrowType::Int32 => Values::Int(values::<Int32Type>(array)),
            ArrowType::Int64 => Values::BigInt(values::<Int64Type>(array)),
            ArrowType::Float32 => Values::Float(values::<Float32Type>(array)),
            ArrowType::Float64 => Values::Double(values::<Float64Type>(array)),
            ArrowType::Decimal128(_, scale @ 0..) => {
                Values::Decimal { values: values::<Decimal128Type>(array), scale: *scale as usize }
            }
            ArrowType::Utf8 => Values::Text(array.as_string()),
            ArrowType::Binary => Values::Bytes(array.as_binary()),
            ArrowType::Date32 => Values::Date(values::<Date32Type>(array)),
            ArrowType::Timestamp(unit, zone) => Values::Timestamp {
                values: match unit {
                    TimeUnit::Second => timestamps::<TimestampSecondType>(array),
                    TimeUnit::Millisecond => timestamps::<TimestampMillisecondType>(array),
                    TimeUnit::Microsecond => timestamps::<TimestampMicrosecondType>(array),
                    TimeUnit::Nanosecond => timestamps::<TimestampNanosecondType>(array),
                },
                digits: fraction_digits(*unit),
                instant: zone.is_some(),
            },
            ArrowType::List(_) => {
                let list = array.as_list::<i32>();
                Values::List { offsets: list.offsets(), items: Box::new(Self::new(list.values())?) }
            }
            ArrowType::Struct(fields) => {
                let columns = fields.iter().zip(array.as_struct().columns()).enumerate();
                let members =
                    columns.map(|(at, (field, column))| Ok((name_prefix(at, field.name()), Self::new(column)?)));
                Values::Object(members.collect::<Result<_, EngineError>>()?)
            }
            other => return Err(EngineError::Plan(format!("values of the type {other} can't be encoded"))),
        };
        Ok(Self { nulls: array.nulls(), values })
    }

    /// Whether the value in `row` is null.
    #[inline]
    pub(in super::super) fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends the value in `row` as JSON.
    #[inline]
    pub(in super::super) fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        match &self.values {
            Values::Text(values) => write_text(values.value(row), out),
            Values::Date(_) | Values::Timestamp { .. } | Values::Bytes(_) => {
                out.push(b'"');
                self.write_plain(row, out);
                out.push(b'"');
            }
            Values::List { offsets, items } => {
                out.push(b'[');
                for (at, item) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    items.write(item, out);
                }
                out.push(b']');
            }
            Values::Object(members) => write_object(members, row, out),
            _ => self.write_plain(row, out),
        }
    }

    /// Appends the value in `row`, which is not null: texts as they are, bytes as base64, all others as in
    /// JSON, but without quotes.
    pub(in super::super) fn write_plain(&self, row: usize, out: &mut Vec<u8>) {
        match &self.values {
            Values::Text(values) => out.extend_from_slice(values.value(row).as_bytes()),
            Values::Boolean(values) => out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }),
            Values::TinyInt(values) => write_integer(values[row], out),
            Values::SmallInt(values) => write_integer(values[row], out),
            Values::Int(values) => write_integer(values[row], out),
            Values::BigInt(values) => write_integer(values[row], out),
            Values::Float(values) => write_float(values[row], values[row].is_finite(), out),
            Values::Double(values) => write_float(values[row], values[row].is_finite(), out),
            Values::Decimal { values, scale } => write_decimal(values[row], *scale, out),
            Values::Bytes(values) => write_base64(values.value(row), out),
            Values::Date(values) => write_date(i64::from(values[row]), out),
            Values::Timestamp { values, digits, instant } => write_timestamp(values[row], *digits, *instant, out),
            Values::List { .. } | Values::Object(_) => self.write(row, out),
        }
    }

    /// The bytes in `row`, when they are BYTES.
    pub(in super::super) fn bytes(&self, row: usize) -> Option<&'a [u8]> {
        match &self.values {
            Values::Bytes(values) => Some(values.value(row)),
            _ => None,
        }
    }
}

fn values<T: ArrowPrimitiveType>(array: &ArrayRef) -> &[T::Native] {
    let array: &PrimitiveArray<T> = array.as_primitive();
    array.values()
}

fn timestamps<T: ArrowTimestampType>(array: &ArrayRef) -> &[i64] {
    values::<T>(array)
}

fn write_object(members: &[(Vec<u8>, Writer<'_>)], row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    for (prefix, value) in members {
        out.extend_from_slice(prefix);
        value.write(row, out);
    }
    out.push(b'}');
}

/// What comes before a member's value: `"name":`, after a comma unless it is the first.
fn name_prefix(at: usize, name: &str) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(name.len() + 4);
    if at > 0 {
        prefix.push(b',');
    }
    write_text(name, &mut prefix);
    prefix.push(b':');
    prefix
}

/// Appends a text in quotes. Only what must be escaped is: quotes, backslashes and control characters.
fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let plain = plain_run(rest);
        out.extend_from_slice(&rest[..plain]);
        let Some(special) = rest.get(plain) else { break };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(control >> 4), digit(control & 15)]);
            }
        }
        rest = &rest[plain + 1..];
    }
    out.push(b'"');
}

fn write_integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_float(value: impl ryu::Float, finite: bool, out: &mut Vec<u8>) {
    if finite {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Appends a decimal with all `scale` digits after the point.
fn write_decimal(units: i128, scale: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(units.unsigned_abs()).as_bytes();
    if units < 0 {
        out.push(b'-');
    }
    let whole = digits.len().saturating_sub(scale);
    out.extend_from_slice(if whole == 0 { b"0" } else { &digits[..whole] });
    if scale > 0 {
        out.push(b'.');
        out.resize(out.len() + scale.saturating_sub(digits.len()), b'0');
        out.extend_from_slice(&digits[whole..]);
    }
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).expect("three bytes take four letters, with padding");
    out.truncate(start + written);
}
