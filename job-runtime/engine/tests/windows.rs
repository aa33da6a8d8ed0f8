//! One stage with a window aggregate: its results against an independent recount, for any cut into
//! batches, any crash, and every aggregate.

mod common;

use common::recount::{results, stream};
use common::*;
use freshet_engine::EngineError;
use freshet_plan::{Aggregate, AggregateFunction, Plan};
use proptest::prelude::*;

/// `SELECT account, window…, many_aggregates()` over tumbling windows.
fn recount(payments: &[Payment]) -> (Vec<String>, u64) {
    recount::recount(payments, |time| {
        let start = time.div_euclid(SIZE_MS) * SIZE_MS;
        vec![(start, start + SIZE_MS)]
    })
}

fn plan() -> Plan {
    one_stage(window_aggregate(&[ACCOUNT], many_aggregates()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// However records are cut into batches, the output is the recount, in the same order.
    #[test]
    fn results_do_not_depend_on_batches(payments in stream(), cuts in prop::collection::vec(1..40_usize, 1..20)) {
        let context = context(1, 1);
        let mut driven = Driven::new(&program(&plan(), 0, &context), 0, &context);
        let mut rest = payments.as_slice();
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(*cuts.next().expect("cycle")));
            let offset = (payments.len() - rest.len()) as i64;
            driven.task.process(&common::payments(offset, now), 0, &mut driven.out).expect("good records");
            rest = later;
        }
        let (expected, late) = recount(&payments);
        let mut found = results(&written(&driven.out));
        prop_assert_eq!(driven.task.stats().late, late);
        prop_assert_eq!(found.len(), expected.len());
        // Within a window the order is that of encoded keys, which is not that of the recount.
        found.sort();
        let mut expected = expected;
        expected.sort();
        prop_assert_eq!(found, expected);
    }

    /// Order is the same for any cut, too.
    #[test]
    fn order_does_not_depend_on_batches(payments in stream(), size in 1..50_usize) {
        let context = context(1, 1);
        let program = program(&plan(), 0, &context);
        let run = |size: usize| {
            let mut driven = Driven::new(&program, 0, &context);
            for (at, chunk) in payments.chunks(size).enumerate() {
                driven.task.process(&common::payments((at * size) as i64, chunk), 0, &mut driven.out).expect("good records");
            }
            results(&written(&driven.out))
        };
        prop_assert_eq!(run(size), run(payments.len().max(1)));
    }

    /// Epochs that commit or are lost anywhere, and restarts from a merged base or from deltas, change nothing.
    #[test]
    fn crashes_change_nothing(
        payments in stream(),
        steps in prop::collection::vec((1..20_usize, 0..4_u8, any::<bool>()), 1..30),
    ) {
        let context = context(1, 1);
        let program = program(&plan(), 0, &context);
        let mut driven = Driven::new(&program, 0, &context);
        driven.through(&program, &payments, &steps);
        let (mut expected, _) = recount(&payments);
        let mut found = results(&driven.committed);
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(driven.stored.restore(program.task(0)).stats().state_keys, driven.task.stats().state_keys);
    }
}

/// The results of all `payments`, which a far record behind them pushes out.
fn run_one(
    aggregates: Vec<Aggregate>,
    group: &[usize],
    mut payments: Vec<Payment>,
) -> Result<Vec<String>, EngineError> {
    let context = context(1, 1);
    let mut driven = Driven::new(&program(&one_stage(window_aggregate(group, aggregates)), 0, &context), 0, &context);
    payments.push(Payment::new("last", 0, 1_000));
    driven.task.process(&common::payments(0, &payments), 0, &mut driven.out)?;
    Ok(results(&written(&driven.out)))
}

/// The result of one aggregate, as it stands in the JSON.
fn of_aggregate(aggregate: Aggregate, amounts: &[Option<i64>]) -> Result<String, EngineError> {
    let price = |amount: &Option<i64>| amount.filter(|amount| amount.abs() < 1_000);
    let payments =
        amounts.iter().map(|amount| Payment { amount: *amount, price: price(amount), ..Payment::new("a", 0, 1) });
    let name = format!("\"{}\":", aggregate.name);
    let found = run_one(vec![aggregate], &[ACCOUNT], payments.collect())?;
    let (_, value) = found[0].split_once(&name).expect("the aggregate's column is the last one");
    Ok(value.trim_end_matches('}').to_owned())
}

