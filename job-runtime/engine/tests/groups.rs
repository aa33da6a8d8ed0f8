//! Grouping without a window, in one stage and in two, through crashes: what a reader of the topic is left with is what
//! an independent recount gives, and nothing comes out that should not.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::recount::{payment, stream};
use common::stages::{Stages, UPSTREAM, action};
use common::*;
use freshet_plan::{
    Aggregate, AggregateFunction, BinaryOp, Chain, Changes, DataType, Emits, Expr, GroupAggregate, Input, Literal,
    Output, Plan, RepartitionSource, Step, TopicSink,
};
use proptest::prelude::*;

/// By account and good, so that the record's key is never null.
fn group_by(aggregates: Vec<Aggregate>, emits: Emits) -> GroupAggregate {
    GroupAggregate {
        id: OPERATOR.to_owned(),
        group: vec![ACCOUNT, GOOD],
        group_columns: [ACCOUNT, GOOD].map(|at| columns()[at].clone()).to_vec(),
        aggregates,
        emits,
        state_ttl_ms: None,
        state_version: 1,
    }
}

fn sums() -> Vec<Aggregate> {
    use AggregateFunction::{Count, Max, Sum};
    vec![
        aggregate("rows", Count, None),
        aggregate("total", Sum, Some(AMOUNT)),
        aggregate("greatest", Max, Some(PRICE)),
        Aggregate { distinct: true, ..aggregate("different", Count, Some(AMOUNT)) },
    ]
}

/// `HAVING total > 0`: groups come and go.
fn having() -> Step {
    Step::Filter {
        predicate: Expr::Binary {
            op: BinaryOp::Gt,
            left: Box::new(Expr::column(3, "total")),
            right: Box::new(Expr::Literal { value: Literal::Int(0), data_type: DataType::BigInt }),
        },
    }
}

fn one(group: &GroupAggregate, behind: &[Step]) -> Plan {
    let mut plan = one_stage(window_aggregate(&[ACCOUNT], vec![]));
    plan.stages[0].chains[0] =
        Chain { statement: 0, steps: [&[Step::GroupAggregate(group.clone())], behind].concat(), output: output(group) };
    plan
}

fn output(group: &GroupAggregate) -> Output {
    let Output::Topic(sink) = sink(group.output_columns(), vec![0, 1]) else { panic!("a topic") };
    let changes = if group.emits == Emits::First { Changes::Append } else { Changes::Upsert };
    Output::Topic(TopicSink { changes, ..sink })
}

fn two(group: &GroupAggregate, behind: &[Step]) -> Plan {
    let mut plan = two_stages(window_aggregate(&[ACCOUNT], vec![]));
    plan.stages[0].chains[0] = Chain {
        statement: 0,
        steps: vec![Step::GroupCombine(group.clone())],
        output: Output::Repartition {
            operator: OPERATOR.to_owned(),
            key: vec![0, 1],
            columns: vec![],
            format_version: 1,
        },
    };
    assert!(matches!(&plan.stages[1].input, Input::Repartition(RepartitionSource { .. })));
    plan.stages[1].chains[0] =
        Chain { statement: 0, steps: [&[Step::GroupMerge(group.clone())], behind].concat(), output: output(group) };
    plan
}

/// What is left of the records of a topic when each replaces the one before it with its key.
fn left<'w>(written: impl IntoIterator<Item = &'w Written>) -> BTreeMap<String, String> {
    let mut left = BTreeMap::new();
    for record in written.into_iter().filter(|record| record.topic == SINK) {
        let key = String::from_utf8(record.key.clone().expect("a key")).expect("text");
        if record.value.is_empty() {
            left.remove(&key);
        } else {
            left.insert(key, record.text().to_owned());
        }
    }
    left
}

#[derive(Default, Clone)]
struct Sums {
    rows: i64,
    total: Option<i64>,
    greatest: Option<i64>,
    different: BTreeSet<i64>,
}

impl Sums {
    fn add(&mut self, payment: &Payment) {
        self.rows += 1;
        if let Some(amount) = payment.amount {
            *self.total.get_or_insert(0) += amount;
            self.different.insert(amount);
        }
        self.greatest = self.greatest.max(payment.price);
    }
}

fn key_of(payment: &Payment) -> String {
    serde_json::json!([payment.account, payment.good]).to_string()
}

