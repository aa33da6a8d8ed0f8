//! The encoding of group keys: what rows are grouped by, found by and placed by.
//!
//! A key is its columns one after another, each a tag and a value:
//!
//! ```text
//! 00                     null, which is a group of its own
//! 01 | 02                false | true
//! 03  8 bytes            TINYINT to BIGINT, DATE, timestamps in their unit: big-endian, sign bit turned
//! 04  8 bytes            FLOAT, DOUBLE: as a double's bits, ordered as numbers are; one NaN; −0 is 0
//! 05 16 bytes            DECIMAL: unscaled, big-endian, sign bit turned
//! 06 varint length bytes STRING, BYTES
//! ```
//!
//! Equal values have equal bytes, whatever the width of the integer, and different values differ. The
//! encoding is part of stored state, of internal topics and of the placing of rows: it never changes
//! under one version, which golden files check.

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder, PrimitiveBuilder, RecordBatch,
    StringBuilder,
};
use arrow::datatypes::{
    ArrowPrimitiveType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use freshet_plan::{Column, DataType};
use freshet_state::rows::{put_varint, take_bytes, take_varint};

use crate::column::{ColumnView, Values};
use crate::types::arrow_type;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const DECIMAL: u8 = 5;
const BYTES: u8 = 6;

/// One value of a key, read back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KeyValue<'a> {
    /// Null.
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// Integers, DATE (days), timestamps (in their unit).
    Int(i64),
    /// FLOAT and DOUBLE.
    Float(f64),
    /// The unscaled digits of a DECIMAL.
    Decimal(i128),
    /// STRING and BYTES.
    Bytes(&'a [u8]),
}

/// Whether rows can be grouped by (and DISTINCT applied to) values of this type.
#[must_use]
pub const fn can_group(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::Array(_) | DataType::Struct(_))
}

/// Writes keys of one batch's rows.
#[derive(Debug)]
pub(crate) struct KeyWriter<'a> {
    columns: Vec<ColumnView<'a>>,
}

impl<'a> KeyWriter<'a> {
    /// Keys made of the columns at `positions` of `batch`, or the type that can't be in a key.
    pub fn new(batch: &'a RecordBatch, positions: &[usize]) -> Result<Self, String> {
        let columns = positions
            .iter()
            .map(|at| ColumnView::of(batch.column(*at)).map_err(|t| format!("{t} can't be grouped by")));
        Ok(Self { columns: columns.collect::<Result<_, _>>()? })
    }

    /// Appends the key of `row`.
    #[inline]
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        for column in &self.columns {
            put_value(column, row, out);
        }
    }
}

/// Appends the value of `row`, null or not.
#[inline]
pub(crate) fn put_value(column: &ColumnView<'_>, row: usize, out: &mut Vec<u8>) {
    if column.is_null(row) {
        out.push(NULL);
        return;
    }
    match column.values {
        Values::Boolean(values) => out.push(if values.value(row) { TRUE } else { FALSE }),
        Values::Int8(values) => put_int(i64::from(values[row]), out),
        Values::Int16(values) => put_int(i64::from(values[row]), out),
        Values::Int32(values) => put_int(i64::from(values[row]), out),
        Values::Int64(values) => put_int(values[row], out),
        Values::Float32(values) => put_float(f64::from(values[row]), out),
        Values::Float64(values) => put_float(values[row], out),
        Values::Decimal(values) => {
            out.push(DECIMAL);
            out.extend_from_slice(&(values[row] ^ i128::MIN).to_be_bytes());
        }
        Values::String(values) => put_bytes(values.value(row).as_bytes(), out),
        Values::Bytes(values) => put_bytes(values.value(row), out),
    }
}

fn put_int(value: i64, out: &mut Vec<u8>) {
    out.push(INT);
    out.extend_from_slice(&ordered_int(value));
}

/// Bytes that sort as the numbers do.
pub(crate) const fn ordered_int(value: i64) -> [u8; 8] {
    (value ^ i64::MIN).to_be_bytes()
}

/// The number of [`ordered_int`].
pub(crate) const fn from_ordered_int(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}

