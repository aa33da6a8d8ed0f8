//! Comparing plans: what becomes of the state of an old plan under a new one.
//!
//! State is found by the ids of stateful operators, which come from their meaning. So two plans compare by their
//! operators: one that is in both, with the same format of state and of internal records, goes on where it was; one
//! that is only in the old plan would leave its state behind; one that is only in the new begins empty.

use std::collections::BTreeMap;

use crate::{Aggregate, Column, Emits, Input, Output, Plan, Rank, Step};

/// What becomes of the state of an old plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compatibility {
    /// The plans compute the same in the same way.
    Identical,
    /// Every operator's state goes on; new operators begin empty.
    Compatible,
    /// As [`Compatibility::Compatible`], once the internal topics of these operators are empty: their records'
    /// format, or the stage that writes them, changes.
    CompatibleAfterDraining {
        /// Ids of the operators whose internal topics must be empty.
        operators: Vec<String>,
    },
    /// State of the old plan has no operator in the new one, and would be dropped.
    CompatibleWithDroppedState {
        /// Ids of the operators whose state would be dropped.
        operators: Vec<String>,
        /// Ids of operators that go on once their internal topics are empty.
        draining: Vec<String>,
    },
    /// The new plan can't go on from the old one's state.
    Incompatible {
        /// Why, a sentence each.
        reasons: Vec<String>,
    },
}

/// A stateful operator, as state sees it.
#[derive(Debug, PartialEq, Eq)]
struct Stateful<'a> {
    state_version: u32,
    /// Where it gets rows: the topic and the stage that reads it, in whose tasks its state lies; or the version of its
    /// internal topic and the stage that writes it.
    feed: Feed<'a>,
    /// What its rows of state hold, in order.
    layout: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Feed<'a> {
    Topic { topic: &'a str, stage: &'a str },
    Internal { from_stage: &'a str, format_version: u32 },
}

/// What becomes of the state of `old` under `new`.
#[must_use]
pub fn compare(old: &Plan, new: &Plan) -> Compatibility {
    if old == new || old.fingerprint() == new.fingerprint() {
        return Compatibility::Identical;
    }
    let mut reasons = Vec::new();
    if new.version < old.version {
        reasons.push(format!("the new plan has version {}, older than the state's {}", new.version, old.version));
    }
    let (before, after) = (operators(old), operators(new));
    let has_internal = before.values().any(|operator| matches!(operator.feed, Feed::Internal { .. }));
    if old.max_parallelism != new.max_parallelism && has_internal {
        reasons.push(format!(
            "maxParallelism is {} and was {}: keys would be in other partitions of internal topics than their state",
            new.max_parallelism, old.max_parallelism
        ));
    }
    let (mut dropped, mut draining) = (Vec::new(), Vec::new());
    for (id, operator) in &before {
        let Some(other) = after.get(id) else {
            dropped.push((*id).to_owned());
            continue;
        };
        if operator.state_version != other.state_version {
            reasons.push(format!(
                "operator {id} keeps its state in format {}, and the state is in format {}",
                other.state_version, operator.state_version
            ));
        }
        if operator.layout != other.layout {
            reasons.push(format!(
                "operator {id} keeps other columns in its state: {}, not {}",
                other.layout, operator.layout
            ));
        }
        match (&operator.feed, &other.feed) {
            (before, after) if before == after => {}
            (Feed::Internal { .. }, Feed::Internal { .. }) => draining.push((*id).to_owned()),
            _ => reasons
                .push(format!("operator {id} would run in another stage than its state's, over other partitions")),
        }
    }
    if !reasons.is_empty() {
        Compatibility::Incompatible { reasons }
    } else if !dropped.is_empty() {
        Compatibility::CompatibleWithDroppedState { operators: dropped, draining }
    } else if !draining.is_empty() {
        Compatibility::CompatibleAfterDraining { operators: draining }
    } else {
        Compatibility::Compatible
    }
}

