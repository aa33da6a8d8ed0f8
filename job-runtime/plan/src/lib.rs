//! The plan: Freshet's own intermediate form of a job.
//!
//! SQL comes in through `freshet-sql` and leaves as a [`Plan`]: a value that can be printed, compared,
//! fingerprinted, stored and sent, and that no version of any SQL library changes. The runtime builds
//! its pipelines from it.
//!
//! A plan is a list of [`Stage`]s. A stage reads one topic (or a set of co-partitioned ones later on)
//! and runs one task a partition. A stage holds [`Chain`]s: one straight line of [`Step`]s from the
//! stage's input to one output, so that several statements share one reading of their source. A chain
//! ends in a user's topic or in an internal repartition topic, which the next stage reads.
//!
//! ```text
//! stage transactions-1f0c          stage agg-77ab (reads the repartition topic of agg-77ab)
//!   source topic ──▶ project ─▶ combine ═▶ repartition ═▶ aggregate ─▶ filter ─▶ project ═▶ alerts
//! ```
//!
//! Ids come from meaning, not from position: an operator's id is a hash of what it computes and of all
//! that lies before it, so that adding a statement does not rename the state of another.

pub mod changelog;
pub mod compare;
mod display;
pub mod expr;
pub mod fingerprint;
pub mod key;
pub mod print;
pub mod rank;
mod rename;
pub mod types;
pub mod window;

use serde::{Deserialize, Serialize};

pub use changelog::{Changes, Emits, GroupAggregate};
pub use expr::{BinaryOp, Expr, Literal};
pub use rank::{OrderBy, Rank};
pub use types::{Column, DataType, Schema};
pub use window::Window;

/// The version of this form. A worker refuses a plan of a newer one.
pub const PLAN_VERSION: u32 = 1;

/// A planned job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// [`PLAN_VERSION`] of the planner.
    pub version: u32,
    /// Partitions of internal topics; fixed for a lineage.
    pub max_parallelism: u32,
    /// In the order of the data: a stage reads topics or the outputs of earlier stages.
    pub stages: Vec<Stage>,
}

/// A stage: what one task runs for each partition of its input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// From the meaning of its input: stable, unique within the plan, at most 40 characters of `[a-z0-9-]`.
    pub id: String,
    /// What its tasks read.
    pub input: Input,
    /// What they do with it, a chain for each output.
    pub chains: Vec<Chain>,
}

/// What a stage reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Input {
    /// A user's topic.
    Topic(TopicSource),
    /// The internal topic of an earlier stage's chain.
    Repartition(RepartitionSource),
}

/// A user's topic as a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicSource {
    /// The table's name in SQL.
    pub table: String,
    /// The topic's name in Kafka.
    pub topic: String,
    /// How values are encoded.
    pub format: Format,
    /// Columns that the plan needs, in the order of the rows that come out of decoding; contract columns
    /// (`required`) that the SQL does not use are among them.
    pub columns: Vec<Column>,
    /// Names of the record key's columns, where the Topic declares a key.
    pub key: Vec<String>,
    /// Whether the declared partitioner is Murmur2, so that the key may be trusted for grouping.
    pub key_trusted: bool,
    /// How event time is read; `None` uses the record's timestamp without disorder.
    pub event_time: Option<EventTime>,
}

/// Event time of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventTime {
    /// The column that holds it.
    pub column: String,
    /// How far behind the newest record an on-time one may be, ms.
    pub max_out_of_orderness_ms: i64,
    /// After how long without records at its end a partition no longer holds the watermark back, ms;
    /// `None` never.
    pub idle_timeout_ms: Option<i64>,
}

/// An internal topic as a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepartitionSource {
    /// The id of the operator that it feeds; part of the topic's name.
    pub operator: String,
    /// The stage that writes it. Its tasks are the complete set of upstream tasks.
    pub from_stage: String,
    /// The rows in it.
    pub columns: Vec<Column>,
    /// Version of the internal records' encoding.
    pub format_version: u32,
}

/// How a topic's values are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// One JSON object a record.
    #[serde(rename = "JSON")]
    Json,
}

impl Format {
    /// As manifests name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
        }
    }
}

/// One line of steps from a stage's input to one output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// Which statement of the job's SQL it belongs to, from 0.
    pub statement: u32,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// Where it ends.
    pub output: Output,
}

