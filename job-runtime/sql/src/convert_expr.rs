//! From DataFusion's expressions to the plan's own.

use std::cell::Cell;

use arrow_schema::DataType as ArrowType;
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr::{Between, InList, Like, ScalarFunction};
use datafusion_expr::{BinaryExpr, Case, Cast, Expr as DfExpr, ExprSchemable, Operator, TryCast};
use freshet_plan::{BinaryOp, DataType, Expr, Literal};

use crate::arrow_types::{from_arrow, nearest};
use crate::bind::MAX_SIZE;

/// Deeper trees are refused: a plan is stored as JSON, whose readers bound the depth that they follow.
pub(crate) const MAX_DEPTH: usize = 80;

/// Where a column is found, and what it is called for people.
pub(crate) type Place = (usize, String);

/// Converts an expression whose columns `place` finds. With the schema that it was typed over, results of functions
/// that no column could hold are cast to what one can.
pub(crate) fn convert(
    expr: &DfExpr,
    place: &dyn Fn(&str) -> Option<Place>,
    schema: Option<&DFSchema>,
) -> Result<Expr, String> {
    let converted = Converter { place, schema, size: Cell::new(0) }.expr(expr)?;
    if depth(&converted) > MAX_DEPTH {
        return Err(format!(
            "the expression is nested more than {MAX_DEPTH} deep; compute parts of it in separate jobs"
        ));
    }
    Ok(converted)
}

/// What `expr` means, independent of where columns stand: each has position 0 and only its name.
pub(crate) fn meaning(expr: &DfExpr) -> Result<Expr, String> {
    Converter { place: &|name| Some((0, name.to_owned())), schema: None, size: Cell::new(0) }.expr(expr)
}

struct Converter<'a> {
    place: &'a dyn Fn(&str) -> Option<Place>,
    schema: Option<&'a DFSchema>,
    /// How many parts there are so far: BETWEEN and COALESCE have theirs more than once.
    size: Cell<usize>,
}