fn put_float(value: f64, out: &mut Vec<u8>) {
    out.push(FLOAT);
    out.extend_from_slice(&ordered_float(value));
}

/// Bytes that sort as the numbers do.
pub(crate) fn ordered_float(value: f64) -> [u8; 8] {
    // Positive numbers get their sign bit set, negative ones all bits turned: then bits sort as numbers.
    let bits = canonical(value).to_bits();
    let ordered = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
    ordered.to_be_bytes()
}

/// One zero and one NaN, which sorts above every number.
pub(crate) fn canonical(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else {
        // −0 + 0 is 0; nothing else changes.
        value + 0.0
    }
}

fn put_bytes(value: &[u8], out: &mut Vec<u8>) {
    out.push(BYTES);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Reads one value at `at` and moves past it; `None` when the bytes are no key.
#[must_use]
pub fn take_value<'a>(bytes: &'a [u8], at: &mut usize) -> Option<KeyValue<'a>> {
    let tag = *bytes.get(*at)?;
    *at += 1;
    Some(match tag {
        NULL => KeyValue::Null,
        FALSE => KeyValue::Boolean(false),
        TRUE => KeyValue::Boolean(true),
        INT => KeyValue::Int(from_ordered_int(take_array(bytes, at)?)),
        FLOAT => {
            let ordered = u64::from_be_bytes(take_array(bytes, at)?);
            KeyValue::Float(f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered }))
        }
        DECIMAL => KeyValue::Decimal(i128::from_be_bytes(take_array(bytes, at)?) ^ i128::MIN),
        BYTES => {
            let len = take_varint(bytes, at)?;
            KeyValue::Bytes(take_bytes(bytes, at, len)?)
        }
        _ => return None,
    })
}

fn take_array<const N: usize>(bytes: &[u8], at: &mut usize) -> Option<[u8; N]> {
    take_bytes(bytes, at, N as u64)?.try_into().ok()
}

/// The columns of `keys` (n keys to n rows), or what is wrong with them.
pub(crate) fn decode_columns<'k>(
    columns: &[Column],
    keys: impl ExactSizeIterator<Item = &'k [u8]>,
) -> Result<Vec<ArrayRef>, String> {
    let mut builders: Vec<_> =
        columns.iter().map(|c| KeyBuilder::new(&c.data_type, keys.len())).collect::<Result<_, _>>()?;
    for key in keys {
        let mut at = 0;
        for (builder, column) in builders.iter_mut().zip(columns) {
            let value =
                take_value(key, &mut at).ok_or_else(|| format!("a key is cut short in column `{}`", column.name))?;
            builder.append(value).map_err(|()| {
                format!("a key holds {value:?} where column `{}` is {}", column.name, column.data_type)
            })?;
        }
        if at != key.len() {
            return Err(format!("a key has {} bytes after its {} columns", key.len() - at, columns.len()));
        }
    }
    Ok(builders.into_iter().map(KeyBuilder::finish).collect())
}

enum KeyBuilder {
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Date(Date32Builder),
    Seconds(PrimitiveBuilder<TimestampSecondType>),
    Millis(PrimitiveBuilder<TimestampMillisecondType>),
    Micros(PrimitiveBuilder<TimestampMicrosecondType>),
    Nanos(PrimitiveBuilder<TimestampNanosecondType>),
    Float(Float32Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder),
    String(StringBuilder),
    Bytes(BinaryBuilder),
}

/// The same code for a builder of any type.
macro_rules! each_builder {
    ($builder:expr, $b:ident => $code:expr) => {
        match $builder {
            KeyBuilder::Boolean($b) => $code,
            KeyBuilder::Int8($b) => $code,
            KeyBuilder::Int16($b) => $code,
            KeyBuilder::Int32($b) => $code,
            KeyBuilder::Int64($b) => $code,
            KeyBuilder::Date($b) => $code,
            KeyBuilder::Seconds($b) => $code,
            KeyBuilder::Millis($b) => $code,
            KeyBuilder::Micros($b) => $code,
            KeyBuilder::Nanos($b) => $code,
            KeyBuilder::Float($b) => $code,
            KeyBuilder::Double($b) => $code,
            KeyBuilder::Decimal($b) => $code,
            KeyBuilder::String($b) => $code,
            KeyBuilder::Bytes($b) => $code,
        }
    };
}

