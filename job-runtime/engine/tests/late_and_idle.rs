//! Late and bad records, idle partitions, and what refuses to run.

mod common;

use std::sync::Arc;

use common::*;
use freshet_engine::{EngineError, JobContext, OnBadRecord, OnLate, StageProgram};
use freshet_plan::{AggregateFunction, Chain, DataType, Expr, Input, Plan, ProjectedColumn, Step};

fn count_plan() -> Plan {
    one_stage(window_aggregate(&[ACCOUNT], vec![aggregate("n", AggregateFunction::Count, None)]))
}

fn start(plan: &Plan, context: &JobContext) -> Driven {
    Driven::new(&program(plan, 0, context), 0, context)
}

fn process(driven: &mut Driven, offset: i64, payments: &[Payment]) {
    driven.task.process(&common::payments(offset, payments), 0, &mut driven.out).expect("records that can be handled");
}

fn on(topic: &str, driven: &Driven) -> Vec<Written> {
    written(&driven.out).into_iter().filter(|record| record.topic == topic).collect()
}

#[test]
fn a_record_is_late_once_its_window_has_closed() {
    // The window [0, 10) closes once a record at 15 or later has been read: W = 15 − 5 − 1.
    for (newest, late) in [(10, 0), (14, 0), (15, 1), (16, 1), (25, 1)] {
        let context = context(1, 1);
        let mut driven = start(&count_plan(), &context);
        process(&mut driven, 0, &[Payment::new("a", 1, newest), Payment::new("b", 1, 9)]);
        assert_eq!(driven.task.stats().late, late, "{newest}");
        assert_eq!(driven.task.watermark(), Some(newest - DISORDER_MS - 1));
    }
}

#[test]
fn late_records_are_written_on_unchanged() {
    let context = context(1, 1);
    let mut driven = start(&count_plan(), &context);
    let late = Payment::new("b", 1, 9);
    process(&mut driven, 40, &[Payment::new("a", 1, 30), late.clone(), Payment::new("a", 1, 31)]);
    let dead = on(DEAD, &driven);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].text(), late.json());
    assert_eq!(dead[0].key.as_deref(), Some(&b"key-41"[..]));
    assert_eq!(dead[0].timestamp_ms, 1_041);
    assert_eq!(dead[0].partition, freshet_plan::key::partition_of(b"key-41", 2));
    for (name, value) in [
        ("freshet-error-reason", "LateRecord"),
        ("freshet-topic", "payments"),
        ("freshet-partition", "0"),
        ("freshet-offset", "41"),
    ] {
        assert_eq!(dead[0].header(name), Some(value), "{name}");
    }
    assert!(dead[0].header("freshet-detail").is_some());
}

#[test]
fn a_late_record_counts_once_however_many_chains_miss_it() {
    let mut plan = count_plan();
    let again = plan.stages[0].chains[0].clone();
    let Step::WindowAggregate(mut other) = again.steps[0].clone() else { panic!("an aggregate") };
    other.id = "agg-other".to_owned();
    plan.stages[0].chains.push(Chain { steps: vec![Step::WindowAggregate(other)], ..again });
    let context = context(1, 1);
    let mut driven = start(&plan, &context);
    process(&mut driven, 0, &[Payment::new("a", 1, 30), Payment::new("b", 1, 9)]);
    assert_eq!(driven.task.stats().late, 1);
    assert_eq!(on(DEAD, &driven).len(), 1);
}

#[test]
fn a_filter_keeps_rows_with_their_records() {
    let good = Expr::column(GOOD, "good");
    let mut plan = count_plan();
    plan.stages[0].chains[0].steps.insert(0, Step::Filter { predicate: good });
    let context = context(1, 1);
    let mut driven = start(&plan, &context);
    // Odd amounts are not good: they still move the watermark, and are never late.
    let payments = [(1, 30), (1, 9), (2, 9), (2, 41), (1, 8), (2, 1), (2, 99)];
    process(&mut driven, 0, &payments.map(|(amount, time)| Payment::new("a", amount, time)));
    let offsets: Vec<_> = on(DEAD, &driven).iter().map(|w| w.header("freshet-offset").map(str::to_owned)).collect();
    assert_eq!(offsets, [Some("2".to_owned()), Some("5".to_owned())]);
    assert_eq!(on(SINK, &driven).len(), 1);
}

