//! A stage of a plan, checked and compiled.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use freshet_plan::{
    Chain, Changes, Column, DataType, Emits, Input, Output, PLAN_VERSION, Plan, RepartitionSource, Stage, Step,
    TopicSink, TopicSource, Window,
};

use super::dead_letter::{DeadLetters, OutputPlace};
use super::sink::{RepartitionWriter, TopicWriter};
use super::source::{Source, TopicReader};
use super::upsert::{LogWriter, UpsertWriter};
use super::{JobContext, OnBadRecord, OnLate, Task};
use crate::EngineError;
use crate::expr::{self, CompiledExpr, CompiledPredicate};
use crate::format::{KeyEncoder, decoder, encoder};
use crate::operator::filter::Filter;
use crate::operator::group::{GroupAggregateOperator, GroupCombineOperator, GroupSpec};
use crate::operator::project::Project;
use crate::operator::rank::{RankCombineOperator, RankFirstOperator, RankOperator, RankSpec};
use crate::operator::window_aggregate::WindowAggregateOperator;
use crate::operator::window_combine::WindowCombineOperator;
use crate::operator::window_merge::WindowMergeOperator;
use crate::operator::{self, Fed, Operator, SessionSpec, Sink, WindowSpec};
use crate::repartition::FORMAT_VERSION;
use crate::types::arrow_schema;
use crate::watermark::{CombinedWatermark, SourceWatermark};

/// A stage that tasks can be made of.
pub struct StageProgram {
    context: Arc<JobContext>,
    source: SourceProgram,
    chains: Vec<ChainProgram>,
    dead_letters: DeadLetters,
}

enum SourceProgram {
    Topic { topic: TopicSource, event_time: Option<(usize, String)>, with_origin: bool },
    Repartition { upstream_tasks: u32 },
}

struct ChainProgram {
    steps: Vec<StepProgram>,
    sink: SinkProgram,
}

enum StepProgram {
    Filter(Arc<CompiledPredicate>),
    Project(Arc<[CompiledExpr]>, SchemaRef),
    WindowAggregate(Arc<WindowSpec>),
    WindowCombine(Arc<WindowSpec>),
    WindowMerge(Arc<WindowSpec>),
    /// Any of the three over sessions.
    Sessions(Step, Arc<SessionSpec>),
    GroupAggregate(Arc<GroupSpec>),
    GroupCombine(Arc<GroupSpec>),
    GroupMerge(Arc<GroupSpec>),
    Rank(Arc<RankSpec>),
    RankCombine(Arc<RankSpec>),
    RankMerge(Arc<RankSpec>),
}

enum SinkProgram {
    Topic { place: OutputPlace, sink: TopicSink },
    Repartition { place: OutputPlace, operator: String },
}

/// What flows between two steps.
enum Flow {
    Rows(Vec<Column>),
    /// Partial aggregates of the operator with this id.
    Partials(String),
}

fn refuse<T>(why: impl Into<String>) -> Result<T, EngineError> {
    Err(EngineError::Plan(why.into()))
}

impl StageProgram {
    /// Compiles the stage at `stage_index`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] for what this runtime does not do, or what does not fit together.
    pub fn compile(plan: &Plan, stage_index: usize, context: Arc<JobContext>) -> Result<Self, EngineError> {
        if plan.version > PLAN_VERSION {
            return refuse(format!("it has version {}; this runtime reads up to {PLAN_VERSION}", plan.version));
        }
        let Some(stage) = plan.stages.get(stage_index) else {
            return refuse(format!("it has no stage {stage_index}"));
        };
        let source = SourceProgram::compile(plan, stage, &context)?;
        let chains = stage.chains.iter().map(|chain| ChainProgram::compile(&stage.input, chain, &context));
        let chains = chains.collect::<Result<Vec<_>, _>>()?;
        let mut fed = BTreeSet::new();
        for chain in &chains {
            if let SinkProgram::Repartition { operator, .. } = &chain.sink
                && !fed.insert(operator)
            {
                return refuse(format!("two chains of stage {} feed operator {operator}", stage.id));
            }
        }
        let bad = match &context.on_bad_record {
            OnBadRecord::DeadLetter(topic) => Some(output(&context, topic)?),
            OnBadRecord::Fail | OnBadRecord::Skip => None,
        };
        let late = match &context.on_late {
            OnLate::DeadLetter(topic) => Some(output(&context, topic)?),
            OnLate::Drop => None,
        };
        Ok(Self { context, source, chains, dead_letters: DeadLetters { bad, late } })
    }

