//! Taking tasks over: acts on what [`decide::next_step`] says.

pub mod decide;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use freshet_engine::operator::MARKS;
use freshet_env::{PlantedBug, planted};
use freshet_log::{CommittedOffset, Producer, TopicPartition};
use freshet_state::TaskId;
use freshet_state::generation::{Generation, PointerOffset, Standing};
use freshet_state::object::{LoadError, load_tasks};

use self::decide::{Fence, Look, Progress, Step, Stop, next_step};
use super::inputs::check_inputs;
use super::offsets::{Beginning, TaskFacts, judge};
use super::tasks::{Kept, Programs, RunningTask};
use super::{Phase, Slot, SlotError, TakenOver, transactional_id};

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
#[derive(Debug, Default)]
pub struct Process {
    /// Its rank among the processes of its slot, taken once, when it comes up: whoever wakes is not newer than
    /// whoever was started meanwhile.
    pub(super) rank: Option<u64>,
    /// The last generation that it has held.
    pub(super) held: Option<u64>,
}

impl Process {
    /// Its rank; takes one first, if it has none.
    async fn enlisted(&mut self, slot: &Slot) -> Result<u64, SlotError> {
        if let Some(rank) = self.rank
            && !planted(PlantedBug::EnlistAtEachTakeOver)
        {
            return Ok(rank);
        }
        let name = format!("{:016x}", slot.env.random_u64());
        let rank = slot.lineage.generations().enlist(slot.number, &name, slot.env.now_ms()).await?;
        self.rank = Some(rank);
        Ok(rank)
    }
}

/// A process ends for good when another one was started for its slot since: otherwise the two would fence one another
/// in turns.
async fn not_replaced(slot: &Slot, ours: u64) -> Result<(), SlotError> {
    let by = slot.lineage.generations().latest_process(slot.number).await?;
    if by > ours { Err(SlotError::Replaced { slot: slot.number, by, ours }) } else { Ok(()) }
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
    let rank = process.enlisted(slot).await?;
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
            Step::Stop(Stop::Superseded { .. } | Stop::OtherAssignment | Stop::Vanished) => return Ok(Outcome::Again),
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
                not_replaced(slot, rank).await?;
                have.incarnation = log.start_incarnation(number, slot.number, rank, slot.env.now_ms()).await?;
                process.held = Some(number);
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
                let job = slot.job();
                check_inputs(&*slot.log, &generation, job, slot.lineage.id()).await?;
                let programs = Programs::compile(&generation, job, slot.lineage.id(), &slot.log).await?;
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
                    slot.events.took_over(&TakenOver {
                        generation: &generation,
                        incarnation: have.incarnation,
                        took,
                        tasks: tasks.iter().map(|task| (task.id.clone(), task.position)).collect(),
                        bytes,
                    });
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
    let lost: Vec<&RunningTask> =
        tasks.iter().filter(|task| committed[&task.id].is_none() && have.begun.contains(&task.id)).collect();
    let mut pointers = pointers(slot, generation, lost).await?;
    let mut beginnings = Vec::new();
    let mut next_epoch = 0;
    for task in tasks {
        let facts = TaskFacts {
            task: task.id.clone(),
            committed: committed.remove(&task.id).flatten(),
            begun: have.begun.contains(&task.id),
            pointer: pointers.remove(&task.id),
            start: generation.starts.get(&task.id).copied(),
        };
        let beginning = judge(&facts, generation.number, slot.number)?;
        if let Beginning::Resume { metadata, .. } | Beginning::Restore { metadata, .. } = &beginning {
            next_epoch = next_epoch.max(metadata.epoch + 1);
        }
        beginnings.push((task.id.clone(), beginning));
    }
    Ok((beginnings, next_epoch))
}

/// Where tasks stood whose slots have stopped cleanly, for those that have begun and of which Kafka knows no offset.
///
/// The newest generation in which a task's slot has gone on at all says it: with a pointer that still counts, or not.
/// All of them are fenced by now, and our own slot there too, so that nobody can go on meanwhile.
async fn pointers(
    slot: &Slot,
    generation: &Generation,
    mut lost: Vec<&RunningTask>,
) -> Result<BTreeMap<TaskId, PointerOffset>, SlotError> {
    let mut found = BTreeMap::new();
    if lost.is_empty() {
        return Ok(found);
    }
    let log = slot.lineage.generations();
    let numbers = log.numbers().await?.into_iter().rev().filter(|number| *number <= generation.number);
    for number in numbers {
        let Some(stored) = log.get(number).await? else { continue };
        let mut standings: BTreeMap<u32, Standing> = BTreeMap::new();
        let mut earlier = Vec::new();
        for task in lost {
            let Some(owner) = stored.assignment.get(&task.id).copied() else {
                earlier.push(task);
                continue;
            };
            let standing = match standings.entry(owner) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(log.standing(number, owner).await?),
            };
            match standing {
                Standing::Untouched => earlier.push(task),
                Standing::WentOn => {}
                Standing::Stopped(pointer) => {
                    let input = &task.input;
                    let is_ours = |p: &&PointerOffset| {
                        p.group == task.group && p.topic == input.topic && p.partition == input.partition
                    };
                    if let Some(offset) = pointer.offsets.iter().find(is_ours) {
                        found.insert(task.id.clone(), offset.clone());
                    }
                }
            }
        }
        lost = earlier;
        if lost.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// Whether a row of state belongs to an operator that the lineage has dropped: what it has computed, or the mark that
/// its half in another stage was sent. Such rows stay in the objects until those are merged away.
fn is_of_retired(generation: &Generation, operator: &str, key: &[u8]) -> bool {
    let is_retired = |id: &str| generation.retired.contains_key(id);
    is_retired(operator)
        || operator == MARKS
            && key.strip_prefix(b"s").and_then(|id| std::str::from_utf8(id).ok()).is_some_and(is_retired)
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
        let restored = matches!(beginning, Beginning::Restore { .. });
        match beginning {
            Beginning::Begin { offset } => {
                tasks[at].position = offset;
                tasks[at].uncommitted = true;
            }
            Beginning::Resume { offset, metadata } | Beginning::Restore { offset, metadata } => {
                if let Some(mut same) = kept.take(&id, generation, offset, metadata.object.as_ref()) {
                    same.position = offset;
                    same.task.reopened();
                    tasks[at] = same;
                } else if let Some(object) = &metadata.object {
                    wanted.push((id, object.clone()));
                }
                tasks[at].position = offset;
                tasks[at].object = metadata.object;
                tasks[at].uncommitted = restored;
            }
        }
        tasks[at].cut_position = tasks[at].position;
        tasks[at].committed_position = tasks[at].position;
    }
    let manifests = load_tasks(slot.lineage.objects(), &wanted, &mut |id, row| {
        if is_of_retired(generation, row.operator, row.key) {
            return Ok(());
        }
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
