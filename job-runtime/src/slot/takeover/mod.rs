//! Taking tasks over: acts on what [`decide::next_step`] says.

pub mod decide;

use std::collections::{BTreeMap, BTreeSet};

use freshet_env::{PlantedBug, planted};
use freshet_log::{CommittedOffset, Log, Producer, TopicPartition};
use freshet_plan::Input;
use freshet_state::TaskId;
use freshet_state::generation::{Generation, PointerOffset};
use freshet_state::metadata::CommitMetadata;
use freshet_state::object::{LoadError, load_tasks};

use self::decide::{Fence, Look, Progress, Step, Stop, next_step};
use super::offsets::{Beginning, TaskFacts, judge};
use super::tasks::{Kept, Programs, RunningTask, keys_by_partition};
use super::{Phase, Slot, SlotError, transactional_id};

/// A slot that may work: everything that only a finished take-over has.
pub(super) struct Ready {
    pub generation: Generation,
    pub incarnation: u64,
    pub producer: Box<dyn Producer>,
    pub tasks: Vec<RunningTask>,
    /// The topics that outgoing records point to.
    pub outputs: Vec<String>,
    /// The number of the next epoch: above every epoch that any of the tasks was committed with.
    pub next_epoch: u64,
    /// Tasks without a record that they have begun, which is written before the first epoch ends.
    pub unmarked: BTreeSet<TaskId>,
}

/// Who a running slot is, from its first take-over to its last.
#[derive(Debug)]
pub(super) struct Process {
    /// A random name, that tells its starts from those of another process with the same slot.
    pub name: String,
    /// The last generation and start that it has held.
    pub held: Option<(u64, u64)>,
}

/// A process that has held this slot ends for good when another one has started it since: otherwise the two would
/// fence one another in turns.
async fn not_replaced(slot: &Slot, process: &Process, number: u64) -> Result<(), SlotError> {
    let Some((_, ours)) = process.held.filter(|(generation, _)| *generation == number) else { return Ok(()) };
    match slot.lineage.generations().latest_process(number, slot.number).await? {
        Some((by, name)) if by > ours && name != process.name => {
            Err(SlotError::Replaced { slot: slot.number, by, ours })
        }
        _ => Ok(()),
    }
}

/// How an attempt to take over ended.
pub(super) enum Outcome {
    /// The slot may work.
    Ready(Box<Ready>),
    /// What the slot set out with is out of date; begin again with what is stored.
    Again,
    /// There is no generation, or none that has work for this slot.
    StandBy,
}

/// Facts that are read at one step and used at a later one.
#[derive(Default)]
struct Gathered {
    generation: Option<Generation>,
    incarnation: u64,
    producer: Option<Box<dyn Producer>>,
    beginnings: Option<Vec<(TaskId, Beginning)>>,
    begun: BTreeSet<TaskId>,
}