    /// The task of `partition`, without state.
    #[must_use]
    pub fn task(&self, partition: u32) -> Task {
        let source = match &self.source {
            SourceProgram::Topic { topic, event_time, with_origin } => {
                let (disorder, timeout) = topic
                    .event_time
                    .as_ref()
                    .map_or((0, None), |time| (time.max_out_of_orderness_ms, time.idle_timeout_ms));
                Source::Topic(TopicReader {
                    decoder: decoder(topic.format, &topic.columns),
                    event_time: event_time.clone(),
                    watermark: SourceWatermark::new(disorder, timeout),
                    with_origin: *with_origin,
                })
            }
            SourceProgram::Repartition { upstream_tasks } => {
                Source::Repartition(CombinedWatermark::new(*upstream_tasks))
            }
        };
        let chains = self.chains.iter().map(|chain| super::Chain {
            operators: chain.steps.iter().map(StepProgram::operator).collect(),
            sink: chain.sink.sink(partition),
        });
        Task::new(partition, self.context.clone(), source, chains.collect(), self.dead_letters)
    }
}

/// The place of a topic among the job's outputs.
fn output(context: &JobContext, name: &str) -> Result<OutputPlace, EngineError> {
    let found = context.outputs.iter().position(|output| output.name == name);
    match found.and_then(|at| Some((u16::try_from(at).ok()?, context.outputs[at].partitions))) {
        Some((_, 0)) => refuse(format!("output `{name}` has no partitions")),
        Some((topic, partitions)) => Ok(OutputPlace { topic, partitions }),
        None => refuse(format!("topic `{name}` is not among the job's outputs")),
    }
}

impl SourceProgram {
    fn compile(plan: &Plan, stage: &Stage, context: &JobContext) -> Result<Self, EngineError> {
        match &stage.input {
            Input::Topic(topic) => Self::topic(stage, topic),
            Input::Repartition(source) => Self::repartition(plan, source, context),
        }
    }

    fn topic(stage: &Stage, topic: &TopicSource) -> Result<Self, EngineError> {
        let event_time = match &topic.event_time {
            None => None,
            Some(time) => match topic.columns.iter().position(|column| column.name == time.column) {
                Some(at)
                    if matches!(topic.columns[at].data_type, DataType::Timestamp(_) | DataType::TimestampLtz(_)) =>
                {
                    Some((at, time.column.clone()))
                }
                Some(at) => {
                    let found = &topic.columns[at].data_type;
                    return refuse(format!(
                        "event time `{}` of `{}` is {found}, not a timestamp",
                        time.column, topic.table
                    ));
                }
                None => {
                    return refuse(format!(
                        "event time `{}` is not among the columns of `{}`",
                        time.column, topic.table
                    ));
                }
            },
        };
        let windows = |step: &Step| {
            let may_be_late = |rank: &freshet_plan::Rank| rank.emits == Emits::First;
            matches!(step, Step::WindowAggregate(_) | Step::WindowCombine(_))
                || matches!(step, Step::Rank(rank) | Step::RankCombine(rank) if may_be_late(rank))
        };
        let with_origin = stage.chains.iter().flat_map(|chain| &chain.steps).any(windows);
        Ok(Self::Topic { topic: topic.clone(), event_time, with_origin })
    }

