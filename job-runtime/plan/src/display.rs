//! Expressions and literals as text like SQL, for people: `amount > 100 AND merchant.country = 'FR'`.
//!
//! The text shows what is computed, casts included. It is never parsed, and no id is made from it.

use std::fmt::{Display, Formatter, Result};

use crate::types::DataType;
use crate::{BinaryOp, Expr, Literal};

/// How strongly operators bind, as SQL has it: what binds less is put in parentheses.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARISON: u8 = 4;
const CONCAT: u8 = 5;
const SUM: u8 = 6;
const PRODUCT: u8 = 7;
const SIGN: u8 = 8;
const ATOM: u8 = 9;

const fn strength(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => OR,
        BinaryOp::And => AND,
        BinaryOp::Concat => CONCAT,
        BinaryOp::Plus | BinaryOp::Minus => SUM,
        BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Modulo => PRODUCT,
        _ => COMPARISON,
    }
}

const fn expr_strength(expr: &Expr) -> u8 {
    match expr {
        Expr::Binary { op, .. } => strength(*op),
        Expr::Not { .. } => NOT,
        Expr::Negative { .. } => SIGN,
        Expr::IsNull { .. } | Expr::IsTruth { .. } | Expr::Like { .. } | Expr::InList { .. } => COMPARISON,
        _ => ATOM,
    }
}

/// An operand: in parentheses when it binds less than `at_least`.
struct Operand<'a>(&'a Expr, u8);

impl Display for Operand<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if expr_strength(self.0) < self.1 { write!(f, "({})", self.0) } else { write!(f, "{}", self.0) }
    }
}

impl Display for BinaryOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Eq => "=",
            Self::NotEq => "<>",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::And => "AND",
            Self::Or => "OR",
            Self::IsDistinctFrom => "IS DISTINCT FROM",
            Self::IsNotDistinctFrom => "IS NOT DISTINCT FROM",
            Self::Concat => "||",
            Self::RegexMatch => "~",
            Self::RegexNotMatch => "!~",
        })
    }
}

/// `items` with commas between them.
fn list<T: Display>(f: &mut Formatter<'_>, items: &[T]) -> Result {
    for (at, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if at == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let not = |negated: bool| if negated { "NOT " } else { "" };
        match self {
            Self::Column { index: _, name } => f.write_str(name),
            Self::Literal { value, data_type } => write_literal(f, value, data_type),
            Self::Binary { op, left, right } => {
                let strength = strength(*op);
                // `a - (b - c)` keeps its parentheses; comparisons don't chain at all.
                let left_strength = if strength == COMPARISON { strength + 1 } else { strength };
                let right_strength = if matches!(op, BinaryOp::And | BinaryOp::Or) { strength } else { strength + 1 };
                write!(f, "{} {op} {}", Operand(left, left_strength), Operand(right, right_strength))
            }
            Self::Not { expr } => write!(f, "NOT {}", Operand(expr, NOT)),
            Self::Negative { expr } => write!(f, "-{}", Operand(expr, ATOM)),
            Self::IsNull { expr, negated } => write!(f, "{} IS {}NULL", Operand(expr, CONCAT), not(*negated)),
            Self::IsTruth { expr, truth, negated } => {
                let truth = if *truth { "TRUE" } else { "FALSE" };
                write!(f, "{} IS {}{truth}", Operand(expr, CONCAT), not(*negated))
            }
            Self::Like { expr, pattern, negated, case_insensitive, escape } => {
                let like = if *case_insensitive { "ILIKE" } else { "LIKE" };
                write!(f, "{} {}{like} {}", Operand(expr, CONCAT), not(*negated), Operand(pattern, CONCAT))?;
                match escape {
                    Some(escape) => write!(f, " ESCAPE '{escape}'"),
                    None => Ok(()),
                }
            }
            Self::InList { expr, list: items, negated } => {
                write!(f, "{} {}IN (", Operand(expr, CONCAT), not(*negated))?;
                list(f, items)?;
                f.write_str(")")
            }
            Self::Case { base, when, otherwise } => {
                f.write_str("CASE")?;
                if let Some(base) = base {
                    write!(f, " {base}")?;
                }
                for (when, then) in when {
                    write!(f, " WHEN {when} THEN {then}")?;
                }
                if let Some(otherwise) = otherwise {
                    write!(f, " ELSE {otherwise}")?;
                }
                f.write_str(" END")
            }
            Self::Cast { expr, data_type, safe } => {
                write!(f, "{}CAST({expr} AS {data_type})", if *safe { "TRY_" } else { "" })
            }
            Self::Field { expr, name } => write!(f, "{}.{name}", Operand(expr, ATOM)),
            Self::Call { function, args } => {
                write!(f, "{function}(")?;
                list(f, args)?;
                f.write_str(")")
            }
        }
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Boolean(value) => f.write_str(if *value { "TRUE" } else { "FALSE" }),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Self::Decimal(digits) => f.write_str(digits),
            Self::String(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Bytes(bytes) => {
                f.write_str("X'")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02X}"))?;
                f.write_str("'")
            }
            Self::Interval { months, days, nanos } => {
                let parts = [(i64::from(*months), "MONTH"), (i64::from(*days), "DAY"), (*nanos, "NANOSECOND")];
                let mut first = true;
                for (value, unit) in parts {
                    if value != 0 {
                        write!(f, "{}INTERVAL '{value}' {unit}", if first { "" } else { " + " })?;
                        first = false;
                    }
                }
                if first { f.write_str("INTERVAL '0' SECOND") } else { Ok(()) }
            }
        }
    }
}

