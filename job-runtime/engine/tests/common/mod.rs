//! What the engine's tests share: a payments topic, hand-made plans over it, and a driver for tasks that
//! keeps what they write and what their state would be.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod recount;
pub mod stages;

use std::collections::BTreeMap;
use std::sync::Arc;

use freshet_engine::{JobContext, OnBadRecord, OnLate, OutputTopic, StageProgram, Task};
use freshet_log::{Fetched, Outgoing, TopicPartition};
use freshet_plan::{
    Aggregate, AggregateFunction, Chain, Changes, Column, DataType, EventTime, Format, Input, Output, PLAN_VERSION,
    Plan, RepartitionSource, Stage, Step, TopicSink, TopicSource, Window, WindowAggregate,
};
use freshet_state::rows::RowBuffer;

pub const SIZE_MS: i64 = 10;
pub const DISORDER_MS: i64 = 5;
pub const IDLE_MS: i64 = 1_000;
pub const OPERATOR: &str = "agg-test";
pub const SINK: &str = "totals";
pub const DEAD: &str = "dead";

/// Positions of the topic's columns.
pub const ACCOUNT: usize = 0;
pub const AMOUNT: usize = 1;
pub const PRICE: usize = 2;
pub const RATIO: usize = 3;
pub const GOOD: usize = 4;
pub const TIME: usize = 5;

pub fn columns() -> Vec<Column> {
    [
        ("account", DataType::String),
        ("amount", DataType::BigInt),
        ("price", DataType::Decimal(12, 2)),
        ("ratio", DataType::Double),
        ("good", DataType::Boolean),
        ("ts", DataType::Timestamp(3)),
    ]
    .map(|(name, data_type)| Column::new(name, data_type))
    .to_vec()
}

pub fn aggregate(name: &str, function: AggregateFunction, argument: Option<usize>) -> Aggregate {
    let argument_type = argument.map(|at| columns()[at].data_type.clone());
    let data_type = match (function, argument_type.clone()) {
        (AggregateFunction::Count, _) | (AggregateFunction::Sum, Some(DataType::BigInt)) => DataType::BigInt,
        (AggregateFunction::Sum, Some(DataType::Decimal(_, scale))) => DataType::Decimal(38, scale),
        (AggregateFunction::Avg, Some(DataType::Decimal(_, scale))) => DataType::Decimal(38, scale.max(6)),
        (AggregateFunction::Sum | AggregateFunction::Avg, _) => DataType::Double,
        (AggregateFunction::ArrayAgg, Some(item)) => DataType::Array(Box::new(item)),
        (AggregateFunction::ApproxCountDistinct, _) => DataType::BigInt,
        (AggregateFunction::Histogram, _) => DataType::Bytes,
        (AggregateFunction::VarPop | AggregateFunction::StddevSamp, _) => DataType::Double,
        (_, argument) => argument.expect("MIN and MAX have an argument"),
    };
    Aggregate { name: name.to_owned(), function, argument, argument_type, distinct: false, filter: None, data_type }
}

/// A bit of everything, exact whatever the order of rows.
pub fn many_aggregates() -> Vec<Aggregate> {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    vec![
        aggregate("rows", Count, None),
        aggregate("amounts", Count, Some(AMOUNT)),
        aggregate("total", Sum, Some(AMOUNT)),
        aggregate("least", Min, Some(PRICE)),
        aggregate("mean", Avg, Some(PRICE)),
        aggregate("greatest", Max, Some(ACCOUNT)),
        Aggregate { distinct: true, ..aggregate("different", Count, Some(AMOUNT)) },
        Aggregate { distinct: true, ..aggregate("different_total", Sum, Some(AMOUNT)) },
        Aggregate { filter: Some(GOOD), ..aggregate("good_total", Sum, Some(AMOUNT)) },
    ]
}

pub fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

/// The end of a result's window, as it stands in the JSON.
pub fn end_of(row: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(row).expect("JSON");
    value["window_end"].as_str().expect("a time").to_owned()
}

/// What comes out of a stage of one task that is fed with `payments`, `size` at a time, and how many were late.
pub fn in_batches(plan: &Plan, payments: &[Payment], size: usize) -> (Vec<String>, u64) {
    let context = context(1, 1);
    let program = program(plan, 0, &context);
    let mut driven = Driven::new(&program, 0, &context);
    for (at, chunk) in payments.chunks(size).enumerate() {
        let batch = self::payments((at * size) as i64, chunk);
        driven.task.process(&batch, 0, &mut driven.out).expect("good records");
    }
    (recount::results(&written(&driven.out)), driven.task.stats().late)
}

pub fn window_aggregate(group: &[usize], aggregates: Vec<Aggregate>) -> WindowAggregate {
    WindowAggregate {
        id: OPERATOR.to_owned(),
        window: Window::Tumble { size_ms: SIZE_MS, offset_ms: 0 },
        time_column: TIME,
        group: group.to_vec(),
        group_columns: group.iter().map(|at| columns()[*at].clone()).collect(),
        aggregates,
        state_version: 1,
    }
}

