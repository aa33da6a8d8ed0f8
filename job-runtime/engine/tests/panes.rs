//! Windows that share their panes: their results against an independent recount, for any cut into batches, any crash,
//! rows that come when some of their windows have closed, and in two stages.

mod common;

use std::collections::BTreeSet;

use common::recount::{recount, recount_all, results, stream};
use common::stages::{Stages, UPSTREAM, action, with_end};
use common::*;
use freshet_plan::{Plan, Window, WindowAggregate};
use proptest::prelude::*;

const fn hop(size_ms: i64, slide_ms: i64, offset_ms: i64) -> Window {
    Window::Hop { size_ms, slide_ms, offset_ms }
}

const fn cumulate(size_ms: i64, step_ms: i64, offset_ms: i64) -> Window {
    Window::Cumulate { size_ms, step_ms, offset_ms }
}

/// The windows that hold a time, by the definition.
fn holding(window: Window) -> impl Fn(i64) -> Vec<(i64, i64)> + Copy {
    move |time| match window {
        Window::Tumble { .. } | Window::Session { .. } => panic!("these windows overlap"),
        Window::Hop { size_ms, slide_ms, offset_ms } => {
            let last = (time - offset_ms).div_euclid(slide_ms) * slide_ms + offset_ms;
            let starts = (0..).map(|n| last - n * slide_ms).take_while(|start| start + size_ms > time);
            starts.map(|start| (start, start + size_ms)).collect()
        }
        Window::Cumulate { size_ms, step_ms, offset_ms } => {
            let start = (time - offset_ms).div_euclid(size_ms) * size_ms + offset_ms;
            let ends = (1..=size_ms / step_ms).map(|n| start + n * step_ms).filter(|end| *end > time);
            ends.map(|end| (start, end)).collect()
        }
    }
}

fn windows() -> impl Strategy<Value = Window> {
    prop_oneof![
        Just(hop(10, 5, 0)),
        Just(hop(10, 2, 1)),
        Just(hop(10, 4, 3)),
        Just(hop(7, 3, 0)),
        Just(hop(30, 10, 0)),
        Just(hop(4, 10, 2)),
        Just(cumulate(10, 5, 0)),
        Just(cumulate(12, 2, 5)),
        Just(cumulate(30, 10, 0)),
    ]
}

fn aggregate_over(window: Window) -> WindowAggregate {
    WindowAggregate { window, ..window_aggregate(&[ACCOUNT], many_aggregates()) }
}

fn plan(window: Window) -> Plan {
    one_stage(aggregate_over(window))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// However records are cut into batches, the output is the recount; the same rows in the same order.
    #[test]
    fn results_do_not_depend_on_batches(window in windows(), payments in stream(), size in 1..50_usize) {
        let plan = plan(window);
        let (found, found_late) = in_batches(&plan, &payments, size);
        let (expected, late) = recount(&payments, holding(window));
        prop_assert_eq!(found_late, late);
        let ends: Vec<String> = found.iter().map(|row| end_of(row)).collect();
        prop_assert!(ends.is_sorted(), "windows fire in the order of their ends: {:?}", ends);
        prop_assert_eq!(&in_batches(&plan, &payments, payments.len().max(1)).0, &found);
        prop_assert_eq!(sorted(found), sorted(expected));
    }

    /// Epochs that commit or are lost anywhere, and restarts from a merged base or from deltas, change nothing, and
    /// leave no pane behind.
    #[test]
    fn crashes_change_nothing(
        window in windows(),
        payments in stream(),
        steps in prop::collection::vec((1..20_usize, 0..4_u8, any::<bool>()), 1..30),
    ) {
        let context = context(1, 1);
        let program = program(&plan(window), 0, &context);
        let mut driven = Driven::new(&program, 0, &context);
        let payments: Vec<Payment> = payments.into_iter().chain([Payment::new("last", 1, 100_000)]).collect();
        driven.through(&program, &payments, &steps);
        let (expected, _) = recount(&payments, holding(window));
        prop_assert_eq!(sorted(results(&driven.committed)), sorted(expected));
        let stored: BTreeSet<Vec<u8>> = driven.stored.rows.keys().filter(|(operator, _)| operator == OPERATOR).map(|(_, key)| key.clone()).collect();
        let held = driven.task.stats().state_keys;
        prop_assert_eq!(driven.stored.restore(program.task(0)).stats().state_keys, held);
        prop_assert_eq!(driven.stored.replay(program.task(0)).stats().state_keys, held);
        // The last record alone: its group and its two different values.
        let in_window = u64::from(!holding(window)(100_000).is_empty());
        prop_assert_eq!((held, stored.len() as u64), (in_window, 3 * in_window));
    }

    /// Two stages give what the recount gives over the partitions by themselves, also for rows of which some windows
    /// had closed in their partition.
    #[test]
    fn two_stages_are_one_aggregate(
        window in windows(),
        input in prop::collection::vec(stream(), UPSTREAM as usize),
        actions in prop::collection::vec(action(), 0..60),
    ) {
        let input = with_end(input);
        // The closing records' own windows never close.
        let expected: Vec<String> = recount_all(&input, holding(window)).into_iter().filter(|row| !row.contains("\"account\":\"end\"")).collect();
        let mut stages = Stages::new(&two_stages(aggregate_over(window)), input);
        stages.act(actions);
        prop_assert_eq!(stages.late().1, 0);
        prop_assert_eq!(stages.results(), sorted(expected));
    }
}