#[test]
fn aggregates_over_no_value_are_null_and_counts_are_zero() {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    for (function, expected) in [(Count, "0"), (Sum, "null"), (Min, "null"), (Max, "null"), (Avg, "null")] {
        let found = of_aggregate(aggregate("x", function, Some(AMOUNT)), &[None, None]);
        assert_eq!(found.as_deref(), Ok(expected), "{function:?}");
    }
    assert_eq!(of_aggregate(aggregate("x", Count, None), &[None, None]).as_deref(), Ok("2"));
}

#[test]
fn sums_are_judged_by_their_result() {
    let sum = || aggregate("x", AggregateFunction::Sum, Some(AMOUNT));
    let max = i64::MAX;
    assert_eq!(
        of_aggregate(sum(), &[Some(max), Some(1), Some(-1)]),
        Ok(max.to_string()),
        "an overflow that passes is none"
    );
    let error = of_aggregate(sum(), &[Some(max), Some(1)]).expect_err("beyond BIGINT").to_string();
    assert!(error.contains(OPERATOR) && error.contains("BIGINT") && error.contains('x'), "{error}");
}

#[test]
fn decimal_means_are_rounded_half_up() {
    let mean = || aggregate("x", AggregateFunction::Avg, Some(PRICE));
    for (hundredths, expected) in [
        (vec![1, 2], "0.015000"),
        (vec![1, 1, 2], "0.013333"),
        (vec![1, 2, 2], "0.016667"),
        (vec![-1, -2, -2], "-0.016667"),
        (vec![1, -1], "0.000000"),
    ] {
        let values: Vec<_> = hundredths.iter().map(|v| Some(*v)).collect();
        assert_eq!(of_aggregate(mean(), &values).as_deref(), Ok(expected), "{hundredths:?}");
    }
}

#[test]
fn a_global_aggregate_has_no_group() {
    let found = run_one(
        vec![aggregate("n", AggregateFunction::Count, None)],
        &[],
        vec![Payment::new("a", 1, 3), Payment::new("b", 1, 4)],
    );
    let expected = r#"{"window_start":"1970-01-01T00:00:00.000","window_end":"1970-01-01T00:00:00.010","window_time":"1970-01-01T00:00:00.009","n":2}"#;
    assert_eq!(found, Ok(vec![expected.to_owned()]));
}

