//! Whether what a job reads is still what it has read: the same topics, with the partitions that were planned for.
//!
//! A topic that is deleted and made again has the name of the old one and none of its records. Its offsets begin anew,
//! so that a position in the old one may point anywhere into it; only the topic's id tells. It is stored with the first
//! generation that reads the topic, and compared before every take-over, before every next generation, and now and
//! then while a slot runs.

use std::collections::BTreeMap;

use freshet_log::{Log, LogError};
use freshet_plan::{Input, Plan};
use freshet_state::NEW_LINEAGE;
use freshet_state::generation::Generation;

use super::tasks::{input_topic, keys_by_partition};
use super::{NEXT_GENERATION, SlotError};

/// Ids of topics, by their names in Kafka.
pub type TopicIds = BTreeMap<String, String>;

/// The names in Kafka of the topics of the user that `plan` reads.
pub fn inputs(plan: &Plan) -> Vec<String> {
    plan.source_stages().map(|(_, topic)| topic.to_owned()).collect()
}

/// The names in Kafka of all topics that `plan` reads.
pub fn all_inputs(plan: &Plan, job: &str, lineage: &str) -> Vec<String> {
    plan.stages.iter().map(|stage| input_topic(stage, job, lineage)).collect()
}

/// The ids of `topics`, of which those that are `known` must be the same still; all of them must be readable.
///
/// # Errors
/// [`SlotError::TopicRecreated`]; the log's.
pub async fn identify(log: &dyn Log, known: &TopicIds, topics: &[String]) -> Result<TopicIds, SlotError> {
    let facts = log.topics(topics).await?;
    let mut ids = TopicIds::new();
    for (topic, facts) in topics.iter().zip(facts) {
        if let Some(known) = known.get(topic)
            && *known != facts.id
        {
            let (topic, known) = (topic.clone(), known.clone());
            return Err(SlotError::TopicRecreated { topic, known, found: facts.id });
        }
        if !facts.readable {
            return Err(LogError::Unauthorised(format!("the job's user may not read topic {topic}")).into());
        }
        ids.insert(topic.clone(), facts.id);
    }
    Ok(ids)
}

/// What `generation` reads is there as it was planned.
///
/// # Errors
/// [`SlotError::TopicRecreated`], [`SlotError::PartitionsChanged`]; the log's.
pub async fn check_inputs(log: &dyn Log, generation: &Generation, job: &str, lineage: &str) -> Result<(), SlotError> {
    identify(log, &generation.topic_ids, &all_inputs(&generation.plan, job, lineage)).await?;
    check_partitions(log, generation).await
}

/// No input has other partitions than planned.
async fn check_partitions(log: &dyn Log, generation: &Generation) -> Result<(), SlotError> {
    for stage in &generation.plan.stages {
        let Input::Topic(source) = &stage.input else { continue };
        let found = log.partition_count(&source.topic).await?;
        let planned = generation.partition_counts.get(&source.topic).copied().unwrap_or(0);
        if found == planned {
            continue;
        }
        let remedy = if found < planned {
            format!("A topic with fewer partitions is another topic: restore it, or {NEW_LINEAGE}")
        } else if keys_by_partition(stage) {
            format!(
                "The job keeps state by this topic's own partitions, and more partitions place keys elsewhere: \
                 {NEW_LINEAGE}"
            )
        } else {
            NEXT_GENERATION.to_owned()
        };
        let topic = source.topic.clone();
        let generation = generation.number;
        return Err(SlotError::PartitionsChanged { topic, generation, planned, found, remedy });
    }
    Ok(())
}
