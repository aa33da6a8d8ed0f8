//! Which accumulator an aggregate of a plan needs.

use freshet_plan::{Aggregate, AggregateFunction, DataType};

use super::AccumulateError;
use crate::group::key::can_group;

/// A checked aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateSpec {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) argument: Option<usize>,
    pub(crate) filter: Option<usize>,
    pub(crate) distinct: bool,
    pub(crate) output: DataType,
    /// Digits after the point of a decimal argument.
    pub(crate) scale: u8,
}

/// How an aggregate accumulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Rows or values.
    Count,
    /// Sum of integers or decimals, in 128 bits.
    ExactSum,
    /// Sum in double precision.
    FloatSum,
    /// Sum and count of integers or decimals.
    ExactMean,
    /// Sum and count in double precision.
    FloatMean,
    /// Least or greatest integer, Boolean, date or timestamp.
    Int(Side),
    /// Least or greatest unscaled decimal.
    Decimal(Side),
    /// Least or greatest float.
    Float(Side),
    /// Least or greatest text or byte string.
    Bytes(Side),
    /// Bits of integers.
    Bits(BitOp),
    /// Variance of integers or decimals, exact.
    Moments(Spread),
    /// Variance in double precision.
    FloatMoments(Spread),
    /// Estimate of how many values differ.
    Estimate,
    /// A histogram of numbers.
    Histogram,
    /// The first or last value by the order of rows.
    Ordered(Side),
    /// All values.
    Collected,
}

/// How bits are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it")]
pub(crate) enum BitOp {
    And,
    Or,
    Xor,
}

/// What is asked of values' distances from their mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    /// Whether the values are a sample, and not all.
    pub sample: bool,
    /// Whether the root is asked for: a standard deviation.
    pub root: bool,
}

/// Which end of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// MIN
    Least,
    /// MAX
    Greatest,
}

impl AggregateSpec {
    /// Checks an aggregate of a plan.
    ///
    /// # Errors
    /// What the plan asks for and this runtime does not do.
    pub fn new(aggregate: &Aggregate) -> Result<Self, String> {
        use super::more;
        use AggregateFunction::{Avg, Count, Max, Min, Sum};
        let Aggregate { name, function, argument, argument_type, distinct, filter, data_type } = aggregate;
        if argument.is_some() != argument_type.is_some() {
            return Err(format!("aggregate `{name}` has an argument without a type, or a type without an argument"));
        }
        let (kind, output) = match (function, argument_type) {
            (Count, _) => (Kind::Count, DataType::BigInt),
            (_, None) => return Err(format!("aggregate `{name}` has no argument")),
            (Sum, Some(argument)) => sum(argument).ok_or_else(|| unsupported(name, "SUM", argument))?,
            (Avg, Some(argument)) => mean(argument).ok_or_else(|| unsupported(name, "AVG", argument))?,
            (Min, Some(argument)) => {
                extreme(argument, Side::Least).ok_or_else(|| unsupported(name, "MIN", argument))?
            }
            (Max, Some(argument)) => {
                extreme(argument, Side::Greatest).ok_or_else(|| unsupported(name, "MAX", argument))?
            }
            (other, Some(argument)) => {
                more::rule(*other, argument).ok_or_else(|| unsupported(name, &format!("{other:?}"), argument))?
            }
        };
        if output != *data_type {
            return Err(format!("aggregate `{name}` gives {output}, the plan says {data_type}"));
        }
        let distinct = *distinct && !function.ignores_distinct();
        if distinct && !argument_type.as_ref().is_some_and(can_group) {
            return Err(format!("aggregate `{name}`: DISTINCT needs an argument of a scalar type"));
        }
        let scale = if let Some(DataType::Decimal(_, scale)) = argument_type { *scale } else { 0 };
        Ok(Self { name: name.clone(), kind, argument: *argument, filter: *filter, distinct, output, scale })
    }

    /// Whether each row's event time, partition and offset are needed.
    pub(crate) const fn needs_order(&self) -> bool {
        matches!(self.kind, Kind::Ordered(_)) || (matches!(self.kind, Kind::Collected) && !self.distinct)
    }

    /// Whether values are kept one by one.
    pub(crate) const fn has_members(&self) -> bool {
        self.distinct || matches!(self.kind, Kind::Collected)
    }

    /// COUNT(*).
    pub(crate) fn count_rows() -> Self {
        Self {
            name: "rows".to_owned(),
            kind: Kind::Count,
            argument: None,
            filter: None,
            distinct: false,
            output: DataType::BigInt,
            scale: 0,
        }
    }

    pub(crate) fn overflow(&self) -> AccumulateError {
        AccumulateError::Overflow { aggregate: self.name.clone(), data_type: self.output.to_string() }
    }
}

fn unsupported(name: &str, function: &str, argument: &DataType) -> String {
    format!("aggregate `{name}`: there is no {function} of {argument}")
}

pub(super) const fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::TinyInt | DataType::SmallInt | DataType::Int | DataType::BigInt)
}

fn sum(argument: &DataType) -> Option<(Kind, DataType)> {
    Some(match argument {
        DataType::Decimal(_, scale) => (Kind::ExactSum, DataType::Decimal(38, *scale)),
        DataType::Float | DataType::Double => (Kind::FloatSum, DataType::Double),
        integer if is_integer(integer) => (Kind::ExactSum, DataType::BigInt),
        _ => return None,
    })
}

fn mean(argument: &DataType) -> Option<(Kind, DataType)> {
    Some(match argument {
        DataType::Decimal(_, scale) => (Kind::ExactMean, DataType::Decimal(38, (*scale).max(6))),
        DataType::Float | DataType::Double => (Kind::FloatMean, DataType::Double),
        integer if is_integer(integer) => (Kind::ExactMean, DataType::Double),
        _ => return None,
    })
}

pub(super) fn extreme(argument: &DataType, side: Side) -> Option<(Kind, DataType)> {
    let kind = match argument {
        DataType::Decimal(..) => Kind::Decimal(side),
        DataType::Float | DataType::Double => Kind::Float(side),
        DataType::String | DataType::Bytes => Kind::Bytes(side),
        DataType::Boolean | DataType::Date | DataType::Timestamp(_) | DataType::TimestampLtz(_) => Kind::Int(side),
        integer if is_integer(integer) => Kind::Int(side),
        _ => return None,
    };
    Some((kind, argument.clone()))
}
