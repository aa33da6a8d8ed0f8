//! The tasks of a slot, and what is kept of them from one take-over to the next.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use freshet_engine::{JobContext, OnBadRecord, OnLate, OutputTopic, StageProgram, Task};
use freshet_env::{PlantedBug, planted};
use freshet_log::{Log, LogError, Producer, TopicPartition};
use freshet_plan::{Input, Output, PLAN_VERSION, Plan, Stage, Step};
use freshet_state::TaskId;
use freshet_state::generation::Generation;
use freshet_state::object::{Manifest, Merged};

use super::events::TaskReport;
use super::{JobPolicy, SlotError};

/// How much output a task gives at once, bytes: a window with many groups goes out in parts.
const OUTPUT_BYTES: usize = 4 << 20;

/// A task at work.
pub(super) struct RunningTask {
    pub id: TaskId,
    /// Position of its stage in the plan.
    pub stage: usize,
    /// The consumer group of its stage.
    pub group: String,
    /// What it reads.
    pub input: TopicPartition,
    pub task: Task,
    /// The next offset to process.
    pub position: i64,
    /// The position in the last cut.
    pub cut_position: i64,
    /// The position in the last commit that is known to be true.
    pub committed_position: i64,
    /// The object that its next commit names.
    pub object: Option<String>,
    /// Where its whole state is, as of that object.
    pub manifest: Manifest,
    /// What was merged since: the next object that is written takes it up.
    pub merged: Option<Merged>,
    pub high: i64,
    pub last_timestamp_ms: i64,
    /// Time spent processing since it was last told.
    pub busy: Duration,
    /// Whether its position stands in no committed offset yet, and must be committed before it goes on.
    pub uncommitted: bool,
}

impl RunningTask {
    pub fn report(&self) -> TaskReport {
        TaskReport {
            task: self.id.clone(),
            topic: self.input.topic.clone(),
            position: self.position,
            high: self.high.max(self.position),
            last_timestamp_ms: self.last_timestamp_ms,
            watermark: self.task.watermark(),
            idle: self.task.is_idle(),
            stats: self.task.stats(),
        }
    }

    /// Whether it has done nothing since its last cut.
    pub fn is_clean(&self) -> bool {
        self.position == self.cut_position && !self.task.is_dirty()
    }
}

/// What one attempt leaves for the next: memory that is as good as a restored one, and nothing else.
#[derive(Default)]
pub(super) struct Kept {
    /// The generation that the tasks ran in.
    pub generation: Option<Generation>,
    /// Tasks whose memory is what their last commit says.
    pub tasks: BTreeMap<TaskId, RunningTask>,
    /// Only the planted bug that goes on with a producer after an indefinite commit fills it.
    pub producer: Option<Box<dyn Producer>>,
}

impl Kept {
    /// Takes the memory of `id`, if it is exactly what was committed for it.
    pub fn take(
        &mut self,
        id: &TaskId,
        generation: &Generation,
        offset: i64,
        object: Option<&String>,
    ) -> Option<RunningTask> {
        let before = self.generation.as_ref()?;
        // The plan itself, with its ids: two generations may come from the same SQL and yet have other ids.
        let same = before.plan == generation.plan
            && before.policy == generation.policy
            && before.partition_counts == generation.partition_counts;
        if !same && !planted(PlantedBug::KeepTasksAcrossPlans) {
            return None;
        }
        let kept = self.tasks.remove(id)?;
        let same = kept.position == offset && kept.object.as_ref() == object && kept.is_clean();
        (same || planted(PlantedBug::KeepStateAfterAbort)).then_some(kept)
    }
}

/// The stages of a generation, compiled.
pub(crate) struct Programs {
    pub(super) context: Arc<JobContext>,
    programs: Vec<StageProgram>,
}

/// How many tasks a stage has.
pub(crate) fn stage_tasks(
    plan: &Plan,
    stage: &Stage,
    partition_counts: &BTreeMap<String, u32>,
) -> Result<u32, SlotError> {
    match &stage.input {
        Input::Topic(source) => partition_counts.get(&source.topic).copied().ok_or_else(|| {
            SlotError::Plan(format!("the generation does not say how many partitions {} has", source.topic))
        }),
        Input::Repartition(_) => Ok(plan.max_parallelism),
    }
}

/// The name of the topic that a stage reads.
pub(crate) fn input_topic(stage: &Stage, job: &str, lineage: &str) -> String {
    match &stage.input {
        Input::Topic(source) => source.topic.clone(),
        Input::Repartition(source) => Plan::repartition_topic(job, lineage, &source.operator, source.format_version),
    }
}

