//! What a slot does beside its records: watch for a later generation, merge state, collect garbage, delete
//! consumed internal records, look after its inputs.

use std::rc::Rc;
use std::task::{Context, Poll};

use freshet_env::LocalFuture;
use freshet_log::{Bounds, Log, TopicPartition};
use freshet_plan::{Input, Plan};
use freshet_state::TaskId;
use freshet_state::collect::Collector;
use freshet_state::generation::Generation;
use freshet_state::metadata::CommitMetadata;
use freshet_state::object::{MergeHeader, Merged, merge, plan_merge};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::held_back::HeldBack;
use super::tasks::{RunningTask, input_topic};
use super::{Slot, SlotError};

/// A piece of upkeep that ended.
pub(super) enum Done {
    Watched(Result<bool, SlotError>),
    Merged(Result<Vec<Merged>, SlotError>),
    Collected(Collector, Result<(), SlotError>),
    Inputs(Result<Vec<(TopicPartition, Bounds)>, SlotError>),
}

/// All upkeep of a slot.
pub(super) struct Upkeep {
    running: FuturesUnordered<LocalFuture<'static, Done>>,
    merging: bool,
    held_back: HeldBack,
}

impl Upkeep {
    /// Begins with what goes round for ever.
    pub fn start(slot: &Slot, generation: &Generation) -> Self {
        let upkeep = Self { running: FuturesUnordered::new(), merging: false, held_back: HeldBack::default() };
        upkeep.running.push(watch(slot, generation.number));
        upkeep.running.push(look_after_inputs(slot, generation, Vec::new(), Vec::new()));
        if slot.number == 0 {
            let grace_ms = i64::try_from(slot.tuning.collect_grace.as_millis()).unwrap_or(i64::MAX);
            upkeep.running.push(collect(slot, generation, Collector::new(grace_ms)));
        }
        upkeep
    }

    /// The next piece that ended.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        match self.running.poll_next_unpin(cx) {
            Poll::Ready(Some(done)) => Poll::Ready(done),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Takes up what a piece has found, and sets it going again. True when a later generation exists.
    pub fn done(
        &mut self,
        slot: &Slot,
        done: Done,
        generation: &Generation,
        tasks: &mut [RunningTask],
    ) -> Result<bool, SlotError> {
        match done {
            Done::Watched(Ok(true)) => return Ok(true),
            Done::Watched(result) => {
                note(slot, "watch", result)?;
                self.running.push(watch(slot, generation.number));
            }
            Done::Merged(result) => {
                self.merging = false;
                for merged in put_off(slot, "merge", result)?.unwrap_or_default() {
                    if let Some(task) = tasks.iter_mut().find(|task| task.id == merged.task) {
                        task.merged = Some(merged);
                    }
                }
            }
            Done::Collected(collector, result) => {
                put_off(slot, "collect", result)?;
                self.running.push(collect(slot, generation, collector));
            }
            Done::Inputs(result) => {
                for (input, bounds) in note(slot, "inputs", result)?.unwrap_or_default() {
                    if let Some(blocked) = self.held_back.look(&input, bounds, slot.env.monotonic()) {
                        slot.events.input_blocked(&input.topic, input.partition, blocked);
                    }
                }
                let inputs = tasks.iter().map(|task| task.input.clone()).collect();
                self.running.push(look_after_inputs(slot, generation, consumed(generation, tasks), inputs));
            }
        }
        Ok(false)
    }