#[test]
fn every_scalar_type_can_group() {
    let payments = vec![
        Payment { price: Some(150), ..Payment::new("a", -7, 3) },
        Payment { price: None, amount: None, good: None, ..Payment::new("a", 1, 3) },
    ];
    let mut found = run_one(vec![], &[AMOUNT, PRICE, RATIO, GOOD, TIME], payments).expect("groups");
    found.sort();
    assert!(
        found[0].starts_with(r#"{"amount":-7,"price":1.50,"ratio":null,"good":false,"ts":"1970-01-01T00:00:00.003","#),
        "{}",
        found[0]
    );
    assert!(found[1].starts_with(r#"{"amount":null,"price":null,"ratio":null,"good":null,"ts":"#), "{}", found[1]);
}

#[test]
fn results_carry_key_time_and_placement() {
    let context = context(1, 1);
    let mut driven = Driven::new(&program(&plan(), 0, &context), 0, &context);
    let payments = [Payment::new("foobar", 1, 3), Payment::new("x", 1, 100)];
    driven.task.process(&common::payments(0, &payments), 0, &mut driven.out).expect("good records");
    let found = written(&driven.out);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key.as_deref(), Some(&b"foobar"[..]));
    assert_eq!(found[0].timestamp_ms, SIZE_MS - 1);
    assert_eq!(found[0].partition, freshet_plan::key::partition_of(b"foobar", 3));
}

#[test]
fn a_window_that_has_fired_leaves_nothing_behind() {
    let context = context(1, 1);
    let program = program(&plan(), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    let first: Vec<_> = (0..100).map(|n| Payment::new(&format!("a{}", n % 10), n, 3)).collect();
    driven.task.process(&common::payments(0, &first), 0, &mut driven.out).expect("good records");
    driven.commit();
    // 10 groups, 10 values of two DISTINCT aggregates each, and the watermark.
    assert_eq!(driven.stored.rows.len(), 10 + 2 * 100 + 1);
    driven.task.process(&common::payments(100, &[Payment::new("b", 1, 60)]), 0, &mut driven.out).expect("good records");
    driven.commit();
    assert_eq!(driven.stored.rows.len(), 1 + 2 + 1);
    assert_eq!(driven.task.stats().state_keys, 1);
}

#[test]
fn a_snapshot_costs_what_changed() {
    let context = context(1, 1);
    let program = program(&plan(), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    let many: Vec<_> = (0..5_000).map(|n| Payment::new(&format!("a{n}"), n, 3)).collect();
    driven.task.process(&common::payments(0, &many), 0, &mut driven.out).expect("good records");
    driven.commit();
    driven
        .task
        .process(&common::payments(5_000, &[Payment::new("a17", 17, 4)]), 0, &mut driven.out)
        .expect("good records");
    driven.commit();
    let last = driven.stored.deltas.last().expect("a delta");
    assert_eq!(last.len(), 2, "the group and the watermark; its value was known");
    driven.commit();
    assert!(driven.stored.deltas.last().expect("a delta").is_empty());
}

/// A window with more groups than the output has room for goes out in parts, in the same order, and nothing
/// is lost when the slot does not ask for the rest but goes on or ends the epoch.
#[test]
fn a_full_output_is_gone_on_with() {
    let context = context(1, 1);
    let program = program(&plan(), 0, &context);
    let many: Vec<_> = (0..30_000).map(|n| Payment::new(&format!("a{n}"), n, 3)).collect();
    let close = common::payments(30_000, &[Payment::new("b", 1, 60)]);
    let start = || {
        let mut driven = Driven::new(&program, 0, &context);
        driven.task.process(&common::payments(0, &many), 0, &mut driven.out).expect("good records");
        driven.commit();
        driven
    };
    let mut whole = start();
    whole.task.process(&close, 0, &mut whole.out).expect("good records");
    assert!(!whole.task.has_more());
    let whole = written(&whole.out);
    assert_eq!(whole.len(), 30_000);

    let mut parts = start();
    parts.task.limit_output(1);
    parts.task.process(&close, 0, &mut parts.out).expect("good records");
    let mut found = Vec::new();
    while parts.task.has_more() {
        assert!(!parts.out.is_empty() && parts.out.records.len() <= 8_192);
        found.extend(written(&parts.out));
        parts.out.clear();
        parts.task.resume(&mut parts.out).expect("results");
    }
    assert_eq!(found, whole);

    let mut flushed = start();
    flushed.task.limit_output(1);
    flushed.task.process(&close, 0, &mut flushed.out).expect("good records");
    assert!(flushed.task.has_more());
    flushed.commit();
    assert!(!flushed.task.has_more());
    assert_eq!(flushed.committed, whole);
    assert_eq!(flushed.stored.restore(program.task(0)).stats().state_keys, 1);

    let mut gone_on = start();
    gone_on.task.limit_output(1);
    gone_on.task.process(&close, 0, &mut gone_on.out).expect("good records");
    gone_on
        .task
        .process(&common::payments(30_001, &[Payment::new("b", 1, 3)]), 0, &mut gone_on.out)
        .expect("good records");
    assert_eq!(results(&written(&gone_on.out)), results(&whole));
    assert_eq!(gone_on.task.stats().late, 1);
}

#[test]
fn a_planted_bug_fires_windows_twice_after_recovery() {
    let context = context(1, 1);
    let program = program(&plan(), 0, &context);
    let run = || {
        let mut driven = Driven::new(&program, 0, &context);
        for (offset, time) in [(0, 3), (1, 60)] {
            driven
                .task
                .process(&common::payments(offset, &[Payment::new("a", 1, time)]), 0, &mut driven.out)
                .expect("good records");
            driven.commit();
        }
        driven.crash(&program, false);
        driven
            .task
            .process(&common::payments(2, &[Payment::new("a", 1, 61)]), 0, &mut driven.out)
            .expect("good records");
        driven.commit();
        results(&driven.committed).len()
    };
    assert_eq!(run(), 1);
    freshet_env::plant(Some(freshet_env::PlantedBug::FireTwiceAfterRecovery));
    let planted = run();
    freshet_env::plant(None);
    assert_eq!(planted, 2);
}
