//! Golden files: the bytes of stored state and of internal records. A runtime must read what an earlier
//! one wrote, so a difference here needs a new version in the encoding and a reader for the old one.

mod common;

use common::*;
use freshet_plan::{Aggregate, AggregateFunction};

/// Payments with every kind of value, null and group.
fn sample() -> Vec<Payment> {
    vec![
        Payment::new("a", 2, 3),
        Payment::new("a", -7, 4),
        Payment { account: None, amount: None, price: None, good: None, time: 3 },
        Payment { price: Some(-1), ..Payment::new("zürich", i64::MAX, 3) },
        Payment::new("", 0, 14),
    ]
}

fn aggregates() -> Vec<Aggregate> {
    use AggregateFunction::{Avg, Max, Min, Sum};
    let mut all = many_aggregates();
    all.extend([
        aggregate("ratio_total", Sum, Some(RATIO)),
        aggregate("ratio_mean", Avg, Some(RATIO)),
        aggregate("ratio_least", Min, Some(RATIO)),
        aggregate("amount_mean", Avg, Some(AMOUNT)),
        aggregate("last", Max, Some(TIME)),
        aggregate("any_good", Max, Some(GOOD)),
    ]);
    all
}

/// Hexadecimal digits; `-` for nothing.
fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn assert_golden(name: &str, golden: &str, found: &str) {
    assert!(golden == found, "tests/golden/{name} differs. Found:\n{found}");
}

/// Values of every column: the sample's JSON has no `ratio`.
fn batch_with_ratios() -> freshet_log::Fetched {
    let with_ratio = |(at, payment): (usize, Payment)| {
        let ratio = ["0.5", "-2.25", "null", "1e300", "0"][at];
        payment.json().replacen('{', &format!("{{\"ratio\":{ratio},"), 1)
    };
    let values: Vec<String> = sample().into_iter().enumerate().map(with_ratio).collect();
    batch("payments", 0, 0, values.iter().map(String::as_bytes))
}

