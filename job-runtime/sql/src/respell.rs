//! What Flink SQL writes otherwise than DataFusion, spelt anew before anything else looks at it: special forms, other
//! names, patterns of dates.
//!
//! Each form becomes one that means the same. A form with other arguments than it has is refused here, where its own
//! name is known. Places in the text are kept.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DataType as SqlType, DateTimeField, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    Spanned, Subscript, Value,
};
use sqlparser::tokenizer::Span;

use crate::error::{Outcome, Site, SqlError};
use crate::functions;
use crate::patterns::{similar, strftime};
use crate::walk::children_mut;

/// `expr` in the spelling that the rest of the planner knows.
pub(crate) fn flink(site: &Site<'_>, expr: &Expr) -> Outcome<Expr> {
    let mut respeller = Respeller { site, errors: Vec::new() };
    let mut expr = expr.clone();
    respeller.respell(&mut expr);
    if respeller.errors.is_empty() { Ok(expr) } else { Err(respeller.errors) }
}

struct Respeller<'a> {
    site: &'a Site<'a>,
    errors: Vec<SqlError>,
}

impl Respeller<'_> {
    fn respell(&mut self, expr: &mut Expr) {
        children_mut(expr).into_iter().for_each(|child| self.respell(child));
        match self.other(expr) {
            Ok(Some(other)) => *expr = other,
            Ok(None) => {}
            Err(error) => self.errors.push(error),
        }
    }

    /// What `expr` is spelt as, if that is otherwise.
    fn other(&mut self, expr: &Expr) -> Result<Option<Expr>, SqlError> {
        let span = expr.span();
        Ok(match expr {
            Expr::Function(function) => self.function(function, span)?,
            Expr::Floor { expr, field: CeilFloorKind::DateTimeField(field) } if *field != DateTimeField::NoDateTime => {
                Some(call("date_trunc", span, vec![self.unit(&field.to_string(), span)?, (**expr).clone()]))
            }
            Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(field) } if *field != DateTimeField::NoDateTime => {
                Some(call("timestampceil", span, vec![self.unit(&field.to_string(), span)?, (**expr).clone()]))
            }
            Expr::SimilarTo { negated, expr, pattern, escape_char: None } => {
                let Some(text) = constant_text(pattern) else {
                    let help = "write a constant pattern, or regexp_like(text, pattern)";
                    return Err(self.site.error(pattern.span(), "SIMILAR TO needs a constant pattern").help(help));
                };
                let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
                let pattern = text_of(&similar(text), pattern.span());
                Some(Expr::BinaryOp { left: expr.clone(), op, right: Box::new(pattern) })
            }
            Expr::CompoundFieldAccess { root, access_chain } => self.elements(root, access_chain, span),
            _ => None,
        })
    }

    /// `a[1]`, where something in brackets is no name of a field.
    fn elements(&mut self, root: &Expr, chain: &[AccessExpr], span: Span) -> Option<Expr> {
        let is_element = |access: &AccessExpr| match access {
            AccessExpr::Subscript(Subscript::Index { index }) => constant_text(index).is_none(),
            _ => false,
        };
        if !chain.iter().any(is_element) {
            return None;
        }
        let fields = |root: Expr, chain: Vec<AccessExpr>| match chain.is_empty() {
            true => root,
            false => Expr::CompoundFieldAccess { root: Box::new(root), access_chain: chain },
        };
        let (mut so_far, mut names) = (root.clone(), Vec::new());
        for access in chain {
            match access {
                AccessExpr::Subscript(Subscript::Index { index }) if is_element(access) => {
                    let mut index = index.clone();
                    self.respell(&mut index);
                    so_far = call("element_at", span, vec![fields(so_far, std::mem::take(&mut names)), index]);
                }
                other => names.push(other.clone()),
            }
        }
        Some(fields(so_far, names))
    }

    fn function(&self, function: &Function, span: Span) -> Result<Option<Expr>, SqlError> {
        let spelt = self.function_spelt(function, span)?;
        if spelt.is_none() || takes_only_arguments(function) {
            return Ok(spelt);
        }
        let message = format!("{} has arguments and nothing else", functions::name(function).to_uppercase());
        Err(self.site.error(span, message).help("write no DISTINCT, ORDER BY, FILTER, OVER or WITHIN GROUP there"))
    }

    fn function_spelt(&self, function: &Function, span: Span) -> Result<Option<Expr>, SqlError> {
        let name = functions::name(function);
        let Some(args) = plain_arguments(function) else { return Ok(None) };
        let wrong = |form: &str| {
            Err(self
                .site
                .error(span, format!("{} is called with other arguments", name.to_uppercase()))
                .help(format!("write {form}")))
        };
        let named = |name: &str| Ok(Some(renamed(function, name)));
        match (name.as_str(), args.as_slice()) {
            ("if" | "iif", [condition, then, otherwise]) => Ok(Some(case(condition, then, otherwise))),
            ("if" | "iif", _) => wrong("IF(condition, then, otherwise)"),
            ("timestampdiff", [unit, from, to]) => {
                Ok(Some(call("timestampdiff", span, vec![self.unit_of(unit)?, (*from).clone(), (*to).clone()])))
            }
            ("timestampdiff", _) => wrong("TIMESTAMPDIFF(DAY, from, to)"),
            ("timestampadd", [unit, count, time]) => {
                Ok(Some(call("timestampadd", span, vec![self.unit_of(unit)?, (*count).clone(), (*time).clone()])))
            }
            ("timestampadd", _) => wrong("TIMESTAMPADD(DAY, count, time)"),
            ("date_format" | "to_date", [value, pattern]) => self.with_pattern(&name, &name, span, value, pattern),
            ("to_timestamp", [value, pattern]) => self.with_pattern(&name, "to_timestamp_millis", span, value, pattern),
            ("unix_timestamp", [value]) => Ok(Some(call("to_unixtime", span, vec![(*value).clone()]))),
            ("unix_timestamp", [value, pattern]) => {
                let other = self.with_pattern(&name, "to_unixtime", span, value, pattern)?;
                Ok(Some(other.unwrap_or_else(|| call("to_unixtime", span, vec![(*value).clone(), (*pattern).clone()]))))
            }
            ("to_timestamp_ltz", [value]) => {
                Ok(Some(instant(call("to_timestamp_millis", span, vec![(*value).clone()]))))
            }
            ("to_timestamp_ltz", [value, digits]) => match constant_number(digits) {
                Some("3") => Ok(Some(instant(call("to_timestamp_millis", span, vec![(*value).clone()])))),
                Some("0") => Ok(Some(instant(call("to_timestamp_seconds", span, vec![(*value).clone()])))),
                _ => wrong("TO_TIMESTAMP_LTZ(number, 3) of milliseconds, or TO_TIMESTAMP_LTZ(number, 0) of seconds"),
            },
            ("dayofweek", [time]) => {
                let from_0 = call("date_part", span, vec![text_of("dow", span), (*time).clone()]);
                let one = Box::new(number("1", span));
                let sum = Expr::BinaryOp { left: Box::new(from_0), op: BinaryOperator::Plus, right: one };
                Ok(Some(Expr::Cast {
                    kind: CastKind::Cast,
                    expr: Box::new(sum),
                    data_type: SqlType::Int(None),
                    array: false,
                    format: None,
                }))
            }
            (part @ ("year" | "quarter" | "month" | "week" | "hour" | "minute" | "second"), [time]) => {
                Ok(Some(call("date_part", span, vec![text_of(part, span), (*time).clone()])))
            }
            ("dayofmonth", [time]) => Ok(Some(call("date_part", span, vec![text_of("day", span), (*time).clone()]))),
            ("dayofyear", [time]) => Ok(Some(call("date_part", span, vec![text_of("doy", span), (*time).clone()]))),
            ("locate", [part, text]) => Ok(Some(call("strpos", span, vec![(*text).clone(), (*part).clone()]))),
            ("sha2", [text, bits]) => match constant_number(bits) {
                Some(bits @ ("224" | "256" | "384" | "512")) => {
                    let hash = call(&format!("sha{bits}"), span, vec![(*text).clone()]);
                    Ok(Some(call("encode", span, vec![hash, text_of("hex", span)])))
                }
                _ => wrong("SHA2(text, 256), or 224, 384, 512"),
            },
            ("mod", [left, right]) => {
                let (left, right) = (Box::new((*left).clone()), Box::new((*right).clone()));
                let nested = |inner: Box<Expr>| Box::new(Expr::Nested(inner));
                let remainder = Expr::BinaryOp { left: nested(left), op: BinaryOperator::Modulo, right: nested(right) };
                Ok(Some(Expr::Nested(Box::new(remainder))))
            }
            ("regexp", [_, _]) => named("regexp_like"),
            ("ceiling", [_]) => named("ceil"),
            ("truncate", [_] | [_, _]) => named("trunc"),
            ("sign", [_]) => named("signum"),
            ("json_value", [_, _]) => Ok(json_value(function)),
            ("percentile_cont", [fraction]) if !function.within_group.is_empty() => {
                self.percentile(function, fraction, span)
            }
            ("percentile_cont", _) => wrong("PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY x), or PERCENTILE(x, 0.5)"),
            _ => Ok(None),
        }
    }

    /// `PERCENTILE_CONT(fraction) WITHIN GROUP (ORDER BY x)` as `PERCENTILE(x, fraction)`.
    fn percentile(&self, function: &Function, fraction: &Expr, span: Span) -> Result<Option<Expr>, SqlError> {
        match function.within_group.as_slice() {
            [order]
                if order.options.asc != Some(false)
                    && order.options.nulls_first.is_none()
                    && order.with_fill.is_none() =>
            {
                let mut spelt = call("percentile", span, vec![order.expr.clone(), fraction.clone()]);
                if let Expr::Function(spelt) = &mut spelt {
                    spelt.filter.clone_from(&function.filter);
                    spelt.over.clone_from(&function.over);
                }
                Ok(Some(spelt))
            }
            _ => Err(self
                .site
                .error(span, "PERCENTILE_CONT is of one number, in ascending order")
                .help("write PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY x), or PERCENTILE(x, 0.5)")),
        }
    }

    /// The call of `function`, known to people as `name`, with a pattern of Java's as one of strftime.
    fn with_pattern(
        &self,
        name: &str,
        function: &str,
        span: Span,
        value: &Expr,
        pattern: &Expr,
    ) -> Result<Option<Expr>, SqlError> {
        let Some(text) = constant_text(pattern).filter(|text| !text.contains('%')) else { return Ok(None) };
        let spelt = strftime(text).map_err(|what| {
            let message = format!("{} does not know {what} in the pattern '{text}'", name.to_uppercase());
            self.site
                .error(pattern.span(), message)
                .help("there are yyyy MM dd HH hh mm ss SSS a E D and 'text'; or write a pattern like %Y-%m-%d")
        })?;
        Ok(Some(call(function, span, vec![value.clone(), text_of(&spelt, pattern.span())])))
    }

    fn unit_of(&self, expr: &Expr) -> Result<Expr, SqlError> {
        match expr {
            Expr::Identifier(ident) => self.unit(&ident.value, ident.span),
            Expr::Value(_) => match constant_text(expr) {
                Some(text) => self.unit(text, expr.span()),
                None => self.unit(&expr.to_string(), expr.span()),
            },
            other => self.unit(&other.to_string(), other.span()),
        }
    }

    /// A unit of time as a text.
    fn unit(&self, name: &str, span: Span) -> Result<Expr, SqlError> {
        let upper = name.to_uppercase();
        let upper = upper.strip_prefix("SQL_TSI_").unwrap_or(&upper);
        if freshet_functions::UNITS.contains(&upper) {
            return Ok(text_of(&upper.to_lowercase(), span));
        }
        let help = format!("there are {}", freshet_functions::UNITS.join(", "));
        Err(self.site.error(span, format!("`{name}` is no unit of time")).help(help))
    }
}

