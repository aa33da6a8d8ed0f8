//! From the plan's expressions to DataFusion's physical ones.

use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, IntervalUnit, SchemaRef, TimeUnit};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::{Operator, ScalarUDF};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{
    self, BinaryExpr, CaseExpr, Column, IsNotNullExpr, IsNullExpr, NegativeExpr, NotExpr, lit,
};
use freshet_plan::{BinaryOp, DataType, Expr, Literal};

use super::field::FieldOf;
use crate::EngineError;
use crate::types::{UTC, arrow_type};

pub(super) type Physical = Arc<dyn PhysicalExpr>;

/// The physical form of `expr`.
pub(super) fn physical(expr: &Expr, input: &SchemaRef) -> Result<Physical, EngineError> {
    Compiler { input }.expr(expr)
}

/// The physical form of `expr`, cast to `data_type`.
pub(super) fn physical_as(expr: &Expr, data_type: &DataType, input: &SchemaRef) -> Result<Physical, EngineError> {
    let compiler = Compiler { input };
    let physical = match expr {
        // A null takes the type that is wanted, where casting one type to the other may not be possible.
        Expr::Literal { value: Literal::Null, .. } => compiler.literal(&Literal::Null, data_type)?,
        _ => compiler.expr(expr)?,
    };
    compiler.cast(physical, &arrow_type(data_type))
}

/// The expression cast to an Arrow type that a column has, where it gives one of the others.
pub(super) fn settle(physical: Physical, input: &SchemaRef) -> Result<Physical, EngineError> {
    let compiler = Compiler { input };
    let given = compiler.type_of(&physical)?;
    match settled(&given) {
        Some(wanted) => compiler.cast(physical, &wanted),
        None => Ok(physical),
    }
}

/// What an error says, without DataFusion's wrapping.
pub(super) fn message(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::ArrowError(error, _) => error.to_string(),
        other => other.strip_backtrace(),
    }
}

pub(super) fn refused(error: &DataFusionError) -> EngineError {
    EngineError::Plan(message(error))
}

/// The column type that stands for an Arrow type which no column has, where there is one.
fn settled(given: &ArrowType) -> Option<ArrowType> {
    Some(match given {
        ArrowType::Utf8View | ArrowType::LargeUtf8 => ArrowType::Utf8,
        ArrowType::BinaryView | ArrowType::LargeBinary | ArrowType::FixedSizeBinary(_) => ArrowType::Binary,
        ArrowType::UInt8 => ArrowType::Int16,
        ArrowType::UInt16 => ArrowType::Int32,
        ArrowType::UInt32 | ArrowType::UInt64 => ArrowType::Int64,
        ArrowType::Float16 => ArrowType::Float32,
        ArrowType::Date64 => ArrowType::Date32,
        ArrowType::Decimal32(precision, scale) | ArrowType::Decimal64(precision, scale) => {
            ArrowType::Decimal128(*precision, *scale)
        }
        ArrowType::Timestamp(unit, Some(zone)) if &**zone != UTC => ArrowType::Timestamp(*unit, Some(UTC.into())),
        ArrowType::Dictionary(_, value) => settled(value).unwrap_or_else(|| value.as_ref().clone()),
        _ => return None,
    })
}

/// Translates expressions over rows of one schema.
pub(super) struct Compiler<'a> {
    pub(super) input: &'a SchemaRef,
}

