//! What is not supported, refused by name and place, before anything is bound.
//!
//! Every struct of the syntax tree is taken apart completely, without `..`: a clause that a later parser
//! learns to read does not compile here until somebody has decided about it. So nothing is misread by
//! being overlooked.

use sqlparser::ast::{
    Distinct, Function, FunctionArg, FunctionArgumentList, FunctionArguments, GroupByExpr, GroupByWithModifier, Insert,
    ObjectName, OnInsert, Query, Select, SetExpr, SetOperator, Spanned, Statement, TableObject, With,
};
use sqlparser::tokenizer::Span;

use crate::error::{Outcome, Site, SqlError, both};

/// Gathers refusals of one part of a statement.
pub(crate) struct Refusals<'a> {
    site: &'a Site<'a>,
    errors: Vec<SqlError>,
}

impl<'a> Refusals<'a> {
    pub(crate) fn new(site: &'a Site<'a>) -> Self {
        Self { site, errors: Vec::new() }
    }

    /// Refuses the clause that begins with `keywords`, if it is `there`.
    pub(crate) fn clause(&mut self, there: bool, keywords: &[&str], help: &str) {
        if there {
            self.at(self.site.keywords(keywords), &keywords.join(" "), help);
        }
    }

    /// Refuses `what`, which stands at `span`.
    pub(crate) fn at(&mut self, span: Span, what: &str, help: &str) {
        let help = if help.is_empty() { "leave it out" } else { help };
        self.errors.push(self.site.error(span, format!("{what} is not supported")).help(help));
    }

