//! Pure: SQL over Topics becomes a plan; what is wrong with it joins the other problems.

use std::time::Duration;

use freshet_plan::Plan;
use freshet_sql::{Catalog, PlanOptions, Query, SqlError, Table};

use super::pipeline::Job;
use super::{Diagnostics, Severity, SqlText, TopicTable};

/// What a plan depends on besides SQL and Topics.
#[must_use]
pub fn plan_options(max_parallelism: u32, state_ttl: Option<Duration>) -> PlanOptions {
    let millis = |ttl: Duration| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
    PlanOptions { max_parallelism, state_ttl_ms: state_ttl.map(millis) }
}

/// The same of a job; of one that is not valid, for whoever wants to know what its SQL says all the same.
#[must_use]
pub fn options_of(job: Option<&Job>) -> PlanOptions {
    job.map_or_else(|| plan_options(1, None), |job| plan_options(job.max_parallelism, job.state_ttl))
}

/// The plan of `sql` over the tables of `topics`; `None` where the SQL is wrong, and `diagnostics` says how. What is
/// kept for ever joins them as a warning.
#[must_use]
pub fn plan(
    sql: &SqlText,
    topics: &[TopicTable],
    options: &PlanOptions,
    diagnostics: &mut Diagnostics,
) -> Option<Plan> {
    let planned = freshet_sql::plan(&catalog(topics), sql.text(), options);
    let plan = planned.map_err(|errors| note(sql, errors, diagnostics)).ok()?;
    for kept in plan.kept_for_ever() {
        let message = format!(
            "operator {} ({}) keeps the state of every key for ever: it grows with the number of keys, by about {} bytes \
             each in memory",
            kept.id, kept.what, kept.bytes_a_key
        );
        let help = "where a key's state may go some time after its last record, set spec.stateTtl, for instance 24h";
        diagnostics.push_sql_at(Severity::Warning, sql, 0..sql.text().len(), &message, Some(help));
    }
    Some(plan)
}

/// The plan of a SELECT over the tables of `topics`, for one process; `None` where it is wrong, and `diagnostics` says
/// how.
#[must_use]
pub fn plan_query(sql: &SqlText, topics: &[TopicTable], diagnostics: &mut Diagnostics) -> Option<Query> {
    let planned = freshet_sql::plan_query(&catalog(topics), sql.text(), &plan_options(1, None));
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
