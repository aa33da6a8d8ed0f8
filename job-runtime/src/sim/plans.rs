//! The jobs that are simulated: plans made by hand, so that the recount can be as plain as they are.

use std::time::Duration;

use freshet_plan::{
    Aggregate, AggregateFunction, BinaryOp, Chain, Changes, Column, DataType, EventTime, Expr, Format, Input, Literal,
    Output, PLAN_VERSION, Plan, ProjectedColumn, RepartitionSource, Stage, Step, TopicSink, TopicSource, Window,
    WindowAggregate,
};
use freshet_state::run_policy::{BadRecords, LateRecords, RunPolicy};

use super::updates;

/// The input topic.
pub(super) const PAYMENTS: &str = "payments";
/// The stage that reads it.
pub(super) const SOURCE_STAGE: &str = "payments";
/// Where accepted payments are copied to.
pub(super) const COPIES: &str = "copies";
/// Where totals of windows go.
pub(super) const TOTALS: &str = "totals";
/// Where bad records go.
pub(super) const DEAD: &str = "dead";
/// Where late records go.
pub(super) const LATE: &str = "late";
/// Length of a window.
pub(super) const WINDOW_MS: i64 = 10_000;
/// From one window's start to the next one's, where they hop: panes of 2 s, of which two go at a time.
pub(super) const SLIDE_MS: i64 = 4_000;
/// What each window is longer than the one before, where they cumulate.
pub(super) const STEP_MS: i64 = 2_500;
/// The longest time between two payments of a session that follow one another.
pub(super) const GAP_MS: i64 = 2_000;
/// How far behind the newest record an on-time one may be.
pub(super) const DISORDER_MS: i64 = 3_000;
/// How long a partition stays at its end before it counts as idle, in scenarios with idle partitions.
const IDLE_MS: i64 = 400;
/// The same in all others: longer than anything takes, unless clocks are believed that are wrong.
const NEVER_IDLE_MS: i64 = 600_000;

pub(super) const ACCOUNT: usize = 0;
pub(super) const MERCHANT: usize = 1;
pub(super) const AMOUNT: usize = 2;
pub(super) const SEQ: usize = 3;
pub(super) const TIME: usize = 4;

/// What totals are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// The topic's own key: one stage.
    Account,
    /// Something else: a second stage behind a repartition topic.
    Merchant,
}

/// What windows are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Side by side.
    Tumble,
    /// Every `SLIDE_MS`.
    Hop,
    /// By `STEP_MS`.
    Cumulate,
    /// Sessions with gaps up to `GAP_MS`.
    Session,
    /// None: a group's row changes for ever.
    Forever,
    /// None: each pair of account and merchant comes once.
    Distinct,
    /// None: the greatest payments of each group.
    Top,
    /// None: the first payment of each group.
    First,
}

impl Frame {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Tumble, Self::Hop, Self::Cumulate, Self::Session, Self::Forever, Self::Distinct, Self::Top, Self::First];
}

/// What a job computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Copies payments of at least 0, in order.
    pub copies: bool,
    /// Totals of windows.
    pub totals: Option<Grouping>,
    /// What windows those are.
    pub frame: Frame,
    /// Partitions of the input.
    pub partitions: u32,
    /// Partitions of the repartition topic.
    pub max_parallelism: u32,
    /// Whether partitions fall idle.
    pub idle: bool,
    /// Whether bad and late records are written to dead-letter topics; otherwise they are counted.
    pub letters: bool,
}

pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::required("account", DataType::String),
        Column::required("merchant", DataType::String),
        Column::required("amount", DataType::BigInt),
        Column::required("seq", DataType::BigInt),
        Column::required("ts", DataType::Timestamp(3)),
    ]
}

pub(super) fn sink(topic: &str, columns: Vec<Column>) -> Output {
    let (table, topic) = (topic.to_owned(), topic.to_owned());
    Output::Topic(TopicSink { table, topic, format: Format::Json, columns, key: vec![0], changes: Changes::Append })
}

