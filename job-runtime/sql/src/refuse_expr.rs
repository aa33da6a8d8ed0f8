//! Refusals inside expressions: a list of what is allowed; everything else is named.

use sqlparser::ast::{
    BinaryOperator, CastKind, CeilFloorKind, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Spanned, UnaryOperator, Value,
};
use sqlparser::tokenizer::Span;

use crate::aggregates;
use crate::error::{Outcome, Site, SqlError};
use crate::functions::{self, Known};
use crate::walk::children;

/// Refuses what is not supported anywhere in `expr`.
pub(crate) fn expression(site: &Site<'_>, expr: &Expr) -> Outcome<()> {
    let mut checker = Checker { site, errors: Vec::new() };
    checker.visit(expr, false);
    if checker.errors.is_empty() { Ok(()) } else { Err(checker.errors) }
}

const GROUPINGS: &str =
    "it stands in GROUP BY of the outer SELECT of an INSERT INTO; write one query for each grouping";

struct Checker<'a> {
    site: &'a Site<'a>,
    errors: Vec<SqlError>,
}

/// Whether `expr` is itself a call of one of the aggregate functions.
pub(crate) fn is_aggregate(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function) if matches!(functions::known(&functions::name(function)), Known::Aggregate(_)))
}

impl Checker<'_> {
    fn refuse(&mut self, span: Span, what: &str, help: &str) {
        let help = if help.is_empty() { "docs/sql.md lists the expressions that there are" } else { help };
        self.errors.push(self.site.error(span, format!("{what} is not supported")).help(help));
    }

    fn visit(&mut self, expr: &Expr, in_aggregate: bool) {
        self.check(expr, in_aggregate);
        let inside = in_aggregate || is_aggregate(expr);
        for child in children(expr) {
            self.visit(child, inside);
        }
    }

    fn check(&mut self, expr: &Expr, in_aggregate: bool) {
        let span = expr.span();
        match expr {
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::CompoundFieldAccess { .. }
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::InList { .. }
            | Expr::Between { .. }
            | Expr::Extract { .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Overlay { .. }
            | Expr::Nested(_)
            | Expr::TypedString(_)
            | Expr::Case { .. } => {}
            Expr::Interval(interval) => {
                if !matches!(interval.value.as_ref(), Expr::Value(_)) {
                    let help = "write a constant: INTERVAL '1' DAY; it can be multiplied by choosing with CASE";
                    self.refuse(interval.value.span(), "an INTERVAL of a computed length", help);
                }
            }
            Expr::Exists { .. } | Expr::Subquery(_) | Expr::InSubquery { .. } => {
                self.refuse(span, "a subquery in an expression", "joins come later; read one table");
            }
            Expr::Value(value) => self.value(span, &value.value),
            Expr::BinaryOp { left: _, op, right: _ } => self.binary(span, op),
            Expr::UnaryOp { op, expr: _ } => {
                if !matches!(op, UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not) {
                    self.refuse(span, &format!("the operator `{op}`"), "");
                }
            }
            Expr::Like { any, .. } | Expr::ILike { any, .. } => {
                if *any {
                    self.refuse(span, "LIKE ANY", "write several LIKE with OR between them");
                }
            }
            Expr::Cast { kind, data_type, array, format, expr: _ } => {
                if *array || format.is_some() {
                    self.refuse(span, "CAST with FORMAT or ARRAY", "write to_char, to_timestamp or to_date");
                }
                if matches!(kind, CastKind::SafeCast) {
                    self.refuse(span, "SAFE_CAST", "write TRY_CAST");
                }
                if let Err(error) = functions::sql_type(data_type) {
                    let help = "the types are those of a Topic's columns: docs/manifests.md";
                    self.errors.push(self.site.error(span, error).help(help));
                }
            }
            Expr::Ceil { expr: _, field } | Expr::Floor { expr: _, field } => {
                if !matches!(field, CeilFloorKind::DateTimeField(DateTimeField::NoDateTime)) {
                    self.refuse(span, "CEIL or FLOOR with a unit", "write date_trunc('hour', ts) or round(x, 2)");
                }
            }
            Expr::Function(function) => self.function(span, function, in_aggregate),
            Expr::SimilarTo { .. } => self.refuse(span, "SIMILAR TO", "write regexp_like(text, pattern)"),
            Expr::RLike { expr, .. } => self.refuse(expr.span(), "RLIKE", "write regexp_like(text, pattern)"),
            Expr::AtTimeZone { .. } => {
                self.refuse(span, "AT TIME ZONE", "timestamps have no zone or are instants; shift them by an INTERVAL");
            }
            Expr::AnyOp { .. } => self.refuse(span, "ANY", "write IN (…)"),
            Expr::AllOp { .. } => self.refuse(span, "ALL", "write several comparisons with AND between them"),
            Expr::Array(_) => self.refuse(span, "an ARRAY literal", ""),
            Expr::Tuple(_) | Expr::Struct { .. } | Expr::Named { .. } => {
                self.refuse(span, "a row or struct literal", "write named_struct('field', value, …)");
            }
            Expr::GroupingSets(_) => self.refuse(span, "GROUPING SETS here", GROUPINGS),
            Expr::Cube(_) => self.refuse(span, "CUBE here", GROUPINGS),
            Expr::Rollup(_) => self.refuse(span, "ROLLUP here", GROUPINGS),
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {
                self.refuse(span, "`*` here", "`*` stands alone in a SELECT list or in COUNT(*)");
            }
            Expr::Prefixed { .. } => {
                self.refuse(span, "`TABLE …` here", "it is the first argument of a window function, in FROM");
            }
            Expr::Convert { .. } => self.refuse(span, "CONVERT", "write CAST(x AS type)"),
            Expr::Collate { .. } => self.refuse(span, "COLLATE", "text is compared byte by byte"),
            Expr::Lambda(_) => self.refuse(span, "a lambda function", ""),
            Expr::InUnnest { .. } => self.refuse(span, "UNNEST", ""),
            Expr::JsonAccess { .. }
            | Expr::IsNormalized { .. }
            | Expr::Dictionary(_)
            | Expr::Map(_)
            | Expr::MatchAgainst { .. }
            | Expr::OuterJoin(_)
            | Expr::Prior(_)
            | Expr::MemberOf(_) => self.refuse(span, &format!("`{expr}`"), ""),
        }
    }

    fn value(&mut self, span: Span, value: &Value) {
        match value {
            Value::Number(number, _) => {
                if number.contains(['e', 'E']) && !number.parse::<f64>().is_ok_and(f64::is_finite) {
                    self.refuse(span, &format!("the number {number}, which is beyond DOUBLE,"), "write a smaller one");
                }
            }
            Value::SingleQuotedString(_)
            | Value::Boolean(_)
            | Value::Null
            | Value::HexStringLiteral(_)
            | Value::EscapedStringLiteral(_) => {}
            Value::Placeholder(name) => {
                self.refuse(span, &format!("the placeholder `{name}`"), "a job has no parameters: write the value");
            }
            _ => self.refuse(span, &format!("the literal {value}"), "write text in single quotes"),
        }
    }

    fn binary(&mut self, span: Span, op: &BinaryOperator) {
        let help = match op {
            BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo
            | BinaryOperator::StringConcat
            | BinaryOperator::Gt
            | BinaryOperator::Lt
            | BinaryOperator::GtEq
            | BinaryOperator::LtEq
            | BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::And
            | BinaryOperator::Or
            | BinaryOperator::PGRegexMatch
            | BinaryOperator::PGRegexNotMatch => return,
            BinaryOperator::PGRegexIMatch | BinaryOperator::PGRegexNotIMatch => "write regexp_like(text, pattern, 'i')",
            BinaryOperator::PGExp | BinaryOperator::BitwiseXor => "write power(x, y)",
            BinaryOperator::Spaceship => "write IS NOT DISTINCT FROM",
            BinaryOperator::Arrow | BinaryOperator::LongArrow => "write a field as merchant.country",
            _ => "",
        };
        self.refuse(span, &format!("the operator `{op}`"), help);
    }

    fn function(&mut self, span: Span, function: &Function, in_aggregate: bool) {
        let Function { name, uses_odbc_syntax, parameters, args, filter, null_treatment, over, within_group } =
            function;
        let name_span = if name.span().start.line == 0 { span } else { name.span() };
        let lower = functions::name(function);
        let upper = lower.to_uppercase();
        if *uses_odbc_syntax || !matches!(parameters, FunctionArguments::None) {
            self.refuse(name_span, &format!("this way to call {upper}"), "write name(arguments)");
        }
        if over.is_some() {
            let help = if upper == "ROW_NUMBER" {
                "write ROW_NUMBER() OVER (…) AS rn as a column by itself, and WHERE rn <= 3 around it"
            } else {
                "group by an event-time window instead"
            };
            self.refuse(name_span, &format!("{upper} … OVER (a window function) here"), help);
            return;
        }
        if !within_group.is_empty() {
            self.refuse(name_span, &format!("{upper} … WITHIN GROUP"), "");
        }
        if null_treatment.is_some() {
            self.refuse(
                name_span,
                &format!("IGNORE NULLS or RESPECT NULLS in {upper}"),
                "aggregates pass over nulls already",
            );
        }
        let known = functions::known(&lower);
        if let Some(error) = known.refusal(&lower) {
            let refused = self.site.error(name_span, error.message);
            self.errors.push(match error.help {
                Some(help) => refused.help(help),
                None => refused,
            });
            return;
        }
        let aggregate = matches!(known, Known::Aggregate(_));
        if aggregate && in_aggregate {
            self.refuse(name_span, &format!("{upper} inside another aggregate"), "aggregate once, in one GROUP BY");
        }
        if filter.is_some() && !aggregate {
            self.refuse(
                name_span,
                &format!("FILTER after {upper}"),
                "FILTER belongs to aggregates; write CASE WHEN … END",
            );
        }
        self.arguments(name_span, &upper, aggregate, args);
    }

    fn arguments(&mut self, span: Span, name: &str, aggregate: bool, args: &FunctionArguments) {
        let list = match args {
            FunctionArguments::List(list) => list,
            FunctionArguments::Subquery(_) => {
                self.refuse(span, "a subquery in an expression", "joins come later; read one table");
                return;
            }
            FunctionArguments::None => {
                if aggregate {
                    self.refuse(
                        span,
                        &format!("{name} without arguments"),
                        "write COUNT(*), or the column in parentheses",
                    );
                }
                return;
            }
        };
        if list.duplicate_treatment.is_some() && !aggregate {
            self.refuse(span, &format!("DISTINCT or ALL in {name}"), "it belongs to aggregates");
        }
        for clause in &list.clauses {
            self.refuse(span, &format!("`{clause}` inside {name}"), "write only the argument");
        }
        for argument in &list.args {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(_)) => {}
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard)
                    if name == "COUNT" && list.duplicate_treatment.is_none() => {}
                _ => {
                    self.refuse(span, &format!("the argument `{argument}` of {name}"), "write arguments without names");
                }
            }
        }
        let takes = aggregates::arguments(name);
        if aggregate && !takes.contains(&list.args.len()) {
            let help = match (*takes.start(), *takes.end()) {
                (1, 1) => "an aggregate has one argument".to_owned(),
                (least, most) if least == most => format!("it is called with {least} arguments"),
                (least, most) => format!("it is called with {least} or {most} arguments"),
            };
            self.refuse(span, &format!("{name} with {} arguments", list.args.len()), &help);
        }
    }
}
