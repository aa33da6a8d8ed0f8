//! Types: which casts an expression needs, and which constants can be folded.
//!
//! DataFusion's type coercion does most of it. Two of its rules are bent here: a DECIMAL that meets a DOUBLE becomes
//! a DOUBLE (as SQL has it), not the other way round, which would fail on large doubles; and a cast of a column that
//! is compared with a constant is moved over to the constant, so that nothing is cast row by row that need not be.

use arrow_schema::{DataType as ArrowType, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNodeRewriter};
use datafusion_common::{DFSchema, Result as DfResult, ScalarValue, plan_err};
use datafusion_expr::expr::{InList, ScalarFunction};
use datafusion_expr::{Between, BinaryExpr, Case, Cast, Expr as DfExpr, ExprSchemable, Operator};
use datafusion_optimizer::analyzer::type_coercion::TypeCoercionRewriter;

use crate::arrow_types::from_arrow;
use crate::bind::{MAX_SIZE, size};

/// Types an expression from the inside out.
pub(crate) struct Typer<'a> {
    pub(crate) schema: &'a DFSchema,
    pub(crate) coercion: TypeCoercionRewriter<'a>,
}

impl TreeNodeRewriter for Typer<'_> {
    type Node = DfExpr;

    fn f_up(&mut self, expr: DfExpr) -> DfResult<Transformed<DfExpr>> {
        let expr = self.approximate(expr);
        let coerced = self.coercion.f_up(expr)?.data;
        Ok(Transformed::yes(self.fold(coerced)?))
    }
}

impl Typer<'_> {
    /// Operands that meet: where one is a DOUBLE, DECIMALs become DOUBLEs.
    fn meet(&self, operands: Vec<&mut DfExpr>) {
        let types: Vec<Option<ArrowType>> = operands.iter().map(|operand| operand.get_type(self.schema).ok()).collect();
        if !types.iter().flatten().any(|data_type| matches!(data_type, ArrowType::Float32 | ArrowType::Float64)) {
            return;
        }
        for (operand, data_type) in operands.into_iter().zip(types) {
            if matches!(data_type, Some(ArrowType::Decimal128(..))) {
                let decimal = std::mem::replace(operand, DfExpr::Literal(ScalarValue::Null, None));
                *operand = match &decimal {
                    DfExpr::Literal(value, _) => match value.cast_to(&ArrowType::Float64) {
                        Ok(double) => DfExpr::Literal(double, None),
                        Err(_) => decimal,
                    },
                    _ => DfExpr::Cast(Cast::new(Box::new(decimal), ArrowType::Float64)),
                };
            }
        }
    }

    /// A whole number that meets a DECIMAL has as many digits as it is written with, not as many as its type could
    /// have: `amount * 2` gets one digit more, not twenty.
    fn exact(&self, operand: &mut DfExpr, other: &DfExpr) {
        if let DfExpr::Literal(ScalarValue::Int64(Some(value)), _) = operand
            && matches!(other.get_type(self.schema), Ok(ArrowType::Decimal128(..)))
        {
            let digits = u8::try_from(value.unsigned_abs().to_string().len()).unwrap_or(19);
            *operand = DfExpr::Literal(ScalarValue::Decimal128(Some(i128::from(*value)), digits, 0), None);
        }
    }

    fn approximate(&self, mut expr: DfExpr) -> DfExpr {
        match &mut expr {
            DfExpr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) || op.is_numerical_operators() => {
                self.meet(vec![left, right]);
                self.exact(left, right);
                self.exact(right, left);
            }
            DfExpr::Between(Between { expr, negated: _, low, high }) => self.meet(vec![expr, low, high]),
            DfExpr::InList(InList { expr, list, negated: _ }) => {
                let mut operands: Vec<&mut DfExpr> = vec![expr];
                operands.extend(list.iter_mut());
                self.meet(operands);
            }
            DfExpr::Case(Case { expr, when_then_expr, else_expr }) => {
                let (mut conditions, mut results): (Vec<&mut DfExpr>, Vec<&mut DfExpr>) = (Vec::new(), Vec::new());
                for (when, then) in when_then_expr {
                    conditions.push(when);
                    results.push(then);
                }
                if let Some(base) = expr {
                    conditions.push(base);
                }
                results.extend(else_expr.iter_mut().map(AsMut::as_mut));
                self.meet(conditions);
                self.meet(results);
            }
            DfExpr::ScalarFunction(ScalarFunction { func: _, args }) => self.meet(args.iter_mut().collect()),
            _ => {}
        }
        expr
    }

    fn fold(&self, expr: DfExpr) -> DfResult<DfExpr> {
        Ok(match expr {
            DfExpr::Cast(cast) => match cast.expr.as_ref() {
                DfExpr::Literal(value, _) if from_arrow(cast.field.data_type()).is_some() => {
                    DfExpr::Literal(value.cast_to(cast.field.data_type())?, None)
                }
                _ => DfExpr::Cast(cast),
            },
            DfExpr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
                self.comparison(folded_cast(*left)?, op, folded_cast(*right)?)?
            }
            DfExpr::Between(Between { expr, negated, low, high }) => {
                if size(&expr) > MAX_SIZE {
                    return plan_err!("BETWEEN inside BETWEEN has more than {MAX_SIZE} parts");
                }
                let low = self.comparison((*expr).clone(), Operator::GtEq, folded_cast(*low)?)?;
                let high = self.comparison(*expr, Operator::LtEq, folded_cast(*high)?)?;
                let inside = DfExpr::BinaryExpr(BinaryExpr::new(Box::new(low), Operator::And, Box::new(high)));
                if negated { DfExpr::Not(Box::new(inside)) } else { inside }
            }
            DfExpr::InList(InList { expr, list, negated }) => {
                let list = list.into_iter().map(folded_cast).collect::<DfResult<Vec<_>>>()?;
                let narrow =
                    list.iter().map(|item| self.narrowed(&expr, item)).collect::<DfResult<Option<Vec<_>>>>()?;
                match (narrow, *expr) {
                    (Some(list), DfExpr::Cast(cast)) => DfExpr::InList(InList::new(cast.expr, list, negated)),
                    (_, expr) => DfExpr::InList(InList::new(Box::new(expr), list, negated)),
                }
            }
            DfExpr::ScalarFunction(ScalarFunction { func, args }) => {
                let args = args.into_iter().map(folded_cast).collect::<DfResult<Vec<_>>>()?;
                DfExpr::ScalarFunction(ScalarFunction::new_udf(func, args))
            }
            DfExpr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (left, right) = (folded_cast(*left)?, folded_cast(*right)?);
                DfExpr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
            }
            DfExpr::Case(mut case) => {
                for (when, then) in &mut case.when_then_expr {
                    fold_in_place(when)?;
                    fold_in_place(then)?;
                }
                case.expr.iter_mut().chain(&mut case.else_expr).try_for_each(|expr| fold_in_place(expr))?;
                DfExpr::Case(case)
            }
            other => other,
        })
    }

    /// `left op right`, with the cast of one side moved over to the constant on the other where that means the same.
    fn comparison(&self, left: DfExpr, op: Operator, right: DfExpr) -> DfResult<DfExpr> {
        let (left, right) = match (self.narrowed(&left, &right)?, self.narrowed(&right, &left)?) {
            (Some(constant), _) => (uncast(left), constant),
            (None, Some(constant)) => (constant, uncast(right)),
            (None, None) => (left, right),
        };
        Ok(DfExpr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
    }

    /// `constant` as a value of what `side` is before its cast, if the cast loses nothing and the constant fits.
    fn narrowed(&self, side: &DfExpr, constant: &DfExpr) -> DfResult<Option<DfExpr>> {
        let (DfExpr::Cast(Cast { expr, field }), DfExpr::Literal(value, _)) = (side, constant) else { return Ok(None) };
        let narrow = expr.get_type(self.schema)?;
        if value.is_null() || !is_widening(&narrow, field.data_type()) {
            return Ok(None);
        }
        let Ok(small) = value.cast_to(&narrow) else { return Ok(None) };
        let fits = !small.is_null() && small.cast_to(field.data_type()).is_ok_and(|back| back == *value);
        Ok(fits.then_some(DfExpr::Literal(small, None)))
    }
}

