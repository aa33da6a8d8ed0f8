//! Opening a job: its lineage, its internal topics, its start positions, its next generation.
//!
//! Every step can be taken by several workers at once and again after a crash: what is written is
//! create-only, and who comes second adopts it.

use std::collections::BTreeMap;
use std::rc::Rc;

use freshet_engine::{OnBadRecord, OnLate};
use freshet_env::SharedEnv;
use freshet_log::{Log, StartPosition, TopicPartition, TopicSpec};
use freshet_plan::{Input, Output, Plan};
use freshet_state::TaskId;
use freshet_state::assign::assign;
use freshet_state::generation::Generation;
use freshet_state::lineage::{FixedFacts, Lineage, Owner, StartPositions, open_or_create};
use freshet_state::paths::job_root;
use freshet_state::store::{Store, probe_create_only};

use crate::slot::{JobPolicy, SlotError};

/// A job, as its resources say it.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// Whose it is, and what it is called.
    pub owner: Owner,
    /// What it computes.
    pub plan: Plan,
    /// Where a new lineage begins.
    pub start_from: StartPosition,
    /// What is done with bad records.
    pub on_bad_record: OnBadRecord,
    /// What is done with late records.
    pub on_late: OnLate,
}

impl JobSpec {
    /// How records are handled.
    #[must_use]
    pub fn policy(&self) -> JobPolicy {
        JobPolicy {
            name: self.owner.name.clone(),
            on_bad_record: self.on_bad_record.clone(),
            on_late: self.on_late.clone(),
        }
    }
}

/// Opens the job's lineage, or starts its first one, after making sure that the store keeps two writers
/// apart; resolves start positions once, and makes internal topics.
///
/// # Errors
/// [`SlotError`]: the store's, the log's, or that the lineage is not the job's.
pub async fn open(
    spec: &JobSpec,
    store: Rc<dyn Store>,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
) -> Result<Lineage, SlotError> {
    let root = job_root(&spec.owner.namespace, &spec.owner.name);
    probe_create_only(&*store, &root, env.random_u64()).await?;
    let facts = FixedFacts { max_parallelism: spec.plan.max_parallelism };
    let id = || format!("r-{:010x}", env.random_u64() & 0xff_ffff_ffff);
    let lineage = open_or_create(store, &root, &spec.owner, &facts, id, env.now_ms()).await?;
    log.ensure_topics(&internal_topics(&spec.plan, &spec.owner.name, lineage.id())).await?;
    resolve_starts(spec, &lineage, log).await?;
    Ok(lineage)
}

/// The repartition topics of a plan. Their records never expire by time: what is consumed is deleted.
fn internal_topics(plan: &Plan, job: &str, lineage: &str) -> Vec<TopicSpec> {
    let outputs = plan.stages.iter().flat_map(|stage| &stage.chains).map(|chain| &chain.output);
    outputs
        .filter_map(|output| match output {
            Output::Topic(_) => None,
            Output::Repartition { operator, format_version, .. } => Some(TopicSpec {
                name: Plan::repartition_topic(job, lineage, operator, *format_version),
                partitions: plan.max_parallelism,
                replicas: None,
                config: vec![
                    ("retention.ms".to_owned(), "-1".to_owned()),
                    ("cleanup.policy".to_owned(), "delete".to_owned()),
                ],
            }),
        })
        .collect()
}

/// Resolves every input's start to a number, unless that was done before.
async fn resolve_starts(spec: &JobSpec, lineage: &Lineage, log: &Rc<dyn Log>) -> Result<(), SlotError> {
    if lineage.start_positions().await?.is_some() {
        return Ok(());
    }
    let mut positions = BTreeMap::new();
    for stage in &spec.plan.stages {
        let (topic, start) = match &stage.input {
            Input::Topic(source) => (source.topic.clone(), spec.start_from),
            Input::Repartition(_) => {
                (crate::slot::input_topic(stage, &spec.owner.name, lineage.id()), StartPosition::Earliest)
            }
        };
        for partition in 0..log.partition_count(&topic).await? {
            let offset = log.resolve(&TopicPartition::new(topic.clone(), partition), start).await?;
            positions.insert((topic.clone(), partition), offset);
        }
    }
    lineage.adopt_start_positions(StartPositions(positions)).await?;
    Ok(())
}

/// Hands out the job's next generation: `slots` slots, as few tasks moved as can be. Gives the generation
/// that is stored under the number: ours, or the one of somebody who was faster.
///
/// # Errors
/// [`SlotError`]; above all that the plan can't go on from the state that the lineage has.
pub async fn next_generation(
    spec: &JobSpec,
    lineage: &Lineage,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
    slots: u32,
) -> Result<Generation, SlotError> {
    let generations = lineage.generations();
    let latest = generations.latest().await?;
    if let Some(latest) = &latest {
        may_follow(latest, &spec.plan)?;
    }
    let mut partition_counts = BTreeMap::new();
    for stage in &spec.plan.stages {
        if let Input::Topic(source) = &stage.input {
            let found = log.partition_count(&source.topic).await?;
            let planned = latest.as_ref().and_then(|latest| latest.partition_counts.get(&source.topic)).copied();
            if let Some(planned) = planned
                && (found < planned || found > planned && crate::slot::keys_by_partition(stage))
            {
                return Err(SlotError::PartitionsChanged {
                    topic: source.topic.clone(),
                    generation: latest.as_ref().map_or(0, |latest| latest.number),
                    planned,
                    found,
                    remedy: "The job keeps state by this topic's own partitions: start a new lineage".to_owned(),
                });
            }
            partition_counts.insert(source.topic.clone(), found);
        }
    }
    let mut tasks = Vec::new();
    for stage in &spec.plan.stages {
        let count = crate::slot::stage_tasks(&spec.plan, stage, &partition_counts)?;
        tasks.extend((0..count).map(|partition| TaskId::new(stage.id.clone(), partition)));
    }
    let previous = latest.as_ref().map(|latest| &latest.assignment);
    let generation = Generation {
        number: latest.as_ref().map_or(1, |latest| latest.number + 1),
        slots,
        assignment: assign(&tasks, slots, previous),
        partition_counts,
        plan_fingerprint: spec.plan.fingerprint(),
        plan: spec.plan.clone(),
        created_at_ms: env.now_ms(),
    };
    let stored = generations.propose(&generation).await?.into_stored();
    env.crash_point("takeover.generation-written").await;
    Ok(stored)
}

/// The generation to run now: the stored one where it fits plan and slots, else the next.
///
/// # Errors
/// As [`next_generation`].
pub async fn current_generation(
    spec: &JobSpec,
    lineage: &Lineage,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
    slots: u32,
) -> Result<Generation, SlotError> {
    if let Some(latest) = lineage.generations().latest().await?
        && latest.slots == slots
        && latest.plan_fingerprint == spec.plan.fingerprint()
    {
        return Ok(latest);
    }
    next_generation(spec, lineage, log, env, slots).await
}

/// Whether `plan` can go on from the state of `latest`.
fn may_follow(latest: &Generation, plan: &Plan) -> Result<(), SlotError> {
    if latest.plan_fingerprint == plan.fingerprint() {
        return Ok(());
    }
    Err(SlotError::Plan(format!(
        "generation {} runs plan {}, not {}. Keep the SQL, or start a new lineage",
        latest.number,
        latest.plan_fingerprint,
        plan.fingerprint()
    )))
}