/// Whether a stage keys state by its input's own partitions, so that these can't become more.
pub(crate) fn keys_by_partition(stage: &Stage) -> bool {
    let keyed = |step: &Step| matches!(step, Step::WindowAggregate(_) | Step::GroupAggregate(_) | Step::Rank(_));
    stage.chains.iter().any(|chain| chain.steps.iter().any(keyed))
}

/// Whether internal topics are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Internal {
    /// They must be.
    Made,
    /// They are made before the generation is stored.
    ToBeMade,
}

impl Programs {
    /// Compiles every stage of `generation`, after asking the log how many partitions each output has.
    pub async fn compile(
        generation: &Generation,
        job: &str,
        lineage: &str,
        log: &Rc<dyn Log>,
    ) -> Result<Self, SlotError> {
        Self::compile_with(generation, job, lineage, log, Internal::Made).await
    }

    /// Whether `generation`, which is not handed out yet, could be run: every stage compiles, every output is there.
    pub async fn check(generation: &Generation, job: &str, lineage: &str, log: &Rc<dyn Log>) -> Result<(), SlotError> {
        Self::compile_with(generation, job, lineage, log, Internal::ToBeMade).await.map(drop)
    }

    async fn compile_with(
        generation: &Generation,
        job: &str,
        lineage: &str,
        log: &Rc<dyn Log>,
        internal: Internal,
    ) -> Result<Self, SlotError> {
        let plan = &generation.plan;
        if plan.version > PLAN_VERSION {
            return Err(SlotError::Plan(format!(
                "generation {} has a plan of version {}, this runtime runs up to {PLAN_VERSION}: use a newer one",
                generation.number, plan.version
            )));
        }
        let policy = JobPolicy::of(generation, job)?;
        let mut names: Vec<String> = Vec::new();
        let mut outputs = Vec::new();
        for chain in plan.stages.iter().flat_map(|stage| &stage.chains) {
            match &chain.output {
                Output::Topic(sink) => names.push(sink.topic.clone()),
                Output::Repartition { operator, format_version, .. } => {
                    let name = Plan::repartition_topic(job, lineage, operator, *format_version);
                    match internal {
                        Internal::Made => names.push(name),
                        Internal::ToBeMade => outputs.push(OutputTopic { name, partitions: plan.max_parallelism }),
                    }
                }
            }
        }
        if let OnBadRecord::DeadLetter(topic) = &policy.on_bad_record {
            names.push(topic.clone());
        }
        if let OnLate::DeadLetter(topic) = &policy.on_late {
            names.push(topic.clone());
        }
        names.sort();
        names.dedup();
        let facts = log.topics(&names).await?;
        if let Some((name, _)) = names.iter().zip(facts).find(|(_, facts)| !facts.writable) {
            return Err(LogError::Unauthorised(format!("the job's user may not write to topic {name}")).into());
        }
        for name in names {
            let partitions = log.partition_count(&name).await?;
            outputs.push(OutputTopic { name, partitions });
        }
        let stage_tasks = plan
            .stages
            .iter()
            .map(|stage| stage_tasks(plan, stage, &generation.partition_counts))
            .collect::<Result<Vec<_>, _>>()?;
        let context = Arc::new(JobContext {
            job: policy.name.clone(),
            lineage: lineage.to_owned(),
            outputs,
            on_bad_record: policy.on_bad_record.clone(),
            on_late: policy.on_late.clone(),
            stage_tasks,
        });
        let programs = (0..plan.stages.len())
            .map(|at| StageProgram::compile(plan, at, Arc::clone(&context)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| SlotError::Plan(error.to_string()))?;
        Ok(Self { context, programs })
    }

    /// A task without state.
    pub(super) fn task(&self, generation: &Generation, id: &TaskId, lineage: &str) -> Result<RunningTask, SlotError> {
        let plan = &generation.plan;
        let stage = plan.stages.iter().position(|stage| stage.id == id.stage).ok_or_else(|| {
            SlotError::Plan(format!("the assignment names task {id}, but the plan has no stage {}", id.stage))
        })?;
        let mut task = self.programs[stage].task(id.partition);
        task.limit_output(OUTPUT_BYTES);
        Ok(RunningTask {
            id: id.clone(),
            stage,
            group: Plan::consumer_group(lineage, &id.stage),
            input: TopicPartition::new(input_topic(&plan.stages[stage], &self.context.job, lineage), id.partition),
            task,
            position: 0,
            cut_position: 0,
            committed_position: 0,
            object: None,
            manifest: Manifest::default(),
            merged: None,
            high: 0,
            last_timestamp_ms: -1,
            busy: Duration::ZERO,
            uncommitted: false,
        })
    }
}