fn row(payment: &Payment, sums: &Sums) -> String {
    let number = |value: Option<i64>| value.map_or("null".to_owned(), |value| value.to_string());
    let hundredths =
        |value: i64| format!("{}{}.{:02}", if value < 0 { "-" } else { "" }, value.abs() / 100, value.abs() % 100);
    format!(
        "{{\"account\":{},\"good\":{},\"rows\":{},\"total\":{},\"greatest\":{},\"different\":{}}}",
        serde_json::json!(payment.account),
        serde_json::json!(payment.good),
        sums.rows,
        number(sums.total),
        sums.greatest.map_or("null".to_owned(), hundredths),
        sums.different.len(),
    )
}

/// Every group's row, counted again.
fn recount<'p>(
    payments: impl IntoIterator<Item = &'p Payment>,
    kept: impl Fn(&Sums) -> bool,
) -> BTreeMap<String, String> {
    let mut groups: BTreeMap<String, (Payment, Sums)> = BTreeMap::new();
    for payment in payments {
        groups.entry(key_of(payment)).or_insert_with(|| (payment.clone(), Sums::default())).1.add(payment);
    }
    let rows = groups.into_iter().filter(|(_, (_, sums))| kept(sums));
    rows.map(|(key, (payment, sums))| (key, row(&payment, &sums))).collect()
}

fn is_positive(sums: &Sums) -> bool {
    sums.total.is_some_and(|total| total > 0)
}

