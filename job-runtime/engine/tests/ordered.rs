//! Aggregates that go by the order of rows: event time, then partition and offset. Their results are those of sorting all
//! rows, whatever the batches, the interleaving of upstream tasks, the epochs and the crashes.

mod common;

use std::collections::BTreeMap;

use common::stages::{Stages, UPSTREAM, action, with_end};
use common::*;
use freshet_plan::{Aggregate, AggregateFunction, Window, WindowAggregate};
use proptest::prelude::*;

/// Payments of one partition that are on time, many of them at the same time.
fn partition() -> impl Strategy<Value = Vec<Payment>> {
    let payment = ("[ab]", prop::option::of(-3..4_i64), -DISORDER_MS..=0_i64, 0..3_i64);
    prop::collection::vec(payment, 0..40).prop_map(|payments| {
        let mut now = 0;
        let moved = payments.into_iter().map(|(account, amount, behind, step)| {
            now += step;
            Payment { amount, ..Payment::new(&account, 0, now + behind) }
        });
        moved.collect()
    })
}

fn ordered(window: Window) -> WindowAggregate {
    use AggregateFunction::{ArrayAgg, FirstValue, LastValue};
    let aggregates = vec![
        aggregate("first", FirstValue, Some(AMOUNT)),
        aggregate("last", LastValue, Some(AMOUNT)),
        aggregate("all", ArrayAgg, Some(AMOUNT)),
        Aggregate { distinct: true, ..aggregate("different", ArrayAgg, Some(AMOUNT)) },
    ];
    WindowAggregate { window, ..window_aggregate(&[ACCOUNT], aggregates) }
}

fn windows_of(window: Window, time: i64) -> Vec<(i64, i64)> {
    let (size, every) = match window {
        Window::Hop { size_ms, slide_ms, .. } => (size_ms, slide_ms),
        _ => (SIZE_MS, SIZE_MS),
    };
    let last = time.div_euclid(every) * every;
    (0..).map(|n| last - n * every).take_while(|start| time < start + size).map(|start| (start, start + size)).collect()
}

/// Account and start of the window.
type Group = (String, i64);
/// Event time, partition, offset and value.
type Placed = (i64, usize, usize, Option<i64>);

/// The results by their definition: first, last, all, different.
fn by_definition(window: Window, input: &[Vec<Payment>]) -> Vec<String> {
    let mut groups: BTreeMap<Group, Vec<Placed>> = BTreeMap::new();
    for (partition, payments) in input.iter().enumerate() {
        for (offset, payment) in
            payments.iter().enumerate().filter(|(_, payment)| payment.account.as_deref() != Some("end"))
        {
            for (start, _) in windows_of(window, payment.time) {
                let account = payment.account.clone().expect("an account");
                groups.entry((account, start)).or_default().push((payment.time, partition, offset, payment.amount));
            }
        }
    }
    let result = |((account, start), mut rows): (Group, Vec<Placed>)| {
        rows.sort_unstable();
        let all: Vec<Option<i64>> = rows.iter().map(|row| row.3).collect();
        let mut different = all.clone();
        // Null last.
        different.sort_by_key(|amount| (amount.is_none(), *amount));
        different.dedup();
        let mut values = all.iter().flatten();
        let first = values.next().copied();
        let last = values.next_back().copied().or(first);
        serde_json::json!([account, start, first, last, all, different]).to_string()
    };
    groups.into_iter().map(result).collect()
}

fn found(stages: &Stages) -> Vec<String> {
    let mut found: Vec<String> = stages
        .results()
        .iter()
        .map(|text| serde_json::from_str::<serde_json::Value>(text).expect("JSON"))
        .filter(|row| row["account"] != "end")
        .map(|row| {
            let start = row["window_start"].as_str().expect("a time");
            let start = chrono::NaiveDateTime::parse_from_str(start, "%Y-%m-%dT%H:%M:%S%.3f").expect("a time");
            let start = start.and_utc().timestamp_millis();
            serde_json::json!([row["account"], start, row["first"], row["last"], row["all"], row["different"]])
                .to_string()
        })
        .collect();
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn ties_go_by_partition_and_offset(
        input in prop::collection::vec(partition(), UPSTREAM as usize),
        actions in prop::collection::vec(action(), 0..60),
        hop in any::<bool>(),
    ) {
        let window = if hop {
            Window::Hop { size_ms: 10, slide_ms: 5, offset_ms: 0 }
        } else {
            Window::Tumble { size_ms: SIZE_MS, offset_ms: 0 }
        };
        let mut wanted = by_definition(window, &input);
        wanted.sort();
        let mut stages = Stages::new(&two_stages(ordered(window)), with_end(input));
        stages.act(actions);
        prop_assert_eq!(stages.late(), (0, 0));
        prop_assert_eq!(found(&stages), wanted);
    }
}

#[test]
fn rows_that_stand_for_no_record_have_no_order() {
    // Results of windows, grouped once more.
    let inner = window_aggregate(&[ACCOUNT], vec![aggregate("n", AggregateFunction::Count, None)]);
    let mut outer = window_aggregate(&[], vec![aggregate("first", AggregateFunction::FirstValue, Some(AMOUNT))]);
    outer.id = "agg-outer".to_owned();
    outer.time_column = 3;
    outer.aggregates[0].argument = Some(4);
    let mut plan = one_stage(inner.clone());
    plan.stages[0].chains[0].steps.push(freshet_plan::Step::WindowAggregate(outer.clone()));
    plan.stages[0].chains[0].output = sink(outer.output_columns(), vec![0]);
    let context = context(1, 1);
    let mut driven = Driven::new(&program(&plan, 0, &context), 0, &context);
    let last = [Payment::new("a", 1, 5), Payment::new("a", 1, 50)];
    let error = driven.task.process(&payments(0, &last), 0, &mut driven.out).expect_err("no order");
    assert!(error.to_string().contains("first: its rows don't come straight from a topic"), "{error}");
}