/// One step of a chain. Column references are positions in the rows that come out of the step before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Step {
    /// Keeps the rows for which the predicate is true (not null, not false).
    Filter {
        /// A Boolean expression.
        predicate: Expr,
    },
    /// Computes new rows.
    Project {
        /// The new columns.
        columns: Vec<ProjectedColumn>,
    },
    /// Groups rows of a window by key and aggregates them, until the watermark passes the window's end.
    WindowAggregate(WindowAggregate),
    /// The first half of a [`Step::WindowAggregate`] in another stage: combines rows of the same group
    /// between two epochs and keeps no state across them. Its rows are the group's columns, the start of
    /// their pane (which is `window_start` where windows don't overlap), and each aggregate's partial state.
    WindowCombine(WindowAggregate),
    /// The second half: merges what [`Step::WindowCombine`] sent.
    WindowMerge(WindowAggregate),
    /// Groups rows without a window: the result of a group changes with its rows.
    GroupAggregate(GroupAggregate),
    /// The first half of a [`Step::GroupAggregate`] in another stage, as [`Step::WindowCombine`] is: its rows are the
    /// group's columns, the greatest event time of the rows that were combined, and each aggregate's partial state.
    GroupCombine(GroupAggregate),
    /// The second half: merges what [`Step::GroupCombine`] sent.
    GroupMerge(GroupAggregate),
    /// Keeps the first rows of each key by an order.
    Rank(Rank),
    /// The first half of a [`Step::Rank`] in another stage: the first rows of each key between two epochs.
    RankCombine(Rank),
    /// The second half: the first ones of those that [`Step::RankCombine`] sent.
    RankMerge(Rank),
}

/// A column that a projection computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProjectedColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// How it is computed.
    pub expr: Expr,
}

/// Windowed grouping. Output columns: the group's columns, `window_start`, `window_end`,
/// `window_time` (TIMESTAMP(3) each; `window_time` is the window's last instant), then the aggregates.
/// The event time of an output row is its `window_time`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowAggregate {
    /// The operator's id, from its meaning: names its state and its repartition topic.
    pub id: String,
    /// Which windows a row belongs to.
    pub window: Window,
    /// Position of the TIMESTAMP column that assigns rows to windows, in the rows of the step before
    /// the (first half of the) aggregate.
    pub time_column: usize,
    /// Positions of the grouping columns in those rows.
    pub group: Vec<usize>,
    /// Their names and types.
    pub group_columns: Vec<Column>,
    /// What is computed a group.
    pub aggregates: Vec<Aggregate>,
    /// Version of the format of its state.
    pub state_version: u32,
}

/// One aggregate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Aggregate {
    /// Name of the output column.
    pub name: String,
    /// Which function.
    pub function: AggregateFunction,
    /// Position of its argument; `None` for COUNT(*).
    pub argument: Option<usize>,
    /// The argument's type.
    pub argument_type: Option<DataType>,
    /// Whether equal arguments count once.
    pub distinct: bool,
    /// Position of a Boolean column: only rows where it is true count.
    pub filter: Option<usize>,
    /// The output's type.
    pub data_type: DataType,
}