/// Goes through the take-over, step by step.
pub(super) async fn take_over(
    slot: &Slot,
    process: &mut Process,
    claim: Option<Generation>,
    kept: &mut Kept,
) -> Result<Outcome, SlotError> {
    let log = slot.lineage.generations();
    let started = slot.env.monotonic();
    let number = match &claim {
        Some(claim) => claim.number,
        None => log.latest_number().await?,
    };
    if number == 0 {
        return Ok(Outcome::StandBy);
    }
    let mut progress = Progress::new(number, claim);
    let mut have = Gathered::default();
    let mut running: Option<(Programs, Vec<RunningTask>, u64)> = None;
    loop {
        let step = next_step(&progress);
        slot.env.trace(format_args!("slot {} of generation {number}: {step:?}", slot.number));
        match step {
            Step::Look => {
                let latest = log.latest_number().await?;
                progress.look = Some(Look { latest, stored: log.get(number).await? });
            }
            Step::WriteGeneration => {
                let Some(claim) = progress.claim.as_ref() else { return Ok(Outcome::Again) };
                let stored = log.propose(claim).await?.into_stored();
                slot.env.crash_point("takeover.generation-written").await;
                progress.look = Some(Look { latest: log.latest_number().await?, stored: Some(stored) });
            }
            Step::Stop(Stop::Superseded { .. } | Stop::OtherAssignment) => return Ok(Outcome::Again),
            Step::ReadMark => {
                progress.fence = if log.is_marked(number).await? { Fence::Marked } else { Fence::Unmarked };
            }
            Step::FenceEarlier => {
                let ids: Vec<String> = log
                    .unfenced_before(number)
                    .await?
                    .iter()
                    .flat_map(|earlier| {
                        (0..earlier.slots).map(|s| transactional_id(slot.lineage.id(), earlier.number, s))
                    })
                    .collect();
                slot.log.fence(&ids).await?;
                slot.env.crash_point("takeover.fenced").await;
                progress.fence = Fence::Initialised;
            }
            Step::WriteMark => {
                log.mark_fenced(number).await?;
                slot.env.crash_point("takeover.fence-marked").await;
                // Only the planted bug comes here without having fenced anything.
                if progress.fence == Fence::Unmarked {
                    let earlier = log.numbers().await?.into_iter().filter(|earlier| *earlier < number);
                    let ids: Vec<String> = earlier
                        .flat_map(|earlier| (0..8).map(move |s| transactional_id(slot.lineage.id(), earlier, s)))
                        .collect();
                    slot.log.fence(&ids).await?;
                }
                progress.fence = Fence::Marked;
            }
            Step::InitOwn => {
                let generation = assigned(&progress)?;
                if generation.is_tombstone() {
                    let ended = slot.lineage.ended().await?;
                    let reason = ended.map_or_else(|| "it was retired".to_owned(), |ended| ended.reason);
                    return Err(SlotError::LineageEnded(reason));
                }
                if slot.number >= generation.slots {
                    return Ok(Outcome::StandBy);
                }
                not_replaced(slot, process, number).await?;
                have.incarnation = log.start_incarnation(number, slot.number, &process.name, slot.env.now_ms()).await?;
                process.held = Some((number, have.incarnation));
                let id = transactional_id(slot.lineage.id(), number, slot.number);
                have.producer = match kept.producer.take() {
                    Some(producer) if planted(PlantedBug::ReuseProducerAfterTimeout) => Some(producer),
                    _ => Some(slot.log.producer(&id).await?),
                };
                slot.env.crash_point("takeover.own-id-initialised").await;
                have.generation = Some(generation);
                progress.own_id = true;
            }
            Step::LookAgain => {
                progress.second_look = Some(log.latest_number().await?);
                slot.env.crash_point("takeover.looked-again").await;
            }
            Step::ReadOffsets => {
                let generation = assigned(&progress)?;
                check_partitions(&*slot.log, &generation).await?;
                let programs = Programs::compile(&generation, &slot.policy, slot.lineage.id(), &slot.log).await?;
                let tasks = generation
                    .tasks_of(slot.number)
                    .map(|id| programs.task(&generation, id, slot.lineage.id()))
                    .collect::<Result<Vec<_>, _>>()?;
                have.begun = slot.lineage.begun_tasks().await?;
                let (beginnings, next_epoch) = beginnings(slot, &generation, &have, &tasks).await?;
                have.beginnings = Some(beginnings);
                running = Some((programs, tasks, next_epoch));
                slot.env.crash_point("takeover.offsets-read").await;
                progress.offsets_read = true;
            }
            Step::LoadState => {
                slot.events.phase(Phase::Restoring);
                let generation = assigned(&progress)?;
                let beginnings = have.beginnings.take().unwrap_or_default();
                if let Some((_, tasks, _)) = running.as_mut() {
                    let bytes = load_state(slot, &generation, kept, beginnings, tasks).await?;
                    let took = slot.env.monotonic().saturating_sub(started);
                    slot.events.took_over(number, have.incarnation, took, tasks.len(), bytes);
                }
                slot.env.crash_point("takeover.state-loaded").await;
                progress.state_loaded = true;
            }
            Step::Work => {
                let (Some((programs, tasks, next_epoch)), Some(producer)) = (running.take(), have.producer.take())
                else {
                    return Ok(Outcome::Again);
                };
                *kept = Kept::default();
                let unmarked =
                    tasks.iter().map(|task| &task.id).filter(|id| !have.begun.contains(*id)).cloned().collect();
                return Ok(Outcome::Ready(Box::new(Ready {
                    generation: assigned(&progress)?,
                    incarnation: have.incarnation,
                    producer,
                    tasks,
                    outputs: programs.context.outputs.iter().map(|output| output.name.clone()).collect(),
                    next_epoch,
                    unmarked,
                })));
            }
        }
    }
}

/// The assignment that this attempt goes by: the stored one.
fn assigned(progress: &Progress<Generation>) -> Result<Generation, SlotError> {
    if planted(PlantedBug::TrustOwnClaim)
        && let Some(claim) = &progress.claim
    {
        return Ok(claim.clone());
    }
    let stored = progress.look.as_ref().and_then(|look| look.stored.clone());
    stored.ok_or_else(|| SlotError::Plan(format!("generation {} is not stored", progress.generation)))
}

/// No input has other partitions than planned.
pub(super) async fn check_partitions(log: &dyn Log, generation: &Generation) -> Result<(), SlotError> {
    for stage in &generation.plan.stages {
        let Input::Topic(source) = &stage.input else { continue };
        let found = log.partition_count(&source.topic).await?;
        let planned = generation.partition_counts.get(&source.topic).copied().unwrap_or(0);
        if found == planned {
            continue;
        }
        let remedy = if found < planned {
            "A topic with fewer partitions is another topic: restore it, or start a new lineage"
        } else if keys_by_partition(stage) {
            "The job keeps state by this topic's own partitions, and more partitions place keys elsewhere: start a \
             new lineage"
        } else {
            "Hand out a next generation (`freshet assign`)"
        };
        let topic = source.topic.clone();
        let generation = generation.number;
        return Err(SlotError::PartitionsChanged { topic, generation, planned, found, remedy: remedy.to_owned() });
    }
    Ok(())
}