impl Converter<'_> {
    fn grow(&self, by: usize) -> Result<(), String> {
        self.size.set(self.size.get().saturating_add(by));
        if self.size.get() > MAX_SIZE {
            return Err(format!(
                "the expression has more than {MAX_SIZE} parts; compute some of them in separate jobs"
            ));
        }
        Ok(())
    }

    fn boxed(&self, expr: &DfExpr) -> Result<Box<Expr>, String> {
        Ok(Box::new(self.expr(expr)?))
    }

    fn expr(&self, expr: &DfExpr) -> Result<Expr, String> {
        self.grow(1)?;
        Ok(match expr {
            DfExpr::Alias(alias) => self.expr(&alias.expr)?,
            DfExpr::Column(column) => {
                let (index, name) =
                    (self.place)(&column.name).ok_or_else(|| format!("column `{}` is not there", column.name))?;
                Expr::Column { index, name }
            }
            DfExpr::Literal(value, _) => literal(value)?,
            DfExpr::BinaryExpr(BinaryExpr { left, op, right }) => {
                Expr::Binary { op: operator(*op)?, left: self.boxed(left)?, right: self.boxed(right)? }
            }
            DfExpr::Not(inner) => Expr::Not { expr: self.boxed(inner)? },
            DfExpr::Negative(inner) => Expr::Negative { expr: self.boxed(inner)? },
            DfExpr::IsNull(inner) | DfExpr::IsUnknown(inner) => {
                Expr::IsNull { expr: self.boxed(inner)?, negated: false }
            }
            DfExpr::IsNotNull(inner) | DfExpr::IsNotUnknown(inner) => {
                Expr::IsNull { expr: self.boxed(inner)?, negated: true }
            }
            DfExpr::IsTrue(inner) => self.truth(inner, true, false)?,
            DfExpr::IsNotTrue(inner) => self.truth(inner, true, true)?,
            DfExpr::IsFalse(inner) => self.truth(inner, false, false)?,
            DfExpr::IsNotFalse(inner) => self.truth(inner, false, true)?,
            DfExpr::Like(Like { negated, expr, pattern, escape_char, case_insensitive }) => Expr::Like {
                expr: self.boxed(expr)?,
                pattern: self.boxed(pattern)?,
                negated: *negated,
                case_insensitive: *case_insensitive,
                escape: *escape_char,
            },
            DfExpr::Between(between) => self.between(between)?,
            DfExpr::InList(InList { expr, list, negated }) => Expr::InList {
                expr: self.boxed(expr)?,
                list: list.iter().map(|item| self.expr(item)).collect::<Result<_, _>>()?,
                negated: *negated,
            },
            DfExpr::Case(Case { expr, when_then_expr, else_expr }) => Expr::Case {
                base: expr.as_ref().map(|base| self.boxed(base)).transpose()?,
                when: when_then_expr
                    .iter()
                    .map(|(when, then)| Ok::<_, String>((self.expr(when)?, self.expr(then)?)))
                    .collect::<Result<_, _>>()?,
                otherwise: else_expr.as_ref().map(|otherwise| self.boxed(otherwise)).transpose()?,
            },
            DfExpr::Cast(Cast { expr, field }) => self.cast(expr, field.data_type(), false)?,
            DfExpr::TryCast(TryCast { expr, field }) => self.cast(expr, field.data_type(), true)?,
            DfExpr::ScalarFunction(call) => self.call(expr, call)?,
            other => return Err(format!("`{other}` is not supported")),
        })
    }

    fn truth(&self, inner: &DfExpr, truth: bool, negated: bool) -> Result<Expr, String> {
        Ok(Expr::IsTruth { expr: self.boxed(inner)?, truth, negated })
    }

    fn between(&self, between: &Between) -> Result<Expr, String> {
        let Between { expr, negated, low, high } = between;
        let side = |op, bound: &DfExpr| -> Result<Box<Expr>, String> {
            Ok(Box::new(Expr::Binary { op, left: self.boxed(expr)?, right: self.boxed(bound)? }))
        };
        let inside =
            Expr::Binary { op: BinaryOp::And, left: side(BinaryOp::GtEq, low)?, right: side(BinaryOp::LtEq, high)? };
        Ok(if *negated { Expr::Not { expr: Box::new(inside) } } else { inside })
    }

    fn cast(&self, inner: &DfExpr, to: &ArrowType, safe: bool) -> Result<Expr, String> {
        let converted = self.expr(inner)?;
        // A null without a type takes on any.
        if *to == ArrowType::Null {
            return Ok(converted);
        }
        if let (ArrowType::Interval(_), Expr::Literal { value: Literal::Interval { .. }, .. }) = (to, &converted) {
            return Ok(converted);
        }
        let data_type = nearest(to).ok_or_else(|| not_a_column(to))?;
        // Other layouts of text and bytes are one type here.
        let layout =
            matches!(to, ArrowType::Utf8View | ArrowType::LargeUtf8 | ArrowType::BinaryView | ArrowType::LargeBinary);
        let same = self.schema.and_then(|schema| inner.get_type(schema).ok()).and_then(|from| nearest(&from));
        if layout && same.as_ref() == Some(&data_type) {
            return Ok(converted);
        }
        // A call's result has been cast to what a column can hold.
        if matches!(&converted, Expr::Cast { data_type: own, .. } if *own == data_type) {
            return Ok(converted);
        }
        Ok(Expr::Cast { expr: Box::new(converted), data_type, safe })
    }

    fn call(&self, expr: &DfExpr, call: &ScalarFunction) -> Result<Expr, String> {
        let name = call.func.name();
        let args: Vec<Expr> = call.args.iter().map(|arg| self.expr(arg)).collect::<Result<_, _>>()?;
        let converted = match (name, args.as_slice()) {
            ("get_field", [root, names @ ..]) => names.iter().try_fold(root.clone(), |root, name| match name {
                Expr::Literal { value: Literal::String(name), .. } => {
                    Ok(Expr::Field { expr: Box::new(root), name: name.clone() })
                }
                _ => Err("a field is named by a constant text".to_owned()),
            })?,
            // DataFusion computes these only as the CASE that they stand for.
            ("coalesce" | "nvl", [.., last]) => {
                self.grow(args.iter().map(size).sum())?;
                first_not_null(&args[..args.len() - 1], last)
            }
            ("nvl2", [tested, then, otherwise]) => Expr::Case {
                base: None,
                when: vec![(is_not_null(tested), then.clone())],
                otherwise: Some(Box::new(otherwise.clone())),
            },
            _ => Expr::Call { function: name.to_owned(), args },
        };
        let Some(given) = self.schema.and_then(|schema| expr.get_type(schema).ok()) else { return Ok(converted) };
        if from_arrow(&given).is_some() || given == ArrowType::Null {
            return Ok(converted);
        }
        let data_type = nearest(&given).ok_or_else(|| format!("{name} gives {}", not_a_column(&given)))?;
        Ok(Expr::Cast { expr: Box::new(converted), data_type, safe: false })
    }
}