fn steps() -> impl Strategy<Value = Vec<(usize, u8, bool)>> {
    prop::collection::vec((1..20_usize, 0..4_u8, any::<bool>()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_topic_of_upserts_holds_every_group(payments in stream(), steps in steps()) {
        let context = context(1, 1);
        for (emits, behind, kept) in [
            (Emits::Latest, &[][..], (|_| true) as fn(&Sums) -> bool),
            (Emits::Changes, &[], |_| true),
            (Emits::Changes, &[having()], is_positive),
        ] {
            let program = program(&one(&group_by(sums(), emits), behind), 0, &context);
            let mut driven = Driven::new(&program, 0, &context);
            driven.through(&program, &payments, &steps);
            prop_assert_eq!(left(&driven.committed), recount(&payments, kept), "{:?}", emits);
        }
    }

    #[test]
    fn a_second_stage_gives_the_same(
        input in prop::collection::vec(prop::collection::vec(payment(), 0..60), UPSTREAM as usize),
        actions in prop::collection::vec(action(), 0..40),
    ) {
        let plan = two(&group_by(sums(), Emits::Changes), &[having()]);
        let mut stages = Stages::new(&plan, input.clone());
        stages.act(actions);
        let found = left(stages.downstream.iter().flat_map(|task| &task.committed));
        prop_assert_eq!(found, recount(input.iter().flatten(), is_positive));
    }

    #[test]
    fn a_distinct_row_comes_once(payments in stream(), steps in steps()) {
        let context = context(1, 1);
        let program = program(&one(&group_by(vec![], Emits::First), &[]), 0, &context);
        let mut driven = Driven::new(&program, 0, &context);
        driven.through(&program, &payments, &steps);
        let mut found: Vec<&str> = driven.committed.iter().map(Written::text).collect();
        let mut wanted: Vec<String> = payments.iter().map(distinct_row).collect();
        found.sort_unstable();
        wanted.sort();
        wanted.dedup();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn a_distinct_row_comes_once_behind_a_second_stage(
        input in prop::collection::vec(prop::collection::vec(payment(), 0..60), UPSTREAM as usize),
        actions in prop::collection::vec(action(), 0..40),
    ) {
        let mut stages = Stages::new(&two(&group_by(vec![], Emits::First), &[]), input.clone());
        stages.act(actions);
        let mut wanted: Vec<String> = input.iter().flatten().map(distinct_row).collect();
        wanted.sort();
        wanted.dedup();
        prop_assert_eq!(stages.results(), wanted);
    }

    /// Whatever the batches and the epochs: only the records, and the watermark before each, say what has expired.
    #[test]
    fn what_has_expired_begins_anew(payments in stream(), steps in steps(), ttl in 1..60_i64) {
        let context = context(1, 1);
        let group = GroupAggregate { state_ttl_ms: Some(ttl), ..group_by(sums(), Emits::Latest) };
        let program = program(&one(&group, &[]), 0, &context);
        let mut driven = Driven::new(&program, 0, &context);
        driven.through(&program, &payments, &steps);
        let (wanted, touched, watermark) = recount_with_ttl(&payments, ttl);
        prop_assert_eq!(left(&driven.committed), wanted);
        // What is over, and as much again as a bucket is wide, is swept out of the state.
        let live = touched.values().filter(|at| **at + ttl > watermark).count();
        let lingering = touched.values().filter(|at| **at + ttl + ttl / 16 + 1 > watermark).count();
        let held = driven.task.stats().state_keys as usize;
        prop_assert!((live..=lingering).contains(&held), "{held} keys, {live} live, {lingering} not swept yet");
        let stored = driven.stored.rows.keys().filter(|(operator, key)| operator == OPERATOR && key[0] == 1).count();
        prop_assert_eq!(stored, held);
    }
}

fn distinct_row(payment: &Payment) -> String {
    format!("{{\"account\":{},\"good\":{}}}", serde_json::json!(payment.account), serde_json::json!(payment.good))
}

/// The rows, when each group was touched last, and the watermark at the end.
fn recount_with_ttl(payments: &[Payment], ttl: i64) -> (BTreeMap<String, String>, BTreeMap<String, i64>, i64) {
    let mut groups: BTreeMap<String, Sums> = BTreeMap::new();
    let (mut rows, mut touched) = (BTreeMap::new(), BTreeMap::new());
    let mut watermark = i64::MIN;
    for payment in payments {
        let key = key_of(payment);
        let last = touched.get(&key).copied().unwrap_or(i64::MAX - ttl);
        let sums = groups.entry(key.clone()).or_default();
        if last + ttl <= watermark {
            *sums = Sums::default();
        }
        sums.add(payment);
        rows.insert(key.clone(), row(payment, sums));
        let now = payment.time.max(watermark);
        let touched = touched.entry(key).or_insert(now);
        *touched = now.max(*touched);
        watermark = watermark.max(payment.time - DISORDER_MS - 1);
    }
    (rows, touched, watermark)
}

#[test]
fn a_group_comes_out_once_an_epoch_and_only_if_it_changed() {
    let context = context(1, 1);
    let plan = one(&group_by(vec![aggregate("greatest", AggregateFunction::Max, Some(PRICE))], Emits::Changes), &[]);
    let program = program(&plan, 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    let feed = |driven: &mut Driven, rows: &[Payment]| {
        driven.task.process(&payments(0, rows), 0, &mut driven.out).expect("good records");
        let before = driven.committed.len();
        driven.commit();
        driven.committed[before..].iter().map(|record| record.text().to_owned()).collect::<Vec<_>>()
    };
    let all = [Payment::new("a", 2, 1), Payment::new("b", 4, 1), Payment::new("a", 6, 1), Payment::new("a", 8, 1)];
    assert_eq!(feed(&mut driven, &all).len(), 2);
    assert_eq!(feed(&mut driven, &[Payment::new("b", 2, 1)]), Vec::<String>::new(), "the greatest stays what it was");
    assert_eq!(feed(&mut driven, &[Payment::new("b", 10, 1), Payment::new("a", 2, 1)]).len(), 1);
}

#[test]
fn a_checkpoint_costs_what_was_touched() {
    let context = context(1, 1);
    let program = program(&one(&group_by(sums(), Emits::Latest), &[]), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    let many: Vec<Payment> = (0..5_000).map(|at| Payment::new(&format!("account-{at}"), 2, 10)).collect();
    driven.task.process(&payments(0, &many), 0, &mut driven.out).expect("good records");
    driven.commit();
    // A group's row, a value that it has not seen, and the watermark.
    driven.task.process(&payments(5_000, &[Payment::new("account-7", 4, 11)]), 0, &mut driven.out).expect("a record");
    driven.commit();
    assert_eq!(driven.stored.deltas.last().expect("a delta").len(), 3);
    assert_eq!(driven.committed.len(), 5_001);
}

#[test]
fn distinct_values_never_outgrow_a_record() {
    let distinct = Aggregate { distinct: true, ..aggregate("n", AggregateFunction::Count, Some(ACCOUNT)) };
    let group = GroupAggregate {
        group: vec![GOOD],
        group_columns: vec![columns()[GOOD].clone()],
        ..group_by(vec![distinct], Emits::Latest)
    };
    let input: Vec<Payment> =
        (0..20_000).map(|n| Payment::new(&format!("a rather long account number {n:>40}"), 1, 1)).collect();
    let mut plan = two(&group, &[]);
    let Output::Repartition { key, .. } = &mut plan.stages[0].chains[0].output else { panic!("a repartition topic") };
    key.pop();
    let mut stages = Stages::new(&plan, vec![input, vec![], vec![]]);
    stages.read(0, 20_000, 20_000, false);
    let largest = stages.topic.iter().flatten().map(Vec::len).max();
    assert!(largest < Some(1_000_000), "{largest:?} bytes in one record");
}

#[test]
fn ids_of_forgotten_groups_are_given_out_anew() {
    let context = context(1, 1);
    let group = GroupAggregate { state_ttl_ms: Some(100), ..group_by(sums(), Emits::Latest) };
    let program = program(&one(&group, &[]), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    let mut bytes = Vec::new();
    for round in 0..40_i64 {
        let mut rows: Vec<Payment> =
            (0..500).map(|at| Payment::new(&format!("{round}-{at}"), at, round * 50)).collect();
        rows.push(Payment::new("always", round * 2, round * 50));
        driven.task.process(&payments(round * 501, &rows), 0, &mut driven.out).expect("good records");
        driven.commit();
        bytes.push(driven.task.stats().state_bytes);
    }
    let stats = driven.task.stats();
    assert!(stats.state_keys < 2_500, "{} keys are kept", stats.state_keys);
    assert_eq!(stats.expired + stats.state_keys, 40 * 500 + 1);
    assert!(bytes[39] < 3 * bytes[10], "memory grows: {bytes:?}");
    let last = driven.committed.iter().rev().find(|record| record.text().contains("always")).expect("a row");
    assert_eq!(
        last.text(),
        r#"{"account":"always","good":true,"rows":40,"total":1560,"greatest":2.34,"different":40}"#
    );
    // The state is what is in memory.
    let restored = driven.stored.restore(program.task(0));
    assert_eq!(restored.stats().state_keys, stats.state_keys);
}

#[test]
fn a_null_key_by_itself_stops_the_job() {
    let context = context(1, 1);
    let group = GroupAggregate {
        group: vec![ACCOUNT],
        group_columns: vec![columns()[ACCOUNT].clone()],
        ..group_by(sums(), Emits::Latest)
    };
    let mut plan = one(&group, &[]);
    let Output::Topic(sink) = &mut plan.stages[0].chains[0].output else { panic!("a topic") };
    sink.key = vec![0];
    let program = program(&plan, 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    let nobody = Payment { account: None, ..Payment::new("", 1, 1) };
    driven.task.process(&payments(0, &[nobody]), 0, &mut driven.out).expect("a good record");
    let error = driven.task.flush(&mut driven.out).expect_err("no key").to_string();
    assert!(error.contains("the key of a row is null") && error.contains("IS NOT NULL"), "{error}");
}

#[test]
fn plans_that_lose_changes_are_refused() {
    let context = context(1, 1);
    let refused = |plan: &Plan| {
        let compiled = freshet_engine::StageProgram::compile(plan, 0, std::sync::Arc::new(context.clone()));
        compiled.err().expect("a plan that is refused").to_string()
    };
    let mut append = one(&group_by(sums(), Emits::Latest), &[]);
    let Output::Topic(sink) = &mut append.stages[0].chains[0].output else { panic!("a topic") };
    sink.changes = Changes::Append;
    assert!(refused(&append).contains("takes no updates"));
    let mut keyless = one(&group_by(sums(), Emits::Latest), &[]);
    let Output::Topic(sink) = &mut keyless.stages[0].chains[0].output else { panic!("a topic") };
    sink.key.clear();
    assert!(refused(&keyless).contains("has no key"));
    let twice = one(&group_by(sums(), Emits::Latest), &[Step::GroupAggregate(group_by(sums(), Emits::Latest))]);
    assert!(refused(&twice).contains("would be read by another"));
    assert!(refused(&one(&group_by(sums(), Emits::First), &[])).contains("after a group's first row"));
    let other = GroupAggregate { state_version: 2, ..group_by(sums(), Emits::Latest) };
    assert!(refused(&one(&other, &[])).contains("format 2"));
}

#[test]
fn state_rows_are_what_they_were() {
    let context = context(1, 1);
    let program = program(&one(&group_by(many_aggregates(), Emits::Latest), &[]), 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    let rows = [
        Payment::new("a", 2, 3),
        Payment::new("a", -7, 4),
        Payment { account: None, amount: None, price: None, good: None, time: 3 },
        Payment { price: Some(-1), ..Payment::new("zürich", i64::MAX, 3) },
        Payment::new("a", 2, 14),
    ];
    driven.task.process(&payments(0, &rows), 0, &mut driven.out).expect("good records");
    driven.commit();
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let hex = |bytes: &[u8]| if bytes.is_empty() { "-".to_owned() } else { digits(bytes) };
    let rows = driven.stored.rows.iter();
    let found: String =
        rows.map(|((operator, key), value)| format!("{operator} {} {}\n", hex(key), hex(value))).collect();
    assert_eq!(found, include_str!("golden/groups.txt"), "golden/groups.txt differs. Found:\n{found}");
}