fn uncast(expr: DfExpr) -> DfExpr {
    match expr {
        DfExpr::Cast(cast) => *cast.expr,
        other => other,
    }
}

/// A cast of a constant as the constant that it gives.
fn folded_cast(expr: DfExpr) -> DfResult<DfExpr> {
    match &expr {
        DfExpr::Cast(Cast { expr: inner, field }) => match inner.as_ref() {
            DfExpr::Literal(value, _) if from_arrow(field.data_type()).is_some() => {
                Ok(DfExpr::Literal(value.cast_to(field.data_type())?, None))
            }
            _ => Ok(expr),
        },
        _ => Ok(expr),
    }
}

fn fold_in_place(expr: &mut DfExpr) -> DfResult<()> {
    let old = std::mem::replace(expr, DfExpr::Literal(ScalarValue::Null, None));
    *expr = folded_cast(old)?;
    Ok(())
}

const fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Whether every value of `from` is a value of `to`, in the same order.
fn is_widening(from: &ArrowType, to: &ArrowType) -> bool {
    use ArrowType::{Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp};
    let digits = |data_type: &ArrowType| match data_type {
        Int8 => Some((3_i16, 0_i16)),
        Int16 => Some((5, 0)),
        Int32 => Some((10, 0)),
        Int64 => Some((19, 0)),
        Decimal128(precision, scale) => Some((i16::from(*precision) - i16::from(*scale), i16::from(*scale))),
        _ => None,
    };
    match (from, to) {
        (Float32, Float64) => true,
        (Timestamp(from, zone), Timestamp(to, other)) => zone == other && from <= to && *to != TimeUnit::Nanosecond,
        (Decimal128(..), Int8 | Int16 | Int32 | Int64) => false,
        _ => match (digits(from), digits(to)) {
            (Some((whole, fraction)), Some((wide_whole, wide_fraction))) => {
                whole <= wide_whole && fraction <= wide_fraction
            }
            _ => false,
        },
    }
}
