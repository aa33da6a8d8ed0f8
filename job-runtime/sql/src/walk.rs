//! Walking over expressions of the syntax tree.
//!
//! Only what may stand in a job's SQL has children here. Everything else is refused by name (see `refuse_expr`)
//! before anybody asks what is inside it.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, FunctionArguments};

/// The expressions directly inside one, by reference or by mutable reference.
macro_rules! children {
    ($expr:expr, $as_ref:ident, $iter:ident) => {
        match $expr {
            Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner)
            | Expr::Nested(inner)
            | Expr::UnaryOp { op: _, expr: inner }
            | Expr::Cast { expr: inner, .. }
            | Expr::Extract { expr: inner, .. }
            | Expr::Ceil { expr: inner, field: _ }
            | Expr::Floor { expr: inner, field: _ }
            | Expr::CompoundFieldAccess { root: inner, access_chain: _ } => vec![inner.$as_ref()],
            Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right)
            | Expr::BinaryOp { left, op: _, right }
            | Expr::Like { expr: left, pattern: right, .. }
            | Expr::ILike { expr: left, pattern: right, .. }
            | Expr::Position { expr: left, r#in: right } => vec![left.$as_ref(), right.$as_ref()],
            Expr::Between { expr, negated: _, low, high } => vec![expr.$as_ref(), low.$as_ref(), high.$as_ref()],
            Expr::InList { expr, list, negated: _ } => {
                let mut all = vec![expr.$as_ref()];
                all.extend(list.$iter());
                all
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let mut all = vec![expr.$as_ref()];
                all.extend(substring_from.$iter().chain(substring_for.$iter()).map(|inner| inner.$as_ref()));
                all
            }
            Expr::Trim { expr, trim_what, trim_characters, trim_where: _ } => {
                let mut all = vec![expr.$as_ref()];
                all.extend(trim_what.$iter().map(|inner| inner.$as_ref()));
                all.extend(trim_characters.$iter().flat_map(|list| list.$iter()));
                all
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut all = vec![expr.$as_ref(), overlay_what.$as_ref(), overlay_from.$as_ref()];
                all.extend(overlay_for.$iter().map(|inner| inner.$as_ref()));
                all
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                let mut all = Vec::new();
                all.extend(operand.$iter().map(|inner| inner.$as_ref()));
                for branch in conditions.$iter() {
                    let sqlparser::ast::CaseWhen { condition, result } = branch;
                    all.extend([condition, result]);
                }
                all.extend(else_result.$iter().map(|inner| inner.$as_ref()));
                all
            }
            Expr::Function(function) => {
                let sqlparser::ast::Function { args, filter, .. } = function;
                let mut all = Vec::new();
                if let FunctionArguments::List(list) = args {
                    for argument in list.args.$iter() {
                        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(inner)) = argument {
                            all.push(inner);
                        }
                    }
                }
                all.extend(filter.$iter().map(|inner| inner.$as_ref()));
                all
            }
            _ => Vec::new(),
        }
    };
}

/// The expressions directly inside `expr`, in the order of the text.
pub(crate) fn children(expr: &Expr) -> Vec<&Expr> {
    children!(expr, as_ref, iter)
}

/// The same, to be changed.
pub(crate) fn children_mut(expr: &mut Expr) -> Vec<&mut Expr> {
    children!(expr, as_mut, iter_mut)
}

/// How deep `expr` nests; parentheses don't count.
pub(crate) fn depth(expr: &Expr) -> usize {
    let inside = children(expr).into_iter().map(depth).max().unwrap_or(0);
    if matches!(expr, Expr::Nested(_)) { inside } else { inside + 1 }
}

/// Calls `visit` for each expression inside `expr` and then for `expr` itself, until one breaks.
pub(crate) fn inside_out<B>(expr: &Expr, visit: &mut dyn FnMut(&Expr) -> ControlFlow<B>) -> ControlFlow<B> {
    for child in children(expr) {
        inside_out(child, visit)?;
    }
    visit(expr)
}

/// The first thing that `find` gives, for `expr` or for an expression inside it.
pub(crate) fn first<T>(expr: &Expr, find: &dyn Fn(&Expr) -> Option<T>) -> Option<T> {
    find(expr).or_else(|| children(expr).into_iter().find_map(|child| first(child, find)))
}