fn operators(plan: &Plan) -> BTreeMap<&str, Stateful<'_>> {
    let mut found = BTreeMap::new();
    for stage in &plan.stages {
        let feed = || match &stage.input {
            Input::Topic(source) => Feed::Topic { topic: &source.topic, stage: &stage.id },
            Input::Repartition(source) => Feed::Internal {
                from_stage: &source.from_stage,
                format_version: written_version(plan, &source.operator),
            },
        };
        for step in stage.chains.iter().flat_map(|chain| &chain.steps) {
            let (id, state_version, layout) = match step {
                Step::WindowAggregate(aggregate) | Step::WindowMerge(aggregate) => {
                    let layout = layout(&aggregate.group_columns, &aggregate.aggregates);
                    (&aggregate.id, aggregate.state_version, layout)
                }
                Step::GroupAggregate(group) | Step::GroupMerge(group) => {
                    (&group.id, group.state_version, layout(&group.group_columns, &group.aggregates))
                }
                Step::Rank(rank) | Step::RankMerge(rank) => (&rank.id, rank.state_version, kept(rank)),
                Step::Filter { .. }
                | Step::Project { .. }
                | Step::WindowCombine(_)
                | Step::GroupCombine(_)
                | Step::RankCombine(_) => continue,
            };
            found.insert(id.as_str(), Stateful { state_version, feed: feed(), layout });
        }
    }
    found
}

/// The version of the records that the plan writes for `operator`.
fn written_version(plan: &Plan, operator: &str) -> u32 {
    let outputs = plan.stages.iter().flat_map(|stage| &stage.chains).map(|chain| &chain.output);
    let mut versions = outputs.filter_map(|output| match output {
        Output::Repartition { operator: fed, format_version, .. } if fed == operator => Some(*format_version),
        _ => None,
    });
    versions.next().unwrap_or(0)
}

/// What a ranking keeps a key: how many rows of what, in which order.
fn kept(rank: &Rank) -> String {
    let types =
        |columns: &[Column]| columns.iter().map(|column| column.data_type.to_string()).collect::<Vec<_>>().join(", ");
    let by = |by: &crate::OrderBy| {
        let (way, nulls) = (if by.descending { " DESC" } else { "" }, if by.nulls_first { " NULLS FIRST" } else { "" });
        format!("{}{way}{nulls}", by.data_type)
    };
    let order = rank.order.iter().map(by).collect::<Vec<_>>().join(", ");
    let (limit, first) = (rank.limit, if rank.emits == Emits::First { ", once" } else { "" });
    format!("{}; {limit} by {order}{first}: {}", types(&rank.partition_columns), types(&rank.kept_columns))
}

