//! `ROW_NUMBER() OVER (PARTITION BY … ORDER BY …)` with a bound: deduplication and top-N, in Flink's form.
//!
//! ```sql
//! SELECT … FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM t) WHERE rn <= 3
//! ```
//! The inner SELECT numbers rows, and an outer WHERE bounds the number: only so is what must be kept bounded. Other
//! conditions beside the bound choose among the rows that it lets through.

use arrow_schema::{DataType as ArrowType, Field};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column as DfColumn, Result as DfResult, ScalarValue};
use datafusion_expr::{BinaryExpr, Expr as DfExpr, ExprSchemable, Operator};
use freshet_plan::rank::MAX_RANKS;
use freshet_plan::{DataType, Emits};
use sqlparser::ast::{Expr, Function, FunctionArguments, OrderByExpr, OrderByOptions, Spanned, WindowSpec, WindowType};
use sqlparser::tokenizer::Span;

use crate::Table;
use crate::aggregate::Key;
use crate::arrow_types::from_arrow;
use crate::bind::{Bound, columns_in, conjuncts, constant, fields, schema_of};
use crate::convert_expr::not_a_column;
use crate::error::{Outcome, Site, all, both};
use crate::functions;
use crate::refuse::Refusals;
use crate::relation::{Relation, Typed};
use crate::select::Planner;

/// What the number is called in expressions.
pub(crate) const ROW_NUMBER: &str = "#row_number";

/// How rows are numbered, and how many are kept.
#[derive(Debug, Clone)]
pub(crate) struct Ranking {
    /// What rows are numbered by each; in an order of its own: by text.
    pub(crate) keys: Vec<Key>,
    pub(crate) order: Vec<Order>,
    /// How many rows of each key are kept; `None` where nobody has said it yet.
    pub(crate) limit: Option<u64>,
    /// Where it was written.
    pub(crate) span: Span,
}

/// An expression that rows are ordered by.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) value: Typed,
    pub(crate) data_type: DataType,
    pub(crate) descending: bool,
    pub(crate) nulls_first: bool,
}

impl Ranking {
    /// Which rows it gives of rows of `table`; `filtered` where a condition behind it chooses among them.
    pub(crate) fn emits(&self, table: &Table, filtered: bool) -> Emits {
        let is_time = |order: &Order| {
            let time = table.event_time.as_ref().map(|event_time| event_time.column.as_str());
            let is_timestamp = matches!(order.data_type, DataType::Timestamp(_) | DataType::TimestampLtz(_));
            is_timestamp && matches!(&order.value.raw, DfExpr::Column(column) if Some(column.name.as_str()) == time)
        };
        match (self.limit, self.order.as_slice()) {
            (Some(1), [only]) if !only.descending && is_time(only) => Emits::First,
            _ if filtered => Emits::Changes,
            _ => Emits::Latest,
        }
    }
}

/// The call, if `expr` is one of ROW_NUMBER() OVER (…).
pub(crate) fn row_number(expr: &Expr) -> Option<&Function> {
    match expr {
        Expr::Nested(inner) => row_number(inner),
        Expr::Function(function) if function.over.is_some() && functions::name(function) == "row_number" => {
            Some(function)
        }
        _ => None,
    }
}

/// The number, as an expression.
pub(crate) fn number(call: &Expr) -> Bound {
    let raw = DfExpr::Column(DfColumn::new_unqualified(ROW_NUMBER));
    Bound { raw, syntax: call.clone(), span: call.span() }
}