fn is_not_null(expr: &Expr) -> Expr {
    Expr::IsNull { expr: Box::new(expr.clone()), negated: true }
}

fn first_not_null(firsts: &[Expr], last: &Expr) -> Expr {
    if firsts.is_empty() {
        return last.clone();
    }
    let when = firsts.iter().map(|expr| (is_not_null(expr), expr.clone())).collect();
    Expr::Case { base: None, when, otherwise: Some(Box::new(last.clone())) }
}

/// What to say of a type that no column can have.
pub(crate) fn not_a_column(data_type: &ArrowType) -> String {
    match data_type {
        ArrowType::Interval(_) | ArrowType::Duration(_) => {
            "an interval, which no column can hold; write date_part('epoch', a) - date_part('epoch', b) for seconds between two times".to_owned()
        }
        ArrowType::Time32(_) | ArrowType::Time64(_) => "a time of day, which no column can hold; write to_char(ts, '%H:%M:%S')".to_owned(),
        ArrowType::Null => "null without a type; write CAST(NULL AS type)".to_owned(),
        ArrowType::Decimal256(..) => "a number of more than 38 digits; CAST its parts to smaller DECIMALs".to_owned(),
        ArrowType::Timestamp(_, Some(zone)) => format!("a time in the zone {zone}; instants are kept in UTC"),
        other => format!("{other}, which no column can hold"),
    }
}

fn operator(op: Operator) -> Result<BinaryOp, String> {
    Ok(match op {
        Operator::Eq => BinaryOp::Eq,
        Operator::NotEq => BinaryOp::NotEq,
        Operator::Lt => BinaryOp::Lt,
        Operator::LtEq => BinaryOp::LtEq,
        Operator::Gt => BinaryOp::Gt,
        Operator::GtEq => BinaryOp::GtEq,
        Operator::Plus => BinaryOp::Plus,
        Operator::Minus => BinaryOp::Minus,
        Operator::Multiply => BinaryOp::Multiply,
        Operator::Divide => BinaryOp::Divide,
        Operator::Modulo => BinaryOp::Modulo,
        Operator::And => BinaryOp::And,
        Operator::Or => BinaryOp::Or,
        Operator::IsDistinctFrom => BinaryOp::IsDistinctFrom,
        Operator::IsNotDistinctFrom => BinaryOp::IsNotDistinctFrom,
        Operator::StringConcat => BinaryOp::Concat,
        Operator::RegexMatch => BinaryOp::RegexMatch,
        Operator::RegexNotMatch => BinaryOp::RegexNotMatch,
        other => return Err(format!("the operator `{other}` is not supported")),
    })
}