fn copies() -> Chain {
    let predicate = Expr::Binary {
        op: BinaryOp::GtEq,
        left: Box::new(Expr::column(AMOUNT, "amount")),
        right: Box::new(Expr::Literal { value: Literal::Int(0), data_type: DataType::BigInt }),
    };
    let kept = [(ACCOUNT, "account"), (3, "seq"), (AMOUNT, "amount")];
    let project = |(at, name): (usize, &str)| ProjectedColumn {
        name: name.to_owned(),
        data_type: columns()[at].data_type.clone(),
        expr: Expr::column(at, name),
    };
    let out = kept.map(|(at, _)| columns()[at].clone()).to_vec();
    let steps = vec![Step::Filter { predicate }, Step::Project { columns: kept.map(project).to_vec() }];
    Chain { statement: 0, steps, output: sink(COPIES, out) }
}

/// What is computed a group.
pub(super) fn figures(other: usize) -> Vec<Aggregate> {
    use AggregateFunction::{Count, Min, Sum};
    let aggregate = |name: &str, function, argument: Option<usize>, distinct| Aggregate {
        name: name.to_owned(),
        function,
        argument,
        argument_type: argument.map(|at| columns()[at].data_type.clone()),
        distinct,
        filter: None,
        data_type: DataType::BigInt,
    };
    vec![
        aggregate("n", Count, None, false),
        aggregate("total", Sum, Some(AMOUNT), false),
        aggregate("least", Min, Some(AMOUNT), false),
        aggregate("others", Count, Some(other), true),
    ]
}

/// The operator that groups by a column.
pub(super) fn operator(group: usize) -> String {
    if group == ACCOUNT { "agg-account" } else { "agg-merchant" }.to_owned()
}

fn totals(group: usize, other: usize, frame: Frame) -> WindowAggregate {
    WindowAggregate {
        id: operator(group),
        window: match frame {
            Frame::Tumble => Window::Tumble { size_ms: WINDOW_MS, offset_ms: 0 },
            Frame::Hop => Window::Hop { size_ms: WINDOW_MS, slide_ms: SLIDE_MS, offset_ms: 0 },
            Frame::Cumulate | Frame::Forever | Frame::Distinct | Frame::Top | Frame::First => {
                Window::Cumulate { size_ms: WINDOW_MS, step_ms: STEP_MS, offset_ms: 0 }
            }
            Frame::Session => Window::Session { gap_ms: GAP_MS },
        },
        time_column: TIME,
        group: vec![group],
        group_columns: vec![columns()[group].clone()],
        aggregates: figures(other),
        state_version: 1,
    }
}

impl Shape {
    /// Whether a group has no window.
    pub(super) const fn is_without_window(self) -> bool {
        matches!(self.frame, Frame::Forever | Frame::Distinct | Frame::Top | Frame::First)
    }

    /// The windows that hold `time_ms`: their starts and ends; none where there are no windows. Of sessions, what a payment
    /// at that time would be alone.
    pub(super) fn windows(self, time_ms: i64) -> Vec<(i64, i64)> {
        let last = |every: i64| time_ms.div_euclid(every) * every;
        match self.frame {
            Frame::Tumble => vec![(last(WINDOW_MS), last(WINDOW_MS) + WINDOW_MS)],
            Frame::Hop => {
                let starts = (0..).map(|n| last(SLIDE_MS) - n * SLIDE_MS);
                starts.map(|start| (start, start + WINDOW_MS)).take_while(|(_, end)| *end > time_ms).collect()
            }
            Frame::Cumulate => {
                let ends = (1..=WINDOW_MS / STEP_MS).map(|n| last(WINDOW_MS) + n * STEP_MS);
                ends.filter(|end| *end > time_ms).map(|end| (last(WINDOW_MS), end)).collect()
            }
            Frame::Session => vec![(time_ms, time_ms + GAP_MS)],
            Frame::Forever | Frame::Distinct | Frame::Top | Frame::First => Vec::new(),
        }
    }
}