/// The aggregate functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AggregateFunction {
    /// Rows, or values that are not null. BIGINT.
    Count,
    /// Sum. BIGINT for integers (overflow is an error), DECIMAL(38, s) for decimals, DOUBLE for floats.
    Sum,
    /// Least value.
    Min,
    /// Greatest value.
    Max,
    /// Mean. DOUBLE for integers and floats, DECIMAL(38, max(s, 6)) for decimals.
    Avg,
    /// Variance of all. DOUBLE.
    #[serde(rename = "VAR_POP")]
    VarPop,
    /// Variance as estimated from a sample; null of one value. DOUBLE.
    #[serde(rename = "VAR_SAMP")]
    VarSamp,
    /// The root of `VarPop`. DOUBLE.
    #[serde(rename = "STDDEV_POP")]
    StddevPop,
    /// The root of `VarSamp`. DOUBLE.
    #[serde(rename = "STDDEV_SAMP")]
    StddevSamp,
    /// Whether all are true. BOOLEAN.
    #[serde(rename = "BOOL_AND")]
    BoolAnd,
    /// Whether some is true. BOOLEAN.
    #[serde(rename = "BOOL_OR")]
    BoolOr,
    /// Bits that all have. The argument's type.
    #[serde(rename = "BIT_AND")]
    BitAnd,
    /// Bits that some have. The argument's type.
    #[serde(rename = "BIT_OR")]
    BitOr,
    /// Bits that an odd number has. The argument's type.
    #[serde(rename = "BIT_XOR")]
    BitXor,
    /// The value of the first row that has one, by event time, then by partition and offset. The argument's type.
    #[serde(rename = "FIRST_VALUE")]
    FirstValue,
    /// The value of the last row that has one, by the same order. The argument's type.
    #[serde(rename = "LAST_VALUE")]
    LastValue,
    /// All values, nulls among them, in the same order; sorted, if they are DISTINCT. ARRAY of the argument's type.
    #[serde(rename = "ARRAY_AGG")]
    ArrayAgg,
    /// About how many different values there are. BIGINT.
    #[serde(rename = "APPROX_COUNT_DISTINCT")]
    ApproxCountDistinct,
    /// A histogram of numbers, for percentiles. BYTES.
    #[serde(rename = "HISTOGRAM")]
    Histogram,
}

impl AggregateFunction {
    /// Whether it needs each row's event time, partition and offset.
    #[must_use]
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::FirstValue | Self::LastValue | Self::ArrayAgg)
    }

    /// Whether a value that is there twice makes no difference, so that DISTINCT means nothing.
    #[must_use]
    pub const fn ignores_distinct(self) -> bool {
        use AggregateFunction::{ApproxCountDistinct, BitAnd, BitOr, BoolAnd, BoolOr, FirstValue, LastValue, Max, Min};
        matches!(self, Min | Max | BoolAnd | BoolOr | BitAnd | BitOr | FirstValue | LastValue | ApproxCountDistinct)
    }

    /// Whether its result is never null.
    #[must_use]
    pub const fn is_never_null(self) -> bool {
        matches!(self, Self::Count | Self::ApproxCountDistinct)
    }
}

/// Where a chain ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Output {
    /// A user's topic. The chain's last step is a projection onto its columns, in the Topic's order.
    Topic(TopicSink),
    /// The internal topic that the stage of `operator` reads. Rows are placed by `key`.
    Repartition {
        /// The id of the operator that it feeds.
        operator: String,
        /// Positions of the columns that place a row.
        key: Vec<usize>,
        /// The rows.
        columns: Vec<Column>,
        /// Version of the internal records' encoding.
        format_version: u32,
    },
}

/// A user's topic as an output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicSink {
    /// The table's name in SQL.
    pub table: String,
    /// The topic's name in Kafka.
    pub topic: String,
    /// How values are encoded.
    pub format: Format,
    /// The rows.
    pub columns: Vec<Column>,
    /// Positions of the record key's columns; empty: records without key.
    pub key: Vec<usize>,
    /// What it is told of a result that changes.
    #[serde(default, skip_serializing_if = "Changes::is_append")]
    pub changes: Changes,
}

impl Plan {
    /// The stage with this id.
    #[must_use]
    pub fn stage(&self, id: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.id == id)
    }

    /// The name of the internal topic that feeds `operator`: it carries job, lineage, operator and format.
    #[must_use]
    pub fn repartition_topic(job: &str, lineage: &str, operator: &str, format_version: u32) -> String {
        format!("freshet.{job}.{lineage}.{operator}.v{format_version}")
    }

    /// The consumer group that holds the committed offsets of a lineage's stage.
    #[must_use]
    pub fn consumer_group(lineage: &str, stage: &str) -> String {
        format!("freshet.{lineage}.{stage}")
    }
}

impl WindowAggregate {
    /// The rows that the (second half of the) aggregate gives: group, window columns, aggregates.
    #[must_use]
    pub fn output_columns(&self) -> Vec<Column> {
        let window = |name: &str| Column::required(name, DataType::Timestamp(3));
        let mut columns = self.group_columns.clone();
        columns.extend([window("window_start"), window("window_end"), window("window_time")]);
        columns.extend(self.aggregates.iter().map(|a| Column {
            name: a.name.clone(),
            data_type: a.data_type.clone(),
            required: a.function.is_never_null(),
        }));
        columns
    }
}
