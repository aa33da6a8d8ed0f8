//! The end of a job with its state: what `deletionPolicy: Delete` asks for.
//!
//! ```text
//! 1 tombstone   a generation without slots: whoever looks at the log from now on stops
//! 2 fence       every id of every generation before it is initialised, then the mark is written
//! 3 ended       the lineage is over: the job applied again starts another
//! 4 topics      internal topics and consumer groups of all generations are deleted
//! 5 objects     state first, then the records of lineages, then that they have ended
//! ```
//!
//! Each step may be repeated, and the whole may be interrupted anywhere and begun again: what a later step deletes
//! is not needed by an earlier one, or says by its absence that the earlier one is done. A worker that slept through
//! all of it is fenced by step 2; if it was about to take over, it finds its generation gone at its second look.

use std::collections::BTreeSet;
use std::rc::Rc;

use freshet_env::SharedEnv;
use freshet_log::Log;
use freshet_plan::Plan;
use freshet_state::generation::Generation;
use freshet_state::lineage::{Lineage, Owner, all_records, open_existing};
use freshet_state::paths::{LINEAGES, LineagePath, job_root, lineage_prefix};
use freshet_state::store::Store;

use super::internal_topics;
use crate::slot::{SlotError, transactional_id};

/// What was retired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retired {
    /// The lineage that was ended by this call; `None` when none was alive.
    pub lineage: Option<String>,
    /// How many internal topics were asked to be deleted.
    pub topics: usize,
    /// How many consumer groups were asked to be deleted.
    pub groups: usize,
    /// How many objects were deleted.
    pub objects: usize,
}

/// Ends the job's lineage and deletes everything that it has left: internal topics, offsets, state. Idempotent.
///
/// # Errors
/// [`SlotError`]: of the store or the log, or that the lineage is another owner's. Begin again where it is transient.
pub async fn retire(
    owner: &Owner,
    store: Rc<dyn Store>,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
) -> Result<Retired, SlotError> {
    let root = job_root(&owner.namespace, &owner.name);
    let mut retired = Retired::default();
    if let Some(lineage) = open_existing(Rc::clone(&store), &root, owner).await? {
        end(&lineage, log, env, "the job was deleted with its state").await?;
        retired.lineage = Some(lineage.id().to_owned());
    }
    let (topics, groups) = left_in_kafka(owner, &store, &root).await?;
    log.delete_topics(&topics).await?;
    log.delete_groups(&groups).await?;
    (retired.topics, retired.groups) = (topics.len(), groups.len());
    retired.objects = delete_objects(&*store, &root).await?;
    Ok(retired)
}

/// Ends a lineage, whoever works in it: after this nobody commits in it any more. May be repeated.
pub(super) async fn end(lineage: &Lineage, log: &Rc<dyn Log>, env: &SharedEnv, reason: &str) -> Result<(), SlotError> {
    let tombstone = entomb(lineage, env).await?;
    fence(lineage, log, tombstone.number).await?;
    lineage.end(reason, env.now_ms()).await?;
    Ok(())
}

/// Makes the latest generation a tombstone.
async fn entomb(lineage: &Lineage, env: &SharedEnv) -> Result<Generation, SlotError> {
    let generations = lineage.generations();
    // Each round that finds another generation follows somebody's hand-out, and nobody hands out behind a tombstone.
    loop {
        let tombstone = match generations.latest().await? {
            Some(latest) if latest.is_tombstone() => return Ok(latest),
            Some(latest) => latest.tombstone(env.now_ms()),
            None => without_generations(lineage, env),
        };
        let stored = generations.propose(&tombstone).await?.into_stored();
        if stored.is_tombstone() {
            return Ok(stored);
        }
    }
}

/// The tombstone of a lineage in which nothing was ever handed out.
fn without_generations(lineage: &Lineage, env: &SharedEnv) -> Generation {
    let plan = Plan {
        version: freshet_plan::PLAN_VERSION,
        max_parallelism: lineage.facts().max_parallelism,
        stages: Vec::new(),
    };
    Generation {
        number: 1,
        slots: 0,
        assignment: [].into(),
        partition_counts: [].into(),
        topic_ids: [].into(),
        plan_fingerprint: plan.fingerprint(),
        plan,
        policy: None,
        starts: [].into(),
        renamed: [].into(),
        retired: [].into(),
        created_at_ms: env.now_ms(),
    }
}

/// Fences every id of every generation before `number`.
async fn fence(lineage: &Lineage, log: &Rc<dyn Log>, number: u64) -> Result<(), SlotError> {
    let generations = lineage.generations();
    if generations.is_marked(number).await? {
        return Ok(());
    }
    let unfenced = generations.unfenced_before(number).await?;
    let ids = unfenced
        .iter()
        .flat_map(|earlier| (0..earlier.slots).map(|slot| transactional_id(lineage.id(), earlier.number, slot)));
    log.fence(&ids.collect::<Vec<_>>()).await?;
    generations.mark_fenced(number).await?;
    Ok(())
}

/// The internal topics and consumer groups of all generations of all lineages that the job ever had.
async fn left_in_kafka(
    owner: &Owner,
    store: &Rc<dyn Store>,
    root: &str,
) -> Result<(Vec<String>, Vec<String>), SlotError> {
    let (mut topics, mut groups) = (BTreeSet::new(), BTreeSet::new());
    for (_, record) in all_records(&**store, root).await? {
        let prefix = lineage_prefix(root, &record.lineage);
        let log = freshet_state::generation::GenerationLog::new(Rc::clone(store), prefix);
        for number in log.numbers().await? {
            let Some(generation) = log.get(number).await? else { continue };
            let made = internal_topics(&generation.plan, &owner.name, &record.lineage);
            topics.extend(made.into_iter().map(|topic| topic.name));
            let stages = generation.plan.stages.iter();
            groups.extend(stages.map(|stage| Plan::consumer_group(&record.lineage, &stage.id)));
        }
    }
    Ok((topics.into_iter().collect(), groups.into_iter().collect()))
}

/// Deletes everything below `root`: the records of lineages after all else, the newest first, and that they have
/// ended at the very end. So whoever looks meanwhile finds an ended lineage, or none.
async fn delete_objects(store: &dyn Store, root: &str) -> Result<usize, SlotError> {
    let records = format!("{root}{LINEAGES}");
    let ended = format!("/{}", LineagePath::Ended);
    let mut paths = store.list(root).await?;
    paths.sort_by(|a, b| {
        let late = |path: &String| if path.ends_with(&ended) { 2 } else { i32::from(path.starts_with(&records)) };
        late(a).cmp(&late(b)).then_with(|| b.cmp(a))
    });
    for path in &paths {
        store.delete(path).await?;
    }
    Ok(paths.len())
}