#[test]
fn dropped_late_records_are_counted() {
    let context = JobContext { on_late: OnLate::Drop, ..context(1, 1) };
    let mut driven = start(&count_plan(), &context);
    process(&mut driven, 0, &[Payment::new("a", 1, 30), Payment::new("b", 1, 9)]);
    assert_eq!(driven.task.stats().late, 1);
    assert!(on(DEAD, &driven).is_empty());
}

/// A record without event time, one with an impossible one, one that is no JSON, and a good one.
fn bad_values() -> Vec<String> {
    vec![
        r#"{"account":"a","ts":null}"#.to_owned(),
        r#"{"account":"a","ts":9000000000000000}"#.to_owned(),
        "{".to_owned(),
        Payment::new("a", 1, 3).json(),
    ]
}

fn process_bad(context: &JobContext) -> (Driven, Result<(), EngineError>) {
    let mut driven = start(&count_plan(), context);
    let values = bad_values();
    let batch = batch("payments", 0, 70, values.iter().map(String::as_bytes));
    let result = driven.task.process(&batch, 0, &mut driven.out);
    (driven, result)
}

#[test]
fn bad_records_go_where_the_job_says() {
    let (driven, result) = process_bad(&context(1, 1));
    result.expect("dead letters stop nothing");
    let dead = on(DEAD, &driven);
    let reasons: Vec<_> = dead
        .iter()
        .map(|w| (w.header("freshet-error-reason").expect("a reason"), w.header("freshet-offset")))
        .collect();
    assert_eq!(
        reasons,
        [("EventTimeMissing", Some("70")), ("EventTimeOutOfRange", Some("71")), ("NotJson", Some("72"))]
    );
    assert_eq!(dead.iter().map(|w| w.text().to_owned()).collect::<Vec<_>>(), bad_values()[..3]);
    assert_eq!(driven.task.watermark(), Some(3 - DISORDER_MS - 1), "bad records move no watermark");
    assert_eq!(driven.task.stats().bad.values().sum::<u64>(), 3);

    let (driven, result) = process_bad(&JobContext { on_bad_record: OnBadRecord::Skip, ..context(1, 1) });
    result.expect("skipping stops nothing");
    assert!(driven.out.is_empty());
    assert_eq!(driven.task.stats().bad.len(), 3);

    let (_, result) = process_bad(&JobContext { on_bad_record: OnBadRecord::Fail, ..context(1, 1) });
    let error = result.expect_err("the job must stop").to_string();
    assert!(error.starts_with("payments[0]@70: EventTimeMissing"), "{error}");
}

fn at_end(offset: i64) -> freshet_log::Fetched {
    let mut batch = payments(offset, &[]);
    batch.at_end = true;
    batch
}