impl Planner<'_> {
    /// What a call of ROW_NUMBER numbers; `bind` binds expressions over `relation`.
    pub(crate) fn ranking(
        &self,
        function: &Function,
        relation: &Relation,
        bind: &dyn Fn(&Expr) -> Outcome<Bound>,
    ) -> Outcome<Ranking> {
        let site = self.site;
        let Function { name, uses_odbc_syntax, parameters, args, filter, null_treatment, over, within_group } =
            function;
        let span = name.span();
        let mut refusals = Refusals::new(site);
        let takes_nothing = match args {
            FunctionArguments::None => true,
            FunctionArguments::List(list) => {
                list.args.is_empty() && list.duplicate_treatment.is_none() && list.clauses.is_empty()
            }
            FunctionArguments::Subquery(_) => false,
        };
        let other = *uses_odbc_syntax
            || !matches!(parameters, FunctionArguments::None)
            || !takes_nothing
            || filter.is_some()
            || null_treatment.is_some()
            || !within_group.is_empty();
        if other {
            refusals.at(span, "this way to call ROW_NUMBER", "write ROW_NUMBER() OVER (PARTITION BY … ORDER BY …)");
        }
        let Some(WindowType::WindowSpec(WindowSpec { window_name, partition_by, order_by, window_frame })) = over
        else {
            refusals.at(span, "a named window", "write OVER (PARTITION BY … ORDER BY …)");
            refusals.end()?;
            return Err(Vec::new());
        };
        if window_name.is_some() || window_frame.is_some() {
            let what = "a named window or a frame (ROWS, RANGE) of ROW_NUMBER";
            refusals.at(span, what, "write OVER (PARTITION BY … ORDER BY …)");
        }
        refusals.end()?;
        let refuse = |message: &str, help: &str| Err(site.error(span, message).help(help).into());
        if relation.ranking.is_some() {
            return refuse(
                "numbering rows that are numbered already is not supported yet",
                "write one ROW_NUMBER, over the topic",
            );
        }
        if relation.grouping.is_some() || relation.window.is_some() {
            return refuse(
                "ROW_NUMBER over a grouping or a window is not supported yet",
                "number the rows of a topic: write the grouping into one, with a window so that it is final, and read it \
                 with another job",
            );
        }
        if order_by.is_empty() {
            return refuse(
                "ROW_NUMBER without ORDER BY numbers rows by chance",
                "add ORDER BY to OVER, for instance the event time",
            );
        }
        let keys = all(partition_by.iter().map(|expr| self.key(&bind(expr)?, relation)));
        let order = all(order_by.iter().map(|by| self.order(by, relation, bind)));
        let (mut keys, order) = both(keys, order)?;
        keys.sort_by(|a, b| a.text.cmp(&b.text));
        keys.dedup_by(|a, b| a.value.raw == b.value.raw);
        Ok(Ranking { keys, order, limit: None, span })
    }

    fn order(&self, by: &OrderByExpr, relation: &Relation, bind: &dyn Fn(&Expr) -> Outcome<Bound>) -> Outcome<Order> {
        let OrderByExpr { expr, options: OrderByOptions { asc, nulls_first }, with_fill } = by;
        if with_fill.is_some() {
            return Err(self.site.error(expr.span(), "WITH FILL is not supported").help("leave it out").into());
        }
        let value = self.typed(&bind(expr)?, relation)?;
        let data_type = match from_arrow(&value.data_type) {
            Some(DataType::Struct(_) | DataType::Array(_)) => {
                Err("a STRUCT or an ARRAY has no order; take a field".to_owned())
            }
            Some(data_type) => Ok(data_type),
            None => Err(format!("rows can't be ordered by this: it is {}", not_a_column(&value.data_type))),
        };
        let data_type = data_type.map_err(|message| self.site.error(expr.span(), message))?;
        let descending = *asc == Some(false);
        // As Flink has it: null is less than any value.
        Ok(Order { value, data_type, descending, nulls_first: nulls_first.unwrap_or(!descending) })
    }

    /// A condition on numbered rows: its bound on the number, and what else it says.
    pub(crate) fn bounded(&self, mut relation: Relation, condition: &Bound) -> Outcome<Relation> {
        let parts: Vec<DfExpr> = conjuncts(&condition.raw).into_iter().cloned().collect();
        for raw in parts {
            let bound = bound_of(&raw);
            if let (Some((limit, _)), Some(ranking)) = (bound, &mut relation.ranking) {
                if limit < 1 {
                    let message = "no row has such a number: they count from 1";
                    return Err(self.site.error(condition.span, message).help("write rn <= 1, or more").into());
                }
                let limit = u64::try_from(limit).unwrap_or(u64::MAX).min(ranking.limit.unwrap_or(u64::MAX));
                if limit > MAX_RANKS {
                    let message = format!("{limit} rows of each key are more than are kept: at most {MAX_RANKS}");
                    return Err(self.site.error(condition.span, message).help("choose fewer").into());
                }
                ranking.limit = Some(limit);
            }
            if !matches!(bound, Some((_, true))) {
                let part = Bound { raw, syntax: condition.syntax.clone(), span: condition.span };
                let part = self.condition(&part, &relation, "WHERE")?;
                relation.having.push(part);
            }
        }
        Ok(relation)
    }

    /// Refuses numbered rows without a bound, and rows that can't be kept.
    pub(crate) fn ranking_is_bounded(&self, relation: &Relation, outputs: &[DfExpr]) -> Outcome<()> {
        let Some(ranking) = &relation.ranking else { return Ok(()) };
        if ranking.limit.is_none() {
            let help = "put it into a query in FROM, and a bound around it: SELECT … FROM (SELECT …, ROW_NUMBER() OVER \
                        (PARTITION BY … ORDER BY …) AS rn FROM t) WHERE rn <= 3";
            let message = "ROW_NUMBER without a bound is not supported: every row would be kept for ever";
            return Err(self.site.error(ranking.span, message).help(help).into());
        }
        let schema = schema_of(self.site, ranking.span, &relation.base)?;
        for leaf in leaves(outputs.iter().chain(relation.having.iter().map(|having| &having.expr))) {
            let data_type = leaf.get_type(&schema).ok().and_then(|given| from_arrow(&given));
            if let Some(data_type @ (DataType::Struct(_) | DataType::Array(_))) = data_type {
                let message = format!("`{leaf}` is {data_type}, which can't be kept beside a ROW_NUMBER yet");
                return Err(self.site.error(ranking.span, message).help("select fields of it, or leave it out").into());
            }
        }
        Ok(())
    }
}