pub fn topic_source(idle: bool) -> TopicSource {
    TopicSource {
        table: "payments".to_owned(),
        topic: "payments".to_owned(),
        format: Format::Json,
        columns: columns(),
        key: vec![],
        key_trusted: false,
        event_time: Some(EventTime {
            column: "ts".to_owned(),
            max_out_of_orderness_ms: DISORDER_MS,
            idle_timeout_ms: idle.then_some(IDLE_MS),
        }),
    }
}

pub fn sink(columns: Vec<Column>, key: Vec<usize>) -> Output {
    Output::Topic(TopicSink {
        table: SINK.to_owned(),
        topic: SINK.to_owned(),
        format: Format::Json,
        columns,
        key,
        changes: Changes::Append,
    })
}

/// One stage that aggregates by itself.
pub fn one_stage(aggregate: WindowAggregate) -> Plan {
    let output = sink(aggregate.output_columns(), vec![0]);
    Plan {
        version: PLAN_VERSION,
        max_parallelism: 4,
        stages: vec![Stage {
            id: "payments".to_owned(),
            input: Input::Topic(topic_source(true)),
            chains: vec![Chain { statement: 0, steps: vec![Step::WindowAggregate(aggregate)], output }],
        }],
    }
}

/// The same over a repartition topic.
pub fn two_stages(aggregate: WindowAggregate) -> Plan {
    let mut plan = one_stage(aggregate.clone());
    let output = plan.stages[0].chains[0].output.clone();
    let key = (0..aggregate.group.len()).collect();
    plan.stages[0].chains[0] = Chain {
        statement: 0,
        steps: vec![Step::WindowCombine(aggregate.clone())],
        output: Output::Repartition { operator: OPERATOR.to_owned(), key, columns: vec![], format_version: 1 },
    };
    plan.stages.push(Stage {
        id: OPERATOR.to_owned(),
        input: Input::Repartition(RepartitionSource {
            operator: OPERATOR.to_owned(),
            from_stage: "payments".to_owned(),
            columns: vec![],
            format_version: 1,
        }),
        chains: vec![Chain { statement: 0, steps: vec![Step::WindowMerge(aggregate)], output }],
    });
    plan
}

pub fn repartition_topic() -> String {
    Plan::repartition_topic("job", "r1", OPERATOR, 1)
}

pub fn context(upstream_tasks: u32, partitions: u32) -> JobContext {
    let topic = |name: &str, partitions| OutputTopic { name: name.to_owned(), partitions };
    JobContext {
        job: "job".to_owned(),
        lineage: "r1".to_owned(),
        outputs: vec![topic(SINK, 3), topic(DEAD, 2), topic(&repartition_topic(), partitions)],
        on_bad_record: OnBadRecord::DeadLetter(DEAD.to_owned()),
        on_late: OnLate::DeadLetter(DEAD.to_owned()),
        stage_tasks: vec![upstream_tasks, partitions],
    }
}

pub fn program(plan: &Plan, stage: usize, context: &JobContext) -> StageProgram {
    StageProgram::compile(plan, stage, Arc::new(context.clone())).expect("a plan that runs")
}

/// One payment.
#[derive(Debug, Clone, PartialEq)]
pub struct Payment {
    pub account: Option<String>,
    pub amount: Option<i64>,
    /// In hundredths.
    pub price: Option<i64>,
    pub good: Option<bool>,
    pub time: i64,
}

impl Payment {
    pub fn new(account: &str, amount: i64, time: i64) -> Self {
        let good = Some(amount % 2 == 0);
        Self {
            account: Some(account.to_owned()),
            amount: Some(amount),
            price: Some(amount.saturating_mul(3)),
            good,
            time,
        }
    }

    pub fn json(&self) -> String {
        let price = self.price.map(|p| serde_json::Number::from_f64(p as f64 / 100.0));
        serde_json::json!({
            "account": self.account, "amount": self.amount, "price": price, "good": self.good, "ts": self.time,
        })
        .to_string()
    }
}

/// A batch of `topic`'s `partition` from `offset` on.
pub fn batch<'v>(topic: &str, partition: u32, offset: i64, values: impl IntoIterator<Item = &'v [u8]>) -> Fetched {
    let mut batch = Fetched::empty(TopicPartition::new(topic, partition), offset);
    for (at, value) in (offset..).zip(values) {
        batch.push(at, 1_000 + at, Some(format!("key-{at}").as_bytes()), Some(value));
    }
    batch
}

pub fn payments(offset: i64, payments: &[Payment]) -> Fetched {
    payments_of(0, offset, payments)
}