impl KeyBuilder {
    fn new(data_type: &DataType, rows: usize) -> Result<Self, String> {
        Ok(match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::TinyInt => Self::Int8(primitive(data_type, rows)),
            DataType::SmallInt => Self::Int16(primitive(data_type, rows)),
            DataType::Int => Self::Int32(primitive(data_type, rows)),
            DataType::BigInt => Self::Int64(primitive(data_type, rows)),
            DataType::Date => Self::Date(primitive(data_type, rows)),
            DataType::Timestamp(0) | DataType::TimestampLtz(0) => Self::Seconds(primitive(data_type, rows)),
            DataType::Timestamp(3) | DataType::TimestampLtz(3) => Self::Millis(primitive(data_type, rows)),
            DataType::Timestamp(6) | DataType::TimestampLtz(6) => Self::Micros(primitive(data_type, rows)),
            DataType::Timestamp(_) | DataType::TimestampLtz(_) => Self::Nanos(primitive(data_type, rows)),
            DataType::Float => Self::Float(primitive(data_type, rows)),
            DataType::Double => Self::Double(primitive(data_type, rows)),
            DataType::Decimal(..) => Self::Decimal(primitive(data_type, rows)),
            DataType::String => Self::String(StringBuilder::with_capacity(rows, rows * 16)),
            DataType::Bytes => Self::Bytes(BinaryBuilder::with_capacity(rows, rows * 16)),
            DataType::Array(_) | DataType::Struct(_) => return Err(format!("{data_type} can't be grouped by")),
        })
    }

    fn append(&mut self, value: KeyValue<'_>) -> Result<(), ()> {
        match (self, value) {
            (Self::Boolean(b), KeyValue::Boolean(v)) => b.append_value(v),
            (Self::Int8(b), KeyValue::Int(v)) => b.append_value(i8::try_from(v).map_err(|_| ())?),
            (Self::Int16(b), KeyValue::Int(v)) => b.append_value(i16::try_from(v).map_err(|_| ())?),
            (Self::Int32(b), KeyValue::Int(v)) => b.append_value(i32::try_from(v).map_err(|_| ())?),
            (Self::Int64(b), KeyValue::Int(v)) => b.append_value(v),
            (Self::Date(b), KeyValue::Int(v)) => b.append_value(i32::try_from(v).map_err(|_| ())?),
            (Self::Seconds(b), KeyValue::Int(v)) => b.append_value(v),
            (Self::Millis(b), KeyValue::Int(v)) => b.append_value(v),
            (Self::Micros(b), KeyValue::Int(v)) => b.append_value(v),
            (Self::Nanos(b), KeyValue::Int(v)) => b.append_value(v),
            (Self::Float(b), KeyValue::Float(v)) => b.append_value(v as f32),
            (Self::Double(b), KeyValue::Float(v)) => b.append_value(v),
            (Self::Decimal(b), KeyValue::Decimal(v)) => b.append_value(v),
            (Self::String(b), KeyValue::Bytes(v)) => b.append_value(std::str::from_utf8(v).map_err(|_| ())?),
            (Self::Bytes(b), KeyValue::Bytes(v)) => b.append_value(v),
            (builder, KeyValue::Null) => builder.append_null(),
            _ => return Err(()),
        }
        Ok(())
    }

    fn append_null(&mut self) {
        each_builder!(self, builder => builder.append_null());
    }

    fn finish(mut self) -> ArrayRef {
        each_builder!(&mut self, builder => ArrayBuilder::finish(builder))
    }
}

