//! From syntax to typed expressions, with DataFusion's planner of expressions and its type coercion.
//!
//! An expression is planned twice over. The *raw* one has the operators, functions and literals as they were
//! written: operator ids are made from it, so that a new version of DataFusion, with other casts, does not
//! rename state. The *typed* one has every cast inserted, and constants folded; the plan computes with it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Fields};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, Result as DfResult, ScalarValue, plan_err};
use datafusion_expr::{BinaryExpr, Cast, Expr as DfExpr, ExprSchemable, Operator};
use datafusion_optimizer::analyzer::type_coercion::TypeCoercionRewriter;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{BinaryOperator, CaseWhen, CastKind, DataType as SqlType, ExactNumberInfo, Expr, Spanned, Value};
use sqlparser::tokenizer::Span;

use crate::arrow_types::{from_arrow, in_words, nearest, to_arrow};
use crate::coerce::Typer;
use crate::convert_expr::MAX_DEPTH;
use crate::error::{Outcome, Site, SqlError};
use crate::functions::{self, Functions};
use crate::names::Scope;
use crate::walk::{children, children_mut, depth, inside_out};

/// Plans expressions.
pub(crate) struct Binder {
    functions: Functions,
}

/// An expression and where it stands.
pub(crate) struct Bound {
    /// As it was written, its names resolved to the scope's columns.
    pub(crate) raw: DfExpr,
    /// The syntax with its names resolved, for finding the place of what is wrong later.
    pub(crate) syntax: Expr,
    /// Where.
    pub(crate) span: Span,
}

impl Binder {
    pub(crate) fn new() -> Self {
        Self { functions: Functions::new() }
    }

    /// Resolves and plans `expr` over the columns of `scope`, without inserting casts.
    pub(crate) fn bind(&self, site: &Site<'_>, scope: &Scope<'_>, expr: &Expr) -> Outcome<Bound> {
        let span = expr.span();
        let mut syntax = balanced(expr.clone());
        // Typing an operand looks at all that is below it, so a deep expression takes long only to be refused.
        if depth(&syntax) > MAX_DEPTH {
            return Err(site
                .error(span, format!("the expression is nested more than {MAX_DEPTH} deep"))
                .help("compute parts of it in a statement of their own, through a topic")
                .into());
        }
        respelt(&mut syntax);
        scope.resolve(site, &mut syntax)?;
        let schema = schema_of(site, span, scope.columns)?;
        match self.raw(syntax.clone(), &schema).and_then(|raw| no_silent_numbers(raw, &schema)) {
            Ok(raw) => Ok(Bound { raw, syntax, span }),
            Err(error) => Err(self.culprit(site, &syntax, &schema, span, &error).into()),
        }
    }

    fn raw(&self, syntax: Expr, schema: &DFSchema) -> DfResult<DfExpr> {
        let options = ParserOptions::new()
            .with_parse_float_as_decimal(true)
            .with_enable_ident_normalization(false)
            .with_map_string_types_to_utf8view(false);
        let planner = SqlToRel::new_with_options(&self.functions, options);
        let raw = planner.sql_to_expr(syntax, schema, &mut PlannerContext::new())?;
        Ok(raw.transform_up(|expr| Ok(unaliased(expr)))?.data)
    }

    /// The smallest part of `syntax` that is wrong by itself, as an error there.
    fn culprit(
        &self,
        site: &Site<'_>,
        syntax: &Expr,
        schema: &DFSchema,
        span: Span,
        error: &DataFusionError,
    ) -> SqlError {
        let found = inside_out(syntax, &mut |part| {
            let typed = self.raw(part.clone(), schema).and_then(|raw| typed(&no_silent_numbers(raw, schema)?, schema));
            match typed {
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break((part.span(), error)),
            }
        });
        match found {
            ControlFlow::Break((place, error)) => {
                site.error(if place.start.line == 0 { span } else { place }, explain(&error))
            }
            ControlFlow::Continue(()) => site.error(span, explain(error)),
        }
        .help("CAST changes a type; docs/sql.md lists what there is")
    }

