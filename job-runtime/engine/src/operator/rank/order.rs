//! Bytes that sort as rows do by ORDER BY.
//!
//! ```text
//! a value   01 · its bytes, turned where the order is descending
//! null      00 where nulls come first, 02 where they come last
//! ```
//! Numbers, dates and times have 1, 8 or 16 bytes that sort as they do; texts and byte strings end with 00 00, and a 00
//! in them is followed by FF. So no value's bytes begin with another's, and the bytes of several columns one after
//! another sort as the columns do.

use crate::column::{ColumnView, Values};
use crate::group::key::{ordered_float, ordered_int};

const NULL_FIRST: u8 = 0;
const VALUE: u8 = 1;
const NULL_LAST: u8 = 2;

/// Appends the value of `row`.
pub(super) fn put_ordered(column: &ColumnView<'_>, row: usize, descending: bool, nulls_first: bool, out: &mut Vec<u8>) {
    if column.is_null(row) {
        out.push(if nulls_first { NULL_FIRST } else { NULL_LAST });
        return;
    }
    out.push(VALUE);
    let start = out.len();
    match column.values {
        Values::Boolean(values) => out.push(u8::from(values.value(row))),
        Values::Int8(values) => out.extend_from_slice(&ordered_int(i64::from(values[row]))),
        Values::Int16(values) => out.extend_from_slice(&ordered_int(i64::from(values[row]))),
        Values::Int32(values) => out.extend_from_slice(&ordered_int(i64::from(values[row]))),
        Values::Int64(values) => out.extend_from_slice(&ordered_int(values[row])),
        Values::Float32(values) => out.extend_from_slice(&ordered_float(f64::from(values[row]))),
        Values::Float64(values) => out.extend_from_slice(&ordered_float(values[row])),
        Values::Decimal(values) => out.extend_from_slice(&(values[row] ^ i128::MIN).to_be_bytes()),
        Values::String(values) => put_text(values.value(row).as_bytes(), out),
        Values::Bytes(values) => put_text(values.value(row), out),
    }
    if descending {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int16Array, StringArray};

    use super::*;

    /// The positions of rows in the order of their bytes.
    fn sorted(array: &ArrayRef, descending: bool, nulls_first: bool) -> Vec<usize> {
        let view = ColumnView::of(array).expect("a column");
        let mut rows: Vec<(Vec<u8>, usize)> = (0..array.len())
            .map(|row| {
                let mut bytes = Vec::new();
                put_ordered(&view, row, descending, nulls_first, &mut bytes);
                // What comes behind decides nothing.
                bytes.push(if row % 2 == 0 { 0xff } else { 0 });
                (bytes, row)
            })
            .collect();
        rows.sort();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    #[test]
    fn values_are_in_order_both_ways_and_nulls_where_they_should_be() {
        let arrays: [ArrayRef; 4] = [
            Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(-1), Some(0), Some(7), None])),
            Arc::new(Float64Array::from(vec![Some(f64::NEG_INFINITY), Some(-0.5), Some(0.0), Some(f64::NAN), None])),
            Arc::new(Decimal128Array::from(vec![
                Some(-(10_i128.pow(30))),
                Some(-1),
                Some(1),
                Some(10_i128.pow(30)),
                None,
            ])),
            Arc::new(StringArray::from(vec![Some(""), Some("a"), Some("a\0"), Some("ab"), None])),
        ];
        for array in arrays {
            assert_eq!(sorted(&array, false, true), [4, 0, 1, 2, 3], "{array:?}");
            assert_eq!(sorted(&array, false, false), [0, 1, 2, 3, 4], "{array:?}");
            assert_eq!(sorted(&array, true, true), [4, 3, 2, 1, 0], "{array:?}");
            assert_eq!(sorted(&array, true, false), [3, 2, 1, 0, 4], "{array:?}");
        }
    }
}
