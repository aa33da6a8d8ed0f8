//! Pure: SQL over Topics becomes a plan; what is wrong with it joins the other problems.

use freshet_plan::Plan;
use freshet_sql::{Catalog, PlanOptions, Query, SqlError, Table};

use super::{Diagnostics, SqlText, TopicTable};

/// The plan of `sql` over the tables of `topics`, with `max_parallelism` partitions in internal topics; `None` where
/// the SQL is wrong, and `diagnostics` says how.
#[must_use]
pub fn plan(sql: &SqlText, topics: &[TopicTable], max_parallelism: u32, diagnostics: &mut Diagnostics) -> Option<Plan> {
    let planned = freshet_sql::plan(&catalog(topics), sql.text(), &PlanOptions { max_parallelism });
    planned.map_err(|errors| note(sql, errors, diagnostics)).ok()
}

/// The plan of a SELECT over the tables of `topics`, for one process; `None` where it is wrong, and `diagnostics` says
/// how.
#[must_use]
pub fn plan_query(sql: &SqlText, topics: &[TopicTable], diagnostics: &mut Diagnostics) -> Option<Query> {
    let planned = freshet_sql::plan_query(&catalog(topics), sql.text(), &PlanOptions { max_parallelism: 1 });
    planned.map_err(|errors| note(sql, errors, diagnostics)).ok()
}

fn note(sql: &SqlText, errors: Vec<SqlError>, diagnostics: &mut Diagnostics) {
    for error in errors {
        let span = error.span.start.offset..error.span.end.offset;
        diagnostics.push_sql(sql, span, &error.message, error.help.as_deref());
    }
}

fn catalog(topics: &[TopicTable]) -> Catalog {
    let tables = topics.iter().filter_map(|topic| {
        let contract = topic.contract.as_ref()?;
        Some(Table {
            name: topic.table.clone(),
            resource_name: topic.resource.clone(),
            topic: topic.topic.clone(),
            format: contract.format,
            columns: contract.columns.clone(),
            key: contract.key.clone(),
            key_trusted: contract.key_trusted,
            event_time: contract.event_time.clone(),
            partitions: topic.partitions,
        })
    });
    Catalog { tables: tables.collect() }
}
