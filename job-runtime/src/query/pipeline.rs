//! Pure: the tasks of all stages of a query in one place, and what flows between them.
//!
//! ```text
//! process(batch) ─▶ task of stage 1 ─▶ route ─┬▶ rows
//!                                             ├▶ the waiting records of a task of stage 2 ─▶ pass_time
//!                                             └▶ the first bad record
//! ```
//!
//! A stage's tasks hold combined rows back until [`Pipeline::pass_time`], as a job's do until its epoch ends. State
//! rows that a job would store are made and thrown away then, so that what marks them as changed does not grow.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use freshet_engine::task::{HEADER_DETAIL, HEADER_OFFSET, HEADER_PARTITION, HEADER_REASON, HEADER_TOPIC};
use freshet_engine::{EngineError, JobContext, OnBadRecord, OnLate, OutputTopic, StageProgram, Task};
use freshet_log::{Fetched, Header, Outgoing, TopicPartition};
use freshet_plan::{Input, Output, Plan, Step};
use freshet_sql::RESULT;
use freshet_state::rows::RowBuffer;

use super::QueryError;

/// Stands for a job's name and for a lineage in the names of what flows between stages. No log has such topics.
const OWNER: &str = "query";
/// Where bad records go, in the same way.
const BAD: &str = "bad";
/// From how much output of one call on a task stops, so that rows can be shown before it goes on.
const OUTPUT_BYTES: usize = 1 << 20;

/// Takes the rows of a query.
pub trait RowSink {
    /// Takes a row, as the record that a job would write; breaks once no more are wanted.
    fn row(&mut self, record: &[u8]) -> ControlFlow<()>;
}

/// Why and where a record gave no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// The topic, partition and offset, as `orders[3]@17`.
    pub place: String,
    /// The reason, as a constant.
    pub reason: String,
    /// What exactly is wrong.
    pub detail: String,
}

/// Counts of everything that was done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read.
    pub records: u64,
    /// Records that gave no row, by reason.
    pub bad: BTreeMap<&'static str, u64>,
    /// Records that came after their window had closed.
    pub late: u64,
    /// Groups in windows that are open.
    pub open_groups: u64,
    /// The least watermark of the last stage's tasks, ms since the Unix epoch.
    pub watermark_ms: Option<i64>,
    /// Partitions that windows wait for although no record of them was seen.
    pub silent: u32,
}

/// The tasks of a query.
pub struct Pipeline {
    stages: Vec<Stage>,
    /// Where the task of an input is: its stage, and its place there.
    inputs: HashMap<TopicPartition, (usize, usize)>,
    /// Where records of each output go.
    routes: Vec<Route>,
    out: Outgoing,
    first_bad: Option<BadRecord>,
    full: bool,
    has_windows: bool,
}

struct Stage {
    tasks: Vec<Task>,
    /// What earlier stages have written for each of them.
    waiting: Vec<Fetched>,
}

#[derive(Clone, Copy)]
enum Route {
    Rows,
    Bad,
    Stage(usize),
}

impl Pipeline {
    /// The tasks of `plan`, whose source topics have so many partitions.
    ///
    /// # Errors
    /// [`EngineError::Plan`] for what this runtime does not do.
    pub fn new(plan: &Plan, partitions: &BTreeMap<String, u32>) -> Result<Self, EngineError> {
        let (outputs, routes) = outputs(plan);
        let out = Outgoing::new(outputs.iter().map(|output| output.name.clone()).collect());
        let tasks = |stage: &freshet_plan::Stage| match &stage.input {
            Input::Topic(source) => partitions.get(&source.topic).copied().unwrap_or(0),
            Input::Repartition(_) => plan.max_parallelism,
        };
        let context = Arc::new(JobContext {
            job: OWNER.to_owned(),
            lineage: OWNER.to_owned(),
            outputs,
            on_bad_record: OnBadRecord::DeadLetter(BAD.to_owned()),
            on_late: OnLate::Drop,
            stage_tasks: plan.stages.iter().map(tasks).collect(),
        });
        let (mut stages, mut inputs) = (Vec::new(), HashMap::new());
        for (at, stage) in plan.stages.iter().enumerate() {
            let program = StageProgram::compile(plan, at, Arc::clone(&context))?;
            let topic = match &stage.input {
                Input::Topic(source) => source.topic.clone(),
                Input::Repartition(source) => {
                    Plan::repartition_topic(OWNER, OWNER, &source.operator, source.format_version)
                }
            };
            let mut made = Stage { tasks: Vec::new(), waiting: Vec::new() };
            for number in 0..context.stage_tasks[at] {
                let mut task = program.task(number);
                task.limit_output(OUTPUT_BYTES);
                task.restored()?;
                let input = TopicPartition::new(topic.clone(), number);
                inputs.insert(input.clone(), (at, made.tasks.len()));
                made.tasks.push(task);
                made.waiting.push(Fetched::empty(input, 0));
            }
            stages.push(made);
        }
        let steps = plan.stages.iter().flat_map(|stage| &stage.chains).flat_map(|chain| &chain.steps);
        let is_window =
            |step: &Step| matches!(step, Step::WindowAggregate(_) | Step::WindowCombine(_) | Step::WindowMerge(_));
        let has_windows = steps.into_iter().any(is_window);
        Ok(Self { stages, inputs, routes, out, first_bad: None, full: false, has_windows })
    }