impl Compiler<'_> {
    pub(super) fn expr(&self, expr: &Expr) -> Result<Physical, EngineError> {
        Ok(match expr {
            Expr::Column { index, name } => {
                let Some(field) = self.input.fields().get(*index) else {
                    let count = self.input.fields().len();
                    return Err(EngineError::Plan(format!("column {index} (`{name}`) is not among {count} columns")));
                };
                Arc::new(Column::new(field.name(), *index))
            }
            Expr::Literal { value, data_type } => self.literal(value, data_type)?,
            Expr::Binary { op, left, right } => self.binary(*op, left, right)?,
            Expr::Not { expr } => Arc::new(NotExpr::new(self.expr(expr)?)),
            Expr::Negative { expr } => self.negative(expr)?,
            Expr::IsNull { expr, negated: false } => Arc::new(IsNullExpr::new(self.expr(expr)?)),
            Expr::IsNull { expr, negated: true } => Arc::new(IsNotNullExpr::new(self.expr(expr)?)),
            Expr::IsTruth { expr, truth, negated } => {
                let op = if *negated { Operator::IsDistinctFrom } else { Operator::IsNotDistinctFrom };
                Arc::new(BinaryExpr::new(self.expr(expr)?, op, lit(*truth)))
            }
            Expr::Like { expr, pattern, negated, case_insensitive, escape } => {
                let pattern = self.pattern(pattern, escape.unwrap_or('\\'))?;
                let like = expressions::like(*negated, *case_insensitive, self.expr(expr)?, pattern, self.input);
                like.map_err(|error| refused(&error))?
            }
            Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated)?,
            Expr::Case { base, when, otherwise } => {
                let base = base.as_deref().map(|base| self.expr(base)).transpose()?;
                let when = when.iter().map(|(condition, result)| Ok((self.expr(condition)?, self.expr(result)?)));
                let when = when.collect::<Result<_, EngineError>>()?;
                let otherwise = otherwise.as_deref().map(|otherwise| self.expr(otherwise)).transpose()?;
                self.case(base, when, otherwise)?
            }
            Expr::Cast { expr, data_type, safe: false } => self.cast(self.expr(expr)?, &arrow_type(data_type))?,
            Expr::Cast { expr, data_type, safe: true } => {
                let cast = expressions::try_cast(self.expr(expr)?, self.input, arrow_type(data_type));
                cast.map_err(|error| refused(&error))?
            }
            Expr::Field { expr, name } => {
                let function = Arc::new(ScalarUDF::from(FieldOf::new(name)));
                self.function(function, vec![self.expr(expr)?])?
            }
            Expr::Call { function, args } => self.call(function, args)?,
        })
    }

    fn literal(&self, value: &Literal, data_type: &DataType) -> Result<Physical, EngineError> {
        let arrow = arrow_type(data_type);
        let wrong = || EngineError::Plan(format!("{value:?} is no constant of the type {data_type}"));
        let scalar = match (value, &arrow) {
            (Literal::Null, arrow) => ScalarValue::try_from(arrow).map_err(|error| refused(&error))?,
            (Literal::Boolean(value), ArrowType::Boolean) => ScalarValue::Boolean(Some(*value)),
            (Literal::Int(value), ArrowType::Int8) => {
                ScalarValue::Int8(Some((*value).try_into().map_err(|_| wrong())?))
            }
            (Literal::Int(value), ArrowType::Int16) => {
                ScalarValue::Int16(Some((*value).try_into().map_err(|_| wrong())?))
            }
            (Literal::Int(value), ArrowType::Int32) => {
                ScalarValue::Int32(Some((*value).try_into().map_err(|_| wrong())?))
            }
            (Literal::Int(value), ArrowType::Int64) => ScalarValue::Int64(Some(*value)),
            (Literal::Int(value), ArrowType::Date32) => {
                ScalarValue::Date32(Some((*value).try_into().map_err(|_| wrong())?))
            }
            (Literal::Int(value), ArrowType::Timestamp(unit, zone)) => match unit {
                TimeUnit::Second => ScalarValue::TimestampSecond(Some(*value), zone.clone()),
                TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(*value), zone.clone()),
                TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(*value), zone.clone()),
                TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(*value), zone.clone()),
            },
            (Literal::Float(bits), ArrowType::Float32) => ScalarValue::Float32(Some(f64::from_bits(*bits) as f32)),
            (Literal::Float(bits), ArrowType::Float64) => ScalarValue::Float64(Some(f64::from_bits(*bits))),
            (Literal::Decimal(digits), ArrowType::Decimal128(precision, scale)) => {
                let units: i128 = digits.parse().map_err(|_| wrong())?;
                if units.unsigned_abs() >= 10_u128.pow(u32::from(*precision)) {
                    return Err(wrong());
                }
                ScalarValue::Decimal128(Some(units), *precision, *scale)
            }
            (Literal::String(value), ArrowType::Utf8) => ScalarValue::Utf8(Some(value.clone())),
            (Literal::Bytes(value), ArrowType::Binary) => ScalarValue::Binary(Some(value.clone())),
            (Literal::Interval { months, days, nanos }, _) => ScalarValue::new_interval_mdn(*months, *days, *nanos),
            _ => return Err(wrong()),
        };
        Ok(lit(scalar))
    }

    fn binary(&self, op: BinaryOp, left: &Expr, right: &Expr) -> Result<Physical, EngineError> {
        let (left, lazy) = (self.expr(left)?, can_fail(right));
        let right = self.expr(right)?;
        let operator = match op {
            BinaryOp::And => return self.logical(Operator::And, left, right, lazy),
            BinaryOp::Or => return self.logical(Operator::Or, left, right, lazy),
            BinaryOp::Eq => Operator::Eq,
            BinaryOp::NotEq => Operator::NotEq,
            BinaryOp::Lt => Operator::Lt,
            BinaryOp::LtEq => Operator::LtEq,
            BinaryOp::Gt => Operator::Gt,
            BinaryOp::GtEq => Operator::GtEq,
            BinaryOp::Plus => Operator::Plus,
            BinaryOp::Minus => Operator::Minus,
            BinaryOp::Multiply => Operator::Multiply,
            BinaryOp::Divide => Operator::Divide,
            BinaryOp::Modulo => Operator::Modulo,
            BinaryOp::IsDistinctFrom => Operator::IsDistinctFrom,
            BinaryOp::IsNotDistinctFrom => Operator::IsNotDistinctFrom,
            BinaryOp::Concat => Operator::StringConcat,
            BinaryOp::RegexMatch => Operator::RegexMatch,
            BinaryOp::RegexNotMatch => Operator::RegexNotMatch,
        };
        let binary: Physical = Arc::new(BinaryExpr::new(left, operator, right).with_fail_on_overflow(true));
        self.type_of(&binary)?;
        Ok(binary)
    }

    /// `left AND right` or `left OR right`. DataFusion evaluates the right side for all rows or for some, by
    /// how many of a batch need it; where that can fail, it must be exactly those that need it.
    fn logical(&self, op: Operator, left: Physical, right: Physical, lazy: bool) -> Result<Physical, EngineError> {
        let both: Physical = Arc::new(BinaryExpr::new(left.clone(), op, right));
        self.type_of(&both)?;
        if !lazy {
            return Ok(both);
        }
        let decided = op == Operator::Or;
        let open: Physical = Arc::new(BinaryExpr::new(left, Operator::IsDistinctFrom, lit(decided)));
        self.case(None, vec![(open, both)], Some(lit(decided)))
    }

    /// The pattern of a LIKE, with `\\` as its escape character, which is the one that the kernels know.
    fn pattern(&self, pattern: &Expr, escape: char) -> Result<Physical, EngineError> {
        if escape == '\\' {
            return self.expr(pattern);
        }
        let Expr::Literal { value: Literal::String(text), data_type } = pattern else {
            let message = format!("LIKE with ESCAPE '{escape}' needs a constant pattern");
            return Err(EngineError::Plan(message));
        };
        let mut escaped = String::with_capacity(text.len());
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                _ if character == escape => {
                    let Some(literal) = characters.next() else {
                        return Err(EngineError::Plan(format!(
                            "the LIKE pattern '{text}' ends in its escape character"
                        )));
                    };
                    escaped.extend(['\\', literal]);
                }
                '\\' => escaped.push_str("\\\\"),
                other => escaped.push(other),
            }
        }
        self.literal(&Literal::String(escaped), data_type)
    }

    fn negative(&self, expr: &Expr) -> Result<Physical, EngineError> {
        let operand = self.expr(expr)?;
        let zero = match self.type_of(&operand)? {
            ArrowType::Int8 => ScalarValue::Int8(Some(0)),
            ArrowType::Int16 => ScalarValue::Int16(Some(0)),
            ArrowType::Int32 => ScalarValue::Int32(Some(0)),
            ArrowType::Int64 => ScalarValue::Int64(Some(0)),
            // These have a negative for each of their values.
            ArrowType::Float32 | ArrowType::Float64 | ArrowType::Decimal128(..) => {
                return Ok(Arc::new(NegativeExpr::new(operand)));
            }
            ArrowType::Interval(IntervalUnit::MonthDayNano) => return Ok(Arc::new(NegativeExpr::new(operand))),
            other => return Err(EngineError::Plan(format!("a value of the type {other} has no negative"))),
        };
        Ok(Arc::new(BinaryExpr::new(lit(zero), Operator::Minus, operand).with_fail_on_overflow(true)))
    }

    /// `expr IN (list)`: a set where the list is constant, else a chain of comparisons.
    fn in_list(&self, expr: &Expr, list: &[Expr], negated: bool) -> Result<Physical, EngineError> {
        let needle = self.expr(expr)?;
        if list.iter().all(|item| matches!(item, Expr::Literal { .. })) {
            let list = list.iter().map(|item| self.expr(item)).collect::<Result<_, _>>()?;
            let set = expressions::in_list(needle, list, &negated, self.input);
            return set.map_err(|error| refused(&error));
        }
        let mut found: Physical = lit(false);
        for item in list {
            let equal: Physical = Arc::new(BinaryExpr::new(needle.clone(), Operator::Eq, self.expr(item)?));
            found = self.logical(Operator::Or, found, equal, can_fail(item))?;
        }
        Ok(if negated { Arc::new(NotExpr::new(found)) } else { found })
    }

    /// `CASE`, which evaluates each result only for the rows that need it.
    pub(super) fn case(
        &self,
        base: Option<Physical>,
        when: Vec<(Physical, Physical)>,
        otherwise: Option<Physical>,
    ) -> Result<Physical, EngineError> {
        let case = CaseExpr::try_new(base, when, otherwise).map_err(|error| refused(&error))?;
        let case: Physical = Arc::new(case);
        self.type_of(&case)?;
        Ok(case)
    }

    /// `expr` as a value of the Arrow type `wanted`.
    pub(super) fn cast(&self, expr: Physical, wanted: &ArrowType) -> Result<Physical, EngineError> {
        if self.type_of(&expr)? == *wanted {
            return Ok(expr);
        }
        // A constant is cast once; one that can't be fails when there is a row that needs it.
        if let Some(literal) = expr.downcast_ref::<expressions::Literal>()
            && let Ok(value) = literal.value().cast_to(wanted)
        {
            return Ok(lit(value));
        }
        expressions::cast(expr, self.input, wanted.clone()).map_err(|error| refused(&error))
    }

    pub(super) fn type_of(&self, expr: &Physical) -> Result<ArrowType, EngineError> {
        expr.data_type(self.input).map_err(|error| refused(&error))
    }
}