/// The same of a partition.
pub fn payments_of(partition: u32, offset: i64, payments: &[Payment]) -> Fetched {
    let values: Vec<String> = payments.iter().map(Payment::json).collect();
    batch("payments", partition, offset, values.iter().map(String::as_bytes))
}

/// A record that a task wrote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    pub topic: String,
    pub partition: u32,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: Vec<(&'static str, String)>,
}

impl Written {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.value).expect("UTF-8")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_str())
    }
}

pub fn outgoing(context: &JobContext) -> Outgoing {
    Outgoing::new(context.outputs.iter().map(|output| output.name.clone()).collect())
}

pub fn written(out: &Outgoing) -> Vec<Written> {
    out.records
        .iter()
        .map(|record| Written {
            topic: out.topics[usize::from(record.topic)].clone(),
            partition: record.partition,
            timestamp_ms: record.timestamp_ms,
            key: out.key(record).map(<[u8]>::to_vec),
            value: out.value(record).map(<[u8]>::to_vec).unwrap_or_default(),
            headers: record.headers.map_or(vec![], |at| {
                let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("UTF-8");
                out.headers[at as usize].iter().map(|header| (header.name, text(&header.value))).collect()
            }),
        })
        .collect()
}

/// Stored state: the rows of a base with every delta merged into it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    pub rows: BTreeMap<(String, Vec<u8>), Vec<u8>>,
    pub deltas: Vec<RowBuffer>,
}

impl Stored {
    pub fn apply(&mut self, delta: RowBuffer) {
        for row in delta.iter() {
            let row = row.expect("a whole row");
            let key = (row.operator.to_owned(), row.key.to_vec());
            match row.value {
                Some(value) => drop(self.rows.insert(key, value.to_vec())),
                None => drop(self.rows.remove(&key)),
            }
        }
        self.deltas.push(delta);
    }

    /// A task that begins from the merged base.
    pub fn restore(&self, mut task: Task) -> Task {
        for ((operator, key), value) in &self.rows {
            task.restore(operator, key, Some(value)).expect("a row of its own");
        }
        task.restored().expect("state that fits together");
        task
    }

    /// A task that begins from all deltas, one after another.
    pub fn replay(&self, mut task: Task) -> Task {
        for row in self.deltas.iter().flat_map(RowBuffer::iter) {
            let row = row.expect("a whole row");
            task.restore(row.operator, row.key, row.value).expect("a row of its own");
        }
        task.restored().expect("state that fits together");
        task
    }
}

/// A task, its state, and what it has written in epochs that committed.
pub struct Driven {
    pub task: Task,
    pub out: Outgoing,
    pub stored: Stored,
    pub committed: Vec<Written>,
}

impl Driven {
    pub fn new(program: &StageProgram, partition: u32, context: &JobContext) -> Self {
        let mut task = program.task(partition);
        task.restored().expect("no state at all");
        Self { task, out: outgoing(context), stored: Stored::default(), committed: vec![] }
    }

    /// Ends an epoch.
    pub fn commit(&mut self) {
        self.task.flush(&mut self.out).expect("a flush");
        let dirty = self.task.is_dirty();
        let mut delta = RowBuffer::default();
        self.task.snapshot(&mut delta);
        assert!(dirty || delta.is_empty(), "a task that hands rows over was dirty");
        assert!(!self.task.is_dirty(), "a snapshot leaves nothing dirty");
        self.stored.apply(delta);
        self.committed.extend(written(&self.out));
        self.out.clear();
    }

    /// Processes all of `payments` by `steps`, again and again: so many records at once, and then nothing, a crash (with
    /// deltas replayed, or from a merged base) or a commit. Ends with a commit.
    pub fn through(&mut self, program: &StageProgram, payments: &[Payment], steps: &[(usize, u8, bool)]) {
        // Every crash moves back to the commit, so a run must be allowed to go on for a while.
        let (mut position, mut committed, mut crashes) = (0, 0, 0);
        let mut steps = steps.iter().cycle();
        while position < payments.len() {
            let (size, then, replay) = *steps.next().expect("cycle");
            let next = payments.len().min(position + size);
            let batch = self::payments(position as i64, &payments[position..next]);
            self.task.process(&batch, 0, &mut self.out).expect("good records");
            position = next;
            match then {
                0 => {}
                1 if crashes < 20 => {
                    crashes += 1;
                    self.crash(program, replay);
                    position = committed;
                }
                _ => {
                    self.commit();
                    committed = position;
                }
            }
        }
        self.commit();
    }

    /// Throws away what did not commit and begins anew from what did.
    pub fn crash(&mut self, program: &StageProgram, replay: bool) {
        let task = program.task(self.task.partition());
        self.task = if replay { self.stored.replay(task) } else { self.stored.restore(task) };
        assert!(!self.task.is_dirty(), "nothing is dirty after a restore");
        self.out.clear();
    }
}