/// A literal as its type shows it: with the decimal point, the date, the name of the type.
fn write_literal(f: &mut Formatter<'_>, value: &Literal, data_type: &DataType) -> Result {
    match (value, data_type) {
        (Literal::Decimal(digits), DataType::Decimal(_, scale)) => {
            f.write_str(&with_point(digits, usize::from(*scale)))
        }
        (Literal::Int(days), DataType::Date) => write!(f, "DATE '{}'", date(*days)),
        (Literal::Int(value), DataType::Timestamp(digits) | DataType::TimestampLtz(digits)) => {
            let unit = 10_i64.pow(u32::from(*digits));
            let (seconds, fraction) = (value.div_euclid(unit), value.rem_euclid(unit));
            let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
            let zone = if matches!(data_type, DataType::TimestampLtz(_)) { "Z" } else { "" };
            write!(f, "TIMESTAMP '{} {:02}:{:02}:{:02}", date(days), second / 3_600, second / 60 % 60, second % 60)?;
            if *digits > 0 {
                write!(f, ".{fraction:0width$}", width = usize::from(*digits))?;
            }
            write!(f, "{zone}'")
        }
        _ => write!(f, "{value}"),
    }
}

/// `12345` with scale 2 as `123.45`.
fn with_point(digits: &str, scale: usize) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// The date that is `days` after 1970-01-01, in the proleptic Gregorian calendar. The arithmetic counts years from
/// March, so that the leap day is a year's last (the era-based form of the civil calendar's conversion).
fn date(days: i64) -> String {
    const DAYS_PER_ERA: i64 = 146_097;
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted.div_euclid(DAYS_PER_ERA), shifted.rem_euclid(DAYS_PER_ERA));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / (DAYS_PER_ERA - 1)) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(value: i64) -> Expr {
        Expr::Literal { value: Literal::Int(value), data_type: DataType::BigInt }
    }

    fn binary(op: BinaryOp, left: Expr, right: Expr) -> Expr {
        Expr::Binary { op, left: Box::new(left), right: Box::new(right) }
    }

    fn literal(value: Literal, data_type: &str) -> Expr {
        Expr::Literal { value, data_type: data_type.parse().expect(data_type) }
    }

    #[test]
    fn parentheses_stand_where_meaning_needs_them() {
        let (a, b) = (Expr::column(0, "a"), Expr::column(1, "b"));
        let sum = binary(BinaryOp::Plus, a.clone(), b.clone());
        for (expr, text) in [
            (binary(BinaryOp::Multiply, sum.clone(), int(2)), "(a + b) * 2"),
            (binary(BinaryOp::Plus, binary(BinaryOp::Multiply, a.clone(), b.clone()), int(2)), "a * b + 2"),
            (binary(BinaryOp::Minus, a.clone(), binary(BinaryOp::Minus, b.clone(), int(1))), "a - (b - 1)"),
            (
                binary(
                    BinaryOp::And,
                    binary(
                        BinaryOp::Or,
                        binary(BinaryOp::Gt, a.clone(), int(1)),
                        binary(BinaryOp::Eq, b.clone(), int(2)),
                    ),
                    Expr::IsNull { expr: Box::new(a.clone()), negated: true },
                ),
                "(a > 1 OR b = 2) AND a IS NOT NULL",
            ),
            (Expr::Not { expr: Box::new(binary(BinaryOp::And, a.clone(), b.clone())) }, "NOT (a AND b)"),
            (Expr::Negative { expr: Box::new(sum.clone()) }, "-(a + b)"),
            (Expr::Field { expr: Box::new(a.clone()), name: "x".into() }, "a.x"),
            (Expr::InList { expr: Box::new(a), list: vec![int(1), int(2)], negated: true }, "a NOT IN (1, 2)"),
        ] {
            assert_eq!(expr.to_string(), text);
        }
    }

    #[test]
    fn literals_look_like_their_type() {
        for (expr, text) in [
            (literal(Literal::Decimal("12345".into()), "DECIMAL(12,2)"), "123.45"),
            (literal(Literal::Decimal("-5".into()), "DECIMAL(12,2)"), "-0.05"),
            (literal(Literal::Decimal("7".into()), "DECIMAL(12,0)"), "7"),
            (literal(Literal::Int(0), "DATE"), "DATE '1970-01-01'"),
            (literal(Literal::Int(-1), "DATE"), "DATE '1969-12-31'"),
            (literal(Literal::Int(11_016), "DATE"), "DATE '2000-02-29'"),
            (literal(Literal::Int(1_700_000_000_123), "TIMESTAMP(3)"), "TIMESTAMP '2023-11-14 22:13:20.123'"),
            (literal(Literal::Int(-1), "TIMESTAMP_LTZ(0)"), "TIMESTAMP '1969-12-31 23:59:59Z'"),
            (literal(Literal::String("it's".into()), "STRING"), "'it''s'"),
            (literal(Literal::Float(1.5_f64.to_bits()), "DOUBLE"), "1.5"),
            (literal(Literal::Bytes(vec![1, 255]), "BYTES"), "X'01FF'"),
            (literal(Literal::Null, "STRING"), "NULL"),
        ] {
            assert_eq!(expr.to_string(), text);
        }
    }
}