/// Whether a call has nothing that another spelling of it would leave out.
pub(crate) fn takes_only_arguments(function: &Function) -> bool {
    let Function { name: _, uses_odbc_syntax, parameters, args, filter, null_treatment, over, within_group } = function;
    let name = functions::name(function);
    let (of_groups, of_json) = (name == "percentile_cont", name == "json_value");
    let only_values = match args {
        FunctionArguments::List(list) => list.duplicate_treatment.is_none() && (of_json || list.clauses.is_empty()),
        _ => false,
    };
    only_values
        && !uses_odbc_syntax
        && matches!(parameters, FunctionArguments::None)
        && null_treatment.is_none()
        && (of_groups || (filter.is_none() && over.is_none() && within_group.is_empty()))
}

/// The arguments of a call that has nothing but arguments, and perhaps what JSON functions and aggregates have.
fn plain_arguments(function: &Function) -> Option<Vec<&Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = |argument| match argument {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expr)) => Some(expr),
        _ => None,
    };
    list.args.iter().map(plain).collect()
}

fn renamed(function: &Function, name: &str) -> Expr {
    let ident = Ident::with_span(function.name.span(), name);
    Expr::Function(Function { name: ObjectName::from(vec![ident]), ..function.clone() })
}

/// JSON_VALUE with the type that it is to return.
fn json_value(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let [FunctionArgumentClause::JsonReturningClause(returning)] = list.clauses.as_slice() else { return None };
    let mut plain = function.clone();
    plain.args = FunctionArguments::List(FunctionArgumentList { clauses: Vec::new(), ..list.clone() });
    Some(Expr::Cast {
        // The standard's NULL ON ERROR.
        kind: CastKind::TryCast,
        expr: Box::new(Expr::Function(plain)),
        data_type: returning.data_type.clone(),
        array: false,
        format: None,
    })
}

/// A call with these arguments.
pub(crate) fn call(name: &str, span: Span, args: Vec<Expr>) -> Expr {
    let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::with_span(span, name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(argument).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn case(condition: &Expr, then: &Expr, otherwise: &Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition: condition.clone(), result: then.clone() }],
        else_result: Some(Box::new(otherwise.clone())),
    }
}

/// A TIMESTAMP as the instant that it is in UTC.
fn instant(expr: Expr) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type: SqlType::Custom(ObjectName::from(vec![Ident::new("TIMESTAMP_LTZ")]), vec!["3".to_owned()]),
        array: false,
        format: None,
    }
}

fn text_of(text: &str, span: Span) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).with_span(span))
}

fn number(digits: &str, span: Span) -> Expr {
    Expr::Value(Value::Number(digits.to_owned(), false).with_span(span))
}

fn constant_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn constant_number(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => Some(digits),
            _ => None,
        },
        _ => None,
    }
}