fn layout(group_columns: &[Column], aggregates: &[Aggregate]) -> String {
    let group = group_columns.iter().map(|column| column.data_type.to_string());
    let calls = aggregates.iter().map(|call| {
        let argument = call.argument_type.as_ref().map_or_else(|| "*".to_owned(), ToString::to_string);
        let distinct = if call.distinct { "DISTINCT " } else { "" };
        format!("{:?}({distinct}{argument})", call.function).to_uppercase()
    });
    group.chain(calls).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AggregateFunction, Chain, DataType, Format, RepartitionSource, Stage, TopicSink, TopicSource, Window,
        WindowAggregate,
    };

    fn aggregate(id: &str) -> WindowAggregate {
        WindowAggregate {
            id: id.into(),
            window: Window::Tumble { size_ms: 1_000, offset_ms: 0 },
            time_column: 0,
            group: vec![1],
            group_columns: vec![Column::new("k", DataType::String)],
            aggregates: vec![Aggregate {
                name: "COUNT(*)".into(),
                function: AggregateFunction::Count,
                argument: None,
                argument_type: None,
                distinct: false,
                filter: None,
                data_type: DataType::BigInt,
            }],
            state_version: 1,
        }
    }

    fn sink() -> Output {
        Output::Topic(TopicSink {
            table: "s".into(),
            topic: "s".into(),
            format: Format::Json,
            columns: vec![],
            key: vec![],
            changes: crate::Changes::Append,
        })
    }

    fn source(steps: Vec<Step>, output: Output) -> Stage {
        let input = Input::Topic(TopicSource {
            table: "t".into(),
            topic: "t".into(),
            format: Format::Json,
            columns: vec![],
            key: vec![],
            key_trusted: false,
            event_time: None,
        });
        Stage { id: "t-0000".into(), input, chains: vec![Chain { statement: 0, steps, output }] }
    }

    fn plan(stages: Vec<Stage>) -> Plan {
        Plan { version: 1, max_parallelism: 8, stages }
    }

    fn one_stage(ids: &[&str]) -> Plan {
        plan(ids.iter().map(|id| source(vec![Step::WindowAggregate(aggregate(id))], sink())).collect())
    }

    fn two_stages(id: &str, format_version: u32) -> Plan {
        let output = Output::Repartition { operator: id.into(), key: vec![0], columns: vec![], format_version };
        let first = source(vec![Step::WindowCombine(aggregate(id))], output);
        let input = Input::Repartition(RepartitionSource {
            operator: id.into(),
            from_stage: "t-0000".into(),
            columns: vec![],
            format_version,
        });
        let chain = Chain { statement: 0, steps: vec![Step::WindowMerge(aggregate(id))], output: sink() };
        plan(vec![first, Stage { id: id.into(), input, chains: vec![chain] }])
    }

    #[test]
    fn state_goes_on_by_operator() {
        assert_eq!(compare(&one_stage(&["a"]), &one_stage(&["a"])), Compatibility::Identical);
        assert_eq!(compare(&one_stage(&["a"]), &one_stage(&["a", "b"])), Compatibility::Compatible);
        let dropped = Compatibility::CompatibleWithDroppedState { operators: vec!["b".into()], draining: vec![] };
        assert_eq!(compare(&one_stage(&["a", "b"]), &one_stage(&["a"])), dropped);
    }

    #[test]
    fn names_for_people_do_not_count() {
        let mut other = one_stage(&["a"]);
        if let Step::WindowAggregate(aggregate) = &mut other.stages[0].chains[0].steps[0] {
            aggregate.aggregates[0].name = "how many".into();
        }
        other.stages[0].chains[0].statement = 7;
        assert_eq!(compare(&one_stage(&["a"]), &other), Compatibility::Identical);
    }

    #[test]
    fn another_internal_format_is_drained_first() {
        let draining = Compatibility::CompatibleAfterDraining { operators: vec!["a".into()] };
        assert_eq!(compare(&two_stages("a", 1), &two_stages("a", 2)), draining);
    }

    #[test]
    fn other_state_is_incompatible() {
        let reason = |old: &Plan, new: &Plan| match compare(old, new) {
            Compatibility::Incompatible { reasons } => reasons.join("; "),
            other => panic!("{other:?}"),
        };
        let mut newer = one_stage(&["a"]);
        if let Step::WindowAggregate(aggregate) = &mut newer.stages[0].chains[0].steps[0] {
            aggregate.state_version = 2;
        }
        assert!(reason(&one_stage(&["a"]), &newer).contains("format 2"));

        let mut other = one_stage(&["a"]);
        if let Step::WindowAggregate(aggregate) = &mut other.stages[0].chains[0].steps[0] {
            aggregate.group_columns[0].data_type = DataType::BigInt;
        }
        assert!(reason(&one_stage(&["a"]), &other).contains("other columns"));

        let mut wider = two_stages("a", 1);
        wider.max_parallelism = 16;
        assert!(reason(&two_stages("a", 1), &wider).contains("maxParallelism is 16 and was 8"));
        assert!(reason(&one_stage(&["a"]), &two_stages("a", 1)).contains("another stage"));
    }

    #[test]
    fn state_lies_in_the_tasks_of_its_stage() {
        let mut elsewhere = one_stage(&["a"]);
        elsewhere.stages[0].id = "t-0001".into();
        let Compatibility::Incompatible { reasons } = compare(&one_stage(&["a"]), &elsewhere) else { panic!() };
        assert!(reasons[0].contains("another stage"), "{reasons:?}");
        let ids = [("t-0001".to_owned(), "t-0000".to_owned())].into();
        assert_eq!(compare(&one_stage(&["a"]), &elsewhere.with_ids(&ids)), Compatibility::Identical);
    }

    #[test]
    fn an_operator_under_another_id_is_another_operator_throughout() {
        let ids = [("a".to_owned(), "a-r7".to_owned()), ("t-0000".to_owned(), "t-0009".to_owned())].into();
        let renamed = two_stages("a", 1).with_ids(&ids);
        let mut wanted = two_stages("a-r7", 1);
        wanted.stages[0].id = "t-0009".into();
        if let Input::Repartition(source) = &mut wanted.stages[1].input {
            source.from_stage = "t-0009".into();
        }
        assert_eq!(renamed, wanted);
        assert_eq!(renamed.operator_ids().into_iter().collect::<Vec<_>>(), ["a-r7"]);
    }

    #[test]
    fn parallelism_matters_only_with_internal_topics() {
        let mut wider = one_stage(&["a"]);
        wider.max_parallelism = 16;
        assert_eq!(compare(&one_stage(&["a"]), &wider), Compatibility::Compatible);
    }
}
