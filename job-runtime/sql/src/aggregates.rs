//! Which aggregates there are besides COUNT, SUM, MIN, MAX and AVG, what they are called, take and give.
//!
//! Some are one aggregate and a function of its result: LISTAGG joins the texts that ARRAY_AGG has collected, a
//! percentile is read from all numbers, or from a histogram of them. So the percentiles of one column share one state.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_schema::DataType as ArrowType;
use datafusion_common::{Result as DfResult, ScalarValue, not_impl_err, plan_datafusion_err, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::function::AccumulatorArgs;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr as DfExpr, Signature, Volatility};
use freshet_plan::{AggregateFunction, DataType};

use crate::arrow_types::{from_arrow, nearest, to_arrow};
use crate::bind::constant;

/// Every name with its aggregate, and how many arguments it is called with.
const NAMES: [(&str, AggregateFunction, RangeInclusive<usize>); 24] = {
    use AggregateFunction::{
        ApproxCountDistinct, ArrayAgg, BitAnd, BitOr, BitXor, BoolAnd, BoolOr, FirstValue, Histogram, LastValue,
        StddevPop, StddevSamp, VarPop, VarSamp,
    };
    [
        ("var_pop", VarPop, 1..=1),
        ("var_samp", VarSamp, 1..=1),
        ("variance", VarSamp, 1..=1),
        ("stddev_pop", StddevPop, 1..=1),
        ("stddev_samp", StddevSamp, 1..=1),
        ("stddev", StddevSamp, 1..=1),
        ("bool_and", BoolAnd, 1..=1),
        ("every", BoolAnd, 1..=1),
        ("bool_or", BoolOr, 1..=1),
        ("bit_and", BitAnd, 1..=1),
        ("bit_or", BitOr, 1..=1),
        ("bit_xor", BitXor, 1..=1),
        ("first_value", FirstValue, 1..=1),
        ("last_value", LastValue, 1..=1),
        ("array_agg", ArrayAgg, 1..=1),
        ("approx_count_distinct", ApproxCountDistinct, 1..=1),
        ("approx_distinct", ApproxCountDistinct, 1..=1),
        (LISTAGG, ArrayAgg, 1..=2),
        (STRING_AGG, ArrayAgg, 2..=2),
        (PERCENTILE, ArrayAgg, 2..=2),
        (MEDIAN, ArrayAgg, 1..=1),
        (APPROX_PERCENTILE, Histogram, 2..=2),
        (APPROX_MEDIAN, Histogram, 1..=1),
        // Spelt anew before it is planned (`respell.rs`).
        ("percentile_cont", ArrayAgg, 1..=1),
    ]
};

const LISTAGG: &str = "listagg";
const STRING_AGG: &str = "string_agg";
const PERCENTILE: &str = "percentile";
const MEDIAN: &str = "median";
const APPROX_PERCENTILE: &str = "approx_percentile";
const APPROX_MEDIAN: &str = "approx_median";

/// The aggregate that `name`, in lower case, calls.
pub(crate) fn named(name: &str) -> Option<AggregateFunction> {
    NAMES.iter().find(|(known, ..)| *known == name).map(|(_, function, _)| *function)
}

/// All names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, ..)| *name)
}

/// With how many arguments the aggregate `name` is called.
pub(crate) fn arguments(name: &str) -> RangeInclusive<usize> {
    let lower = name.to_lowercase();
    NAMES.iter().find(|(known, ..)| *known == lower).map_or(1..=1, |(.., count)| count.clone())
}

/// How an aggregate is called in texts for people, whichever of its names was written.
pub(crate) fn label(function: AggregateFunction) -> String {
    // As it is called in a stored plan.
    let first = names().find(|name| named(name) == Some(function) && arguments(name) == (1..=1));
    match function {
        AggregateFunction::Histogram => "HISTOGRAM".to_owned(),
        _ => first.map_or_else(|| format!("{function:?}"), str::to_owned).to_uppercase(),
    }
}

/// What is done with an aggregate's result.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum After {
    /// Its texts are joined with this between them.
    Join(String),
    /// This percentile of its numbers, exactly.
    Percentile(f64),
    /// This percentile of its histogram.
    ApproxPercentile(f64),
}

impl After {
    /// What the aggregate `name`, called with `args`, does with what it has collected.
    pub(crate) fn of(name: &str, args: &[DfExpr]) -> Result<Option<Self>, String> {
        let upper = name.to_uppercase();
        let fraction = || match args.get(1).map(constant) {
            None => Ok(0.5),
            Some(value) => match value.and_then(|value| value.cast_to(&ArrowType::Float64).ok()) {
                Some(ScalarValue::Float64(Some(fraction))) if (0.0..=1.0).contains(&fraction) => Ok(fraction),
                _ => Err(format!("the second argument of {upper} is a constant between 0 and 1")),
            },
        };
        Ok(Some(match name {
            LISTAGG | STRING_AGG => match args.get(1).map(constant) {
                None => Self::Join(",".to_owned()),
                Some(Some(ScalarValue::Utf8(Some(separator)))) => Self::Join(separator.clone()),
                Some(_) => return Err(format!("the second argument of {upper} is a constant text")),
            },
            PERCENTILE | MEDIAN => Self::Percentile(fraction()?),
            APPROX_PERCENTILE | APPROX_MEDIAN => Self::ApproxPercentile(fraction()?),
            _ => return Ok(None),
        }))
    }