    pub(crate) fn end(self) -> Outcome<()> {
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}

/// The parts of an INSERT that the planner works with.
pub(crate) struct InsertParts {
    /// The table that is written.
    pub(crate) table: ObjectName,
    /// The columns that are written, in order; all of them when empty.
    pub(crate) columns: Vec<ObjectName>,
    /// What is written.
    pub(crate) query: Box<Query>,
}

/// Takes an `INSERT INTO t [(columns)] query` apart. Other clauses are refused, which does not keep the rest from being
/// looked at.
pub(crate) fn insert(site: &Site<'_>, statement: Statement) -> (Outcome<()>, Outcome<InsertParts>) {
    let Statement::Insert(Insert {
        insert_token: _,
        optimizer_hints,
        or,
        ignore,
        into,
        table,
        table_alias,
        columns,
        overwrite,
        source,
        assignments,
        partitioned,
        after_columns,
        has_table_keyword: _,
        on,
        returning,
        output,
        replace_into,
        priority,
        insert_alias,
        settings,
        format_clause,
        multi_table_insert_type,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause,
    }) = statement
    else {
        let error = site.error(site.whole(), "only INSERT INTO … SELECT is supported");
        return (Ok(()), Err(error.help("write INSERT INTO <table> SELECT …").into()));
    };
    let mut refusals = Refusals::new(site);
    refusals.clause(!optimizer_hints.is_empty(), &["INSERT"], "leave hints out");
    refusals.clause(or.is_some(), &["INSERT", "OR"], "write INSERT INTO");
    refusals.clause(ignore, &["IGNORE"], "write INSERT INTO");
    if !into {
        refusals.at(site.keywords(&["INSERT"]), "INSERT without INTO", "write INSERT INTO <table> SELECT …");
    }
    refusals.clause(overwrite, &["OVERWRITE"], "a stream only appends: write INSERT INTO");
    refusals.clause(replace_into, &["REPLACE"], "a stream only appends: write INSERT INTO");
    refusals.clause(priority.is_some(), &["INSERT"], "write INSERT INTO");
    refusals.clause(table_alias.is_some(), &["INSERT"], "give the table that is written no alias");
    refusals.clause(!assignments.is_empty(), &["SET"], "write INSERT INTO <table> SELECT …");
    refusals.clause(
        partitioned.is_some() || !after_columns.is_empty(),
        &["PARTITION"],
        "records are partitioned by the Topic's key",
    );
    let conflict = match on {
        Some(OnInsert::DuplicateKeyUpdate(_)) => &["ON", "DUPLICATE", "KEY", "UPDATE"][..],
        _ => &["ON", "CONFLICT"],
    };
    refusals.clause(on.is_some(), conflict, "a stream only appends: leave it out");
    refusals.clause(returning.is_some(), &["RETURNING"], "");
    refusals.clause(output.is_some(), &["OUTPUT"], "");
    refusals.clause(insert_alias.is_some(), &["AS"], "give the table that is written no alias");
    refusals.clause(settings.is_some(), &["SETTINGS"], "settings of a job are fields of its StreamJob's spec");
    refusals.clause(format_clause.is_some(), &["FORMAT"], "the format is the Topic's `schema.format`");
    let multi = multi_table_insert_type.is_some()
        || !multi_table_into_clauses.is_empty()
        || !multi_table_when_clauses.is_empty()
        || multi_table_else_clause.is_some();
    refusals.clause(multi, &["INSERT"], "write one INSERT INTO for each table");
    let parts = match (table, source) {
        (TableObject::TableName(table), Some(query)) => Ok(InsertParts { table, columns, query }),
        (TableObject::TableName(table), None) => Err(site
            .error(table.span(), "INSERT without SELECT is not supported: a job writes what it reads")
            .help("write INSERT INTO <table> SELECT …")
            .into()),
        (_, _) => Err(site
            .error(site.keywords(&["INTO"]), "INSERT INTO a function or a query is not supported")
            .help("name a table: a Topic")
            .into()),
    };
    (refusals.end(), parts)
}

/// What a query is: its CTEs and its SELECT.
pub(crate) type QueryParts = (Option<With>, Box<Select>);

/// Takes a query apart into its CTEs and its SELECT. Other clauses are refused, which does not keep the rest from being
/// looked at.
pub(crate) fn query(site: &Site<'_>, query: Query) -> (Outcome<()>, Outcome<QueryParts>) {
    let Query { with, body, order_by, limit_clause, fetch, locks, for_clause, settings, format_clause, pipe_operators } =
        query;
    let mut refusals = Refusals::new(site);
    refusals.clause(order_by.is_some(), &["ORDER", "BY"], "a stream has no end to sort at; leave ORDER BY out");
    let limit = if limit_clause.is_some() && site.keywords(&["LIMIT"]) == site.whole() { "OFFSET" } else { "LIMIT" };
    refusals.clause(limit_clause.is_some(), &[limit], "a stream has no end; leave it out");
    refusals.clause(fetch.is_some(), &["FETCH"], "a stream has no end; leave it out");
    if !locks.is_empty() || for_clause.is_some() {
        refusals.at(site.last_keyword("FOR"), "FOR … at the end of a query", "");
    }
    refusals.clause(settings.is_some(), &["SETTINGS"], "");
    refusals.clause(format_clause.is_some(), &["FORMAT"], "");
    refusals.clause(!pipe_operators.is_empty(), &["|>"], "write SELECT … FROM …");
    if let Some(with) = &with
        && with.recursive
    {
        refusals.clause(true, &["RECURSIVE"], "");
    }
    let select = match *body {
        SetExpr::Select(select) => Ok((with, select)),
        SetExpr::Query(inner) if with.is_none() => {
            let (refused, select) = self::query(site, *inner);
            return (both(refusals.end(), refused).map(|_| ()), select);
        }
        SetExpr::Query(_) => {
            Err(site.error(site.keywords(&["WITH"]), "WITH before a query in parentheses is not supported").into())
        }
        SetExpr::SetOperation { op, left: _, set_quantifier: _, right: _ } => {
            let (word, help) = match op {
                SetOperator::Union => ("UNION", "write one INSERT INTO for each part: they may write the same table"),
                SetOperator::Intersect => ("INTERSECT", ""),
                SetOperator::Except | SetOperator::Minus => ("EXCEPT", ""),
            };
            let mut refusals = Refusals::new(site);
            refusals.clause(true, &[word], help);
            Err(refusals.errors)
        }
        SetExpr::Values(_) => {
            let mut refusals = Refusals::new(site);
            refusals.clause(true, &["VALUES"], "a job reads topics: write SELECT … FROM <table>");
            Err(refusals.errors)
        }
        SetExpr::Table(_) => {
            let mut refusals = Refusals::new(site);
            refusals.clause(true, &["TABLE"], "write SELECT * FROM <table>");
            Err(refusals.errors)
        }
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            Err(site.error(site.whole(), "a statement inside a query is not supported").into())
        }
    };
    (refusals.end(), select)
}

