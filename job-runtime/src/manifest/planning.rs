//! Pure: a pipeline's SQL over its Topics becomes a plan; what is wrong with it joins the other problems.

use freshet_plan::Plan;
use freshet_sql::{Catalog, PlanOptions, Table};

use super::{Diagnostics, SqlText, TopicTable};

/// The plan of `sql` over the tables of `topics`, with `max_parallelism` partitions in internal topics; `None` where
/// the SQL is wrong, and `diagnostics` says how.
#[must_use]
pub fn plan(sql: &SqlText, topics: &[TopicTable], max_parallelism: u32, diagnostics: &mut Diagnostics) -> Option<Plan> {
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
    let catalog = Catalog { tables: tables.collect() };
    match freshet_sql::plan(&catalog, sql.text(), &PlanOptions { max_parallelism }) {
        Ok(plan) => Some(plan),
        Err(errors) => {
            for error in errors {
                let span = error.span.start.offset..error.span.end.offset;
                diagnostics.push_sql(sql, span, &error.message, error.help.as_deref());
            }
            None
        }
    }
}