impl Relation {
    /// Numbers its rows.
    pub(crate) fn numbered(mut self, ranking: Ranking) -> Self {
        let number = Field::new(ROW_NUMBER, ArrowType::Int64, false);
        self.base = fields(self.base.iter().map(|field| field.as_ref().clone()).chain([number]));
        self.ranking = Some(ranking);
        self
    }
}

/// The greatest number that a condition lets through, and whether that is all it says.
fn bound_of(condition: &DfExpr) -> Option<(i64, bool)> {
    let is_number = |expr: &DfExpr| matches!(expr, DfExpr::Column(column) if column.name == ROW_NUMBER);
    match condition {
        DfExpr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (op, value) = match (is_number(left), is_number(right)) {
                (true, false) => (*op, integer(right)?),
                (false, true) => (op.swap()?, integer(left)?),
                _ => return None,
            };
            match op {
                Operator::Lt => Some((value.saturating_sub(1), true)),
                Operator::LtEq => Some((value, true)),
                // The row with that number, and no other.
                Operator::Eq => Some((value, value <= 1)),
                _ => None,
            }
        }
        DfExpr::Between(between) if !between.negated && is_number(&between.expr) => {
            Some((integer(&between.high)?, integer(&between.low)? <= 1))
        }
        _ => None,
    }
}

fn integer(expr: &DfExpr) -> Option<i64> {
    match constant(expr)? {
        ScalarValue::Int64(value) => *value,
        _ => None,
    }
}

/// What rows are kept of: the columns, and the fields of columns, that `exprs` are computed from, each once.
pub(crate) fn leaves<'e>(exprs: impl Iterator<Item = &'e DfExpr>) -> Vec<DfExpr> {
    let mut found: Vec<DfExpr> = Vec::new();
    for expr in exprs {
        let walked = expr.apply(|part| {
            if is_leaf(part) {
                if !columns_in(part).iter().any(|name| name == ROW_NUMBER) && !found.contains(part) {
                    found.push(part.clone());
                }
                return Ok(TreeNodeRecursion::Jump);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        // Looking can't fail.
        debug_assert!(walked.is_ok());
    }
    found
}

fn is_leaf(expr: &DfExpr) -> bool {
    match expr {
        DfExpr::Column(_) => true,
        DfExpr::ScalarFunction(call) if call.func.name() == "get_field" => call.args.first().is_some_and(is_leaf),
        _ => false,
    }
}

/// `expr` over kept columns, which are called by their places among `leaves`.
pub(crate) fn over_kept(expr: DfExpr, leaves: &[DfExpr]) -> DfResult<DfExpr> {
    let replaced = expr.transform_down(|part| {
        if !is_leaf(&part) {
            return Ok(Transformed::no(part));
        }
        Ok(match leaves.iter().position(|leaf| *leaf == part) {
            Some(at) => {
                Transformed::new(DfExpr::Column(DfColumn::new_unqualified(kept(at))), true, TreeNodeRecursion::Jump)
            }
            None => Transformed::new(part, false, TreeNodeRecursion::Jump),
        })
    })?;
    Ok(replaced.data)
}

/// What the kept column at this place is called in expressions.
pub(crate) fn kept(at: usize) -> String {
    format!("#kept{at}")
}

/// Refuses what is beside ROW_NUMBER in its SELECT.
pub(crate) fn alone(site: &Site<'_>, span: Span, others: bool) -> Outcome<()> {
    if !others {
        return Ok(());
    }
    let message = "ROW_NUMBER together with GROUP BY, HAVING, DISTINCT or another ROW_NUMBER is not supported";
    Err(site.error(span, message).help("number the rows of a topic in a SELECT of its own").into())
}
