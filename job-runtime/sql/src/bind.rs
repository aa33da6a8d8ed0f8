//! From syntax to typed expressions, with DataFusion's planner of expressions and its type coercion.
//!
//! An expression is planned twice over. The *raw* one has the operators, functions and literals as they were
//! written: operator ids are made from it, so that a new version of DataFusion, with other casts, does not
//! rename state. The *typed* one has every cast inserted, and constants folded; the plan computes with it.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Fields};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, Result as DfResult, ScalarValue, plan_err};
use datafusion_expr::{BinaryExpr, Expr as DfExpr, ExprSchemable, Operator};
use datafusion_optimizer::analyzer::type_coercion::TypeCoercionRewriter;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use sqlparser::ast::{BinaryOperator, Expr, Spanned};
use sqlparser::tokenizer::Span;

use crate::arrow_types::in_words;
use crate::coerce::Typer;
use crate::error::{Outcome, Site, SqlError};
use crate::functions::Functions;
use crate::names::Scope;
use crate::walk::inside_out;

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
    in_words(&lines.join(" "))
}

fn unaliased(expr: DfExpr) -> Transformed<DfExpr> {
    match expr {
        DfExpr::Alias(alias) => Transformed::yes(*alias.expr),
        other => Transformed::no(other),
    }
}

/// Refuses operators between text and numbers: they would turn text into numbers row by row, and stop the job at
/// the first that is none.
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
    raw.apply(|expr| {
        match expr {
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