    /// Whether nulls are left out before the aggregate, which would keep them.
    pub(crate) const fn leaves_nulls_out(&self) -> bool {
        matches!(self, Self::Join(_) | Self::Percentile(_))
    }

    /// It as an expression over `result`.
    pub(crate) fn over(&self, result: DfExpr) -> DfResult<DfExpr> {
        let (name, parameter) = match self {
            Self::Join(separator) => ("array_join", ScalarValue::Utf8(Some(separator.clone()))),
            Self::Percentile(fraction) => ("percentile_of", ScalarValue::Float64(Some(*fraction))),
            Self::ApproxPercentile(fraction) => ("approx_percentile_of", ScalarValue::Float64(Some(*fraction))),
        };
        let function =
            freshet_functions::by_name(name).ok_or_else(|| plan_datafusion_err!("there is no function {name}"))?;
        let parameter = DfExpr::Literal(parameter, None);
        Ok(DfExpr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), vec![result, parameter])))
    }
}

/// What an aggregate of this file takes when it is given `given`, and what it gives.
pub(crate) fn types(
    function: AggregateFunction,
    after: Option<&After>,
    given: &DataType,
) -> Result<(DataType, DataType), String> {
    use AggregateFunction::{
        ApproxCountDistinct, ArrayAgg, BitAnd, BitOr, BitXor, BoolAnd, BoolOr, Histogram, StddevPop, StddevSamp,
        VarPop, VarSamp,
    };
    use DataType::{Array, BigInt, Boolean, Bytes, Decimal, Double, Float, Int, SmallInt, String, Struct, TinyInt};
    let name = label(function);
    let is_number = matches!(given, TinyInt | SmallInt | Int | BigInt | Decimal(..) | Float | Double);
    match (function, given) {
        (ArrayAgg, String) if matches!(after, Some(After::Join(_))) => Ok((String, Array(Box::new(String)))),
        (ArrayAgg, _) if matches!(after, Some(After::Join(_))) => {
            Err(format!("texts are joined; this is {given}: write CAST(… AS STRING)"))
        }
        (ArrayAgg, _) if after.is_some() && is_number => Ok((Double, Array(Box::new(Double)))),
        (ArrayAgg, _) if after.is_some() => Err(format!("a percentile needs numbers; this is {given}")),
        (Histogram, _) if is_number => Ok((Double, Bytes)),
        (Histogram, _) => Err(format!("a percentile needs numbers; this is {given}")),
        (_, Array(_) | Struct(_)) => Err(format!("{name} of {given} is not supported; take one of its fields")),
        (VarPop | VarSamp | StddevPop | StddevSamp, TinyInt | SmallInt | Int | BigInt) => Ok((BigInt, Double)),
        (VarPop | VarSamp | StddevPop | StddevSamp, Decimal(..)) => Ok((given.clone(), Double)),
        (VarPop | VarSamp | StddevPop | StddevSamp, Float | Double) => Ok((Double, Double)),
        (VarPop | VarSamp | StddevPop | StddevSamp, _) => Err(format!("{name} needs a number; this is {given}")),
        (BoolAnd | BoolOr, Boolean) => Ok((Boolean, Boolean)),
        (BoolAnd | BoolOr, _) => Err(format!("{name} needs a condition; this is {given}: compare it with something")),
        (BitAnd | BitOr | BitXor, TinyInt | SmallInt | Int | BigInt) => Ok((given.clone(), given.clone())),
        (BitAnd | BitOr | BitXor, _) => Err(format!("{name} needs an integer; this is {given}")),
        (ApproxCountDistinct, _) => Ok((given.clone(), BigInt)),
        (ArrayAgg, _) => Ok((given.clone(), Array(Box::new(given.clone())))),
        _ => Ok((given.clone(), given.clone())),
    }
}

/// The aggregate `name`, for DataFusion's planner of expressions: it is only planned with, never computed.
pub(crate) fn planned(name: &str) -> Option<Arc<AggregateUDF>> {
    let name = names().find(|known| *known == name)?;
    let signature = Signature::variadic_any(Volatility::Immutable);
    Some(Arc::new(AggregateUDF::from(Planned { name, signature })))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Planned {
    name: &'static str,
    signature: Signature,
}

impl AggregateUDFImpl for Planned {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[ArrowType]) -> DfResult<ArrowType> {
        let (Some(function), Some(given)) = (named(self.name), arguments.first()) else {
            return plan_err!("{} has an argument", self.name.to_uppercase());
        };
        let given = from_arrow(given)
            .or_else(|| nearest(given))
            .ok_or_else(|| plan_datafusion_err!("{} of {given}", self.name.to_uppercase()))?;
        Ok(match self.name {
            LISTAGG | STRING_AGG => ArrowType::Utf8,
            PERCENTILE | MEDIAN | APPROX_PERCENTILE | APPROX_MEDIAN => ArrowType::Float64,
            _ => to_arrow(&types(function, None, &given).map_err(|message| plan_datafusion_err!("{message}"))?.1),
        })
    }

    fn accumulator(&self, _arguments: AccumulatorArgs<'_>) -> DfResult<Box<dyn Accumulator>> {
        not_impl_err!("{} is computed by the engine", self.name)
    }
}
