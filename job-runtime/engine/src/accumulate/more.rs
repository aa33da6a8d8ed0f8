//! Which accumulators the aggregates beyond COUNT, SUM, MIN, MAX and AVG need, and what they give.

use freshet_plan::{AggregateFunction, DataType};

use super::spec::{BitOp, Kind, Side, Spread, extreme, is_integer};
use crate::group::key::can_group;

/// How `function` of `argument` accumulates, and the type of its result; `None` where there is no such aggregate.
pub(super) fn rule(function: AggregateFunction, argument: &DataType) -> Option<(Kind, DataType)> {
    use AggregateFunction::{
        ApproxCountDistinct, ArrayAgg, Avg, BitAnd, BitOr, BitXor, BoolAnd, BoolOr, Count, FirstValue, Histogram,
        LastValue, Max, Min, StddevPop, StddevSamp, Sum, VarPop, VarSamp,
    };
    match function {
        VarPop => spread(argument, Spread { sample: false, root: false }),
        VarSamp => spread(argument, Spread { sample: true, root: false }),
        StddevPop => spread(argument, Spread { sample: false, root: true }),
        StddevSamp => spread(argument, Spread { sample: true, root: true }),
        BoolAnd => extreme(argument, Side::Least).filter(|_| *argument == DataType::Boolean),
        BoolOr => extreme(argument, Side::Greatest).filter(|_| *argument == DataType::Boolean),
        BitAnd => bits(argument, BitOp::And),
        BitOr => bits(argument, BitOp::Or),
        BitXor => bits(argument, BitOp::Xor),
        FirstValue => scalar(argument, Kind::Ordered(Side::Least), argument.clone()),
        LastValue => scalar(argument, Kind::Ordered(Side::Greatest), argument.clone()),
        ArrayAgg => scalar(argument, Kind::Collected, DataType::Array(Box::new(argument.clone()))),
        ApproxCountDistinct => scalar(argument, Kind::Estimate, DataType::BigInt),
        Histogram => {
            matches!(argument, DataType::Float | DataType::Double).then_some((Kind::Histogram, DataType::Bytes))
        }
        Count | Sum | Min | Max | Avg => None,
    }
}

fn scalar(argument: &DataType, kind: Kind, output: DataType) -> Option<(Kind, DataType)> {
    can_group(argument).then_some((kind, output))
}

fn spread(argument: &DataType, spread: Spread) -> Option<(Kind, DataType)> {
    match argument {
        DataType::Float | DataType::Double => Some((Kind::FloatMoments(spread), DataType::Double)),
        DataType::Decimal(..) => Some((Kind::Moments(spread), DataType::Double)),
        integer if is_integer(integer) => Some((Kind::Moments(spread), DataType::Double)),
        _ => None,
    }
}

fn bits(argument: &DataType, op: BitOp) -> Option<(Kind, DataType)> {
    is_integer(argument).then(|| (Kind::Bits(op), argument.clone()))
}