    /// What is wrong with the types in `bound`, found by typing ever larger parts of it over `columns`.
    pub(crate) fn type_error(
        &self,
        site: &Site<'_>,
        bound: &Bound,
        columns: &Fields,
        error: &DataFusionError,
    ) -> SqlError {
        match schema_of(site, bound.span, columns) {
            Ok(schema) => self.culprit(site, &bound.syntax, &schema, bound.span, error),
            Err(_) => site.error(bound.span, explain(error)),
        }
    }
}

/// An expression may have this many parts. A name may stand for an expression that holds other names many times, so
/// that a short text can stand for more than fits into memory.
pub(crate) const MAX_SIZE: usize = 50_000;

/// How many parts `expr` has.
pub(crate) fn size(expr: &DfExpr) -> usize {
    size_with(expr, &|_| None)
}

/// How many parts `expr` has when its columns are replaced by what they stand for.
pub(crate) fn size_with<'a>(expr: &DfExpr, stands_for: &dyn Fn(&str) -> Option<&'a DfExpr>) -> usize {
    let mut sizes: HashMap<String, usize> = HashMap::new();
    let mut total = 0;
    let counted = expr.apply(|part| {
        total += match part {
            DfExpr::Column(column) => match sizes.get(&column.name) {
                Some(size) => *size,
                None => {
                    let size = stands_for(&column.name).map_or(1, size);
                    sizes.insert(column.name.clone(), size);
                    size
                }
            },
            _ => 1,
        };
        Ok(TreeNodeRecursion::Continue)
    });
    // Counting can't fail; were it to, the expression would be refused.
    if counted.is_ok() { total } else { usize::MAX }
}

/// `expr`, which gives `given`, as a value that a column can hold, where it is one but for its layout: functions give
/// text as views, and numbers without sign.
pub(crate) fn as_column(expr: DfExpr, given: ArrowType) -> (DfExpr, ArrowType) {
    if from_arrow(&given).is_some() {
        return (expr, given);
    }
    match nearest(&given) {
        Some(data_type) => {
            let wanted = to_arrow(&data_type);
            (DfExpr::Cast(Cast::new(Box::new(expr), wanted.clone())), wanted)
        }
        None => (expr, given),
    }
}

/// The schema of these columns, as DataFusion wants it.
pub(crate) fn schema_of(site: &Site<'_>, span: Span, columns: &Fields) -> Outcome<DFSchema> {
    DFSchema::from_unqualified_fields(columns.clone(), std::collections::HashMap::new())
        .map_err(|error| site.error(span, explain(&error)).into())
}

/// Inserts the casts that the operators and functions of `raw` need over `schema`, and folds constants.
pub(crate) fn typed(raw: &DfExpr, schema: &DFSchema) -> DfResult<DfExpr> {
    let mut typer = Typer { schema, coercion: TypeCoercionRewriter::new(schema) };
    Ok(raw.clone().rewrite(&mut typer)?.data)
}

/// DataFusion's message in the words of SQL, without its own prefixes.
pub(crate) fn explain(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let mut message = text.as_str();
    for prefix in [
        "Cast error: ",
        "Parser error: ",
        "Error during planning: ",
        "This feature is not implemented: ",
        "Schema error: ",
        "Arrow error: ",
        "Execution error: ",
        "Internal error: ",
        "SQL error: ",
        "Optimizer rule 'type_coercion' failed",
    ] {
        message = message.strip_prefix(prefix).unwrap_or(message);
    }
    // Some messages go on for a screen; their first lines say it.
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).take(2).collect();
    signature(&in_words(&lines.join(" ")))
}

