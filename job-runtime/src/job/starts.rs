//! Where tasks begin that a generation has for the first time: resolved once, and stored in it.
//!
//! | the task's input | begins at |
//! | --- | --- |
//! | a topic that the lineage never read | `startFrom` |
//! | a partition that was added to a topic that is being read | its first record |
//! | a topic that an earlier generation read, and later ones did not | where that reading stopped |
//! | an internal topic | 0: it is new, and may not even be made yet |
//!
//! So a statement begins where its lineage stands in the topic. A statement that is added to a topic that is being
//! read has no task of its own: it begins where the stage is when the generation is taken over.

use std::collections::BTreeMap;
use std::rc::Rc;

use freshet_log::{Log, StartPosition, TopicPartition};
use freshet_plan::{Input, Plan, Stage};
use freshet_state::TaskId;
use freshet_state::generation::{Generation, Retired};
use freshet_state::lineage::{Lineage, StartPositions};
use freshet_state::metadata::CommitMetadata;

use super::JobSpec;
use super::follow::Next;
use crate::slot::{SlotError, input_topic};

/// The starts of all `tasks`: those that are known already, and those that are new.
pub(super) async fn starts(
    spec: &JobSpec,
    lineage: &Lineage,
    log: &Rc<dyn Log>,
    latest: Option<&Generation>,
    next: &Next,
    tasks: &[TaskId],
) -> Result<BTreeMap<TaskId, i64>, SlotError> {
    // Generations of version 1 have their starts beside them.
    let first = match latest {
        Some(latest) if latest.policy.is_none() => lineage.start_positions().await?.unwrap_or_default(),
        _ => StartPositions::default(),
    };
    let mut starts = BTreeMap::new();
    for task in tasks {
        let Some(stage) = next.plan.stage(&task.stage) else { continue };
        let input = TopicPartition::new(input_topic(stage, &spec.owner.name, lineage.id()), task.partition);
        let known = latest.and_then(|latest| latest.starts.get(task)).copied();
        let known = known.or_else(|| first.0.get(&(input.topic.clone(), input.partition)).copied());
        let start = match known {
            Some(known) => known,
            None => first_offset(spec, lineage, log, latest, next, stage, &input).await?,
        };
        starts.insert(task.clone(), start);
    }
    Ok(starts)
}

async fn first_offset(
    spec: &JobSpec,
    lineage: &Lineage,
    log: &Rc<dyn Log>,
    latest: Option<&Generation>,
    next: &Next,
    stage: &Stage,
    input: &TopicPartition,
) -> Result<i64, SlotError> {
    if matches!(stage.input, Input::Repartition(_)) {
        return Ok(0);
    }
    if latest.is_some_and(|latest| latest.plan.stage(&stage.id).is_some()) {
        return Ok(log.resolve(input, StartPosition::Earliest).await?);
    }
    let before = next.retired.iter().filter(|(_, retired)| retired.topic.as_ref() == Some(&input.topic));
    if let Some((stage, retired)) = before.max_by_key(|(_, retired)| retired.since)
        && let Some(offset) = where_it_stopped(lineage, log, stage, retired, input).await?
    {
        return Ok(offset);
    }
    Ok(log.resolve(input, spec.start_from).await?)
}

/// The offset at which a stage that is no more stopped reading `input`; `None` when it never began. It is
/// known for good only once every generation that had the stage is fenced.
async fn where_it_stopped(
    lineage: &Lineage,
    log: &Rc<dyn Log>,
    stage: &str,
    retired: &Retired,
    input: &TopicPartition,
) -> Result<Option<i64>, SlotError> {
    if !lineage.generations().is_marked(retired.since).await? {
        return Err(SlotError::NotTakenOver { generation: retired.since, topic: input.topic.clone() });
    }
    let group = Plan::consumer_group(lineage.id(), stage);
    let task = TaskId::new(stage, input.partition);
    match log.committed(&group, std::slice::from_ref(input)).await?.pop().flatten() {
        Some(committed) => match committed.metadata.parse::<CommitMetadata>() {
            Ok(_) => Ok(Some(committed.offset)),
            Err(error) => Err(SlotError::ForeignOffset { task, detail: error.to_string() }),
        },
        None if lineage.begun_tasks().await?.contains(&task) => Err(SlotError::OffsetsLost { task }),
        None => Ok(None),
    }
}