    /// Begins to merge the state of tasks that have become many objects. Called only while no commit is
    /// under way, so that every object that a manifest names is written.
    pub fn merge(&mut self, slot: &Slot, generation: &Generation, next_epoch: u64, tasks: &[RunningTask]) {
        if self.merging {
            return;
        }
        let due: Vec<_> = tasks
            .iter()
            .filter(|task| task.merged.is_none())
            .filter_map(|task| plan_merge(&task.manifest).map(|range| (task.id.clone(), task.manifest.clone(), range)))
            .collect();
        if due.is_empty() {
            return;
        }
        self.merging = true;
        let header = MergeHeader {
            generation: generation.number,
            slot: slot.number,
            epoch: next_epoch.saturating_sub(1),
            plan_fingerprint: generation.plan_fingerprint.clone(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let (lineage, env) = (slot.lineage.clone(), Rc::clone(&slot.env));
        self.running.push(Box::pin(async move {
            Done::Merged(merge(lineage.objects(), &header, &due, &env).await.map_err(SlotError::from))
        }));
    }
}

/// Tells how a piece of upkeep went that comes round every few seconds. What failed in passing is tried again at its next
/// turn; the rest ends the slot.
fn note<T>(slot: &Slot, piece: &'static str, result: Result<T, SlotError>) -> Result<Option<T>, SlotError> {
    if result.is_ok() {
        slot.events.upkeep(piece, Ok(()));
    }
    passing(result, |error| slot.events.upkeep(piece, Err(error)))
}

/// The same of a piece that comes round seldom: what keeps it from its work is seen sooner by the others, and its own
/// failure would be told long after the mend.
fn put_off<T>(slot: &Slot, piece: &'static str, result: Result<T, SlotError>) -> Result<Option<T>, SlotError> {
    passing(result, |error| slot.events.put_off(piece, error))
}

fn passing<T>(result: Result<T, SlotError>, tell: impl FnOnce(&SlotError)) -> Result<Option<T>, SlotError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_transient() => {
            tell(&error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Completes at the next look at the generation log.
fn watch(slot: &Slot, number: u64) -> LocalFuture<'static, Done> {
    let (env, interval, lineage) = (Rc::clone(&slot.env), slot.tuning.watch_interval, slot.lineage.clone());
    Box::pin(async move {
        env.sleep(interval).await;
        let later = lineage.generations().get(number + 1).await;
        Done::Watched(later.map(|later| later.is_some()).map_err(SlotError::from))
    })
}

/// Collects garbage once, after its interval.
fn collect(slot: &Slot, generation: &Generation, mut collector: Collector) -> LocalFuture<'static, Done> {
    let (env, interval, lineage) = (Rc::clone(&slot.env), slot.tuning.collect_interval, slot.lineage.clone());
    let log = Rc::clone(&slot.log);
    let groups = groups(slot, generation);
    Box::pin(async move {
        env.sleep(interval).await;
        let swept = sweep(&lineage, &*log, &groups, &mut collector, env.now_ms()).await;
        Done::Collected(collector, swept)
    })
}

type Group = (String, Vec<(TaskId, TopicPartition)>);

/// Every stage's consumer group, with all of its tasks and what they read.
fn groups(slot: &Slot, generation: &Generation) -> Vec<Group> {
    let plan = &generation.plan;
    let group = |stage: &freshet_plan::Stage| {
        let topic = input_topic(stage, slot.job(), slot.lineage.id());
        let tasks = generation.assignment.keys().filter(|task| task.stage == stage.id);
        let inputs = tasks.map(|task| (task.clone(), TopicPartition::new(topic.clone(), task.partition))).collect();
        (Plan::consumer_group(slot.lineage.id(), &stage.id), inputs)
    };
    plan.stages.iter().map(group).collect()
}

async fn sweep(
    lineage: &freshet_state::lineage::Lineage,
    log: &dyn Log,
    groups: &[Group],
    collector: &mut Collector,
    now_ms: i64,
) -> Result<(), SlotError> {
    let look = Collector::look(lineage.objects(), &lineage.generations()).await?;
    let mut commits = Vec::new();
    for (group, inputs) in groups {
        let partitions: Vec<_> = inputs.iter().map(|(_, partition)| partition.clone()).collect();
        let committed = log.committed(group, &partitions).await?;
        for ((task, _), committed) in inputs.iter().zip(committed) {
            let metadata = match committed.map(|committed| committed.metadata.parse::<CommitMetadata>()) {
                None => None,
                Some(Ok(metadata)) => Some(metadata),
                Some(Err(error)) => {
                    return Err(SlotError::ForeignOffset { task: task.clone(), detail: error.to_string() });
                }
            };
            commits.push((task.clone(), metadata));
        }
    }
    collector.sweep(lineage.objects(), look, &commits, &[], now_ms).await?;
    Ok(())
}

/// Internal records that every commit is past: (partition, first offset to keep).
fn consumed(generation: &Generation, tasks: &[RunningTask]) -> Vec<(TopicPartition, i64)> {
    let internal = |task: &&RunningTask| matches!(generation.plan.stages[task.stage].input, Input::Repartition(_));
    tasks.iter().filter(internal).map(|task| (task.input.clone(), task.committed_position)).collect()
}

/// Once, after its interval: deletes consumed internal records, checks that inputs are what they were, finds inputs that an open
/// transaction blocks.
fn look_after_inputs(
    slot: &Slot,
    generation: &Generation,
    consumed: Vec<(TopicPartition, i64)>,
    inputs: Vec<TopicPartition>,
) -> LocalFuture<'static, Done> {
    let (env, interval, log) = (Rc::clone(&slot.env), slot.tuning.upkeep_interval, Rc::clone(&slot.log));
    let (job, lineage) = (slot.job().to_owned(), slot.lineage.id().to_owned());
    let generation = generation.clone();
    Box::pin(async move {
        env.sleep(interval).await;
        let looked = async {
            if !consumed.is_empty() {
                log.delete_records(&consumed).await?;
            }
            super::inputs::check_inputs(&*log, &generation, &job, &lineage).await?;
            let mut all = Vec::new();
            for input in inputs {
                let bounds = log.bounds(&input).await?;
                all.push((input, bounds));
            }
            Ok(all)
        };
        Done::Inputs(looked.await)
    })
}
