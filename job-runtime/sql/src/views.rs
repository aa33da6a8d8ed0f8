//! Views: queries with a name, for the statements behind them.
//!
//! `CREATE TEMPORARY VIEW v AS SELECT …` keeps nothing and runs nothing. Where a later statement of the job reads `v`,
//! the query stands there, as a common table expression would.

use sqlparser::ast::{CreateTableOptions, CreateView, Query, TableAliasColumnDef, ViewColumnDef};

use crate::error::{Outcome, Site, both};
use crate::names::{Found, look_up};
use crate::refuse::Refusals;
use crate::relation::{Named, Relation, find_table};
use crate::select::Planner;

/// The parts of a CREATE VIEW that the planner works with.
struct Parts {
    columns: Vec<TableAliasColumnDef>,
    query: Box<Query>,
    name: sqlparser::ast::ObjectName,
}

/// Takes a `CREATE TEMPORARY VIEW v [(columns)] AS query` apart. Other clauses are refused, which does not keep the rest
/// from being looked at.
fn parts(site: &Site<'_>, view: CreateView) -> (Outcome<()>, Parts) {
    let CreateView {
        or_alter,
        or_replace,
        materialized,
        secure,
        name,
        name_before_not_exists: _,
        columns,
        query,
        options,
        cluster_by,
        comment,
        with_no_schema_binding,
        if_not_exists,
        temporary,
        copy_grants,
        to,
        params,
    } = view;
    let mut refusals = Refusals::new(site);
    if !temporary {
        refusals.at(
            site.keywords(&["VIEW"]),
            "a view that outlives the job",
            "write CREATE TEMPORARY VIEW v AS SELECT …",
        );
    }
    refusals.clause(or_alter, &["OR", "ALTER"], "");
    refusals.clause(or_replace, &["OR", "REPLACE"], "a view is made once in a job");
    refusals.clause(materialized, &["MATERIALIZED"], "write INSERT INTO a Topic's table, and read that");
    refusals.clause(secure, &["SECURE"], "");
    refusals.clause(if_not_exists, &["IF", "NOT", "EXISTS"], "a view is made once in a job");
    refusals.clause(!matches!(options, CreateTableOptions::None), &["WITH"], "a view has no options");
    refusals.clause(!cluster_by.is_empty(), &["CLUSTER", "BY"], "");
    refusals.clause(comment.is_some(), &["COMMENT"], "write a comment: `-- …`");
    refusals.clause(with_no_schema_binding, &["WITH", "NO", "SCHEMA", "BINDING"], "");
    refusals.clause(copy_grants, &["COPY", "GRANTS"], "");
    refusals.clause(to.is_some(), &["TO"], "write INSERT INTO <table> SELECT …");
    refusals.clause(params.is_some(), &["CREATE"], "write CREATE TEMPORARY VIEW v AS SELECT …");
    for ViewColumnDef { name, data_type: _, options } in &columns {
        if options.is_some() {
            refusals.at(name.span, &format!("what follows `{name}`"), "write only the column's name");
        }
    }
    let columns = columns
        .into_iter()
        .map(|ViewColumnDef { name, data_type, options: _ }| TableAliasColumnDef { name, data_type });
    (refusals.end(), Parts { columns: columns.collect(), query, name })
}

impl Planner<'_> {
    /// What a view stands for, by its name.
    pub(crate) fn view(&self, view: CreateView, views: &Named) -> Outcome<(String, Vec<Relation>)> {
        let (refused, Parts { columns, query, name }) = parts(self.site, view);
        let name = match name.0.as_slice() {
            [part] => part.as_ident().cloned(),
            _ => None,
        }
        .ok_or_else(|| -> Vec<crate::SqlError> {
            let span = sqlparser::ast::Spanned::span(&name);
            self.site.error(span, format!("`{name}` is not a view's name: names have no dots")).into()
        });
        let ((), (name, mut relations)) = both(refused, both(name, self.query(*query, views)))?;
        if find_table(self.catalog, &name).is_some() {
            let message = format!("there is a table `{}` already", name.value);
            return Err(self.site.error(name.span, message).help("give the view another name").into());
        }
        if !matches!(look_up(&name, views.iter().map(|(name, _)| name.as_str())), Found::Nothing) {
            let message = format!("there is a view `{}` already", name.value);
            return Err(self.site.error(name.span, message).help("give this one another name").into());
        }
        for relation in &mut relations {
            self.renamed(relation, &name, &columns)?;
        }
        Ok((name.value, relations))
    }
}
