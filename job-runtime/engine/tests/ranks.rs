//! Deduplication and top-N, in one stage and in two, through crashes, against a recount that sorts all rows.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::recount::{payment, stream};
use common::stages::{Stages, UPSTREAM, action};
use common::*;
use freshet_plan::{Chain, Changes, Emits, OrderBy, Output, Plan, Rank, Step, TopicSink};
use proptest::prelude::*;

fn by(column: usize, descending: bool, nulls_first: bool) -> OrderBy {
    let of = &columns()[column];
    OrderBy { column, name: of.name.clone(), data_type: of.data_type.clone(), descending, nulls_first }
}

/// Of each account, the first `limit` rows by `order`: account, amount, price and time of them.
fn rank(order: Vec<OrderBy>, limit: u64, numbered: bool, emits: Emits) -> Rank {
    let kept = vec![ACCOUNT, AMOUNT, PRICE, TIME];
    Rank {
        id: OPERATOR.to_owned(),
        partition: vec![ACCOUNT],
        partition_columns: vec![columns()[ACCOUNT].clone()],
        order,
        limit,
        kept_columns: kept.iter().map(|at| columns()[*at].clone()).collect(),
        kept,
        numbered,
        emits,
        state_ttl_ms: None,
        state_version: 1,
    }
}

/// The account alone can be null: the number, or for one row the time, goes with it.
fn output(rank: &Rank) -> Output {
    let Output::Topic(sink) = sink(rank.output_columns(), vec![0, 4]) else { panic!("a topic") };
    match rank.emits {
        Emits::First => Output::Topic(TopicSink { key: vec![], ..sink }),
        Emits::Latest | Emits::Changes => Output::Topic(TopicSink { changes: Changes::Upsert, ..sink }),
    }
}

fn one(rank: &Rank) -> Plan {
    let mut plan = one_stage(window_aggregate(&[ACCOUNT], vec![]));
    plan.stages[0].chains[0] = Chain { statement: 0, steps: vec![Step::Rank(rank.clone())], output: output(rank) };
    plan
}

fn two(rank: &Rank) -> Plan {
    let mut plan = two_stages(window_aggregate(&[ACCOUNT], vec![]));
    plan.stages[0].chains[0].steps = vec![Step::RankCombine(rank.clone())];
    plan.stages[1].chains[0] = Chain { statement: 0, steps: vec![Step::RankMerge(rank.clone())], output: output(rank) };
    plan
}

fn left<'w>(written: impl IntoIterator<Item = &'w Written>) -> BTreeSet<String> {
    let mut left = BTreeMap::new();
    for record in written.into_iter().filter(|record| record.topic == SINK) {
        left.insert(record.key.clone().expect("a key"), record.text().to_owned());
    }
    left.into_values().collect()
}

fn row(payment: &Payment, number: Option<usize>) -> String {
    let hundredths =
        |value: i64| format!("{}{}.{:02}", if value < 0 { "-" } else { "" }, value.abs() / 100, value.abs() % 100);
    let time = chrono::DateTime::from_timestamp_millis(payment.time).expect("in range").naive_utc();
    let number = number.map_or_else(String::new, |number| format!(",\"row_number\":{number}"));
    format!(
        "{{\"account\":{},\"amount\":{},\"price\":{},\"ts\":\"{}\"{number}}}",
        serde_json::json!(payment.account),
        serde_json::json!(payment.amount),
        payment.price.map_or("null".to_owned(), hundredths),
        time.format("%Y-%m-%dT%H:%M:%S%.3f"),
    )
}

/// By price from the greatest on, nulls last, and then by amount, nulls first. Equal ones by what is kept of them: account
/// is the same, nulls are less than values.
fn sorted(payments: &[Payment]) -> BTreeMap<Option<String>, Vec<Payment>> {
    let mut by_account: BTreeMap<Option<String>, Vec<Payment>> = BTreeMap::new();
    for payment in payments {
        by_account.entry(payment.account.clone()).or_default().push(payment.clone());
    }
    for rows in by_account.values_mut() {
        rows.sort_by_key(|row| (std::cmp::Reverse(row.price), row.amount, row.time));
    }
    by_account
}

fn top(payments: &[Payment], limit: usize) -> BTreeSet<String> {
    let sorted = sorted(payments);
    let rows = sorted.values().flat_map(|rows| rows.iter().take(limit).enumerate());
    rows.map(|(at, payment)| row(payment, Some(at + 1))).collect()
}

