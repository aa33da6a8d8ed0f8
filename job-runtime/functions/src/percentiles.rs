//! Percentiles of what an aggregate has collected.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::Float64Type;
use arrow_schema::DataType;
use datafusion_common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion_expr::ScalarUDF;

use crate::Histogram;
use crate::row::{Function, any_null};

/// The functions of this file.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    vec![
        Function::any("percentile_of", typing, percentile_of),
        Function::any("approx_percentile_of", typing, approx_percentile_of),
    ]
}

fn typing(arguments: &[DataType]) -> Result<DataType> {
    match arguments {
        [DataType::List(items), DataType::Float64] if *items.data_type() == DataType::Float64 => Ok(DataType::Float64),
        [DataType::Binary, DataType::Float64] => Ok(DataType::Float64),
        _ => plan_err!("a percentile is read from what an aggregate has collected, at a DOUBLE"),
    }
}

fn fraction(arguments: &[ArrayRef], row: usize) -> Result<f64> {
    match arguments.get(1).and_then(|array| array.as_primitive_opt::<Float64Type>()).map(|array| array.value(row)) {
        Some(fraction) if (0.0..=1.0).contains(&fraction) => Ok(fraction),
        _ => exec_err!("a percentile lies between 0 and 1"),
    }
}

/// The percentile of an array of numbers, between the two next ones where it lies between them.
fn percentile_of(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let Some(lists) = arguments.first().and_then(|array| array.as_list_opt::<i32>()) else {
        return exec_err!("percentile_of needs an array");
    };
    let one = |row: usize| -> Result<Option<f64>> {
        if any_null(arguments, row) {
            return Ok(None);
        }
        let items = lists.value(row);
        let mut values: Vec<f64> = items.as_primitive::<Float64Type>().iter().flatten().collect();
        values.sort_by(f64::total_cmp);
        Ok(interpolated(&values, fraction(arguments, row)?))
    };
    Ok(Arc::new((0..lists.len()).map(one).collect::<Result<Float64Array>>()?))
}

/// `values` are sorted.
fn interpolated(values: &[f64], fraction: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let place = fraction * last as f64;
    let (low, high) = (values[place.floor() as usize], values[(place.ceil() as usize).min(last)]);
    // Two infinities of one sign have no distance.
    Some(if low.total_cmp(&high).is_eq() { low } else { low + (high - low) * place.fract() })
}

/// About the percentile of the numbers of a [`Histogram`].
fn approx_percentile_of(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let Some(histograms) = arguments.first().and_then(|array| array.as_binary_opt::<i32>()) else {
        return exec_err!("approx_percentile_of needs a histogram");
    };
    let one = |row: usize| -> Result<Option<f64>> {
        if any_null(arguments, row) {
            return Ok(None);
        }
        let bytes = histograms.value(row);
        let mut at = 0;
        let histogram = Histogram::decode(bytes, &mut at).filter(|_| at == bytes.len());
        let histogram = histogram.ok_or_else(|| exec_datafusion_err!("a histogram is damaged"))?;
        Ok(histogram.percentile(fraction(arguments, row)?))
    };
    Ok(Arc::new((0..histograms.len()).map(one).collect::<Result<Float64Array>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_values() {
        for (values, fraction, wanted) in [
            (&[][..], 0.5, None),
            (&[3.0], 0.9, Some(3.0)),
            (&[1.0, 2.0], 0.5, Some(1.5)),
            (&[1.0, 2.0, 10.0], 0.5, Some(2.0)),
            (&[1.0, 2.0, 10.0], 0.75, Some(6.0)),
            (&[1.0, 2.0, 10.0], 1.0, Some(10.0)),
            (&[f64::INFINITY, f64::INFINITY], 0.5, Some(f64::INFINITY)),
        ] {
            assert_eq!(interpolated(values, fraction), wanted, "{values:?} at {fraction}");
        }
    }
}