/// The counts by window of payments of one account, a far one behind them.
fn counts(window: Window, times: &[i64], size: usize) -> (Vec<(i64, i64)>, u64) {
    let context = context(1, 1);
    let aggregate = WindowAggregate {
        window,
        ..window_aggregate(&[ACCOUNT], vec![aggregate("n", freshet_plan::AggregateFunction::Count, None)])
    };
    let mut driven = Driven::new(&program(&one_stage(aggregate), 0, &context), 0, &context);
    let mut payments: Vec<Payment> = times.iter().map(|time| Payment::new("a", 1, *time)).collect();
    payments.push(Payment::new("last", 1, 10_000));
    for (at, chunk) in payments.chunks(size).enumerate() {
        driven.task.process(&common::payments((at * size) as i64, chunk), 0, &mut driven.out).expect("good records");
    }
    let found = written(&driven.out);
    let rows = found.iter().filter(|record| record.topic == SINK).map(|record| {
        let value: serde_json::Value = serde_json::from_str(record.text()).expect("JSON");
        (record.timestamp_ms + 1, value["n"].as_i64().expect("a count"))
    });
    (rows.collect(), driven.task.stats().late)
}

#[test]
fn a_row_counts_in_those_of_its_windows_that_are_open() {
    // The second payment closes the windows that end up to 12 (18 − 5 − 1).
    for size in 1..5 {
        let (found, late) = counts(hop(10, 5, 0), &[7, 18, 7, 2], size);
        assert_eq!(found, [(10, 1), (15, 2), (20, 1), (25, 1)], "in batches of {size}");
        assert_eq!(late, 1, "the last one was in the windows that end at 5 and at 10");
    }
}

#[test]
fn a_cumulating_window_goes_on_from_the_one_before() {
    // Without the last three: the windows that end at 5, 10, 15 and 20 hold 1, 2, 2 and 3 of them.
    for size in 1..8 {
        let (found, late) = counts(cumulate(20, 5, 0), &[3, 7, 16], size);
        assert_eq!(found, [(5, 1), (10, 2), (15, 2), (20, 3)], "in batches of {size}");
        assert_eq!(late, 0);
        // The fourth closes the windows up to 15; then one at 4 counts in the last, and one more after that in none.
        let (found, late) = counts(cumulate(20, 5, 0), &[3, 7, 16, 20, 4, 26, 19], size);
        assert_eq!(
            found,
            [(5, 1), (10, 2), (15, 2), (20, 4), (25, 1), (30, 2), (35, 2), (40, 2)],
            "in batches of {size}"
        );
        assert_eq!(late, 1);
    }
}

