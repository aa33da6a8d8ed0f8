//! Sessions: their results against an independent recount, for any cut into batches, any crash, and in two stages.

mod common;

use std::collections::BTreeSet;

use common::recount::{recount_sessions, results, stream};
use common::stages::{Stages, UPSTREAM, action, with_end};
use common::*;
use freshet_plan::{AggregateFunction, Plan, Window, WindowAggregate};
use proptest::prelude::*;

fn aggregate_over(gap_ms: i64) -> WindowAggregate {
    WindowAggregate { window: Window::Session { gap_ms }, ..window_aggregate(&[ACCOUNT], many_aggregates()) }
}

fn plan(gap_ms: i64) -> Plan {
    one_stage(aggregate_over(gap_ms))
}

fn gaps() -> impl Strategy<Value = i64> {
    prop_oneof![Just(1), Just(2), Just(3), Just(5), Just(8), Just(20), Just(100)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// However records are cut into batches, the output is the recount; the same rows in the same order.
    #[test]
    fn results_do_not_depend_on_batches(gap in gaps(), payments in stream(), size in 1..50_usize) {
        let plan = plan(gap);
        let (found, found_late) = in_batches(&plan, &payments, size);
        let (expected, late) = recount_sessions(std::slice::from_ref(&payments), gap, i64::MAX);
        prop_assert_eq!(found_late, late);
        let ends: Vec<String> = found.iter().map(|row| end_of(row)).collect();
        prop_assert!(ends.is_sorted(), "sessions go out in the order of their ends: {:?}", ends);
        prop_assert_eq!(&in_batches(&plan, &payments, payments.len().max(1)).0, &found);
        prop_assert_eq!(sorted(found), sorted(expected));
    }

    /// Epochs that commit or are lost anywhere, and restarts from a merged base or from deltas, change nothing, and
    /// leave no session behind.
    #[test]
    fn crashes_change_nothing(
        gap in gaps(),
        payments in stream(),
        steps in prop::collection::vec((1..20_usize, 0..4_u8, any::<bool>()), 1..30),
    ) {
        let context = context(1, 1);
        let program = program(&plan(gap), 0, &context);
        let mut driven = Driven::new(&program, 0, &context);
        let payments: Vec<Payment> = payments.into_iter().chain([Payment::new("last", 1, 100_000)]).collect();
        driven.through(&program, &payments, &steps);
        let (expected, _) = recount_sessions(&[payments], gap, i64::MAX);
        prop_assert_eq!(sorted(results(&driven.committed)), sorted(expected));
        let stored: BTreeSet<Vec<u8>> = driven.stored.rows.keys().filter(|(operator, _)| operator == OPERATOR).map(|(_, key)| key.clone()).collect();
        let held = driven.task.stats().state_keys;
        prop_assert_eq!(driven.stored.restore(program.task(0)).stats().state_keys, held);
        prop_assert_eq!(driven.stored.replay(program.task(0)).stats().state_keys, held);
        // The last record alone: its session and its two different values.
        prop_assert_eq!((held, stored.len()), (1, 3));
    }

    /// Two stages give what the recount gives over all partitions' payments together.
    #[test]
    fn two_stages_are_one_aggregate(
        gap in gaps(),
        input in prop::collection::vec(stream(), UPSTREAM as usize),
        actions in prop::collection::vec(action(), 0..60),
    ) {
        let input = with_end(input);
        let (expected, late) = recount_sessions(&input, gap, 5_000);
        let mut stages = Stages::new(&two_stages(aggregate_over(gap)), input);
        stages.act(actions);
        // What a task counted before it crashed is counted no more.
        prop_assert!(stages.late().0 <= late);
        prop_assert_eq!(stages.late().1, 0);
        prop_assert_eq!(stages.results(), sorted(expected));
    }
}

/// Start, end and count of each session of payments of one account, a far one behind them.
fn counts(gap_ms: i64, times: &[i64], size: usize) -> (Vec<(i64, i64, i64)>, u64) {
    let context = context(1, 1);
    let counted = window_aggregate(&[ACCOUNT], vec![aggregate("n", AggregateFunction::Count, None)]);
    let aggregate = WindowAggregate { window: Window::Session { gap_ms }, ..counted };
    let mut driven = Driven::new(&program(&one_stage(aggregate), 0, &context), 0, &context);
    let mut payments: Vec<Payment> = times.iter().map(|time| Payment::new("a", 1, *time)).collect();
    payments.push(Payment::new("last", 1, 10_000));
    for (at, chunk) in payments.chunks(size).enumerate() {
        driven.task.process(&common::payments((at * size) as i64, chunk), 0, &mut driven.out).expect("good records");
    }
    let time = |value: &serde_json::Value| {
        let time = value.as_str().expect("a time").parse::<chrono::NaiveDateTime>().expect("a time");
        time.and_utc().timestamp_millis()
    };
    let found = written(&driven.out);
    let rows = found.iter().filter(|record| record.topic == SINK).map(|record| {
        let value: serde_json::Value = serde_json::from_str(record.text()).expect("JSON");
        assert_eq!(record.timestamp_ms, time(&value["window_time"]));
        assert_eq!(time(&value["window_end"]), time(&value["window_time"]) + 1);
        (time(&value["window_start"]), time(&value["window_end"]), value["n"].as_i64().expect("a count"))
    });
    (rows.collect(), driven.task.stats().late)
}

#[test]
fn rows_no_further_apart_than_the_gap_are_one_session() {
    for size in 1..5 {
        let (found, late) = counts(10, &[0, 5, 15, 26, 36], size);
        assert_eq!(found, [(0, 25, 3), (26, 46, 2)], "in batches of {size}");
        assert_eq!(late, 0);
    }
}

#[test]
fn a_row_between_two_sessions_joins_them() {
    for size in 1..5 {
        let (found, _) = counts(3, &[10, 15, 12], size);
        assert_eq!(found, [(10, 18, 3)], "in batches of {size}");
        let (found, _) = counts(3, &[10, 15, 11], size);
        assert_eq!(found, [(10, 14, 2), (15, 18, 1)], "in batches of {size}");
        // Three sessions, joined from the middle.
        let (found, _) = counts(2, &[10, 13, 16, 12, 14], size);
        assert_eq!(found, [(10, 18, 5)], "in batches of {size}");
    }
}

#[test]
fn a_row_behind_the_watermark_is_late_also_where_a_session_is_open() {
    // The disorder is 5: after 20 the watermark is 14.
    for size in 1..6 {
        let (found, late) = counts(10, &[10, 20, 15, 14, 25], size);
        assert_eq!(found, [(10, 35, 4)], "in batches of {size}");
        assert_eq!(late, 1);
    }
}

#[test]
fn a_checkpoint_costs_what_was_touched() {
    let context = context(1, 1);
    let program = program(&plan(20), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    let mut process = |offset: i64, time: i64, accounts: std::ops::Range<i64>| {
        let payments: Vec<_> = accounts.map(|n| Payment::new(&format!("a{n}"), n, time)).collect();
        driven.task.process(&common::payments(offset, &payments), 0, &mut driven.out).expect("good records");
        driven.commit();
        let rows = driven.stored.rows.keys().filter(|(operator, _)| operator == OPERATOR).count();
        (rows, driven.stored.deltas.last().map(freshet_state::rows::RowBuffer::len))
    };
    // A session and a value of two DISTINCT aggregates each, and the watermark.
    assert_eq!(process(0, 9, 0..10), (30, Some(31)));
    // Two of them go on: their values are known; the watermark moves.
    assert_eq!(process(10, 12, 0..2), (30, Some(3)));
    // One begins earlier than it did, under the name that it has.
    assert_eq!(process(12, 8, 9..10), (30, Some(1)));
    // All end but the one that comes: ten sessions with three rows each go.
    assert_eq!(process(13, 90, 3..4), (3, Some(30 + 3 + 1)));
}

#[test]
fn joined_sessions_are_one_in_the_state() {
    let context = context(1, 1);
    let program = program(&plan(3), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    for (offset, (amount, time)) in [(1, 10), (2, 15), (1, 12)].into_iter().enumerate() {
        let payment = Payment::new("a", amount, time);
        driven.task.process(&common::payments(offset as i64, &[payment]), 0, &mut driven.out).expect("good records");
        driven.commit();
        if offset == 1 {
            driven.task = driven.stored.replay(program.task(0));
        }
    }
    let rows = driven.stored.rows.keys().filter(|(operator, _)| operator == OPERATOR).count();
    // The session, and the values 1 and 2 of both DISTINCT aggregates.
    assert_eq!((rows, driven.task.stats().state_keys), (5, 1));
    assert_eq!(driven.stored.replay(program.task(0)).stats().state_keys, 1);
}

#[test]
fn many_sessions_at_once_go_out_in_parts() {
    let context = context(1, 1);
    let program = program(&plan(10), 0, &context);
    let many: Vec<_> = (0..9_000).map(|n| Payment::new(&format!("a{n}"), n, n % 4)).collect();
    let close = common::payments(9_000, &[Payment::new("b", 1, 60)]);
    let start = || {
        let mut driven = Driven::new(&program, 0, &context);
        driven.task.process(&common::payments(0, &many), 0, &mut driven.out).expect("good records");
        driven.commit();
        driven.committed.clear();
        driven
    };
    let mut whole = start();
    whole.task.process(&close, 0, &mut whole.out).expect("good records");
    let whole = written(&whole.out);
    assert_eq!(whole.len(), 9_000);

    let mut parts = start();
    parts.task.limit_output(1);
    parts.task.process(&close, 0, &mut parts.out).expect("good records");
    let mut found = Vec::new();
    let mut calls = 0;
    while parts.task.has_more() {
        found.extend(written(&parts.out));
        parts.out.clear();
        parts.task.resume(&mut parts.out).expect("results");
        calls += 1;
    }
    found.extend(written(&parts.out));
    assert_eq!(found, whole);
    assert!(calls >= 2, "{calls} calls");
    parts.commit();
    assert_eq!(parts.stored.restore(program.task(0)).stats().state_keys, 1);
}

/// What has gone is given back, also what DISTINCT aggregates had seen.
#[test]
fn memory_follows_the_sessions_that_are_open() {
    let context = context(1, 1);
    let mut driven = Driven::new(&program(&plan(3), 0, &context), 0, &context);
    let mut most = 0;
    for round in 0..200_i64 {
        let payments: Vec<_> = (0..100).map(|n| Payment::new(&format!("a{round}-{n}"), n, round * 10)).collect();
        driven.task.process(&common::payments(round * 100, &payments), 0, &mut driven.out).expect("good records");
        driven.commit();
        if round < 20 {
            most = driven.task.stats().state_bytes;
        }
    }
    let held = driven.task.stats();
    assert!(held.state_keys <= 200, "{held:?}");
    assert!(held.state_bytes < 4 * most, "{held:?}, and {most} after the first rounds");
}

#[test]
fn planted_bugs_change_the_results() {
    let run = || counts(3, &[10, 15, 12], 1).0;
    assert_eq!(run(), [(10, 18, 3)]);
    freshet_env::plant(Some(freshet_env::PlantedBug::ForgetJoinedSession));
    let planted = run();
    freshet_env::plant(None);
    assert_eq!(planted, [(10, 18, 2)]);

    let run = || counts(10, &[0, 8, 16, 17], 1).0;
    assert_eq!(run(), [(0, 27, 4)]);
    freshet_env::plant(Some(freshet_env::PlantedBug::EndSessionAtFirstGap));
    let planted = run();
    freshet_env::plant(None);
    assert_eq!(planted, [(0, 26, 3), (17, 27, 1)]);
}
