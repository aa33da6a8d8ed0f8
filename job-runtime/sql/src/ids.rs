//! Ids from meaning.
//!
//! State and internal topics are found by the ids of operators, so an id must stay what it is as long as the state
//! means the same, and change as soon as it does not. An operator's id is a hash of what it computes: its topic, the
//! conditions on its rows, its window, its keys and its aggregates, all with columns by name. Not in it: positions,
//! the number or order of statements, columns that others read, names of outputs, HAVING and what is computed from
//! the aggregates, and the casts that type coercion inserts.
//!
//! Two statements may aggregate the same. The first one, in the order of the text, gets the plain id; the id of each
//! further one has a second part, from what it does with the result.

use std::collections::BTreeMap;

use datafusion_expr::Expr as DfExpr;
use freshet_plan::fingerprint::short_hash;
use freshet_plan::{Emits, Expr, Window};
use serde::Serialize;

use crate::Table;
use crate::aggregate::Grouping;
use crate::bind::conjuncts;
use crate::convert_expr::meaning;
use crate::ranking::Ranking;
use crate::sink::Statement;

/// What an aggregation means.
#[derive(Serialize)]
struct Aggregation<'a> {
    topic: &'a str,
    time: &'a str,
    filters: Vec<Expr>,
    window: Option<Window>,
    keys: Vec<(Expr, String)>,
    aggregates: Vec<AggregateMeaning>,
    /// Where its state lives: beside the topic's partitions, or by key in an internal topic's.
    by_topic_key: bool,
}

/// What a ranking means.
#[derive(Serialize)]
struct Numbering<'a> {
    topic: &'a str,
    filters: Vec<Expr>,
    keys: Vec<(Expr, String)>,
    order: Vec<OrderMeaning>,
    limit: Option<u64>,
    kept: Vec<Expr>,
    is_final: bool,
    by_topic_key: bool,
}

#[derive(Serialize)]
struct OrderMeaning {
    by: (Expr, String),
    descending: bool,
    nulls_first: bool,
}

#[derive(Serialize)]
struct AggregateMeaning {
    function: freshet_plan::AggregateFunction,
    argument: Option<(Expr, String)>,
    distinct: bool,
    filter: Option<Expr>,
}

/// Hands out ids, each once.
#[derive(Default)]
pub(crate) struct Ids {
    given: BTreeMap<String, usize>,
}

impl Ids {
    /// The id of the aggregation of `statement`, which reads `table` and writes `sink`.
    pub(crate) fn aggregation(
        &mut self,
        statement: &Statement,
        grouping: &Grouping,
        table: &Table,
        sink: &Table,
        by_topic_key: bool,
    ) -> Result<String, String> {
        let relation = &statement.relation;
        let window = relation.window.as_ref().map(|(window, _)| *window);
        let filters = filters(statement)?;
        let keys =
            grouping.keys.iter().map(|key| Ok::<_, String>((meaning(&key.value.raw)?, key.data_type.to_string())));
        let aggregates = grouping.aggregates.iter().map(|call| {
            let argument = call.argument.as_ref();
            Ok::<_, String>(AggregateMeaning {
                function: call.function,
                argument: argument
                    .map(|(value, taken)| Ok::<_, String>((meaning(&value.raw)?, taken.to_string())))
                    .transpose()?,
                distinct: call.distinct,
                filter: call.filter.as_ref().map(|filter| meaning(&filter.raw)).transpose()?,
            })
        });
        let means = Aggregation {
            topic: &table.topic,
            // Without a window no time says which rows belong together.
            time: table.event_time.as_ref().filter(|_| window.is_some()).map_or("", |event_time| &event_time.column),
            filters,
            window,
            keys: keys.collect::<Result<_, _>>()?,
            aggregates: aggregates.collect::<Result<_, _>>()?,
            by_topic_key,
        };
        self.unique(format!("agg-{}", short_hash(&means, 8)), statement, sink)
    }

    /// The id of the ranking of `statement`, which keeps `leaves`.
    pub(crate) fn ranking(
        &mut self,
        statement: &Statement,
        ranking: &Ranking,
        leaves: &[DfExpr],
        emits: Emits,
        (table, sink): (&Table, &Table),
        by_topic_key: bool,
    ) -> Result<String, String> {
        let keys =
            ranking.keys.iter().map(|key| Ok::<_, String>((meaning(&key.value.raw)?, key.data_type.to_string())));
        let order = ranking.order.iter().map(|order| {
            Ok::<_, String>(OrderMeaning {
                by: (meaning(&order.value.raw)?, order.data_type.to_string()),
                descending: order.descending,
                nulls_first: order.nulls_first,
            })
        });
        let means = Numbering {
            topic: &table.topic,
            filters: filters(statement)?,
            keys: keys.collect::<Result<_, _>>()?,
            order: order.collect::<Result<_, _>>()?,
            limit: ranking.limit,
            kept: leaves.iter().map(meaning).collect::<Result<_, _>>()?,
            is_final: emits == Emits::First,
            by_topic_key,
        };
        self.unique(format!("rank-{}", short_hash(&means, 8)), statement, sink)
    }

    /// `id`, with a second part where it is given already.
    fn unique(&mut self, id: String, statement: &Statement, sink: &Table) -> Result<String, String> {
        let relation = &statement.relation;
        if !self.given.contains_key(&id) {
            self.given.insert(id.clone(), 0);
            return Ok(id);
        }
        let mut after: Vec<Expr> =
            relation.having.iter().map(|having| meaning(&having.raw)).collect::<Result<_, _>>()?;
        after.extend(statement.outputs.iter().map(meaning).collect::<Result<Vec<_>, _>>()?);
        let second = format!("{id}-{}", short_hash(&(&sink.topic, after), 6));
        let times = self.given.entry(second.clone()).or_insert(0);
        *times += 1;
        // A statement that is there twice, word for word.
        Ok(if *times == 1 { second } else { format!("{second}-{times}") })
    }
}

/// The conditions on rows. Their order does not change which rows they let through.
fn filters(statement: &Statement) -> Result<Vec<Expr>, String> {
    let mut filters = Vec::new();
    for filter in &statement.relation.filters {
        for part in conjuncts(&filter.raw) {
            filters.push(meaning(part)?);
        }
    }
    filters.sort_by_cached_key(|filter| short_hash(filter, 16));
    filters.dedup();
    Ok(filters)
}

/// The id of the stage that reads `table`'s topic: its name for people, and a hash of the topic.
pub(crate) fn source_stage(table: &Table) -> String {
    let name: String = table
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(35)
        .collect();
    let name = name.trim_matches('-');
    format!("{}-{}", if name.is_empty() { "topic" } else { name }, short_hash(&table.topic, 4))
}
