//! GROUP BY: keys, aggregates, and what stands over them.

use arrow_schema::{Field, Fields};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column as DfColumn, Result as DfResult};
use datafusion_expr::expr::{AggregateFunction as DfAggregate, AggregateFunctionParams};
use datafusion_expr::{Case, Cast, Expr as DfExpr};
use freshet_plan::{AggregateFunction, DataType, Window};
use sqlparser::ast::{Expr, Spanned};
use sqlparser::tokenizer::Span;

use crate::aggregates::{self, After};
use crate::arrow_types::{from_arrow, to_arrow};
use crate::bind::{Bound, columns_in, constant, fields};
use crate::convert_expr::{meaning, not_a_column};
use crate::error::{Outcome, SqlError, all};
use crate::functions::{self, Known};
use crate::relation::{Relation, RelationColumn, Typed, WINDOW_COLUMNS, WINDOW_TYPE};
use crate::select::Planner;
use crate::walk::first;

/// How rows are grouped.
#[derive(Debug, Clone)]
pub(crate) struct Grouping {
    /// What is grouped by besides the window, if there is one, in an order of its own: by text.
    pub(crate) keys: Vec<Key>,
    /// What is computed, in an order of its own.
    pub(crate) aggregates: Vec<Call>,
    /// Its rows: `#key0`…, the window's columns, `#agg0`….
    pub(crate) output: Fields,
}

/// A grouping expression.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) value: Typed,
    pub(crate) data_type: DataType,
    /// For people, and to sort by.
    pub(crate) text: String,
}

/// A call of an aggregate.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// As it was written, each way: COUNT(*) and COUNT(1) are one; and what is done with the result.
    raws: Vec<(DfExpr, Option<After>)>,
    pub(crate) function: AggregateFunction,
    /// What it is given, `None` for COUNT(*), and its type.
    pub(crate) argument: Option<(Typed, DataType)>,
    pub(crate) distinct: bool,
    pub(crate) filter: Option<Typed>,
    pub(crate) data_type: DataType,
    /// For people, and to sort by.
    pub(crate) text: String,
}

impl Call {
    fn is_same(&self, other: &Self) -> bool {
        let raw = |value: &Option<Typed>| value.as_ref().map(|value| value.raw.clone());
        let argument = |call: &Self| call.argument.as_ref().map(|(value, _)| value.raw.clone());
        (self.function, self.distinct) == (other.function, other.distinct)
            && argument(self) == argument(other)
            && raw(&self.filter) == raw(&other.filter)
    }
}

/// Whether an aggregate is called in `expr`.
pub(crate) fn has_aggregate(expr: &DfExpr) -> bool {
    expr.exists(|inner| Ok(matches!(inner, DfExpr::AggregateFunction(_)))).unwrap_or(false)
}

/// The first aggregate that is called in `expr`: its name and place.
pub(crate) fn contains_aggregate(expr: &Expr) -> Option<(String, Span)> {
    aggregate_where(expr, &|_| true)
}

fn aggregate_where(expr: &Expr, wanted: &dyn Fn(&str) -> bool) -> Option<(String, Span)> {
    first(expr, &|inner| match inner {
        Expr::Function(function) => {
            let name = functions::name(function);
            let is_wanted = matches!(functions::known(&name), Known::Aggregate(_)) && wanted(&name);
            is_wanted.then(|| (name.to_uppercase(), inner.span()))
        }
        _ => None,
    })
}

