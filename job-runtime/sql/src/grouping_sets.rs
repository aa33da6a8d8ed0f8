//! GROUPING SETS, ROLLUP and CUBE: a SELECT for each set of grouping expressions.
//!
//! Statements that read one topic share one reading of it, so nothing is read twice; each set has its own groups and
//! its own state, as it would behind a step that copies rows. In the rows of a set the grouping expressions that are
//! not in it are null, and `GROUPING(x)` is 1 for them.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, Query, Select, SelectItem,
    SetExpr, Spanned, Value,
};

use crate::error::{Outcome, Site};
use crate::functions;
use crate::refuse_expr::is_aggregate;
use crate::respell::takes_only_arguments;
use crate::walk::children_mut;

/// A statement has at most this many sets: each is an aggregation of its own.
const MAX_SETS: usize = 64;

/// `query`, or a query for each of its grouping sets.
pub(crate) fn expanded(site: &Site<'_>, query: Query) -> Outcome<Vec<Query>> {
    let SetExpr::Select(select) = query.body.as_ref() else { return Ok(vec![query]) };
    let GroupByExpr::Expressions(items, _) = &select.group_by else { return Ok(vec![query]) };
    if !items.iter().any(|item| matches!(item, Expr::GroupingSets(_) | Expr::Rollup(_) | Expr::Cube(_))) {
        return Ok(vec![query]);
    }
    let mut sets: Vec<Vec<Expr>> = vec![Vec::new()];
    for item in items {
        let choices: Vec<Vec<Expr>> = match item {
            Expr::GroupingSets(sets) => sets.clone(),
            Expr::Rollup(parts) => (0..=parts.len()).rev().map(|kept| parts[..kept].concat()).collect(),
            Expr::Cube(parts) if parts.len() <= 6 => (0..1_usize << parts.len())
                .rev()
                .map(|kept| {
                    // The first part is the highest bit, so that what keeps it comes first.
                    let is_kept = |at: usize| kept >> (parts.len() - 1 - at) & 1 == 1;
                    (0..parts.len()).filter(|at| is_kept(*at)).flat_map(|at| parts[at].clone()).collect()
                })
                .collect(),
            Expr::Cube(_) => vec![Vec::new(); MAX_SETS + 1],
            other => vec![vec![other.clone()]],
        };
        let product = sets.iter().flat_map(|set| choices.iter().map(|choice| [set.as_slice(), choice].concat()));
        sets = product.take(MAX_SETS + 1).collect();
    }
    if sets.len() > MAX_SETS {
        return Err(site
            .error(select.group_by.span(), format!("this groups in more than {MAX_SETS} ways"))
            .help("write GROUPING SETS with those that are needed")
            .into());
    }
    let all: Vec<Expr> = sets.concat();
    let one = |set: &Vec<Expr>| {
        let absent: Vec<&Expr> = all.iter().filter(|expr| !set.contains(expr)).collect();
        let mut query = query.clone();
        if let SetExpr::Select(select) = query.body.as_mut() {
            grouped_by(select, set, &absent);
        }
        query
    };
    Ok(sets.iter().map(one).collect())
}

fn grouped_by(select: &mut Select, set: &[Expr], absent: &[&Expr]) {
    let mut keys: Vec<Expr> = Vec::new();
    for expr in set {
        if !keys.contains(expr) {
            keys.push(expr.clone());
        }
    }
    // What stands behind them (WITH TOTALS) is kept, to be refused where it is for every GROUP BY.
    if let GroupByExpr::Expressions(items, _) = &mut select.group_by {
        *items = keys;
    }
    for item in &mut select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                // It is called as before.
                let name = match expr {
                    Expr::Identifier(ident) => Some(ident.clone()),
                    Expr::CompoundIdentifier(idents) => idents.last().cloned(),
                    _ => None,
                };
                replace(expr, absent);
                if let (Some(alias), Expr::Value(_)) = (name, &*expr) {
                    *item = SelectItem::ExprWithAlias {
                        expr: expr.clone(),
                        alias: Ident { quote_style: Some('`'), ..alias },
                    };
                }
            }
            SelectItem::ExprWithAlias { expr, alias: _ } => replace(expr, absent),
            _ => {}
        }
    }
    if let Some(having) = &mut select.having {
        replace(having, absent);
    }
}

/// Puts nulls in place of what is not grouped by, outside of aggregates, and numbers in place of GROUPING.
fn replace(expr: &mut Expr, absent: &[&Expr]) {
    if let Expr::Function(function) = &*expr
        && let Some(bits) = grouping(function, absent)
    {
        *expr = Expr::Value(Value::Number(bits.to_string(), false).with_span(expr.span()));
    } else if absent.contains(&&*expr) {
        *expr = Expr::Value(Value::Null.with_span(expr.span()));
    } else if !is_aggregate(expr) {
        children_mut(expr).into_iter().for_each(|child| replace(child, absent));
    }
}

/// What GROUPING gives: a bit for each argument, the first one highest, which is 1 where it is not grouped by.
fn grouping(function: &Function, absent: &[&Expr]) -> Option<u64> {
    if !matches!(functions::name(function).as_str(), "grouping" | "grouping_id") || !takes_only_arguments(function) {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    list.args.iter().try_fold(0_u64, |bits, argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
            Some(bits.checked_mul(2)? + u64::from(absent.contains(&expr)))
        }
        _ => None,
    })
}