/// What DataFusion says of a call that fits no signature, in fewer words: each list of arguments once.
fn signature(message: &str) -> String {
    let parts = message.strip_prefix("Failed to coerce arguments to satisfy a call to '").and_then(|rest| {
        let (name, rest) = rest.split_once("' function: coercion from ")?;
        let (given, rest) = rest.split_once(" to the signature ")?;
        Some((name, given, rest.strip_suffix(" failed").unwrap_or(rest)))
    });
    let Some((name, given, wanted)) = parts else { return message.to_owned() };
    let mut lists: Vec<&str> = Vec::new();
    for list in wanted.split("Exact(").skip(1).filter_map(|rest| rest.split_once(')').map(|(list, _)| list)) {
        if !lists.contains(&list) {
            lists.push(list);
        }
    }
    let given = given.replace(", ", " and ");
    if lists.is_empty() {
        return format!("{name} can't be called with {given}");
    }
    format!("{name} can't be called with {given}: it takes ({})", lists.join(") or ("))
}

fn unaliased(expr: DfExpr) -> Transformed<DfExpr> {
    match expr {
        DfExpr::Alias(alias) => Transformed::yes(*alias.expr),
        other => Transformed::no(other),
    }
}

/// Refuses operators between text and numbers: they would turn text into numbers row by row, and stop the job at
/// the first that is none. And numbers or texts where a condition is wanted.
fn no_silent_numbers(raw: DfExpr, schema: &DFSchema) -> DfResult<DfExpr> {
    let clash = |left: &DfExpr, right: &DfExpr| -> DfResult<()> {
        let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else { return Ok(()) };
        let text = |expr: &DfExpr, data_type: &ArrowType| data_type.is_string() && !matches!(expr, DfExpr::Literal(..));
        if (text(left, &left_type) && right_type.is_numeric()) || (left_type.is_numeric() && text(right, &right_type)) {
            return plan_err!(
                "{left_type} and {right_type} can't be compared or computed with: write CAST(… AS {}) around the text",
                if left_type.is_numeric() { &left_type } else { &right_type }
            );
        }
        Ok(())
    };
    let condition = |expr: &DfExpr, clause: &str| -> DfResult<()> {
        match expr.get_type(schema) {
            Ok(ArrowType::Boolean | ArrowType::Null) | Err(_) => Ok(()),
            Ok(other) => plan_err!("{clause} needs a condition; this is {other}: compare it with something"),
        }
    };
    raw.apply(|expr| {
        match expr {
            DfExpr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                condition(left, &op.to_string())?;
                condition(right, &op.to_string())?;
            }
            DfExpr::Not(inner) => condition(inner, "NOT")?,
            DfExpr::IsTrue(inner) | DfExpr::IsNotTrue(inner) => condition(inner, "IS TRUE")?,
            DfExpr::IsFalse(inner) | DfExpr::IsNotFalse(inner) => condition(inner, "IS FALSE")?,
            DfExpr::IsUnknown(inner) | DfExpr::IsNotUnknown(inner) => condition(inner, "IS UNKNOWN")?,
            DfExpr::Case(case) => {
                for (when, _) in &case.when_then_expr {
                    match &case.expr {
                        Some(base) => clash(base, when)?,
                        None => condition(when, "WHEN")?,
                    }
                }
            }
            DfExpr::ScalarFunction(call)
                if matches!(call.func.name(), "coalesce" | "nvl" | "nullif" | "greatest" | "least") =>
            {
                let number = call.args.iter().find(|arg| arg.get_type(schema).is_ok_and(|given| given.is_numeric()));
                number.iter().try_for_each(|number| call.args.iter().try_for_each(|arg| clash(number, arg)))?;
            }
            DfExpr::BinaryExpr(BinaryExpr { left, op, right }) if *op != Operator::StringConcat => clash(left, right)?,
            DfExpr::InList(list) => list.list.iter().try_for_each(|item| clash(&list.expr, item))?,
            DfExpr::Between(between) => {
                clash(&between.expr, &between.low)?;
                clash(&between.expr, &between.high)?;
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(raw)
}

/// What means something else to DataFusion than in SQL, spelt otherwise: numbers with an exponent are DOUBLEs, which it
/// would read as decimals; and NVL2 only asks whether its first argument is null, where DataFusion gives all three one
/// type.
fn respelt(expr: &mut Expr) {
    children_mut(expr).into_iter().for_each(respelt);
    match expr {
        Expr::Value(value) => {
            if let Value::Number(number, _) = &value.value
                && number.contains(['e', 'E'])
            {
                let text = Expr::Value(Value::SingleQuotedString(number.clone()).with_span(value.span));
                *expr = Expr::Cast {
                    kind: CastKind::Cast,
                    expr: Box::new(text),
                    data_type: SqlType::Double(ExactNumberInfo::None),
                    array: false,
                    format: None,
                };
            }
        }
        Expr::Function(function) if functions::name(function) == "nvl2" => {
            if let [tested, then, otherwise] = children(expr).as_slice() {
                let condition = Expr::IsNotNull(Box::new((*tested).clone()));
                *expr = Expr::Case {
                    case_token: AttachedToken::empty(),
                    end_token: AttachedToken::empty(),
                    operand: None,
                    conditions: vec![CaseWhen { condition, result: (*then).clone() }],
                    else_result: Some(Box::new((*otherwise).clone())),
                };
            }
        }
        _ => {}
    }
}

/// Long chains of AND and of OR as balanced trees: they mean the same, and stay shallow.
fn balanced(expr: Expr) -> Expr {
    let Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } = expr else { return expr };
    let mut operands = vec![*right];
    let mut rest = *left;
    loop {
        match rest {
            Expr::BinaryOp { left, op: inner, right } if inner == op => {
                operands.push(*right);
                rest = *left;
            }
            last => {
                operands.push(last);
                break;
            }
        }
    }
    operands.reverse();
    let mut operands: Vec<Expr> = operands.into_iter().map(balanced).collect();
    while operands.len() > 1 {
        let mut pairs = Vec::with_capacity(operands.len().div_ceil(2));
        let mut items = operands.into_iter();
        while let Some(left) = items.next() {
            pairs.push(match items.next() {
                Some(right) => Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) },
                None => left,
            });
        }
        operands = pairs;
    }
    operands.pop().unwrap_or(Expr::Value(sqlparser::ast::Value::Null.with_empty_span()))
}