impl Planner<'_> {
    /// Groups `relation` by `keys`, and puts `outputs` and `having` over the groups.
    pub(crate) fn group(
        &self,
        relation: Relation,
        names: &[String],
        outputs: Vec<Bound>,
        keys: &[Bound],
        having: Option<Bound>,
    ) -> Outcome<Relation> {
        let site = self.site;
        if let Some(ranking) = &relation.ranking {
            return Err(site
                .error(ranking.span, "grouping rows by their ROW_NUMBER, or making them distinct, is not supported yet")
                .help("write the numbered rows into a topic with one INSERT INTO, and read that topic with another job")
                .into());
        }
        if relation.grouping.is_some() {
            let span = outputs.first().map_or_else(|| site.whole(), |bound| bound.span);
            if relation.window.is_none() {
                return Err(site
                    .error(span, "grouping a result that changes is not supported yet")
                    .help("group by a window, or write one GROUP BY over the topic itself")
                    .into());
            }
            return Err(site
                .error(span, "grouping what is grouped already is not supported yet")
                .help(
                    "lay a window over it, by its window_time: WITH q AS (SELECT …, window_time AS rowtime …), then \
                     TUMBLE(TABLE q, DESCRIPTOR(rowtime), …)",
                )
                .into());
        }
        let keys = match &relation.window {
            Some(_) => self.keys(&relation, keys, &outputs)?,
            None => self.only_keys(&relation, keys.iter())?,
        };
        let bounds = || outputs.iter().chain(&having);
        let mut calls: Vec<Call> = Vec::new();
        for call in all(bounds().map(|bound| self.calls(bound, &relation)))?.into_iter().flatten() {
            match calls.iter_mut().find(|known| known.is_same(&call)) {
                Some(known) => known.raws.extend(call.raws),
                None => calls.push(call),
            }
        }
        calls.sort_by(|a, b| a.text.cmp(&b.text));
        let output = output(&keys, relation.window.is_some(), &calls);
        let grouping = Grouping { output, keys, aggregates: calls };
        let over = Relation { grouping: Some(grouping), ..relation };
        let outputs = all(outputs.into_iter().zip(names).map(|(bound, name)| {
            Ok(RelationColumn {
                name: name.clone(),
                value: self.over_groups(bound, &over, |bound, over| self.typed(bound, over))?,
            })
        }));
        let having = having
            .map(|bound| self.over_groups(bound, &over, |bound, over| self.condition(bound, over, "HAVING")))
            .transpose();
        let (columns, having) = crate::error::both(outputs, having)?;
        Ok(Relation { columns, having: having.into_iter().collect(), ..over })
    }

    /// The grouping expressions besides the window's columns, which must be among them.
    fn keys(&self, relation: &Relation, keys: &[Bound], outputs: &[Bound]) -> Outcome<Vec<Key>> {
        let site = self.site;
        let place = || keys.first().or(outputs.first()).map_or_else(|| site.whole(), |bound| bound.span);
        let Some((_, window_span)) = &relation.window else {
            return Err(site.error(place(), "there is no window").into());
        };
        let is_window = |bound: &Bound, name: &str| matches!(&bound.raw, DfExpr::Column(column) if column.name == name);
        let missing: Vec<&str> = WINDOW_COLUMNS[..2]
            .iter()
            .filter(|(_, inner)| !keys.iter().any(|bound| is_window(bound, inner)))
            .map(|(outer, _)| *outer)
            .collect();
        if !missing.is_empty() {
            let span = if keys.is_empty() { *window_span } else { place() };
            let message = format!(
                "rows of a window are grouped by window_start and window_end; {} {} missing",
                missing.join(" and "),
                if missing.len() == 1 { "is" } else { "are" }
            );
            return Err(site.error(span, message).help(format!("add {} to GROUP BY", missing.join(", "))).into());
        }
        let others = keys.iter().filter(|bound| !WINDOW_COLUMNS.iter().any(|(_, inner)| is_window(bound, inner)));
        self.only_keys(relation, others)
    }

    /// Grouping expressions, each one once.
    fn only_keys<'b>(&self, relation: &Relation, keys: impl Iterator<Item = &'b Bound>) -> Outcome<Vec<Key>> {
        let mut found: Vec<Key> = Vec::new();
        for key in all(keys.map(|bound| self.key(bound, relation)))? {
            if !found.iter().any(|known| known.value.raw == key.value.raw) {
                found.push(key);
            }
        }
        self.keys_of_sessions(relation, &found)?;
        found.sort_by(|a, b| a.text.cmp(&b.text));
        Ok(found)
    }

    pub(crate) fn key(&self, bound: &Bound, relation: &Relation) -> Outcome<Key> {
        let site = self.site;
        if columns_in(&bound.raw).iter().any(|name| name.starts_with('#')) {
            return Err(site
                .error(bound.span, "window_start, window_end and window_time are grouped by as they are")
                .help("compute with them in the SELECT list")
                .into());
        }
        let value = self.typed(bound, relation)?;
        let data_type = match from_arrow(&value.data_type) {
            Some(DataType::Struct(_)) => Err("a STRUCT can't be grouped by; group by its fields".to_owned()),
            Some(DataType::Array(_)) => Err("an ARRAY can't be grouped by".to_owned()),
            Some(data_type) => Ok(data_type),
            None => Err(format!("this can't be grouped by: it is {}", not_a_column(&value.data_type))),
        };
        let data_type = data_type.map_err(|message| site.error(bound.span, message))?;
        let text = self.text(&value)?;
        Ok(Key { value, data_type, text })
    }

    fn text(&self, value: &Typed) -> Outcome<String> {
        match meaning(&value.raw) {
            Ok(expr) => Ok(expr.to_string()),
            Err(message) => Err(self.site.error(value.span, format!("this can't be planned: {message}")).into()),
        }
    }

    /// The aggregates that are called in `bound`.
    fn calls(&self, bound: &Bound, relation: &Relation) -> Outcome<Vec<Call>> {
        let mut raws: Vec<DfExpr> = Vec::new();
        let collected = bound.raw.apply(|expr| {
            if matches!(expr, DfExpr::AggregateFunction(_)) {
                raws.push(expr.clone());
                return Ok(TreeNodeRecursion::Jump);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        collected.map_err(|error| self.site.error(bound.span, crate::bind::explain(&error)))?;
        all(raws.into_iter().map(|raw| self.call(raw, bound, relation)))
    }

    fn call(&self, raw: DfExpr, bound: &Bound, relation: &Relation) -> Outcome<Call> {
        let site = self.site;
        let DfExpr::AggregateFunction(DfAggregate { func, params }) = &raw else {
            return Err(site.error(bound.span, "an aggregate was expected").into());
        };
        let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = params;
        let name = func.name().to_owned();
        let span = aggregate_where(&bound.syntax, &|other| other == name).map_or(bound.span, |(_, span)| span);
        let error = |message: String| -> SqlError { site.error(span, message) };
        let Known::Aggregate(function) = functions::known(&name) else {
            return Err(error(format!("the aggregate {name} is not supported")).into());
        };
        let in_order =
            matches!(relation.window, Some((Window::Tumble { .. } | Window::Hop { .. } | Window::Cumulate { .. }, _)));
        if function.is_ordered() && !in_order {
            let message = format!("{} is supported in windows of TUMBLE, HOP and CUMULATE only", name.to_uppercase());
            return Err(error(message).help("group by one of them, window_start and window_end").into());
        }
        if !order_by.is_empty() || null_treatment.is_some() {
            return Err(error(format!("ORDER BY and IGNORE NULLS in {} are not supported", name.to_uppercase())).into());
        }
        let part = |expr: &DfExpr| Bound { raw: expr.clone(), syntax: bound.syntax.clone(), span };
        for inner in args.iter().chain(filter.as_deref()) {
            if columns_in(inner).iter().any(|column| column.starts_with('#')) {
                return Err(error(format!("{} of a window's column is not supported", name.to_uppercase()))
                    .help("write the window's column itself: it is the same for the whole group")
                    .into());
            }
        }
        let [argument, ..] = args.as_slice() else {
            return Err(error(format!("{} has an argument", name.to_uppercase())).into());
        };
        let after = After::of(&name, args).map_err(&error)?;
        let not_null =
            after.as_ref().is_some_and(After::leaves_nulls_out).then(|| DfExpr::IsNotNull(Box::new(argument.clone())));
        let filter = match (filter.as_deref().cloned(), not_null) {
            (Some(filter), Some(not_null)) => Some(filter.and(not_null)),
            (filter, not_null) => filter.or(not_null),
        };
        let filter = filter.map(|filter| self.condition(&part(&filter), relation, "FILTER")).transpose()?;
        let every_row = function == AggregateFunction::Count
            && !distinct
            && constant(argument).is_some_and(|value| !value.is_null());
        let (argument, data_type) = if every_row {
            (None, DataType::BigInt)
        } else {
            let value = self.typed(&part(argument), relation)?;
            let given = from_arrow(&value.data_type)
                .ok_or_else(|| error(format!("{} of {}", name.to_uppercase(), not_a_column(&value.data_type))))?;
            let (taken, data_type) = types(function, after.as_ref(), &given).map_err(&error)?;
            if *distinct && matches!(given, DataType::Struct(_) | DataType::Array(_)) {
                return Err(error(format!("DISTINCT in {} of {given} is not supported", name.to_uppercase()))
                    .help("take one of its fields")
                    .into());
            }
            let expr = if taken == given {
                value.expr
            } else {
                DfExpr::Cast(Cast::new(Box::new(value.expr), to_arrow(&taken)))
            };
            let expr = match &filter {
                Some(filter) => guarded(expr, filter),
                None => expr,
            };
            (Some((Typed { expr, data_type: to_arrow(&taken), ..value }, taken)), data_type)
        };
        // The least of different values is the least of all.
        let distinct = *distinct && !function.ignores_distinct();
        let text = self.call_text(
            &aggregates::label(function),
            argument.as_ref().map(|(value, _)| value),
            distinct,
            filter.as_ref(),
        )?;
        Ok(Call { function, argument, distinct, filter, data_type, text, raws: vec![(raw, after)] })
    }

    fn call_text(
        &self,
        name: &str,
        argument: Option<&Typed>,
        distinct: bool,
        filter: Option<&Typed>,
    ) -> Outcome<String> {
        let argument = argument.map_or_else(|| Ok("*".to_owned()), |value| self.text(value))?;
        let distinct = if distinct { "DISTINCT " } else { "" };
        let filter = match filter {
            Some(filter) => format!(" FILTER (WHERE {})", self.text(filter)?),
            None => String::new(),
        };
        Ok(format!("{}({distinct}{argument}){filter}", name.to_uppercase()))
    }

    /// Puts `bound`, which is over rows, over their groups, and types it with `check`.
    fn over_groups<T>(
        &self,
        bound: Bound,
        over: &Relation,
        check: impl Fn(&Bound, &Relation) -> Outcome<T>,
    ) -> Outcome<T> {
        let Some(grouping) = &over.grouping else {
            return Err(self.site.error(bound.span, "there is no GROUP BY").into());
        };
        let raw =
            rebased(bound.raw, grouping).map_err(|error| self.site.error(bound.span, crate::bind::explain(&error)))?;
        let stranger = columns_in(&raw).into_iter().find(|name| grouping.output.find(name).is_none());
        if let Some(name) = stranger {
            let span = column_span(&bound.syntax, &name).unwrap_or(bound.span);
            let help = format!("add `{name}` to GROUP BY, or aggregate it: MAX({name})");
            return Err(self
                .site
                .error(span, format!("`{name}` is neither grouped by nor inside an aggregate"))
                .help(help)
                .into());
        }
        check(&Bound { raw, ..bound }, over)
    }
}

/// What an aggregate is given, computed only for the rows that its FILTER lets through: for others it may fail.
fn guarded(expr: DfExpr, filter: &Typed) -> DfExpr {
    match expr {
        DfExpr::Column(_) | DfExpr::Literal(..) => expr,
        other => DfExpr::Case(Case::new(None, vec![(Box::new(filter.expr.clone()), Box::new(other))], None)),
    }
}

/// Where the column `name` stands in `syntax`.
fn column_span(syntax: &Expr, name: &str) -> Option<Span> {
    first(syntax, &|expr| match expr {
        Expr::Identifier(ident) if ident.value == name => Some(ident.span),
        _ => None,
    })
}

/// `raw` with keys and aggregates replaced by the columns that hold them.
fn rebased(raw: DfExpr, grouping: &Grouping) -> DfResult<DfExpr> {
    let column = |name: String| DfExpr::Column(DfColumn::new_unqualified(name));
    let done = raw.transform_down(|expr| {
        if let Some(at) = grouping.keys.iter().position(|key| key.value.raw == expr) {
            return Ok(Transformed::new(column(format!("#key{at}")), true, TreeNodeRecursion::Jump));
        }
        if matches!(expr, DfExpr::AggregateFunction(_))
            && let Some((at, after)) = grouping
                .aggregates
                .iter()
                .enumerate()
                .find_map(|(at, call)| call.raws.iter().find(|(raw, _)| *raw == expr).map(|(_, after)| (at, after)))
        {
            let result = column(format!("#agg{at}"));
            let result = after.as_ref().map_or_else(|| Ok(result.clone()), |after| after.over(result.clone()))?;
            return Ok(Transformed::new(result, true, TreeNodeRecursion::Jump));
        }
        Ok(Transformed::no(expr))
    })?;
    Ok(done.data)
}

/// The rows that a grouping gives.
fn output(keys: &[Key], windowed: bool, calls: &[Call]) -> Fields {
    let keys = keys
        .iter()
        .enumerate()
        .map(|(at, key)| Field::new(format!("#key{at}"), to_arrow(&key.data_type), key.value.nullable));
    let window = WINDOW_COLUMNS.iter().filter(|_| windowed);
    let window = window.map(|(_, inner)| Field::new(*inner, WINDOW_TYPE, false));
    let calls = calls
        .iter()
        .enumerate()
        .map(|(at, call)| Field::new(format!("#agg{at}"), to_arrow(&call.data_type), !call.function.is_never_null()));
    fields(keys.chain(window).chain(calls))
}

/// What an aggregate takes when it is given `given`, and what it gives: the rules of the plan, not DataFusion's.
fn types(function: AggregateFunction, after: Option<&After>, given: &DataType) -> Result<(DataType, DataType), String> {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    use DataType::{Array, BigInt, Decimal, Double, Float, Int, SmallInt, Struct, TinyInt};
    match (function, given) {
        (Count, _) if matches!(given, Array(_) | Struct(_)) => Ok((given.clone(), BigInt)),
        (Min | Max, Array(_) | Struct(_)) => {
            Err(format!("{given} has no least and no greatest value; take one of its fields"))
        }
        (Count, _) => Ok((given.clone(), BigInt)),
        (Min | Max, _) => Ok((given.clone(), given.clone())),
        (Sum, TinyInt | SmallInt | Int | BigInt) => Ok((BigInt, BigInt)),
        (Avg, TinyInt | SmallInt | Int | BigInt) => Ok((BigInt, Double)),
        (Sum | Avg, Float | Double) => Ok((Double, Double)),
        (Sum, Decimal(_, scale)) => Ok((given.clone(), Decimal(38, *scale))),
        (Avg, Decimal(_, scale)) => Ok((given.clone(), Decimal(38, (*scale).max(6)))),
        (Sum | Avg, _) => {
            let name = if function == Sum { "SUM" } else { "AVG" };
            Err(format!("{name} needs a number; this is {given}"))
        }
        _ => aggregates::types(function, after, given),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_means_have_the_plans_types() {
        let rule = |function, given: &str| {
            types(function, None, &given.parse().expect(given)).map(|(_, gives)| gives.to_string())
        };
        assert_eq!(rule(AggregateFunction::Sum, "INT"), Ok("BIGINT".into()));
        assert_eq!(rule(AggregateFunction::Sum, "DECIMAL(12,2)"), Ok("DECIMAL(38,2)".into()));
        assert_eq!(rule(AggregateFunction::Sum, "FLOAT"), Ok("DOUBLE".into()));
        assert_eq!(rule(AggregateFunction::Avg, "BIGINT"), Ok("DOUBLE".into()));
        assert_eq!(rule(AggregateFunction::Avg, "DECIMAL(12,2)"), Ok("DECIMAL(38,6)".into()));
        assert_eq!(rule(AggregateFunction::Avg, "DECIMAL(12,9)"), Ok("DECIMAL(38,9)".into()));
        assert_eq!(rule(AggregateFunction::Max, "TIMESTAMP(3)"), Ok("TIMESTAMP(3)".into()));
        assert_eq!(rule(AggregateFunction::Count, "STRUCT<a INT>"), Ok("BIGINT".into()));
        assert!(rule(AggregateFunction::Sum, "STRING").is_err());
        assert!(rule(AggregateFunction::Min, "ARRAY<INT>").is_err());
    }
}