    fn repartition(plan: &Plan, source: &RepartitionSource, context: &JobContext) -> Result<Self, EngineError> {
        check_format(&source.operator, source.format_version)?;
        let upstream = plan.stages.iter().position(|stage| stage.id == source.from_stage);
        match upstream.and_then(|at| context.stage_tasks.get(at)) {
            Some(tasks) if *tasks > 0 => Ok(Self::Repartition { upstream_tasks: *tasks }),
            _ => refuse(format!(
                "it says nothing of the tasks of stage {}, which feeds operator {}",
                source.from_stage, source.operator
            )),
        }
    }
}

fn check_format(operator: &str, version: u32) -> Result<(), EngineError> {
    if version == FORMAT_VERSION {
        return Ok(());
    }
    refuse(format!(
        "the internal records of operator {operator} have format {version}; this runtime has {FORMAT_VERSION}"
    ))
}

/// Checks that an updating result ends in a topic that is told of updates, and that nothing before it reads one.
fn check_updates(chain: &Chain) -> Result<(), EngineError> {
    let mut updates = None;
    for step in &chain.steps {
        match (step, updates) {
            (Step::Filter { .. } | Step::Project { .. }, _) => {}
            (_, Some(operator)) => {
                return refuse(format!("the changing result of operator {operator} would be read by another one"));
            }
            (Step::GroupAggregate(group) | Step::GroupMerge(group), None) => {
                updates = (group.emits != Emits::First).then_some(&group.id);
            }
            (Step::Rank(rank) | Step::RankMerge(rank), None) => {
                updates = (rank.emits != Emits::First).then_some(&rank.id);
            }
            (_, None) => {}
        }
    }
    match (&chain.output, updates) {
        (Output::Topic(sink), Some(operator)) if sink.changes == Changes::Append => {
            refuse(format!("`{}` takes no updates, and the result of operator {operator} changes", sink.table))
        }
        _ => Ok(()),
    }
}

impl ChainProgram {
    fn compile(input: &Input, chain: &Chain, context: &JobContext) -> Result<Self, EngineError> {
        let mut flow = match input {
            Input::Topic(topic) => Flow::Rows(topic.columns.clone()),
            Input::Repartition(source) => Flow::Partials(source.operator.clone()),
        };
        check_updates(chain)?;
        let mut steps = Vec::with_capacity(chain.steps.len());
        for step in &chain.steps {
            let (step, behind) = StepProgram::compile(step, flow)?;
            steps.push(step);
            flow = behind;
        }
        let sink = match (&chain.output, &flow) {
            (Output::Topic(sink), Flow::Rows(columns)) => SinkProgram::topic(sink, columns, context)?,
            (Output::Repartition { operator, key, format_version, .. }, Flow::Partials(combined))
                if combined == operator =>
            {
                check_format(operator, *format_version)?;
                let group = chain.steps.iter().rev().find_map(|step| match step {
                    Step::WindowCombine(aggregate) => Some(aggregate.group.len()),
                    Step::GroupCombine(group) => Some(group.group.len()),
                    Step::RankCombine(rank) => Some(rank.partition.len()),
                    _ => None,
                });
                if group.is_some_and(|group| !key.iter().copied().eq(0..group)) {
                    return refuse(format!(
                        "rows for operator {operator} are placed by columns {key:?}, not by their group"
                    ));
                }
                let name = Plan::repartition_topic(&context.job, &context.lineage, operator, *format_version);
                SinkProgram::Repartition { place: output(context, &name)?, operator: operator.clone() }
            }
            (Output::Topic(sink), Flow::Partials(operator)) => {
                return refuse(format!("partial aggregates of operator {operator} would go to topic `{}`", sink.topic));
            }
            (Output::Repartition { operator, .. }, _) => {
                return refuse(format!("operator {operator} would be fed with other rows than its first half gives"));
            }
        };
        Ok(Self { steps, sink })
    }
}