#[test]
fn a_partition_is_idle_after_its_time_at_the_end() {
    let context = context(1, 1);
    let mut driven = start(&count_plan(), &context);
    process(&mut driven, 0, &[Payment::new("a", 1, 3)]);
    let tick = |driven: &mut Driven, now, others| driven.task.tick(now, others, &mut driven.out).expect("a tick");
    tick(&mut driven, 50_000, Some(100));
    assert!(!driven.task.is_idle(), "it has not been read to its end");
    driven.task.process(&at_end(1), 50_000, &mut driven.out).expect("the end");
    tick(&mut driven, 50_000 + IDLE_MS - 1, Some(100));
    assert!(!driven.task.is_idle());
    driven.task.process(&at_end(1), 50_500, &mut driven.out).expect("the end, once more");
    tick(&mut driven, 50_000 + IDLE_MS, None);
    assert!(driven.task.is_idle());
    assert_eq!(driven.task.watermark(), Some(3 - DISORDER_MS - 1), "nobody to follow");
    tick(&mut driven, 51_001, Some(100));
    assert_eq!(driven.task.watermark(), Some(100));
    assert_eq!(on(SINK, &driven).len(), 1, "following the others closes windows");
    tick(&mut driven, 51_002, Some(50));
    assert_eq!(driven.task.watermark(), Some(100), "a watermark never goes back");

    // It wakes: no longer idle, and what it followed still holds.
    process(&mut driven, 1, &[Payment::new("a", 1, 99), Payment::new("a", 1, 110)]);
    assert!(!driven.task.is_idle());
    assert_eq!(driven.task.stats().late, 1);
    tick(&mut driven, 60_000, Some(500));
    assert_eq!(driven.task.watermark(), Some(104));
}