fn by_price_and_amount() -> Vec<OrderBy> {
    vec![by(PRICE, true, false), by(AMOUNT, false, true)]
}

/// The first row of each account by event time among those that were not late, where the watermark has passed it; and
/// how many were late.
fn firsts(payments: &[Payment]) -> (Vec<String>, u64) {
    let mut first: BTreeMap<&Option<String>, &Payment> = BTreeMap::new();
    let (mut watermark, mut late) = (i64::MIN, 0);
    for payment in payments {
        if payment.time <= watermark {
            late += 1;
        } else {
            let known = first.entry(&payment.account).or_insert(payment);
            let order = |payment: &Payment| (payment.time, payment.amount, payment.price);
            if order(payment) < order(known) {
                *known = payment;
            }
        }
        watermark = watermark.max(payment.time - DISORDER_MS - 1);
    }
    let mut rows: Vec<String> =
        first.values().filter(|payment| payment.time <= watermark).map(|payment| row(payment, None)).collect();
    rows.sort();
    (rows, late)
}

fn steps() -> impl Strategy<Value = Vec<(usize, u8, bool)>> {
    prop::collection::vec((1..20_usize, 0..4_u8, any::<bool>()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_topic_holds_the_first_rows(payments in stream(), steps in steps(), limit in 1..5_u64) {
        let context = context(1, 1);
        for emits in [Emits::Latest, Emits::Changes] {
            let program = program(&one(&rank(by_price_and_amount(), limit, true, emits)), 0, &context);
            let mut driven = Driven::new(&program, 0, &context);
            driven.through(&program, &payments, &steps);
            prop_assert_eq!(left(&driven.committed), top(&payments, limit as usize));
        }
    }

    /// Bytes are counted as rows come and go; a task that has just read its state has counted what is there.
    #[test]
    fn what_is_told_of_memory_is_what_is_there(
        payments in stream(),
        steps in steps(),
        limit in 1..4_u64,
        state_ttl_ms in prop::option::of(1..60_i64),
    ) {
        let context = context(1, 1);
        let first = rank(vec![by(TIME, false, true)], 1, false, Emits::First);
        for ranked in [rank(by_price_and_amount(), limit, true, Emits::Latest), first] {
            let program = program(&one(&Rank { state_ttl_ms, ..ranked }), 0, &context);
            let mut driven = Driven::new(&program, 0, &context);
            driven.through(&program, &payments, &steps);
            let (held, restored) = (driven.task.stats(), driven.stored.restore(program.task(0)).stats());
            prop_assert_eq!((held.state_keys, held.state_bytes), (restored.state_keys, restored.state_bytes));
        }
    }

    #[test]
    fn a_second_stage_gives_the_same(
        input in prop::collection::vec(prop::collection::vec(payment(), 0..60), UPSTREAM as usize),
        actions in prop::collection::vec(action(), 0..40),
        limit in 1..4_u64,
    ) {
        let mut stages = Stages::new(&two(&rank(by_price_and_amount(), limit, true, Emits::Latest)), input.clone());
        stages.act(actions);
        let found = left(stages.downstream.iter().flat_map(|task| &task.committed));
        prop_assert_eq!(found, top(&input.concat(), limit as usize));
    }

    /// Whatever the batches and the epochs, once and never taken back.
    #[test]
    fn a_first_row_comes_once(payments in stream(), steps in steps()) {
        let context = context(1, 1);
        let program = program(&one(&rank(vec![by(TIME, false, true)], 1, false, Emits::First)), 0, &context);
        let mut driven = Driven::new(&program, 0, &context);
        driven.through(&program, &payments, &steps);
        let mut found: Vec<String> =
            driven.committed.iter().filter(|r| r.topic == SINK).map(|r| r.text().to_owned()).collect();
        found.sort();
        let (wanted, late) = firsts(&payments);
        prop_assert_eq!(found, wanted);
        let letters = driven.committed.iter().filter(|record| record.topic == DEAD).count() as u64;
        prop_assert_eq!(letters, late);
    }

    #[test]
    fn a_first_row_comes_once_behind_a_second_stage(
        input in prop::collection::vec(stream(), UPSTREAM as usize),
        actions in prop::collection::vec(action(), 0..40),
    ) {
        let input = common::stages::with_end(input);
        let plan = two(&rank(vec![by(TIME, false, true)], 1, false, Emits::First));
        let mut stages = Stages::new(&plan, input.clone());
        stages.act(actions);
        // What was on time in its own partition, all together.
        let mut on_time: Vec<Payment> = Vec::new();
        for partition in &input {
            let mut watermark = i64::MIN;
            for payment in partition {
                if payment.time > watermark {
                    on_time.push(payment.clone());
                }
                watermark = watermark.max(payment.time - DISORDER_MS - 1);
            }
        }
        let mut wanted: BTreeMap<Option<String>, Payment> = BTreeMap::new();
        let order = |payment: &Payment| (payment.time, payment.amount, payment.price);
        for payment in on_time.into_iter().filter(|payment| payment.time < 10_000 - DISORDER_MS) {
            let known = wanted.entry(payment.account.clone()).or_insert_with(|| payment.clone());
            if order(&payment) < order(known) {
                *known = payment;
            }
        }
        let mut wanted: Vec<String> = wanted.values().map(|payment| row(payment, None)).collect();
        wanted.sort();
        prop_assert_eq!(stages.results(), wanted);
    }
}

#[test]
fn a_key_that_expired_begins_anew() {
    let context = context(1, 1);
    let latest = Rank { state_ttl_ms: Some(100), ..rank(by_price_and_amount(), 2, true, Emits::Latest) };
    let program = program(&one(&latest), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    let mut feed = |rows: &[Payment]| {
        driven.task.process(&payments(0, rows), 0, &mut driven.out).expect("good records");
        let before = driven.committed.len();
        driven.commit();
        let rows: Vec<String> = driven.committed[before..].iter().map(|record| record.text().to_owned()).collect();
        (rows, driven.task.stats().expired, driven.task.stats().state_keys, driven.stored.rows.len())
    };
    let (a, b) = (Payment::new("a", 8, 1), Payment::new("b", 4, 1));
    assert_eq!(feed(&[a.clone(), b.clone()]), (vec![row(&a, Some(1)), row(&b, Some(1))], 0, 2, 3));
    // The watermark before it is 995: `a` is over, and what is left of it is not the greatest any more.
    let far = Payment::new("c", 1, 1_001);
    let again = Payment::new("a", 2, 1_001);
    assert_eq!(feed(std::slice::from_ref(&far)).0, [row(&far, Some(1))]);
    let (rows, expired, keys, stored) = feed(std::slice::from_ref(&again));
    assert_eq!((rows, expired, keys, stored), (vec![row(&again, Some(1))], 2, 2, 3));
}

#[test]
fn plans_that_can_not_be_are_refused() {
    let context = context(1, 1);
    for (rank, why) in [
        (rank(by_price_and_amount(), 0, true, Emits::Latest), "0 rows a key"),
        (rank(by_price_and_amount(), 1_001, true, Emits::Latest), "1001 rows a key"),
        (rank(by_price_and_amount(), 1, true, Emits::First), "only the first row by event time"),
        (rank(vec![by(TIME, true, false)], 1, true, Emits::First), "only the first row by event time"),
        (Rank { state_version: 7, ..rank(by_price_and_amount(), 1, true, Emits::Latest) }, "format 7"),
        (Rank { state_ttl_ms: Some(0), ..rank(by_price_and_amount(), 1, true, Emits::Latest) }, "no time"),
    ] {
        let compiled = freshet_engine::StageProgram::compile(&one(&rank), 0, std::sync::Arc::new(context.clone()));
        let error = compiled.err().expect(why).to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn state_rows_are_what_they_were() {
    let context = context(1, 1);
    let mut found = String::new();
    for rank in
        [rank(by_price_and_amount(), 2, true, Emits::Latest), rank(vec![by(TIME, false, true)], 1, false, Emits::First)]
    {
        let program = program(&one(&rank), 0, &context);
        let mut driven = Driven::new(&program, 0, &context);
        let rows = [
            Payment::new("a", 2, 3),
            Payment { price: None, ..Payment::new("a", -7, 4) },
            Payment::new("a", 9, 4),
            Payment { account: None, amount: None, price: None, good: None, time: 3 },
            Payment::new("b\0c", 2, 14),
        ];
        driven.task.process(&payments(0, &rows), 0, &mut driven.out).expect("good records");
        driven.commit();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        for ((operator, key), value) in driven.stored.rows.iter().filter(|((operator, _), _)| operator == OPERATOR) {
            found += &format!("{operator} {} {}\n", hex(key), hex(value));
        }
    }
    assert_eq!(found, include_str!("golden/ranks.txt"), "golden/ranks.txt differs. Found:\n{found}");
}
