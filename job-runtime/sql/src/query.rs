//! A SELECT by itself: what a person tries out before a job writes it anywhere.
//!
//! It is planned as if it were written to a table that has just the columns that it gives. So everything that can be
//! said about its FROM, WHERE, GROUP BY and HAVING, every refusal and every type, is what a job would get. The table
//! joins the catalogue after names are resolved: no SQL can read or write it.

use std::collections::HashSet;

use arrow_schema::DataType as ArrowType;
use datafusion_expr::Expr as DfExpr;
use freshet_plan::changelog::OP_COLUMN;
use freshet_plan::{Changes, Column, DataType, Format, Plan};
use sqlparser::ast::{Expr, LimitClause, Query as QuerySyntax, Statement as Syntax, Value};

use crate::arrow_types::from_arrow;
use crate::bind::Binder;
use crate::convert_expr::not_a_column;
use crate::dialect::{self, Purpose};
use crate::error::{Outcome, Site, all};
use crate::relation::RelationColumn;
use crate::select::Planner;
use crate::sink::{Statement, null};
use crate::{Catalog, PlanOptions, Table, staged};

/// What the plan of a query calls the table and the topic of its rows. Nobody makes such a topic.
pub const RESULT: &str = "result";

/// A query, planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// One statement, which writes [`RESULT`].
    pub plan: Plan,
    /// What its rows are, in the order of the SELECT list; where rows are replaced by later ones, behind their kinds
    /// ([`OP_COLUMN`]). Every name is there once.
    pub columns: Vec<Column>,
    /// After how many rows it ends, where it says `LIMIT n`.
    pub limit: Option<u64>,
}

pub(crate) fn plan(catalog: &Catalog, sql: &str, options: &PlanOptions) -> Outcome<Query> {
    let texts = dialect::split(sql, Purpose::Query)?;
    let (text, others) = texts.split_first().ok_or_else(Vec::new)?;
    if let Some(second) = others.first() {
        let site = Site::new(sql, &second.tokens);
        let error = site.error(site.whole(), "a query is one SELECT, and this is a second statement");
        return Err(error.help("run one after the other").into());
    }
    let site = Site::new(sql, &text.tokens);
    let Syntax::Query(mut query) = dialect::parse(&site, text, Purpose::Query)? else {
        let error = site.error(site.whole(), "only SELECT is supported");
        return Err(error.help("write SELECT … FROM <table>").into());
    };
    let limit = take_limit(&mut query);
    let binder = Binder::new();
    let planner = Planner { catalog, site: &site, binder: &binder };
    let relation = planner.query(*query, &Vec::new())?;
    planner.no_bare_window(&relation)?;
    let outputs = all(relation.columns.iter().map(|column| output(&site, column)))?;
    let source = &catalog.tables[relation.source];
    let changes = if relation.updates(source) { Changes::Log } else { Changes::Append };
    // A row's kind comes first, and is called what it is called.
    let op = (changes == Changes::Log).then_some(OP_COLUMN);
    let names = distinct(op.into_iter().chain(relation.columns.iter().map(|column| column.name.as_str())));
    let (columns, exprs): (Vec<Column>, Vec<DfExpr>) = names
        .into_iter()
        .skip(op.into_iter().count())
        .zip(outputs)
        .map(|(name, (data_type, required, expr))| (Column { name, data_type, required }, expr))
        .unzip();
    planner.ranking_is_bounded(&relation, &exprs)?;
    let statement = Statement { index: text.index, relation, sink: catalog.tables.len(), outputs: exprs, changes };
    let mut with_result = catalog.clone();
    with_result.tables.push(result_table(columns.clone()));
    let plan = staged(&with_result, &[statement], options, sql, &texts)?;
    let op = op.map(|name| Column::required(name, DataType::String));
    Ok(Query { plan, columns: op.into_iter().chain(columns).collect(), limit })
}

fn result_table(columns: Vec<Column>) -> Table {
    Table {
        name: RESULT.to_owned(),
        resource_name: RESULT.to_owned(),
        topic: RESULT.to_owned(),
        format: Format::Json,
        columns,
        key: Vec::new(),
        key_trusted: false,
        event_time: None,
        partitions: 1,
    }
}

/// Type, contract and expression of a column of the result.
fn output(site: &Site<'_>, column: &RelationColumn) -> Outcome<(DataType, bool, DfExpr)> {
    let value = &column.value;
    if value.data_type == ArrowType::Null {
        let nothing = null(&DataType::String).map_err(|message| site.error(value.span, message))?;
        return Ok((DataType::String, false, nothing));
    }
    match from_arrow(&value.data_type) {
        Some(data_type) => Ok((data_type, !value.nullable, value.expr.clone())),
        None => {
            let message = format!("`{}` is {}", column.name, not_a_column(&value.data_type));
            Err(site.error(value.span, message).into())
        }
    }
}

/// Takes `LIMIT n` off the end of a query. Other limits are left there, to be refused.
fn take_limit(query: &mut QuerySyntax) -> Option<u64> {
    let Some(LimitClause::LimitOffset { limit: Some(Expr::Value(limit)), offset: None, limit_by }) =
        &query.limit_clause
    else {
        return None;
    };
    let Value::Number(number, false) = &limit.value else { return None };
    let limit = number.parse().ok().filter(|_| limit_by.is_empty())?;
    query.limit_clause = None;
    Some(limit)
}

/// The names, each one once: the second `a` is called `a_2`.
fn distinct<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let written: HashSet<&str> = names.clone().collect();
    let mut taken: HashSet<String> = HashSet::new();
    let choose = |name: &str| {
        let mut chosen = name.to_owned();
        let mut number = 2_u32;
        while taken.contains(&chosen) || (chosen != name && written.contains(chosen.as_str())) {
            chosen = format!("{name}_{number}");
            number += 1;
        }
        taken.insert(chosen.clone());
        chosen
    };
    names.map(choose).collect()
}

#[cfg(test)]
mod tests {
    use super::distinct;

    #[test]
    fn names_that_repeat_get_numbers_and_keep_off_each_other() {
        assert_eq!(distinct(["a", "b"].into_iter()), ["a", "b"]);
        assert_eq!(distinct(["a", "a", "a"].into_iter()), ["a", "a_2", "a_3"]);
        assert_eq!(distinct(["a", "a", "a_2"].into_iter()), ["a", "a_3", "a_2"]);
        assert_eq!(distinct(["a_2", "a", "a"].into_iter()), ["a_2", "a", "a_3"]);
    }
}
