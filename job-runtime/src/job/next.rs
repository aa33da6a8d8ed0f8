//! The next generation: what is run and how, on how many slots.

use std::collections::BTreeMap;
use std::rc::Rc;

use freshet_env::SharedEnv;
use freshet_log::Log;
use freshet_state::assign::assign;
use freshet_state::generation::Generation;
use freshet_state::lineage::Lineage;
use freshet_state::paths::job_root;
use freshet_state::{NEW_LINEAGE, TaskId};

use super::follow::{Next, follow};
use super::{JobSpec, internal_topics, starts};
use crate::slot::inputs::{all_inputs, check_inputs, identify, inputs};
use crate::slot::{Programs, SlotError, keys_by_partition, stage_tasks};

/// What is wanted of the next generation, beside the job itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// How many slots.
    pub slots: u32,
    /// Whether all state without an operator may be dropped, beside what the job's spec names.
    pub accept_dropped_state: bool,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Handed {
    /// The latest generation.
    pub generation: Generation,
    /// Whether it was handed out just now.
    pub changed: bool,
}

/// Makes the latest generation one that runs the job as `spec` says on so many slots: it is so already, or the next
/// one is handed out.
///
/// # Errors
/// [`SlotError`]; above all that the plan can't go on from the state that the lineage has.
pub async fn hand_out(
    spec: &JobSpec,
    lineage: &Lineage,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
    wanted: Wanted,
) -> Result<Handed, SlotError> {
    let generations = lineage.generations();
    // Who is faster hands out the same, or something that has to be followed: so this ends.
    loop {
        let latest = generations.latest().await?;
        if let Some(latest) = &latest
            && is_as_wanted(latest, spec, lineage, log, wanted.slots).await?
        {
            return Ok(Handed { generation: latest.clone(), changed: false });
        }
        let next = plan_next(spec, lineage, log, env, latest.as_ref(), wanted).await?;
        let next = with_internal_topics(next, spec, lineage, log).await?;
        let stored = generations.propose(&next).await?.into_stored();
        env.crash_point("takeover.generation-written").await;
        if runs(&stored, spec, wanted.slots) {
            return Ok(Handed { generation: stored, changed: true });
        }
    }
}

/// What [`hand_out`] would do, without doing it: the next generation, or nothing when the latest is as wanted.
///
/// # Errors
/// As [`hand_out`].
pub async fn look_ahead(
    spec: &JobSpec,
    lineage: &Lineage,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
    wanted: Wanted,
) -> Result<(Option<Generation>, Option<Generation>), SlotError> {
    let latest = lineage.generations().latest().await?;
    if let Some(latest) = &latest
        && is_as_wanted(latest, spec, lineage, log, wanted.slots).await?
    {
        return Ok((Some(latest.clone()), None));
    }
    let next = plan_next(spec, lineage, log, env, latest.as_ref(), wanted).await?;
    Ok((latest, Some(next)))
}

/// Hands out the next generation, whether or not the latest is as wanted. Gives the one that is stored under the
/// number: ours, or the one of somebody who was faster.
///
/// # Errors
/// As [`hand_out`].
pub async fn next_generation(
    spec: &JobSpec,
    lineage: &Lineage,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
    wanted: Wanted,
) -> Result<Generation, SlotError> {
    let generations = lineage.generations();
    let latest = generations.latest().await?;
    let next = plan_next(spec, lineage, log, env, latest.as_ref(), wanted).await?;
    let next = with_internal_topics(next, spec, lineage, log).await?;
    let stored = generations.propose(&next).await?.into_stored();
    env.crash_point("takeover.generation-written").await;
    Ok(stored)
}

/// Spreads the job as the latest generation has it over `slots` slots. Asked again, it is the same generation.
///
/// # Errors
/// [`SlotError`]; `None` when there is no generation yet.
pub async fn rescale(lineage: &Lineage, env: &SharedEnv, slots: u32) -> Result<Option<Handed>, SlotError> {
    let owner = &lineage.record().owner;
    lineage.check_still_ours(&job_root(&owner.namespace, &owner.name)).await?;
    let generations = lineage.generations();
    loop {
        let Some(latest) = generations.latest().await? else { return Ok(None) };
        not_ended(&latest, lineage).await?;
        if latest.slots == slots {
            return Ok(Some(Handed { generation: latest, changed: false }));
        }
        let tasks: Vec<TaskId> = latest.assignment.keys().cloned().collect();
        let next = Generation {
            number: latest.number + 1,
            slots,
            assignment: assign(&tasks, slots, Some(&latest.assignment)),
            created_at_ms: env.now_ms(),
            ..latest
        };
        let stored = generations.propose(&next).await?.into_stored();
        env.crash_point("takeover.generation-written").await;
        if stored == next {
            return Ok(Some(Handed { generation: stored, changed: true }));
        }
    }
}

/// Whether a job that has no lineage yet could be run: its inputs and outputs are there, its plan compiles. Gives the
/// number of its tasks.
///
/// # Errors
/// [`SlotError`]: of the log, or that the plan can't be run.
pub async fn check_new(spec: &JobSpec, log: &Rc<dyn Log>) -> Result<u32, SlotError> {
    let next = Next { plan: spec.plan.clone(), renamed: BTreeMap::new(), retired: BTreeMap::new() };
    let (_, tasks) = draft(spec, "new", log, None, &next, 1, 0).await?;
    Ok(u32::try_from(tasks.len()).unwrap_or(u32::MAX))
}

/// Whether a generation runs the job as `spec` says.
fn runs(generation: &Generation, spec: &JobSpec, slots: u32) -> bool {
    generation.slots == slots
        && generation.policy.as_ref() == Some(&spec.policy)
        && generation.plan_fingerprint == spec.plan.fingerprint()
        // One of another runtime may not say where its tasks begin; the next does.
        && generation.assignment.keys().all(|task| generation.starts.contains_key(task))
}