fn literal(value: &ScalarValue) -> Result<Expr, String> {
    let of = |value: Literal, data_type: DataType| Expr::Literal { value, data_type };
    if value.is_null() {
        // A null without a type is text: it can be cast to anything.
        let data_type = nearest(&value.data_type()).unwrap_or(DataType::String);
        return Ok(of(Literal::Null, data_type));
    }
    let known = from_arrow(&value.data_type());
    let typed = |value: Literal| match &known {
        Some(data_type) => Ok(of(value, data_type.clone())),
        None => Err(format!("the constant {value} is not supported")),
    };
    match value {
        ScalarValue::Boolean(Some(value)) => typed(Literal::Boolean(*value)),
        ScalarValue::Int8(Some(value)) => typed(Literal::Int(i64::from(*value))),
        ScalarValue::Int16(Some(value)) => typed(Literal::Int(i64::from(*value))),
        ScalarValue::Int32(Some(value)) | ScalarValue::Date32(Some(value)) => typed(Literal::Int(i64::from(*value))),
        ScalarValue::Int64(Some(value))
        | ScalarValue::TimestampSecond(Some(value), _)
        | ScalarValue::TimestampMillisecond(Some(value), _)
        | ScalarValue::TimestampMicrosecond(Some(value), _)
        | ScalarValue::TimestampNanosecond(Some(value), _) => typed(Literal::Int(*value)),
        ScalarValue::UInt8(Some(value)) => Ok(of(Literal::Int(i64::from(*value)), DataType::SmallInt)),
        ScalarValue::UInt16(Some(value)) => Ok(of(Literal::Int(i64::from(*value)), DataType::Int)),
        ScalarValue::UInt32(Some(value)) => Ok(of(Literal::Int(i64::from(*value)), DataType::BigInt)),
        ScalarValue::UInt64(Some(value)) => match i64::try_from(*value) {
            Ok(value) => Ok(of(Literal::Int(value), DataType::BigInt)),
            Err(_) => Ok(of(Literal::Decimal(value.to_string()), DataType::Decimal(20, 0))),
        },
        ScalarValue::Float32(Some(value)) => typed(Literal::Float(f64::from(*value).to_bits())),
        ScalarValue::Float64(Some(value)) => typed(Literal::Float(value.to_bits())),
        ScalarValue::Decimal128(Some(value), _, _) => typed(Literal::Decimal(value.to_string())),
        ScalarValue::Utf8(Some(value)) | ScalarValue::Utf8View(Some(value)) | ScalarValue::LargeUtf8(Some(value)) => {
            Ok(of(Literal::String(value.clone()), DataType::String))
        }
        ScalarValue::Binary(Some(value))
        | ScalarValue::BinaryView(Some(value))
        | ScalarValue::LargeBinary(Some(value))
        | ScalarValue::FixedSizeBinary(_, Some(value)) => Ok(of(Literal::Bytes(value.clone()), DataType::Bytes)),
        ScalarValue::IntervalMonthDayNano(Some(value)) => {
            let interval = Literal::Interval { months: value.months, days: value.days, nanos: value.nanoseconds };
            // Intervals have no type of their own in a plan; the literal says it all.
            Ok(of(interval, DataType::BigInt))
        }
        other => Err(format!("the constant {other} is {}", not_a_column(&other.data_type()))),
    }
}

/// How many parts `expr` has.
fn size(expr: &Expr) -> usize {
    let all = |exprs: &[Expr]| exprs.iter().map(size).sum::<usize>();
    1 + match expr {
        Expr::Column { .. } | Expr::Literal { .. } => 0,
        Expr::Binary { op: _, left, right } => size(left) + size(right),
        Expr::Not { expr }
        | Expr::Negative { expr }
        | Expr::IsNull { expr, .. }
        | Expr::IsTruth { expr, .. }
        | Expr::Cast { expr, .. }
        | Expr::Field { expr, .. } => size(expr),
        Expr::Like { expr, pattern, .. } => size(expr) + size(pattern),
        Expr::InList { expr, list, .. } => size(expr) + all(list),
        Expr::Call { function: _, args } => all(args),
        Expr::Case { base, when, otherwise } => {
            let ends: usize = base.iter().chain(otherwise).map(|expr| size(expr)).sum();
            ends + when.iter().map(|(when, then)| size(when) + size(then)).sum::<usize>()
        }
    }
}

/// How deep `expr` nests.
fn depth(expr: &Expr) -> usize {
    1 + match expr {
        Expr::Column { .. } | Expr::Literal { .. } => 0,
        Expr::Binary { op: _, left, right } => depth(left).max(depth(right)),
        Expr::Not { expr }
        | Expr::Negative { expr }
        | Expr::IsNull { expr, .. }
        | Expr::IsTruth { expr, .. }
        | Expr::Cast { expr, .. }
        | Expr::Field { expr, .. } => depth(expr),
        Expr::Like { expr, pattern, .. } => depth(expr).max(depth(pattern)),
        Expr::InList { expr, list, .. } => depth(expr).max(1 + list.iter().map(depth).max().unwrap_or(0)),
        Expr::Call { function: _, args } => 1 + args.iter().map(depth).max().unwrap_or(0),
        Expr::Case { base, when, otherwise } => {
            let ends = base.iter().chain(otherwise).map(|expr| depth(expr)).max().unwrap_or(0);
            let whens = when.iter().map(|(when, then)| 2 + depth(when).max(depth(then))).max().unwrap_or(0);
            ends.max(whens)
        }
    }
}