impl StepProgram {
    fn compile(step: &Step, flow: Flow) -> Result<(Self, Flow), EngineError> {
        let columns = match (step, flow) {
            (Step::WindowMerge(aggregate), Flow::Partials(operator)) if operator == aggregate.id => {
                let columns = aggregate.output_columns();
                let merge = match aggregate.window {
                    Window::Session { .. } => {
                        Self::Sessions(step.clone(), Arc::new(SessionSpec::of_sessions(aggregate)?))
                    }
                    _ => Self::WindowMerge(Arc::new(WindowSpec::new(aggregate)?)),
                };
                return Ok((merge, Flow::Rows(columns)));
            }
            (Step::GroupMerge(group), Flow::Partials(operator)) if operator == group.id => {
                let columns = group.output_columns();
                return Ok((Self::GroupMerge(Arc::new(GroupSpec::new(group)?)), Flow::Rows(columns)));
            }
            (Step::RankMerge(rank), Flow::Partials(operator)) if operator == rank.id => {
                return Ok((Self::RankMerge(Arc::new(RankSpec::new(rank)?)), Flow::Rows(rank.output_columns())));
            }
            (Step::RankMerge(rank), _) => {
                return refuse(format!("operator {} would merge rows that are none of its own", rank.id));
            }
            (Step::GroupMerge(group), _) => {
                return refuse(format!("operator {} would merge rows that are no partial aggregates of it", group.id));
            }
            (Step::WindowMerge(aggregate), _) => {
                return refuse(format!(
                    "operator {} would merge rows that are no partial aggregates of it",
                    aggregate.id
                ));
            }
            (_, Flow::Partials(operator)) => {
                return refuse(format!("partial aggregates of operator {operator} must be merged first"));
            }
            (_, Flow::Rows(columns)) => columns,
        };
        let schema = arrow_schema(&columns);
        Ok(match step {
            Step::Filter { predicate } => {
                (Self::Filter(Arc::new(expr::compile_predicate(predicate, &schema)?)), Flow::Rows(columns))
            }
            Step::Project { columns: projected } => {
                let compiled =
                    projected.iter().map(|column| expr::compile_as(&column.expr, &column.data_type, &schema));
                let compiled: Arc<[CompiledExpr]> = compiled.collect::<Result<Vec<_>, _>>()?.into();
                let columns: Vec<Column> =
                    projected.iter().map(|c| Column::new(&c.name, c.data_type.clone())).collect();
                (Self::Project(compiled, arrow_schema(&columns)), Flow::Rows(columns))
            }
            Step::WindowAggregate(aggregate) | Step::WindowCombine(aggregate)
                if matches!(aggregate.window, Window::Session { .. }) =>
            {
                let spec = SessionSpec::of_sessions(aggregate)?;
                spec.check_input(&columns)?;
                let behind = match step {
                    Step::WindowCombine(_) => Flow::Partials(aggregate.id.clone()),
                    _ => Flow::Rows(aggregate.output_columns()),
                };
                (Self::Sessions(step.clone(), Arc::new(spec)), behind)
            }
            Step::WindowAggregate(aggregate) => {
                let spec = WindowSpec::new(aggregate)?;
                spec.check_input(&columns)?;
                (Self::WindowAggregate(Arc::new(spec)), Flow::Rows(aggregate.output_columns()))
            }
            Step::WindowCombine(aggregate) => {
                let spec = WindowSpec::new(aggregate)?;
                spec.check_input(&columns)?;
                (Self::WindowCombine(Arc::new(spec)), Flow::Partials(aggregate.id.clone()))
            }
            Step::GroupAggregate(group) => {
                let spec = GroupSpec::new(group)?;
                spec.check_input(&columns)?;
                (Self::GroupAggregate(Arc::new(spec)), Flow::Rows(group.output_columns()))
            }
            Step::GroupCombine(group) => {
                let spec = GroupSpec::new(group)?;
                spec.check_input(&columns)?;
                (Self::GroupCombine(Arc::new(spec)), Flow::Partials(group.id.clone()))
            }
            Step::Rank(rank) => {
                let spec = RankSpec::new(rank)?;
                spec.check_input(&columns)?;
                (Self::Rank(Arc::new(spec)), Flow::Rows(rank.output_columns()))
            }
            Step::RankCombine(rank) => {
                let spec = RankSpec::new(rank)?;
                spec.check_input(&columns)?;
                (Self::RankCombine(Arc::new(spec)), Flow::Partials(rank.id.clone()))
            }
            Step::WindowMerge(_) | Step::GroupMerge(_) | Step::RankMerge(_) => {
                return refuse("a merge has been handled above");
            }
        })
    }

