//! Results: from cells to arrays of the aggregates' types.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use freshet_plan::DataType;

use super::AccumulateError;
use super::cells::Cells;
use super::spec::{AggregateSpec, Kind};
use crate::types::UTC;

impl Cells {
    /// The results of groups `ids`.
    pub fn finish(&self, ids: &[u32], spec: &AggregateSpec) -> Result<ArrayRef, AccumulateError> {
        Ok(match self {
            Self::Count(counts) => {
                Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| counts[*id as usize] as i64)))
            }
            Self::ExactSum(cells) => exact(ids.iter().map(|id| cells.get(*id)), spec)?,
            Self::FloatSum(cells) => Arc::new(ids.iter().map(|id| cells.get(*id)).collect::<Float64Array>()),
            Self::ExactMean(cells) if spec.output == DataType::Double => {
                let mean = |(sum, count)| sum as f64 / count as f64;
                Arc::new(ids.iter().map(|id| cells.get(*id).map(mean)).collect::<Float64Array>())
            }
            Self::ExactMean(cells) => {
                let DataType::Decimal(_, scale) = spec.output else { return Err(spec.overflow()) };
                let more_digits = u32::from(scale - spec.scale);
                let mean = |(sum, count)| decimal_mean(sum, count, more_digits).ok_or_else(|| spec.overflow());
                let means = ids.iter().map(|id| cells.get(*id).map(mean).transpose()).collect::<Result<Vec<_>, _>>()?;
                exact(means.into_iter(), spec)?
            }
            Self::FloatMean(cells) => {
                let mean = |(sum, count)| sum / count as f64;
                Arc::new(ids.iter().map(|id| cells.get(*id).map(mean)).collect::<Float64Array>())
            }
            Self::Int(_, cells) => {
                ints(ids.iter().map(|id| cells.get(*id)), &spec.output).ok_or_else(|| spec.overflow())?
            }
            Self::Decimal(_, cells) => exact(ids.iter().map(|id| cells.get(*id)), spec)?,
            Self::Float(_, cells) if spec.output == DataType::Float => {
                Arc::new(ids.iter().map(|id| cells.get(*id).map(|v| v as f32)).collect::<Float32Array>())
            }
            Self::Float(_, cells) => Arc::new(ids.iter().map(|id| cells.get(*id)).collect::<Float64Array>()),
            Self::Bits(_, cells) => {
                ints(ids.iter().map(|id| cells.get(*id)), &spec.output).ok_or_else(|| spec.overflow())?
            }
            Self::States(states) => states.finish(ids, spec)?,
            Self::Bytes(_, texts) if matches!(spec.kind, Kind::Ordered(_)) => {
                super::ordered::values(ids.iter().map(|id| texts.cells[*id as usize].as_deref()), spec)?
            }
            Self::Bytes(_, texts) => {
                let values = ids.iter().map(|id| texts.cells[*id as usize].as_deref());
                if spec.output == DataType::String {
                    let texts =
                        values.map(|v| v.map(std::str::from_utf8).transpose()).collect::<Result<StringArray, _>>();
                    Arc::new(texts.map_err(|_| AccumulateError::Damaged { aggregate: spec.name.clone() })?)
                } else {
                    Arc::new(values.collect::<BinaryArray>())
                }
            }
        })
    }
}

/// `sum / count` with `more_digits` more digits after the point than the sum has, rounded half up.
fn decimal_mean(sum: i128, count: u64, more_digits: u32) -> Option<i128> {
    let count = i128::from(count);
    let power = 10_i128.checked_pow(more_digits)?;
    let whole = (sum / count).checked_mul(power)?;
    // The rest is below 2^64, so its digits fit.
    let rest = (sum % count) * power;
    let (digits, left) = (rest / count, rest % count);
    let up = if left.abs() * 2 >= count { sum.signum() } else { 0 };
    whole.checked_add(digits + up)
}

/// Exact results as BIGINT or DECIMAL.
fn exact(values: impl Iterator<Item = Option<i128>>, spec: &AggregateSpec) -> Result<ArrayRef, AccumulateError> {
    let overflow = || spec.overflow();
    if let DataType::Decimal(precision, scale) = spec.output {
        let limit = 10_i128.pow(u32::from(precision));
        let fits = |v: i128| if v > -limit && v < limit { Ok(v) } else { Err(overflow()) };
        let array = values.map(|v| v.map(fits).transpose()).collect::<Result<Decimal128Array, _>>()?;
        Ok(Arc::new(array.with_precision_and_scale(precision, scale as i8).map_err(|_| overflow())?))
    } else {
        let fits = |v: i128| i64::try_from(v).map_err(|_| overflow());
        Ok(Arc::new(values.map(|v| v.map(fits).transpose()).collect::<Result<Int64Array, _>>()?))
    }
}

/// Integers, Booleans, dates and timestamps as an array of their type; `None` when one does not fit.
fn ints(values: impl Iterator<Item = Option<i64>>, data_type: &DataType) -> Option<ArrayRef> {
    fn narrow<T: TryFrom<i64>, A: FromIterator<Option<T>>>(values: impl Iterator<Item = Option<i64>>) -> Option<A> {
        values.map(|v| v.map(T::try_from).transpose()).collect::<Result<A, _>>().ok()
    }
    Some(match data_type {
        DataType::Boolean => Arc::new(values.map(|v| v.map(|v| v != 0)).collect::<BooleanArray>()),
        DataType::TinyInt => Arc::new(narrow::<i8, Int8Array>(values)?),
        DataType::SmallInt => Arc::new(narrow::<i16, Int16Array>(values)?),
        DataType::Int => Arc::new(narrow::<i32, Int32Array>(values)?),
        DataType::BigInt => Arc::new(values.collect::<Int64Array>()),
        DataType::Date => Arc::new(narrow::<i32, Date32Array>(values)?),
        DataType::Timestamp(digits) | DataType::TimestampLtz(digits) => {
            let zone = matches!(data_type, DataType::TimestampLtz(_)).then_some(UTC);
            match digits {
                0 => Arc::new(values.collect::<TimestampSecondArray>().with_timezone_opt(zone)),
                3 => Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone_opt(zone)),
                6 => Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone_opt(zone)),
                _ => Arc::new(values.collect::<TimestampNanosecondArray>().with_timezone_opt(zone)),
            }
        }
        _ => return None,
    })
}