/// Where each task begins, and the number of the next epoch.
async fn beginnings(
    slot: &Slot,
    generation: &Generation,
    have: &Gathered,
    tasks: &[RunningTask],
) -> Result<(Vec<(TaskId, Beginning)>, u64), SlotError> {
    let mut committed: BTreeMap<TaskId, Option<CommittedOffset>> = BTreeMap::new();
    let mut groups: BTreeMap<&str, Vec<&RunningTask>> = BTreeMap::new();
    for task in tasks {
        groups.entry(&task.group).or_default().push(task);
    }
    for (group, members) in groups {
        let partitions: Vec<TopicPartition> = members.iter().map(|task| task.input.clone()).collect();
        let offsets = slot.log.committed(group, &partitions).await?;
        committed.extend(members.iter().map(|task| task.id.clone()).zip(offsets));
    }
    let pointers = if committed.values().any(Option::is_none) && !have.begun.is_empty() {
        pointers(slot, generation, have.incarnation).await?
    } else {
        Vec::new()
    };
    let start = slot.lineage.start_positions().await?.unwrap_or_default();
    let mut beginnings = Vec::new();
    let mut next_epoch = 0;
    for task in tasks {
        let input = &task.input;
        let is_ours =
            |p: &&PointerOffset| p.group == task.group && p.topic == input.topic && p.partition == input.partition;
        let facts = TaskFacts {
            task: task.id.clone(),
            committed: committed.remove(&task.id).flatten(),
            begun: have.begun.contains(&task.id),
            pointer: pointers.iter().find(is_ours).cloned(),
            start: start.0.get(&(input.topic.clone(), input.partition)).copied(),
        };
        let beginning = judge(&facts, generation.number, slot.number)?;
        if let Beginning::Resume { metadata: CommitMetadata { epoch, .. }, .. } = &beginning {
            next_epoch = next_epoch.max(epoch + 1);
        }
        beginnings.push((task.id.clone(), beginning));
    }
    Ok((beginnings, next_epoch))
}

/// The pointer that the start before this one wrote at its clean stop. It counts only while nobody can have committed since:
/// its generation is ours, which is the newest, and no start lies between.
async fn pointers(slot: &Slot, generation: &Generation, incarnation: u64) -> Result<Vec<PointerOffset>, SlotError> {
    let Some(before) = incarnation.checked_sub(1).filter(|before| *before > 0) else { return Ok(Vec::new()) };
    let pointer = slot.lineage.generations().read_pointer(generation.number, slot.number, before).await?;
    Ok(pointer.map(|pointer| pointer.offsets).unwrap_or_default())
}

/// Gives each task its position and state; says how many bytes of state were read.
async fn load_state(
    slot: &Slot,
    generation: &Generation,
    kept: &mut Kept,
    beginnings: Vec<(TaskId, Beginning)>,
    tasks: &mut [RunningTask],
) -> Result<u64, SlotError> {
    let mut wanted = Vec::new();
    let places: BTreeMap<TaskId, usize> = tasks.iter().enumerate().map(|(at, task)| (task.id.clone(), at)).collect();
    for (id, beginning) in beginnings {
        let Some(&at) = places.get(&id) else { continue };
        match beginning {
            Beginning::Begin { offset } => {
                tasks[at].begins = true;
                tasks[at].position = offset;
            }
            Beginning::Resume { offset, metadata } => {
                if let Some(mut same) = kept.take(&id, generation, offset, metadata.object.as_ref()) {
                    same.position = offset;
                    tasks[at] = same;
                } else if let Some(object) = &metadata.object {
                    wanted.push((id, object.clone()));
                }
                tasks[at].position = offset;
                tasks[at].object = metadata.object;
            }
        }
        tasks[at].cut_position = tasks[at].position;
        tasks[at].committed_position = tasks[at].position;
    }
    let manifests = load_tasks(slot.lineage.objects(), &wanted, &mut |id, row| {
        tasks[places[id]].task.restore(row.operator, row.key, row.value)
    })
    .await
    .map_err(|error| match error {
        LoadError::State(error) => SlotError::State(error),
        LoadError::Row { task, error } => SlotError::Engine { task, error },
    })?;
    let mut bytes = 0;
    for (id, manifest) in manifests {
        let task = &mut tasks[places[&id]];
        task.task.restored().map_err(|error| SlotError::Engine { task: id, error })?;
        bytes += manifest.bytes();
        task.manifest = manifest;
    }
    Ok(bytes)
}