/// Whether evaluating `expr` can fail for some rows.
fn can_fail(expr: &Expr) -> bool {
    let any = |exprs: &[Expr]| exprs.iter().any(can_fail);
    match expr {
        Expr::Column { .. } | Expr::Literal { .. } => false,
        Expr::Binary { op, left, right } => {
            use BinaryOp::{Divide, Minus, Modulo, Multiply, Plus, RegexMatch, RegexNotMatch};
            matches!(op, Plus | Minus | Multiply | Divide | Modulo | RegexMatch | RegexNotMatch)
                || can_fail(left)
                || can_fail(right)
        }
        Expr::Not { expr } | Expr::IsNull { expr, .. } | Expr::IsTruth { expr, .. } | Expr::Field { expr, .. } => {
            can_fail(expr)
        }
        Expr::Like { expr, pattern, .. } => can_fail(expr) || can_fail(pattern),
        Expr::InList { expr, list, .. } => can_fail(expr) || any(list),
        Expr::Case { base, when, otherwise } => {
            base.as_deref().is_some_and(can_fail)
                || when.iter().any(|(condition, result)| can_fail(condition) || can_fail(result))
                || otherwise.as_deref().is_some_and(can_fail)
        }
        Expr::Cast { expr, safe: true, .. } => can_fail(expr),
        Expr::Negative { .. } | Expr::Cast { .. } | Expr::Call { .. } => true,
    }
}