    fn operator(&self) -> Box<dyn Operator> {
        match self {
            Self::Filter(predicate) => Box::new(Filter::new(predicate.clone())),
            Self::Project(columns, schema) => Box::new(Project::new(columns.clone(), schema.clone())),
            Self::WindowAggregate(spec) => Box::new(WindowAggregateOperator::new(spec.clone())),
            Self::WindowCombine(spec) => Box::new(WindowCombineOperator::new(spec.clone())),
            Self::WindowMerge(spec) => Box::new(WindowMergeOperator::new(spec.clone())),
            Self::Sessions(step, spec) => operator::of_sessions(step, spec.clone()),
            Self::GroupAggregate(spec) => Box::new(GroupAggregateOperator::new(spec.clone(), Fed::Rows)),
            Self::GroupCombine(spec) => Box::new(GroupCombineOperator::new(spec.clone())),
            Self::GroupMerge(spec) => Box::new(GroupAggregateOperator::new(spec.clone(), Fed::Partials)),
            Self::Rank(spec) if spec.emits == Emits::First => Box::new(RankFirstOperator::new(spec.clone(), Fed::Rows)),
            Self::RankMerge(spec) if spec.emits == Emits::First => {
                Box::new(RankFirstOperator::new(spec.clone(), Fed::Partials))
            }
            Self::Rank(spec) => Box::new(RankOperator::new(spec.clone(), Fed::Rows)),
            Self::RankMerge(spec) => Box::new(RankOperator::new(spec.clone(), Fed::Partials)),
            Self::RankCombine(spec) => Box::new(RankCombineOperator::new(spec.clone())),
        }
    }
}

impl SinkProgram {
    fn topic(sink: &TopicSink, columns: &[Column], context: &JobContext) -> Result<Self, EngineError> {
        let types = |columns: &[Column]| columns.iter().map(|column| column.data_type.clone()).collect::<Vec<_>>();
        if types(columns) != types(&sink.columns) {
            return refuse(format!(
                "the rows for `{}` are {columns:?}, its columns are {:?}",
                sink.table, sink.columns
            ));
        }
        if sink.key.iter().any(|at| *at >= columns.len()) {
            return refuse(format!("the key of `{}` names a column that is not there", sink.table));
        }
        if sink.changes == Changes::Upsert && sink.key.is_empty() {
            return refuse(format!("`{}` has no key, so no record can replace one before it", sink.table));
        }
        Ok(Self::Topic { place: output(context, &sink.topic)?, sink: sink.clone() })
    }

    fn sink(&self, task: u32) -> Box<dyn Sink> {
        match self {
            Self::Topic { place, sink } => {
                let (encoder, keys) = (encoder(sink.format, &sink.columns), KeyEncoder::new(sink.key.clone()));
                match sink.changes {
                    Changes::Append => Box::new(TopicWriter::new(place.topic, place.partitions, task, encoder, keys)),
                    Changes::Upsert => {
                        let table = sink.table.clone();
                        Box::new(UpsertWriter::new(table, place.topic, place.partitions, encoder, keys))
                    }
                    Changes::Log => Box::new(LogWriter::new(place.topic, sink)),
                }
            }
            Self::Repartition { place, operator } => {
                Box::new(RepartitionWriter::new(place.topic, place.partitions, task, operator))
            }
        }
    }
}