/// How records that can't be used are handled, and how often epochs are cut.
pub(super) fn policy(shape: Shape, epoch_interval: Duration) -> RunPolicy {
    RunPolicy {
        on_bad_record: match shape.letters {
            true => BadRecords::DeadLetter { topic: DEAD.to_owned() },
            false => BadRecords::Skip,
        },
        on_late: match shape.letters {
            true => LateRecords::DeadLetter { topic: LATE.to_owned() },
            false => LateRecords::Drop,
        },
        epoch_interval_ms: epoch_interval.as_millis() as u64,
    }
}

/// The plan of a shape.
pub(super) fn plan(shape: Shape) -> Plan {
    let mut stages = vec![Stage {
        id: SOURCE_STAGE.to_owned(),
        input: Input::Topic(TopicSource {
            table: PAYMENTS.to_owned(),
            topic: PAYMENTS.to_owned(),
            format: Format::Json,
            columns: columns(),
            key: vec!["account".to_owned()],
            key_trusted: true,
            event_time: Some(EventTime {
                column: "ts".to_owned(),
                max_out_of_orderness_ms: DISORDER_MS,
                idle_timeout_ms: Some(if shape.idle { IDLE_MS } else { NEVER_IDLE_MS }),
            }),
        }),
        chains: Vec::new(),
    }];
    if shape.copies {
        stages[0].chains.push(copies());
    }
    if let Some(grouping) = shape.totals {
        let (group, other) = match grouping {
            Grouping::Account => (ACCOUNT, MERCHANT),
            Grouping::Merchant => (MERCHANT, ACCOUNT),
        };
        let Halves { whole, first, second, placed_by, output } = halves(group, other, shape);
        let chain = |steps, output| Chain { statement: 1, steps, output };
        if grouping == Grouping::Account {
            stages[0].chains.push(chain(whole, output));
        } else {
            let operator = operator(group);
            let columns = Vec::new();
            let repartition =
                Output::Repartition { operator: operator.clone(), key: placed_by, columns, format_version: 1 };
            stages[0].chains.push(chain(vec![first], repartition));
            stages.push(Stage {
                id: operator.clone(),
                input: Input::Repartition(RepartitionSource {
                    operator,
                    from_stage: SOURCE_STAGE.to_owned(),
                    columns: Vec::new(),
                    format_version: 1,
                }),
                chains: vec![chain(second, output)],
            });
        }
    }
    Plan { version: PLAN_VERSION, max_parallelism: shape.max_parallelism, stages }
}

/// A grouping in one stage, and its halves in two.
struct Halves {
    whole: Vec<Step>,
    first: Step,
    second: Vec<Step>,
    placed_by: Vec<usize>,
    output: Output,
}

fn halves(group: usize, other: usize, shape: Shape) -> Halves {
    if matches!(shape.frame, Frame::Top | Frame::First) {
        let rank = updates::ranking(group, shape.frame);
        return Halves {
            output: updates::output(shape.frame, rank.output_columns()),
            placed_by: vec![0],
            whole: vec![Step::Rank(rank.clone())],
            first: Step::RankCombine(rank.clone()),
            second: vec![Step::RankMerge(rank)],
        };
    }
    if shape.is_without_window() {
        let grouping = updates::grouping(group, other, shape.frame);
        let behind = updates::behind(shape.frame);
        let before = |step| [vec![step], behind.clone()].concat();
        return Halves {
            output: updates::output(shape.frame, grouping.output_columns()),
            placed_by: (0..grouping.group.len()).collect(),
            whole: before(Step::GroupAggregate(grouping.clone())),
            first: Step::GroupCombine(grouping.clone()),
            second: before(Step::GroupMerge(grouping)),
        };
    }
    let totals = totals(group, other, shape.frame);
    Halves {
        output: sink(TOTALS, totals.output_columns()),
        placed_by: vec![0],
        whole: vec![Step::WindowAggregate(totals.clone())],
        first: Step::WindowCombine(totals.clone()),
        second: vec![Step::WindowMerge(totals)],
    }
}