/// The arguments of a function that is called with nothing but arguments, as those of FROM are.
pub(crate) fn bare_call<'a>(site: &Site<'_>, function: &'a Function) -> Outcome<&'a [FunctionArg]> {
    let Function { name, uses_odbc_syntax, parameters, args, filter, null_treatment, over, within_group } = function;
    let (span, name) = (name.span(), name.to_string().to_uppercase());
    let mut refusals = Refusals::new(site);
    let mut refuse = |there: bool, what: &str, help: &str| {
        if there {
            refusals.at(span, &format!("{what} {name}(…)"), help);
        }
    };
    refuse(
        *uses_odbc_syntax || !matches!(parameters, FunctionArguments::None),
        "this way to call",
        "write the arguments",
    );
    refuse(filter.is_some(), "FILTER after", "write WHERE");
    refuse(null_treatment.is_some(), "IGNORE NULLS or RESPECT NULLS after", "write only the arguments");
    refuse(over.is_some(), "OVER after", "write only the arguments");
    refuse(!within_group.is_empty(), "WITHIN GROUP after", "write only the arguments");
    let FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) = args else {
        refusals.at(span, &format!("{name} without a list of arguments"), "write the arguments in parentheses");
        return refusals.end().map(|()| &[][..]);
    };
    if duplicate_treatment.is_some() {
        refusals.at(span, &format!("DISTINCT or ALL in {name}"), "write only the arguments");
    }
    for clause in clauses {
        refusals.at(span, &format!("`{clause}` in {name}"), "write only the arguments");
    }
    refusals.end().map(|()| args.as_slice())
}

/// Refuses the clauses of a SELECT that are not supported. What is left is its list, FROM, WHERE, GROUP BY
/// and HAVING.
pub(crate) fn select(site: &Site<'_>, select: &Select) -> Outcome<()> {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection: _,
        exclude,
        into,
        from: _,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor: _,
    } = select;
    let mut refusals = Refusals::new(site);
    refusals.clause(!optimizer_hints.is_empty(), &["SELECT"], "leave hints out");
    if let Some(Distinct::On(_)) = distinct {
        refusals.clause(true, &["DISTINCT", "ON"], "write SELECT DISTINCT, or GROUP BY");
    }
    refusals.clause(select_modifiers.is_some(), &["SELECT"], "leave modifiers of SELECT out");
    refusals.clause(top.is_some(), &["TOP"], "a stream has no end; leave it out");
    refusals.clause(exclude.is_some(), &["EXCLUDE"], "list the columns");
    if into.is_some() {
        refusals.at(site.last_keyword("INTO"), "SELECT … INTO", "write INSERT INTO <table> SELECT …");
    }
    refusals.clause(!lateral_views.is_empty(), &["LATERAL", "VIEW"], "");
    refusals.clause(prewhere.is_some(), &["PREWHERE"], "write WHERE");
    refusals.clause(!connect_by.is_empty(), &["CONNECT", "BY"], "");
    refusals.clause(!cluster_by.is_empty(), &["CLUSTER", "BY"], "");
    refusals.clause(!distribute_by.is_empty(), &["DISTRIBUTE", "BY"], "");
    refusals.clause(!sort_by.is_empty(), &["SORT", "BY"], "");
    refusals.clause(!named_window.is_empty(), &["WINDOW"], "window functions (OVER) are not supported yet");
    refusals.clause(qualify.is_some(), &["QUALIFY"], "window functions (OVER) are not supported yet");
    refusals.clause(value_table_mode.is_some(), &["AS"], "write SELECT with a list of columns");
    let modifiers = match group_by {
        GroupByExpr::All(_) => {
            refusals.clause(
                true,
                &["GROUP", "BY", "ALL"],
                "list the grouping columns, window_start and window_end among them",
            );
            return refusals.end();
        }
        GroupByExpr::Expressions(_, modifiers) => modifiers,
    };
    for modifier in modifiers {
        let word = match modifier {
            GroupByWithModifier::Rollup => "ROLLUP",
            GroupByWithModifier::Cube => "CUBE",
            GroupByWithModifier::Totals => "TOTALS",
            GroupByWithModifier::GroupingSets(_) => "GROUPING",
        };
        refusals.clause(true, &[word], "write one INSERT INTO for each grouping");
    }
    refusals.end()
}
