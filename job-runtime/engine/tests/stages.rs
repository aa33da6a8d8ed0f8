//! Two stages: combine, repartition, merge. Their results are those of a single aggregate, whatever the
//! interleaving of upstream tasks, the epochs and the crashes on either side.

mod common;

use std::collections::BTreeMap;

use common::stages::{Stages, UPSTREAM, action, with_end};
use common::*;
use freshet_plan::{AggregateFunction, Plan};
use proptest::prelude::*;

/// Payments of one partition that are on time, in order of nothing in particular.
fn partition() -> impl Strategy<Value = Vec<Payment>> {
    let payment = ("[abü]{0,2}", -5..6_i64, -DISORDER_MS..=0_i64, 0..5_i64);
    prop::collection::vec(payment, 0..60).prop_map(|payments| {
        let mut now = 0;
        let moved = payments.into_iter().map(|(account, amount, behind, step)| {
            now += step;
            Payment::new(&account, amount, now + behind)
        });
        moved.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn two_stages_are_one_aggregate(
        input in prop::collection::vec(partition(), UPSTREAM as usize),
        actions in prop::collection::vec(action(), 0..60),
    ) {
        // One task that reads everything in order of time has nothing late: the truth.
        let aggregate = window_aggregate(&[ACCOUNT], many_aggregates());
        let context = context(1, 1);
        let mut one = Driven::new(&program(&one_stage(aggregate.clone()), 0, &context), 0, &context);
        let mut all: Vec<Payment> = input.iter().flatten().cloned().collect();
        all.sort_by_key(|payment| payment.time);
        all.push(Payment::new("end", 0, 10_000));
        one.task.process(&payments(0, &all), 0, &mut one.out).expect("good records");
        one.commit();
        let mut expected: Vec<_> = one.committed.iter().map(|w| w.text().to_owned()).collect();
        expected.sort();

        let mut stages = Stages::new(&two_stages(aggregate), with_end(input));
        stages.act(actions);
        prop_assert_eq!(stages.late(), (0, 0));
        prop_assert_eq!(stages.results(), expected);
    }
}

fn count_plan() -> Plan {
    two_stages(window_aggregate(&[ACCOUNT], vec![aggregate("n", AggregateFunction::Count, None)]))
}

/// How many results there are of each account, and their counts in all.
fn counts(stages: &Stages) -> BTreeMap<String, (usize, i64)> {
    let mut counts: BTreeMap<String, (usize, i64)> = BTreeMap::new();
    for result in stages.results() {
        let value: serde_json::Value = serde_json::from_str(&result).expect("JSON");
        let count = counts.entry(value["account"].as_str().expect("an account").to_owned()).or_default();
        count.0 += 1;
        count.1 += value["n"].as_i64().expect("a count");
    }
    counts
}

/// One partition far ahead of the others: nothing may fire before all have been heard.
fn uneven() -> Vec<Vec<Payment>> {
    vec![
        vec![Payment::new("a", 1, 1), Payment::new("x", 1, 500)],
        vec![Payment::new("a", 1, 2)],
        vec![Payment::new("a", 1, 3)],
    ]
}

fn run_uneven() -> (BTreeMap<String, (usize, i64)>, u64) {
    let mut stages = Stages::new(&count_plan(), with_end(uneven()));
    stages.read(0, 2, 2, false);
    for task in 0..2 {
        stages.merge(task, 100, 100, false);
    }
    stages.finish();
    (counts(&stages), stages.late().1)
}

#[test]
fn a_fast_partition_waits_for_the_slow_ones() {
    let (counts, late) = run_uneven();
    assert_eq!(counts.get("a"), Some(&(1, 3)));
    assert_eq!(late, 0);
}

#[test]
fn a_planted_maximum_closes_windows_too_early() {
    freshet_env::plant(Some(freshet_env::PlantedBug::WatermarkMaximum));
    let (_, late) = run_uneven();
    freshet_env::plant(None);
    assert!(late > 0);
}

#[test]
fn marks_that_are_forgotten_at_recovery_close_windows_too_early() {
    let run = || {
        let mut stages = Stages::new(&count_plan(), with_end(uneven()));
        stages.read(1, 1, 1, false);
        for task in 0..2 {
            stages.merge(task, 100, 100, false);
            stages.merge(task, 0, 1, true);
        }
        // The others' records of the first window come before and after the fast partition's mark.
        stages.read(0, 2, 2, false);
        for task in 0..2 {
            stages.merge(task, 100, 100, false);
        }
        stages.finish();
        stages.late().1
    };
    assert_eq!(run(), 0);
    freshet_env::plant(Some(freshet_env::PlantedBug::ForgetMarksOnRestore));
    let planted = run();
    freshet_env::plant(None);
    assert!(planted > 0);
}

#[test]
fn rows_of_a_group_meet_in_one_partition_and_marks_go_into_all() {
    let mut stages = Stages::new(&count_plan(), with_end(uneven()));
    stages.read(0, 2, 1, false);
    let marks: Vec<_> = stages.topic.iter().map(|records| records.iter().filter(|r| r[1] == 2).count()).collect();
    assert_eq!(marks, [1, 1]);
    assert_eq!(stages.topic.iter().flatten().filter(|r| r[1] == 1).count(), 2, "two accounts, two records at most");
    assert_eq!(stages.topic.iter().map(|records| records.last().map(|r| r[1])).collect::<Vec<_>>(), [Some(2), Some(2)]);
    // Nothing new to say: no mark, and nothing dirty.
    stages.read(0, 0, 1, false);
    assert_eq!(stages.topic.iter().flatten().filter(|r| r[1] == 2).count(), 2);
}

#[test]
fn many_rows_share_an_internal_record() {
    let input: Vec<Payment> = (0..2_000).map(|n| Payment::new(&format!("account-{n}"), 1, 1)).collect();
    let mut stages = Stages::new(&count_plan(), vec![input, vec![], vec![]]);
    stages.read(0, 2_000, 500, false);
    assert_eq!(stages.topic.iter().flatten().count(), 2 + 2, "one record of rows and one mark a partition");
}

/// However many records are read at once.
#[test]
fn distinct_values_never_outgrow_a_record() {
    let distinct =
        freshet_plan::Aggregate { distinct: true, ..aggregate("n", AggregateFunction::Count, Some(ACCOUNT)) };
    let tumbling = window_aggregate(&[], vec![distinct]);
    let session = freshet_plan::Window::Session { gap_ms: SIZE_MS };
    let sessions = freshet_plan::WindowAggregate { window: session, ..tumbling.clone() };
    for (aggregate, at_once) in [(&tumbling, 1_000), (&tumbling, 30_000), (&sessions, 1_000), (&sessions, 30_000)] {
        let plan = two_stages(aggregate.clone());
        let mut input: Vec<Payment> =
            (0..20_000).map(|n| Payment::new(&format!("a rather long account number {n:>40}"), 1, 1)).collect();
        input.push(Payment::new("end", 1, 10_000));
        let mut stages = Stages::new(&plan, vec![input, vec![], vec![]]);
        stages.input = vec![
            std::mem::take(&mut stages.input[0]),
            with_end(vec![vec![]]).remove(0),
            with_end(vec![vec![]]).remove(0),
        ];
        stages.read(0, 30_000, at_once, false);
        let largest = stages.topic.iter().flatten().map(Vec::len).max();
        assert!(largest < Some(1_000_000), "{largest:?} bytes in one record");
        stages.finish();
        let results = stages.results();
        assert!(results[0].ends_with("\"n\":20000}"), "{results:?}");
    }
}

/// Windows that overlap say in which of them rows count; others don't, and neither takes the other's records.
#[test]
fn internal_records_of_other_windows_are_refused() {
    let context = context(1, 1);
    let counts = |window| {
        let counts = window_aggregate(&[ACCOUNT], vec![aggregate("n", AggregateFunction::Count, None)]);
        program(&two_stages(freshet_plan::WindowAggregate { window, ..counts }), 1, &context)
    };
    let tumbling = counts(freshet_plan::Window::Tumble { size_ms: 10, offset_ms: 0 });
    let hopping = counts(freshet_plan::Window::Hop { size_ms: 10, slide_ms: 5, offset_ms: 0 });
    // Group, pane, where it is shared the first window's end behind it, records, accumulators.
    let plain = [1, 1, 2, 6, 0, 20, 1, 1, 5];
    let of_pane = [1, 3, 2, 6, 0, 20, 5, 1, 1, 5];
    let read = |program: &freshet_engine::StageProgram, records: &[&[u8]]| {
        let mut driven = Driven::new(program, 0, &context);
        let batch = batch("internal", 0, 7, records.iter().copied());
        driven.task.process(&batch, 0, &mut driven.out).map_err(|error| error.to_string())
    };
    assert_eq!(read(&tumbling, &[&plain]), Ok(()));
    assert_eq!(read(&hopping, &[&of_pane]), Ok(()));
    let mut elsewhere = of_pane;
    elsewhere[6] = 6;
    for (program, records, why) in [
        (&tumbling, &[&of_pane[..]][..], "no such pane"),
        (&hopping, &[&plain], "no such pane"),
        (&hopping, &[&elsewhere], "no such pane"),
        (&hopping, &[&of_pane, &plain], "another than that of the records before"),
        (&hopping, &[&of_pane[..9]], "cut short"),
    ] {
        let error = read(program, records).expect_err(why);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn damaged_internal_records_are_named() {
    let context = context(1, 1);
    let program = program(&count_plan(), 1, &context);
    let mut whole = vec![1, 1];
    whole.extend_from_slice(&[2, 6, 0, 0, 1, 1, 5]);
    let mut driven = Driven::new(&program, 0, &context);
    driven.task.process(&batch("internal", 0, 7, [whole.as_slice()]), 0, &mut driven.out).expect("a whole record");
    for (bytes, what) in [
        (&whole[..whole.len() - 1], "cut short"),
        (&[2, 1], "version"),
        (&[1, 9], "kind"),
        (&[1, 2, 0, 0], "mark is damaged"),
        (&[1, 2, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0], "upstream task"),
        (&[], "version"),
    ] {
        let error =
            driven.task.process(&batch("internal", 0, 7, [bytes]), 0, &mut driven.out).expect_err(what).to_string();
        assert!(error.contains("internal[0]@7") && error.contains(what), "{error}");
    }
}
