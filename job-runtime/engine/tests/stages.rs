//! Two stages: combine, repartition, merge. Their results are those of a single aggregate, whatever the
//! interleaving of upstream tasks, the epochs and the crashes on either side.

mod common;

use std::collections::BTreeMap;

use common::*;
use freshet_engine::StageProgram;
use freshet_log::Fetched;
use freshet_plan::{AggregateFunction, Plan};
use proptest::prelude::*;

const UPSTREAM: u32 = 3;
const PARTITIONS: u32 = 2;

/// An in-memory pair of stages with a repartition topic between them.
struct Stages {
    programs: [StageProgram; 2],
    upstream: Vec<Driven>,
    downstream: Vec<Driven>,
    /// Committed internal records by partition.
    topic: Vec<Vec<Vec<u8>>>,
    /// For each source partition and each repartition partition, where the committed position is.
    read: Vec<usize>,
    merged: Vec<usize>,
    input: Vec<Vec<Payment>>,
}

impl Stages {
    fn new(plan: &Plan, input: Vec<Vec<Payment>>) -> Self {
        let context = context(UPSTREAM, PARTITIONS);
        let programs = [0, 1].map(|stage| program(plan, stage, &context));
        Self {
            upstream: (0..UPSTREAM).map(|p| Driven::new(&programs[0], p, &context)).collect(),
            downstream: (0..PARTITIONS).map(|p| Driven::new(&programs[1], p, &context)).collect(),
            programs,
            topic: vec![vec![]; PARTITIONS as usize],
            read: vec![0; UPSTREAM as usize],
            merged: vec![0; PARTITIONS as usize],
            input,
        }
    }

    /// One epoch of an upstream task: up to `records` records in batches of `size`, and then it commits or crashes.
    fn read(&mut self, task: usize, records: usize, size: usize, crash: bool) {
        let (driven, from) = (&mut self.upstream[task], self.read[task]);
        let to = self.input[task].len().min(from + records);
        for (at, chunk) in self.input[task][from..to].chunks(size).enumerate() {
            let batch = payments((from + at * size) as i64, chunk);
            driven.task.process(&batch, 0, &mut driven.out).expect("good records");
        }
        if crash {
            driven.crash(&self.programs[0], false);
            return;
        }
        driven.commit();
        self.read[task] = to;
        for record in driven.committed.drain(..) {
            if record.topic == repartition_topic() {
                self.topic[record.partition as usize].push(record.value);
            }
        }
    }

    /// The same of a downstream task.
    fn merge(&mut self, task: usize, records: usize, size: usize, crash: bool) {
        let (driven, from) = (&mut self.downstream[task], self.merged[task]);
        let to = self.topic[task].len().min(from + records);
        for (at, chunk) in self.topic[task][from..to].chunks(size).enumerate() {
            let values = chunk.iter().map(Vec::as_slice);
            let batch: Fetched = batch(&repartition_topic(), task as u32, (from + at * size) as i64, values);
            driven.task.process(&batch, 0, &mut driven.out).expect("internal records");
        }
        if crash {
            driven.crash(&self.programs[1], true);
            return;
        }
        driven.commit();
        self.merged[task] = to;
    }

    /// Reads whatever is left.
    fn finish(&mut self) {
        for task in 0..self.upstream.len() {
            self.read(task, usize::MAX - 1_000_000, 50, false);
        }
        for task in 0..self.downstream.len() {
            self.merge(task, usize::MAX - 1_000_000, 50, false);
        }
    }

    fn results(&self) -> Vec<String> {
        let written = self.downstream.iter().flat_map(|driven| &driven.committed);
        let mut results: Vec<_> = written.filter(|w| w.topic == SINK).map(|w| w.text().to_owned()).collect();
        results.sort();
        results
    }

    fn late(&self) -> (u64, u64) {
        let late = |tasks: &[Driven]| tasks.iter().map(|driven| driven.task.stats().late).sum();
        (late(&self.upstream), late(&self.downstream))
    }
}

/// Last records that close every window of the test's payments.
fn with_end(mut input: Vec<Vec<Payment>>) -> Vec<Vec<Payment>> {
    for partition in &mut input {
        partition.push(Payment::new("end", 0, 10_000));
    }
    input
}

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

#[derive(Debug, Clone)]
struct Action {
    upstream: bool,
    task: usize,
    records: usize,
    size: usize,
    crash: bool,
}

fn action() -> impl Strategy<Value = Action> {
    (any::<bool>(), 0..UPSTREAM as usize, 1..30_usize, 1..10_usize, prop::bool::weighted(0.2))
        .prop_map(|(upstream, task, records, size, crash)| Action { upstream, task, records, size, crash })
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
        for Action { upstream, task, records, size, crash } in actions {
            if upstream {
                stages.read(task, records, size, crash);
            } else {
                stages.merge(task % PARTITIONS as usize, records, size, crash);
            }
        }
        stages.finish();
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

#[test]
fn distinct_values_never_outgrow_a_record() {
    let distinct =
        freshet_plan::Aggregate { distinct: true, ..aggregate("n", AggregateFunction::Count, Some(ACCOUNT)) };
    let plan = two_stages(window_aggregate(&[], vec![distinct]));
    let mut input: Vec<Payment> =
        (0..20_000).map(|n| Payment::new(&format!("a rather long account number {n:>40}"), 1, 1)).collect();
    input.push(Payment::new("end", 1, 10_000));
    let mut stages = Stages::new(&plan, vec![input, vec![], vec![]]);
    stages.input =
        vec![std::mem::take(&mut stages.input[0]), with_end(vec![vec![]]).remove(0), with_end(vec![vec![]]).remove(0)];
    stages.read(0, 30_000, 1_000, false);
    let largest = stages.topic.iter().flatten().map(Vec::len).max();
    assert!(largest < Some(1_000_000), "{largest:?} bytes in one record");
    stages.finish();
    let results = stages.results();
    assert!(results[0].ends_with("\"n\":20000}"), "{results:?}");
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