#[test]
fn state_rows() {
    let context = context(1, 1);
    let plan = one_stage(window_aggregate(&[ACCOUNT, GOOD, PRICE, RATIO, TIME], aggregates()));
    let program = program(&plan, 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    driven.task.process(&batch_with_ratios(), 0, &mut driven.out).expect("good records");
    driven.commit();
    let rows =
        driven.stored.rows.iter().map(|((operator, key), value)| format!("{operator} {} {}\n", hex(key), hex(value)));
    assert_golden("state_rows.txt", include_str!("golden/state_rows.txt"), &rows.collect::<String>());
    // What was written is read: the same state, and the same results.
    let mut restored = driven.stored.restore(program.task(0));
    assert_eq!(restored.stats().state_keys, driven.task.stats().state_keys);
    let (mut again, last) = (outgoing(&context), payments(5, &[Payment::new("b", 1, 100)]));
    restored.process(&last, 0, &mut again).expect("good records");
    driven.task.process(&last, 0, &mut driven.out).expect("good records");
    assert_eq!(written(&again), written(&driven.out));
    assert_eq!(written(&again).len(), 5);
}

#[test]
fn internal_records_and_marks() {
    let context = context(1, 2);
    let plan = two_stages(window_aggregate(&[ACCOUNT], aggregates()));
    let mut upstream = Driven::new(&program(&plan, 0, &context), 0, &context);
    upstream.task.process(&batch_with_ratios(), 0, &mut upstream.out).expect("good records");
    upstream.commit();
    let mut downstream = Driven::new(&program(&plan, 1, &context), 0, &context);
    let mut found = String::new();
    for record in &upstream.committed {
        found += &format!("record {} {} {}\n", record.partition, record.timestamp_ms, hex(&record.value));
        let batch = batch("internal", 0, 0, [record.value.as_slice()]);
        downstream.task.process(&batch, 0, &mut downstream.out).expect("internal records");
    }
    downstream.commit();
    for (task, stored) in [("upstream", upstream.stored), ("downstream", downstream.stored)] {
        for ((operator, key), value) in
            stored.rows.iter().filter(|((operator, _), _)| operator == "marks" || operator == "source")
        {
            found += &format!("{task} {operator} {} {}\n", hex(key), hex(value));
        }
    }
    assert_golden("internal_records.txt", include_str!("golden/internal_records.txt"), &found);
}

/// Payments of which the last but one comes when the first of its two windows has closed.
fn sample_of_panes() -> Vec<Payment> {
    vec![
        Payment::new("a", 2, 3),
        Payment::new("a", -7, 8),
        Payment { account: None, amount: None, price: None, good: None, time: 14 },
        Payment::new("a", 5, 18),
        Payment::new("a", 9, 7),
        Payment::new("a", 1, 19),
    ]
}

fn hopping() -> freshet_plan::WindowAggregate {
    let window = freshet_plan::Window::Hop { size_ms: 10, slide_ms: 5, offset_ms: 0 };
    freshet_plan::WindowAggregate { window, ..window_aggregate(&[ACCOUNT], many_aggregates()) }
}

/// The rows of state of one stage that aggregates `sample`, which a restored task goes on from, and the internal records
/// of two.
fn rows_and_records(aggregate: &freshet_plan::WindowAggregate, sample: &[Payment]) -> String {
    let context_of_one = context(1, 1);
    let program_of_one = program(&one_stage(aggregate.clone()), 0, &context_of_one);
    let mut driven = Driven::new(&program_of_one, 0, &context_of_one);
    driven.task.process(&payments(0, sample), 0, &mut driven.out).expect("good records");
    driven.commit();
    let mut found = String::new();
    for ((operator, key), value) in &driven.stored.rows {
        found += &format!("{operator} {} {}\n", hex(key), hex(value));
    }
    let mut restored = driven.stored.restore(program_of_one.task(0));
    assert_eq!(restored.stats().state_keys, driven.task.stats().state_keys);
    let (mut again, last) = (outgoing(&context_of_one), payments(sample.len() as i64, &[Payment::new("b", 1, 100)]));
    restored.process(&last, 0, &mut again).expect("good records");
    driven.task.process(&last, 0, &mut driven.out).expect("good records");
    assert_eq!(written(&again), written(&driven.out));
    assert!(!written(&again).is_empty());

    let context = context(1, 2);
    let plan = two_stages(aggregate.clone());
    let mut upstream = Driven::new(&program(&plan, 0, &context), 0, &context);
    upstream.task.process(&payments(0, sample), 0, &mut upstream.out).expect("good records");
    upstream.commit();
    for record in &upstream.committed {
        found += &format!("record {} {} {}\n", record.partition, record.timestamp_ms, hex(&record.value));
    }
    found
}

#[test]
fn state_rows_and_internal_records_of_panes() {
    let found = rows_and_records(&hopping(), &sample_of_panes());
    assert_golden("panes.txt", include_str!("golden/panes.txt"), &found);
}

/// Payments of which the fourth begins a session, the fifth joins it to that of the first two, and the last is late.
fn sample_of_sessions() -> Vec<Payment> {
    vec![
        Payment::new("a", 2, 3),
        Payment::new("a", -7, 5),
        Payment { account: None, amount: None, price: None, good: None, time: 4 },
        Payment::new("a", 5, 11),
        Payment::new("a", 9, 8),
        Payment::new("a", 1, 6),
        Payment::new("ü", 4, 12),
        Payment::new("a", 1, 6),
    ]
}

fn in_sessions() -> freshet_plan::WindowAggregate {
    let window = freshet_plan::Window::Session { gap_ms: 4 };
    freshet_plan::WindowAggregate { window, ..window_aggregate(&[ACCOUNT], many_aggregates()) }
}

#[test]
fn state_rows_and_internal_records_of_sessions() {
    let found = rows_and_records(&in_sessions(), &sample_of_sessions());
    assert_golden("sessions.txt", include_str!("golden/sessions.txt"), &found);
}

#[test]
fn damaged_sessions_are_refused_and_never_misread() {
    let context = context(1, 1);
    let program = program(&one_stage(in_sessions()), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    driven.task.process(&payments(0, &sample_of_sessions()), 0, &mut driven.out).expect("good records");
    driven.commit();
    let mut values_alone = program.task(0);
    for ((operator, key), value) in &driven.stored.rows {
        for cut in 0..value.len() {
            let result = program.task(0).restore(operator, key, Some(&value[..cut]));
            assert!(result.is_err(), "{operator} {} cut at {cut}", hex(key));
        }
        if operator != OPERATOR {
            continue;
        }
        for cut in 0..9 {
            assert!(program.task(0).restore(operator, &key[..cut], Some(value)).is_err(), "a key cut at {cut}");
        }
        if value.is_empty() {
            values_alone.restore(operator, key, Some(value)).expect("a value");
        }
    }
    let error = values_alone.restored().expect_err("no session").to_string();
    assert!(error.contains("a session that is not there"), "{error}");
}

#[test]
fn rows_of_panes_that_there_are_not_are_refused() {
    let context = context(1, 1);
    let hopping = program(&one_stage(hopping()), 0, &context);
    let tumbling = program(&one_stage(window_aggregate(&[ACCOUNT], aggregates())), 0, &context);
    let key = |start: i64, first_end: i64| {
        let times = [start, first_end].map(|time| ((time as u64) ^ (1 << 63)).to_be_bytes());
        [&[3][..], &times[0], &times[1]].concat()
    };
    for (program, start, first_end) in
        [(&hopping, 5, 12), (&hopping, 4, 15), (&hopping, 5, 20), (&hopping, 5, 0), (&tumbling, 0, 20)]
    {
        let error = program.task(0).restore(OPERATOR, &key(start, first_end), Some(&[1])).expect_err("no such pane");
        assert!(error.to_string().contains("no pane from"), "{start} {first_end}: {error}");
    }
    for cut in 1..17 {
        let error = hopping.task(0).restore(OPERATOR, &key(5, 15)[..cut], None).expect_err("cut short").to_string();
        assert!(error.contains("cut short"), "{error}");
    }
}

#[test]
fn damaged_state_is_refused_and_never_misread() {
    let context = context(1, 1);
    let program = program(&one_stage(window_aggregate(&[ACCOUNT], aggregates())), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    driven.task.process(&batch_with_ratios(), 0, &mut driven.out).expect("good records");
    driven.commit();
    for ((operator, key), value) in &driven.stored.rows {
        for cut in 0..value.len() {
            let result = program.task(0).restore(operator, key, Some(&value[..cut]));
            assert!(result.is_err(), "{operator} {} cut at {cut}", hex(key));
        }
        let mut longer = value.clone();
        longer.push(0);
        if !value.is_empty() {
            assert!(
                program.task(0).restore(operator, key, Some(&longer)).is_err(),
                "{operator} {} made longer",
                hex(key)
            );
        }
    }
    for (operator, key, value) in
        [("agg-other", &b"k"[..], &b"v"[..]), (OPERATOR, b"", b""), (OPERATOR, &[9; 12], b"v"), ("marks", b"r", b"")]
    {
        let error = program.task(0).restore(operator, key, Some(value)).expect_err("no such row").to_string();
        assert!(error.contains(operator), "{error}");
    }
}

/// Aggregates beyond COUNT, SUM, MIN, MAX and AVG: each form of state.
fn more_aggregates() -> Vec<Aggregate> {
    use AggregateFunction::{
        ApproxCountDistinct, ArrayAgg, BitXor, BoolAnd, FirstValue, Histogram, LastValue, StddevSamp, VarPop,
    };
    vec![
        aggregate("spread", VarPop, Some(PRICE)),
        aggregate("ratio_spread", StddevSamp, Some(RATIO)),
        aggregate("all_good", BoolAnd, Some(GOOD)),
        aggregate("bits", BitXor, Some(AMOUNT)),
        aggregate("first", FirstValue, Some(PRICE)),
        aggregate("last", LastValue, Some(ACCOUNT)),
        aggregate("all", ArrayAgg, Some(AMOUNT)),
        Aggregate { distinct: true, ..aggregate("different", ArrayAgg, Some(GOOD)) },
        aggregate("about", ApproxCountDistinct, Some(AMOUNT)),
        aggregate("ratios", Histogram, Some(RATIO)),
    ]
}

#[test]
fn state_rows_and_internal_records_of_more_aggregates() {
    let context = context(1, 2);
    let (one, two) = (
        one_stage(window_aggregate(&[ACCOUNT], more_aggregates())),
        two_stages(window_aggregate(&[ACCOUNT], more_aggregates())),
    );
    let program_of_one = program(&one, 0, &context);
    let mut driven = Driven::new(&program_of_one, 0, &context);
    driven.task.process(&batch_with_ratios(), 0, &mut driven.out).expect("good records");
    driven.commit();
    let mut found = String::new();
    for ((operator, key), value) in &driven.stored.rows {
        found += &format!("{operator} {} {}\n", hex(key), hex(value));
    }
    let mut upstream = Driven::new(&program(&two, 0, &context), 0, &context);
    upstream.task.process(&batch_with_ratios(), 0, &mut upstream.out).expect("good records");
    upstream.commit();
    for record in &upstream.committed {
        found += &format!("record {} {} {}\n", record.partition, record.timestamp_ms, hex(&record.value));
    }
    assert_golden("more_aggregates.txt", include_str!("golden/more_aggregates.txt"), &found);
    // What was written is read: the same results.
    let mut restored = driven.stored.restore(program_of_one.task(0));
    let (mut again, last) = (outgoing(&context), payments(5, &[Payment::new("b", 1, 100)]));
    restored.process(&last, 0, &mut again).expect("good records");
    driven.task.process(&last, 0, &mut driven.out).expect("good records");
    assert_eq!(written(&again), written(&driven.out));
    assert_eq!(written(&again).len(), 4);
}