/// The conditions that AND joins in `expr`, in order.
pub(crate) fn conjuncts(expr: &DfExpr) -> Vec<&DfExpr> {
    match expr {
        DfExpr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            let mut parts = conjuncts(left);
            parts.extend(conjuncts(right));
            parts
        }
        other => vec![other],
    }
}

/// A constant's value, for those who look for one.
pub(crate) fn constant(expr: &DfExpr) -> Option<&ScalarValue> {
    match expr {
        DfExpr::Literal(value, _) => Some(value),
        _ => None,
    }
}

/// The names of the columns in `expr`.
pub(crate) fn columns_in(expr: &DfExpr) -> Vec<String> {
    let mut names: Vec<String> = expr.column_refs().into_iter().map(|column| column.name.clone()).collect();
    names.sort_unstable();
    names
}

/// `expr` with each column replaced by what `replacement` gives for its name.
pub(crate) fn substituted(expr: DfExpr, replacement: &dyn Fn(&str) -> Option<DfExpr>) -> DfResult<DfExpr> {
    let replaced = expr.transform_down(|expr| {
        Ok(match &expr {
            DfExpr::Column(column) => match replacement(&column.name) {
                // What was put in place is over other columns, which may have the same names: not looked into.
                Some(other) => Transformed::new(other, true, TreeNodeRecursion::Jump),
                None => Transformed::no(expr),
            },
            _ => Transformed::no(expr),
        })
    })?;
    Ok(replaced.data)
}

/// Shared by those who build fields.
pub(crate) fn fields(columns: impl IntoIterator<Item = arrow_schema::Field>) -> Fields {
    columns.into_iter().map(Arc::new).collect()
}