    /// Runs a batch of a source topic through its task. `since_ms`: see [`super::reading::Read`].
    ///
    /// # Errors
    /// An expression that has no value for some row.
    pub fn process(&mut self, batch: &Fetched, since_ms: i64, rows: &mut dyn RowSink) -> Result<(), QueryError> {
        let Some(&(stage, task)) = self.inputs.get(&batch.partition) else { return Ok(()) };
        self.run(stage, task, rows, |task, out| task.process(batch, since_ms, out))
    }

    /// Time passes: partitions fall idle, and what was held back goes on to the next stage, through all of them.
    ///
    /// # Errors
    /// An expression that has no value for some row.
    pub fn pass_time(&mut self, now_ms: i64, rows: &mut dyn RowSink) -> Result<(), QueryError> {
        for stage in 0..self.stages.len() {
            for task in 0..self.stages[stage].tasks.len() {
                let waiting = &mut self.stages[stage].waiting[task];
                let rest = Fetched::empty(waiting.partition.clone(), waiting.next_offset);
                let batch = std::mem::replace(waiting, rest);
                if !batch.records.is_empty() {
                    self.run(stage, task, rows, |task, out| task.process(&batch, now_ms, out))?;
                }
            }
            let active = self.stages[stage].tasks.iter().filter(|task| !task.is_idle());
            let followed = active.map(Task::watermark).min().flatten();
            for task in 0..self.stages[stage].tasks.len() {
                self.run(stage, task, rows, |task, out| task.tick(now_ms, followed, out))?;
                self.run(stage, task, rows, Task::flush)?;
                self.stages[stage].tasks[task].snapshot(&mut RowBuffer::default());
            }
        }
        Ok(())
    }

    /// Lets a task do something, and takes its output to where it belongs, part by part.
    fn run(
        &mut self,
        stage: usize,
        task: usize,
        rows: &mut dyn RowSink,
        work: impl FnOnce(&mut Task, &mut Outgoing) -> Result<(), EngineError>,
    ) -> Result<(), QueryError> {
        if self.full {
            return Ok(());
        }
        let done = work(&mut self.stages[stage].tasks[task], &mut self.out);
        // Rows before the one that failed are rows all the same.
        self.route(rows);
        done?;
        while !self.full && self.stages[stage].tasks[task].has_more() {
            self.stages[stage].tasks[task].resume(&mut self.out)?;
            self.route(rows);
        }
        Ok(())
    }

    fn route(&mut self, rows: &mut dyn RowSink) {
        for record in &self.out.records {
            let value = self.out.value(record).unwrap_or_default();
            match self.routes[usize::from(record.topic)] {
                Route::Rows if self.full => {}
                Route::Rows => self.full = rows.row(value).is_break(),
                Route::Bad => {
                    let headers = record.headers.map_or(&[][..], |at| &self.out.headers[at as usize]);
                    self.first_bad.get_or_insert_with(|| bad_record(headers));
                }
                Route::Stage(stage) => {
                    let waiting = &mut self.stages[stage].waiting[record.partition as usize];
                    let offset = waiting.next_offset;
                    waiting.push(offset, record.timestamp_ms, self.out.key(record), Some(value));
                }
            }
        }
        self.out.clear();
    }

    /// Whether no more rows are wanted.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.full
    }

    /// The first record that gave no row.
    #[must_use]
    pub const fn first_bad(&self) -> Option<&BadRecord> {
        self.first_bad.as_ref()
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (stage, task) in
            self.stages.iter().enumerate().flat_map(|(at, stage)| stage.tasks.iter().map(move |t| (at, t)))
        {
            let stats = task.stats();
            if stage == 0 {
                counts.records += stats.records_in;
                let waited_for = self.has_windows && task.watermark().is_none() && !task.is_idle();
                counts.silent += u32::from(waited_for);
            }
            for (reason, count) in stats.bad {
                *counts.bad.entry(reason).or_default() += count;
            }
            counts.late += stats.late;
            counts.open_groups += if self.has_windows { stats.state_keys } else { 0 };
        }
        if self.has_windows {
            counts.watermark_ms =
                self.stages.last().and_then(|stage| stage.tasks.iter().map(Task::watermark).min().flatten());
        }
        counts
    }
}

/// Everything that tasks write to, and where it goes.
fn outputs(plan: &Plan) -> (Vec<OutputTopic>, Vec<Route>) {
    let output = |name: &str, partitions| OutputTopic { name: name.to_owned(), partitions };
    let mut outputs = vec![output(RESULT, 1), output(BAD, 1)];
    let mut routes = vec![Route::Rows, Route::Bad];
    for chain in plan.stages.iter().flat_map(|stage| &stage.chains) {
        let Output::Repartition { operator, format_version, .. } = &chain.output else { continue };
        let fed = plan.stages.iter().position(|stage| match &stage.input {
            Input::Repartition(source) => source.operator == *operator,
            Input::Topic(_) => false,
        });
        if let Some(fed) = fed {
            let name = Plan::repartition_topic(OWNER, OWNER, operator, *format_version);
            outputs.push(output(&name, plan.max_parallelism));
            routes.push(Route::Stage(fed));
        }
    }
    (outputs, routes)
}

fn bad_record(headers: &[Header]) -> BadRecord {
    let text = |name: &str| {
        let header = headers.iter().find(|header| header.name == name);
        header.map_or_else(String::new, |header| String::from_utf8_lossy(&header.value).into_owned())
    };
    BadRecord {
        place: format!("{}[{}]@{}", text(HEADER_TOPIC), text(HEADER_PARTITION), text(HEADER_OFFSET)),
        reason: text(HEADER_REASON),
        detail: text(HEADER_DETAIL),
    }
}