/// A builder for exactly the Arrow type of `data_type`: zone, precision and scale included.
fn primitive<T: ArrowPrimitiveType>(data_type: &DataType, rows: usize) -> PrimitiveBuilder<T> {
    PrimitiveBuilder::with_capacity(rows).with_data_type(arrow_type(data_type))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Float32Array, Float64Array, Int8Array, Int64Array, StringArray};
    use arrow::datatypes::Float64Type;

    use super::*;

    fn encoded(array: ArrayRef) -> Vec<Vec<u8>> {
        let rows = array.len();
        let batch = RecordBatch::try_from_iter([("c", array)]).expect("a batch");
        let writer = KeyWriter::new(&batch, &[0]).expect("a key column");
        let key = |row| {
            let mut key = Vec::new();
            writer.write(row, &mut key);
            key
        };
        (0..rows).map(key).collect()
    }

    #[test]
    fn bytes_of_numbers_sort_as_numbers_do() {
        let ints = encoded(Arc::new(Int64Array::from(vec![i64::MIN, -300, -1, 0, 1, 255, 256, i64::MAX])));
        assert!(ints.is_sorted());
        let floats = vec![f64::NEG_INFINITY, -1e300, -1.5, -1e-300, 0.0, 1e-300, 1.5, f64::INFINITY, f64::NAN];
        assert!(encoded(Arc::new(Float64Array::from(floats))).is_sorted());
        let decimals = arrow::array::Decimal128Array::from(vec![-(10_i128.pow(38)) + 1, -1, 0, 1, 10_i128.pow(38) - 1]);
        assert!(encoded(Arc::new(decimals)).is_sorted());
    }

    #[test]
    fn equal_values_have_equal_bytes() {
        let minus_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63);
        let floats = encoded(Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, minus_nan])));
        assert_eq!(floats[0], floats[1]);
        assert_eq!(floats[2], floats[3]);
        assert_eq!(encoded(Arc::new(Int8Array::from(vec![-7]))), encoded(Arc::new(Int64Array::from(vec![-7]))));
        assert_eq!(encoded(Arc::new(Float32Array::from(vec![0.5]))), encoded(Arc::new(Float64Array::from(vec![0.5]))));
    }

    #[test]
    fn keys_of_several_columns_differ_where_their_values_do() {
        let pairs = [
            (Some("a"), Some("b")),
            (Some("ab"), Some("")),
            (Some(""), Some("ab")),
            (None, Some("a")),
            (Some("a"), None),
            (None, None),
        ];
        let x: ArrayRef = Arc::new(pairs.iter().map(|pair| pair.0).collect::<StringArray>());
        let y: ArrayRef = Arc::new(pairs.iter().map(|pair| pair.1).collect::<StringArray>());
        let batch = RecordBatch::try_from_iter_with_nullable([("x", x, true), ("y", y, true)]).expect("a batch");
        let writer = KeyWriter::new(&batch, &[0, 1]).expect("key columns");
        let mut keys = Vec::new();
        for row in 0..pairs.len() {
            let mut key = Vec::new();
            writer.write(row, &mut key);
            keys.push(key);
        }
        let columns = ["x", "y"].map(|name| Column::new(name, DataType::String));
        let decoded = decode_columns(&columns, keys.iter().map(Vec::as_slice)).expect("keys");
        assert_eq!(&decoded[0], batch.column(0));
        assert_eq!(&decoded[1], batch.column(1));
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), pairs.len());
    }

    #[test]
    fn floats_come_back() {
        let values = Float64Array::from(vec![-1.5, 0.0, 1e300, f64::NEG_INFINITY]);
        let keys = encoded(Arc::new(values.clone()));
        let decoded =
            decode_columns(&[Column::new("c", DataType::Double)], keys.iter().map(Vec::as_slice)).expect("keys");
        assert_eq!(decoded[0].as_primitive::<Float64Type>(), &values);
    }

    #[test]
    fn keys_that_are_none_say_what_is_wrong() {
        let int = [Column::new("n", DataType::TinyInt)];
        let mut wide = Vec::new();
        put_int(1_000, &mut wide);
        for (key, what) in [
            (&wide[..4], "cut short"),
            (&wide, "TINYINT"),
            (&[BYTES, 1, b'a'], "TINYINT"),
            (&[NULL, NULL], "after"),
            (&[77], "cut short"),
        ] {
            let error = decode_columns(&int, [key].into_iter()).expect_err(what);
            assert!(error.contains(what), "{error}");
        }
    }
}
