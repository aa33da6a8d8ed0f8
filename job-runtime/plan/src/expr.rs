//! Expressions of a plan: a small tree of our own, typed where it matters.

use serde::{Deserialize, Serialize};

use crate::types::DataType;

/// An expression over the rows of the step before.
///
/// The planner has already inserted every cast: operands of a binary operator have the types that the
/// engine computes with, and functions are named as the engine's function registry names them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Expr {
    /// A column by position.
    Column {
        /// From 0.
        index: usize,
        /// For people; not part of the meaning.
        name: String,
    },
    /// A constant.
    Literal {
        /// Its value.
        value: Literal,
        /// Its type.
        data_type: DataType,
    },
    /// `left op right`.
    Binary {
        /// The operator.
        op: BinaryOp,
        /// Left operand.
        left: Box<Expr>,
        /// Right operand.
        right: Box<Expr>,
    },
    /// `NOT e`.
    Not {
        /// A Boolean.
        expr: Box<Expr>,
    },
    /// `-e`.
    Negative {
        /// A number.
        expr: Box<Expr>,
    },
    /// `e IS NULL`, or `IS NOT NULL` when negated.
    IsNull {
        /// Any.
        expr: Box<Expr>,
        /// Whether it is `IS NOT NULL`.
        negated: bool,
    },
    /// `e IS [NOT] TRUE | FALSE`.
    IsTruth {
        /// A Boolean.
        expr: Box<Expr>,
        /// The truth that is asked for.
        truth: bool,
        /// Whether the answer is turned round.
        negated: bool,
    },
    /// `e [NOT] LIKE pattern`.
    Like {
        /// The text.
        expr: Box<Expr>,
        /// The pattern.
        pattern: Box<Expr>,
        /// Whether it is `NOT LIKE`.
        negated: bool,
        /// Whether case is ignored (`ILIKE`).
        case_insensitive: bool,
        /// The escape character, `\` when none is given.
        escape: Option<char>,
    },
    /// `e [NOT] IN (…)`.
    InList {
        /// What is looked for.
        expr: Box<Expr>,
        /// Where.
        list: Vec<Expr>,
        /// Whether it is `NOT IN`.
        negated: bool,
    },
    /// `CASE [base] WHEN … THEN … [ELSE …] END`.
    Case {
        /// What is compared, in the form with a base.
        base: Option<Box<Expr>>,
        /// Conditions (or values) and results.
        when: Vec<(Expr, Expr)>,
        /// The result when none holds; null without.
        otherwise: Option<Box<Expr>>,
    },
    /// `CAST(e AS type)`; as null where it can't be (`TRY_CAST`) when `safe`.
    Cast {
        /// What.
        expr: Box<Expr>,
        /// Into what.
        data_type: DataType,
        /// Whether a value that can't be cast becomes null.
        safe: bool,
    },
    /// A field of a struct.
    Field {
        /// The struct.
        expr: Box<Expr>,
        /// The field's name.
        name: String,
    },
    /// A scalar function.
    Call {
        /// Its canonical name.
        function: String,
        /// Its arguments.
        args: Vec<Expr>,
    },
}

/// Binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "their names say it")]
pub enum BinaryOp {
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
    Plus,
    Minus,
    Multiply,
    Divide,
    Modulo,
    And,
    Or,
    IsDistinctFrom,
    IsNotDistinctFrom,
    Concat,
    RegexMatch,
    RegexNotMatch,
}

/// A constant's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "value")]
pub enum Literal {
    /// No value.
    Null,
    /// A Boolean.
    Boolean(bool),
    /// Any integer type; DATE as days, TIMESTAMP in units of its precision.
    Int(i64),
    /// FLOAT and DOUBLE, as the bits of a double, so that every value survives.
    Float(u64),
    /// The unscaled digits of a DECIMAL, as text.
    Decimal(String),
    /// STRING.
    String(String),
    /// BYTES.
    Bytes(Vec<u8>),
    /// An interval: months, days, nanoseconds. Only as an operand of + and − with a timestamp.
    Interval {
        /// Months.
        months: i32,
        /// Days.
        days: i32,
        /// Nanoseconds.
        nanos: i64,
    },
}

impl Expr {
    /// A column.
    pub fn column(index: usize, name: impl Into<String>) -> Self {
        Self::Column { index, name: name.into() }
    }
}