#[test]
fn what_an_idle_partition_followed_survives_a_crash_but_idleness_does_not() {
    let context = context(1, 1);
    let program = program(&count_plan(), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    process(&mut driven, 0, &[Payment::new("a", 1, 3)]);
    driven.task.process(&at_end(1), 0, &mut driven.out).expect("the end");
    driven.task.tick(IDLE_MS, Some(100), &mut driven.out).expect("a tick");
    driven.commit();
    driven.crash(&program, false);
    assert_eq!(driven.task.watermark(), Some(100));
    assert!(!driven.task.is_idle());
    process(&mut driven, 1, &[Payment::new("a", 1, 99)]);
    assert_eq!(driven.task.stats().late, 1);
}

#[test]
fn an_idle_task_has_nothing_to_write() {
    let context = context(1, 1);
    let mut driven = start(&count_plan(), &context);
    process(&mut driven, 0, &[Payment::new("a", 1, 3)]);
    driven.commit();
    for now in [0, IDLE_MS, 2 * IDLE_MS] {
        driven.task.process(&at_end(1), now, &mut driven.out).expect("the end");
        driven.task.tick(now, None, &mut driven.out).expect("a tick");
        assert!(!driven.task.is_dirty());
    }
}

/// Upstream tasks 0 and 1 and the one downstream task that they feed.
struct Pair {
    upstream: [Driven; 2],
    downstream: Driven,
    offset: i64,
}

impl Pair {
    fn new() -> Self {
        let context = context(2, 1);
        let plan = two_stages(window_aggregate(&[ACCOUNT], vec![aggregate("n", AggregateFunction::Count, None)]));
        let programs: [StageProgram; 2] = [0, 1].map(|stage| program(&plan, stage, &context));
        Self {
            upstream: [0, 1].map(|partition| Driven::new(&programs[0], partition, &context)),
            downstream: Driven::new(&programs[1], 0, &context),
            offset: 0,
        }
    }

    fn read(&mut self, task: usize, payments: &[Payment]) {
        process(&mut self.upstream[task], 0, payments);
    }

    fn fall_idle(&mut self, task: usize) {
        let driven = &mut self.upstream[task];
        driven.task.process(&at_end(9), 0, &mut driven.out).expect("the end");
        driven.task.tick(IDLE_MS, None, &mut driven.out).expect("a tick");
    }

    /// Commits upstream task `task` and lets the downstream task read what it wrote.
    fn pass_on(&mut self, task: usize) -> Option<i64> {
        self.upstream[task].commit();
        let values: Vec<_> = self.upstream[task]
            .committed
            .drain(..)
            .filter(|w| w.topic == repartition_topic())
            .map(|w| w.value)
            .collect();
        let batch = batch(&repartition_topic(), 0, self.offset, values.iter().map(Vec::as_slice));
        self.offset += values.len() as i64;
        self.downstream.task.process(&batch, 0, &mut self.downstream.out).expect("internal records");
        self.downstream.task.watermark()
    }
}

#[test]
fn a_combined_watermark_is_the_least_of_the_active_once_all_were_heard() {
    let mut pair = Pair::new();
    pair.read(0, &[Payment::new("a", 1, 106)]);
    assert_eq!(pair.pass_on(0), None);
    pair.read(1, &[Payment::new("a", 1, 56)]);
    assert_eq!(pair.pass_on(1), Some(50));
    pair.fall_idle(1);
    assert_eq!(pair.pass_on(1), Some(100), "an idle task holds nobody back");
    assert!(!pair.downstream.task.is_idle());
    pair.read(1, &[Payment::new("a", 1, 66)]);
    assert_eq!(pair.pass_on(1), Some(100), "one that wakes does not take it back");
    pair.read(0, &[Payment::new("a", 1, 206)]);
    assert_eq!(pair.pass_on(0), Some(100), "and holds it again");
}

#[test]
fn an_empty_partition_counts_once_it_is_idle() {
    let mut pair = Pair::new();
    pair.read(0, &[Payment::new("a", 1, 106)]);
    assert_eq!(pair.pass_on(0), None);
    pair.fall_idle(1);
    assert_eq!(pair.pass_on(1), Some(100));
}

#[test]
fn when_all_are_idle_the_order_in_which_they_fell_idle_does_not_matter() {
    for order in [[0, 1], [1, 0]] {
        let mut pair = Pair::new();
        pair.read(0, &[Payment::new("a", 1, 106)]);
        pair.read(1, &[Payment::new("a", 1, 56)]);
        pair.pass_on(0);
        pair.pass_on(1);
        let mut last = None;
        for task in order {
            pair.fall_idle(task);
            last = pair.pass_on(task);
        }
        assert_eq!(last, Some(100), "{order:?}");
        assert!(pair.downstream.task.is_idle());
    }
}

#[test]
fn late_groups_of_a_partition_that_woke_are_counted_and_described() {
    let mut pair = Pair::new();
    pair.read(0, &[Payment::new("a", 1, 106)]);
    pair.pass_on(0);
    pair.fall_idle(1);
    pair.pass_on(1);
    pair.read(1, &[Payment::new("b", 1, 3), Payment::new("b", 1, 4), Payment::new("a", 1, 103)]);
    pair.pass_on(1);
    assert_eq!(pair.downstream.task.stats().late, 2, "two records in one group");
    let dead = on(DEAD, &pair.downstream);
    assert_eq!(dead.len(), 1);
    let expected = r#"{"account":"b","window_start":"1970-01-01T00:00:00.000","window_end":"1970-01-01T00:00:00.010"}"#;
    assert_eq!(dead[0].text(), expected);
    assert_eq!(dead[0].header("freshet-error-reason"), Some("LateGroup"));
    assert!(dead[0].header("freshet-detail").is_some_and(|detail| detail.starts_with("2 records")));
}

#[test]
fn windows_of_windows_are_never_late() {
    let inner = window_aggregate(&[ACCOUNT], vec![aggregate("n", AggregateFunction::Count, None)]);
    let mut outer = window_aggregate(&[], vec![aggregate("windows", AggregateFunction::Count, None)]);
    outer.id = "agg-outer".to_owned();
    outer.time_column = 3;
    outer.window = freshet_plan::Window::Tumble { size_ms: 100, offset_ms: 0 };
    let mut plan = one_stage(inner.clone());
    plan.stages[0].chains[0] = Chain {
        statement: 0,
        output: sink(outer.output_columns(), vec![]),
        steps: vec![Step::WindowAggregate(inner), Step::WindowAggregate(outer)],
    };
    let context = context(1, 1);
    for size in [1, 7, 200] {
        let mut driven = start(&plan, &context);
        let payments: Vec<_> = (0..200).map(|n| Payment::new("a", 1, n)).collect();
        for (at, chunk) in payments.chunks(size).enumerate() {
            process(&mut driven, (at * size) as i64, chunk);
        }
        let found: Vec<_> =
            on(SINK, &driven).iter().map(|w| (w.timestamp_ms, w.text().ends_with("\"windows\":10}"))).collect();
        assert_eq!(found, [(99, true)]);
        assert_eq!(driven.task.stats().late, 0);
    }
}

#[test]
fn a_pass_through_keeps_order_and_event_time() {
    let projected = |at: usize| ProjectedColumn {
        name: columns()[at].name.clone(),
        data_type: columns()[at].data_type.clone(),
        expr: Expr::column(at, ""),
    };
    let mut plan = count_plan();
    let output = sink(vec![columns()[ACCOUNT].clone(), columns()[TIME].clone()], vec![]);
    plan.stages[0].chains[0] = Chain {
        statement: 0,
        steps: vec![Step::Project { columns: vec![projected(ACCOUNT), projected(TIME)] }],
        output,
    };
    let context = context(1, 1);
    let mut driven = start(&plan, &context);
    process(&mut driven, 0, &[Payment::new("a", 1, 7), Payment::new("b", 1, 3)]);
    let found: Vec<_> =
        on(SINK, &driven).iter().map(|w| (w.text().to_owned(), w.timestamp_ms, w.key.clone(), w.partition)).collect();
    let json = |account: &str, ms: i64| format!("{{\"account\":\"{account}\",\"ts\":\"1970-01-01T00:00:00.00{ms}\"}}");
    assert_eq!(found, [(json("a", 7), 7, None, 0), (json("b", 3), 3, None, 0)]);
    let stats = driven.task.stats();
    assert_eq!((stats.records_in, stats.records_out), (2, 2));
}

#[test]
fn without_an_event_time_column_the_records_timestamp_is_it() {
    let mut plan = count_plan();
    let Input::Topic(topic) = &mut plan.stages[0].input else { panic!("a topic") };
    topic.event_time = None;
    let context = context(1, 1);
    let mut driven = start(&plan, &context);
    process(&mut driven, 0, &[Payment::new("a", 1, 2_000)]);
    assert_eq!(driven.task.watermark(), Some(999));
}

/// Something done to a plan.
type Change<'a> = &'a dyn Fn(&mut Plan);

#[test]
fn plans_that_do_not_fit_are_refused_by_name() {
    let context = context(1, 1);
    let refused = |change: Change<'_>| {
        let mut plan = two_stages(window_aggregate(&[ACCOUNT], many_aggregates()));
        change(&mut plan);
        let error =
            [0, 1].into_iter().find_map(|stage| StageProgram::compile(&plan, stage, Arc::new(context.clone())).err());
        match error {
            Some(EngineError::Plan(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    fn combine(plan: &mut Plan) -> &mut freshet_plan::WindowAggregate {
        match &mut plan.stages[0].chains[0].steps[0] {
            Step::WindowCombine(aggregate) => aggregate,
            _ => panic!("a combine"),
        }
    }
    let cases: [(&str, Change<'_>); 9] = [
        ("has version 9", &|plan| plan.version = 9),
        ("its state has format 7", &|plan| combine(plan).state_version = 7),
        ("is none", &|plan| combine(plan).window = freshet_plan::Window::Tumble { size_ms: 0, offset_ms: 0 }),
        ("not a timestamp", &|plan| combine(plan).time_column = AMOUNT),
        ("is not `account` INT", &|plan| combine(plan).group_columns[0].data_type = DataType::Int),
        ("gives BIGINT, the plan says INT", &|plan| combine(plan).aggregates[0].data_type = DataType::Int),
        ("there is no SUM of STRING", &|plan| combine(plan).aggregates[2].argument_type = Some(DataType::String)),
        ("would be fed with other rows", &|plan| plan.stages[0].chains[0].steps.clear()),
        ("must be merged first", &|plan| {
            plan.stages[1].chains[0].steps.insert(0, Step::Filter { predicate: Expr::column(0, "") });
        }),
    ];
    for (why, change) in cases {
        let found = refused(change);
        assert!(found.contains(why), "{found}");
    }
}