/// Whether a generation runs the job as `spec` says, on what is there. Partitions that have come since are read by a
/// next one.
async fn is_as_wanted(
    generation: &Generation,
    spec: &JobSpec,
    lineage: &Lineage,
    log: &Rc<dyn Log>,
    slots: u32,
) -> Result<bool, SlotError> {
    if !runs(generation, spec, slots) {
        return Ok(false);
    }
    match check_inputs(&**log, generation, &spec.owner.name, lineage.id()).await {
        Ok(()) => Ok(true),
        Err(SlotError::PartitionsChanged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn not_ended(latest: &Generation, lineage: &Lineage) -> Result<(), SlotError> {
    if !latest.is_tombstone() {
        return Ok(());
    }
    let ended = lineage.ended().await?;
    Err(SlotError::LineageEnded(ended.map_or_else(|| "it was retired".to_owned(), |ended| ended.reason)))
}

/// Makes the internal topics of a generation that is about to be stored, and notes which they are.
async fn with_internal_topics(
    mut next: Generation,
    spec: &JobSpec,
    lineage: &Lineage,
    log: &Rc<dyn Log>,
) -> Result<Generation, SlotError> {
    let (job, lineage) = (&spec.owner.name, lineage.id());
    log.ensure_topics(&internal_topics(&next.plan, job, lineage)).await?;
    let ids = identify(&**log, &next.topic_ids, &all_inputs(&next.plan, job, lineage)).await?;
    next.topic_ids.extend(ids);
    Ok(next)
}

/// The generation after `latest`; nothing is written.
async fn plan_next(
    spec: &JobSpec,
    lineage: &Lineage,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
    latest: Option<&Generation>,
    wanted: Wanted,
) -> Result<Generation, SlotError> {
    let number = latest.map_or(1, |latest| latest.number + 1);
    let next = match latest {
        None => Next { plan: spec.plan.clone(), renamed: BTreeMap::new(), retired: BTreeMap::new() },
        Some(latest) => {
            not_ended(latest, lineage).await?;
            let accepted = |id: &str| wanted.accept_dropped_state || spec.accept_dropped.contains(id);
            let next = follow(latest, &spec.plan, number, accepted);
            next.map_err(|refusal| SlotError::PlanRefused { generation: latest.number, refusal })?
        }
    };
    let (draft, tasks) = draft(spec, lineage.id(), log, latest, &next, number, env.now_ms()).await?;
    Ok(Generation {
        slots: wanted.slots,
        assignment: assign(&tasks, wanted.slots, latest.map(|latest| &latest.assignment)),
        starts: starts::starts(spec, lineage, log, latest, &next, &tasks).await?,
        ..draft
    })
}

/// A generation without assignment and starts, and its tasks: what can't be run is not handed out, since running
/// workers would stop for it.
async fn draft(
    spec: &JobSpec,
    lineage: &str,
    log: &Rc<dyn Log>,
    latest: Option<&Generation>,
    next: &Next,
    number: u64,
    created_at_ms: i64,
) -> Result<(Generation, Vec<TaskId>), SlotError> {
    let mut topic_ids = latest.map(|latest| latest.topic_ids.clone()).unwrap_or_default();
    let found = identify(&**log, &topic_ids, &inputs(&next.plan)).await?;
    topic_ids.extend(found);
    let partition_counts = partition_counts(log, latest, next).await?;
    let mut tasks = Vec::new();
    for stage in &next.plan.stages {
        let count = stage_tasks(&next.plan, stage, &partition_counts)?;
        tasks.extend((0..count).map(|partition| TaskId::new(stage.id.clone(), partition)));
    }
    let generation = Generation {
        number,
        slots: 0,
        assignment: BTreeMap::new(),
        partition_counts,
        topic_ids,
        plan_fingerprint: spec.plan.fingerprint(),
        plan: next.plan.clone(),
        policy: Some(spec.policy.clone()),
        starts: BTreeMap::new(),
        renamed: next.renamed.clone(),
        retired: next.retired.clone(),
        created_at_ms,
    };
    Programs::check(&generation, &spec.owner.name, lineage, log).await?;
    Ok((generation, tasks))
}

/// How many partitions each input has. One that keys state by them must have those that it always had.
async fn partition_counts(
    log: &Rc<dyn Log>,
    latest: Option<&Generation>,
    next: &Next,
) -> Result<BTreeMap<String, u32>, SlotError> {
    let mut counts = BTreeMap::new();
    for (stage, topic) in next.plan.source_stages() {
        let found = log.partition_count(topic).await?;
        let planned = latest.and_then(|latest| latest.partition_counts.get(topic)).copied();
        if let Some(planned) = planned
            && (found < planned || found > planned && keys_by_partition(stage))
        {
            return Err(SlotError::PartitionsChanged {
                topic: topic.to_owned(),
                generation: latest.map_or(0, |latest| latest.number),
                planned,
                found,
                remedy: format!("The job keeps state by this topic's own partitions: {NEW_LINEAGE}"),
            });
        }
        counts.insert(topic.to_owned(), found);
    }
    Ok(counts)
}

/// The generation to run now: the latest where it is as wanted, else the next.
///
/// # Errors
/// As [`hand_out`].
pub async fn current_generation(
    spec: &JobSpec,
    lineage: &Lineage,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
    slots: u32,
) -> Result<Generation, SlotError> {
    let wanted = Wanted { slots, accept_dropped_state: false };
    Ok(hand_out(spec, lineage, log, env, wanted).await?.generation)
}