#[test]
fn the_first_pane_takes_in_the_others() {
    let context = context(1, 1);
    let program = program(&plan(cumulate(20, 5, 0)), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    let mut process = |offset: i64, time: i64, accounts: std::ops::Range<i64>| {
        let payments: Vec<_> = accounts.map(|n| Payment::new(&format!("a{n}"), n, time)).collect();
        driven.task.process(&common::payments(offset, &payments), 0, &mut driven.out).expect("good records");
        driven.commit();
        let rows = driven.stored.rows.keys().filter(|(operator, _)| operator == OPERATOR).count();
        (rows, driven.stored.deltas.last().map(freshet_state::rows::RowBuffer::len))
    };
    // A group and a value of two DISTINCT aggregates each, and the watermark.
    assert_eq!(process(0, 3, 0..10), (30, Some(31)));
    assert_eq!(process(10, 8, 0..2), (36, Some(7)));
    // The windows that end at 5 and at 10 fire: the second pane's six rows go, and its two groups are written in the
    // first, which had their values. One row more is in a pane of its own.
    assert_eq!(process(12, 16, 10..11), (33, Some(6 + 2 + 3 + 1)));
    // All windows fire; what is left is the last row.
    assert_eq!(process(13, 60, 0..1), (3, Some(30 + 3 + 3 + 1)));
}

#[test]
fn windows_without_rows_give_nothing() {
    let (found, _) = counts(hop(10, 5, 0), &[7, 107], 1);
    assert_eq!(found, [(10, 1), (15, 1), (110, 1), (115, 1)]);
}

#[test]
fn rows_in_gaps_are_in_no_window_and_not_late() {
    let (found, late) = counts(hop(4, 10, 2), &[1, 2, 5, 6, 11, 12, 15, 16], 3);
    assert_eq!(found, [(6, 2), (16, 2)]);
    assert_eq!(late, 0);
}

#[test]
fn a_pane_is_stored_once_and_goes_with_its_last_window() {
    let context = context(1, 1);
    let program = program(&plan(hop(10, 5, 0)), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    let process = |driven: &mut Driven, offset: i64, time: i64, n: i64| {
        let payments: Vec<_> = (0..n).map(|n| Payment::new(&format!("a{n}"), n, time)).collect();
        driven.task.process(&common::payments(offset, &payments), 0, &mut driven.out).expect("good records");
        driven.commit();
        let rows = driven.stored.rows.keys().filter(|(operator, _)| operator == OPERATOR).count();
        (rows, driven.stored.deltas.last().map(freshet_state::rows::RowBuffer::len))
    };
    // A group and a value of two DISTINCT aggregates each, and the watermark.
    assert_eq!(process(&mut driven, 0, 7, 10), (30, Some(31)));
    // One group more, and the window that ends at 10 fires: the pane stays as it is.
    assert_eq!(process(&mut driven, 10, 16, 1), (33, Some(4)));
    // The window that ends at 15 fires, and takes the first pane's 30 rows with it.
    assert_eq!(process(&mut driven, 11, 21, 1), (6, Some(30 + 4)));
}

#[test]
fn many_windows_at_once_go_out_in_parts() {
    let context = context(1, 1);
    let program = program(&plan(hop(10, 2, 0)), 0, &context);
    let many: Vec<_> = (0..9_000).map(|n| Payment::new(&format!("a{n}"), n, n % 7)).collect();
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
    assert_eq!(whole.len(), 9_000 * 5);

    let mut parts = start();
    parts.task.limit_output(1);
    parts.task.process(&close, 0, &mut parts.out).expect("good records");
    let mut found = Vec::new();
    while parts.task.has_more() {
        found.extend(written(&parts.out));
        parts.out.clear();
        parts.task.resume(&mut parts.out).expect("results");
    }
    found.extend(written(&parts.out));
    assert_eq!(found, whole);
    parts.commit();
    assert_eq!(parts.stored.restore(program.task(0)).stats().state_keys, 1);
}

#[test]
fn a_planted_bug_forgets_a_pane() {
    let run = || counts(hop(10, 5, 0), &[2, 7, 12], 2).0;
    let right = [(5, 1), (10, 2), (15, 2), (20, 1)];
    assert_eq!(run(), right);
    freshet_env::plant(Some(freshet_env::PlantedBug::ForgetPane));
    let planted = run();
    freshet_env::plant(None);
    assert_eq!(planted, [(5, 1), (10, 1), (15, 1), (20, 1)]);

    let run = || counts(cumulate(10, 5, 0), &[2, 7], 2).0;
    assert_eq!(run(), [(5, 1), (10, 2)]);
    freshet_env::plant(Some(freshet_env::PlantedBug::ForgetPane));
    let planted = run();
    freshet_env::plant(None);
    assert_eq!(planted, [(5, 1), (10, 1)]);
}
