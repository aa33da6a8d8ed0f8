//! A client's connection to the model broker.

use std::rc::Rc;

use async_trait::async_trait;
use freshet_env::SharedEnv;

use super::consumer::ModelConsumer;
use super::core::{Answer, Core};
use super::producer::ModelProducer;
use super::wire::Shared;
use crate::{
    Bounds, CommittedOffset, Consumer, Log, LogError, Producer, StartPosition, TopicFacts, TopicPartition, TopicSpec,
};

/// One client of a [`super::ModelBroker`]: what a slot holds. Its time is its node's.
#[derive(Clone)]
pub struct ModelLog {
    shared: Rc<Shared>,
    env: SharedEnv,
}

impl ModelLog {
    pub(super) fn new(shared: Rc<Shared>, env: SharedEnv) -> Self {
        Self { shared, env }
    }

    /// A request that may be made again when it failed.
    async fn ask<T: 'static>(
        &self,
        what: &'static str,
        operation: impl FnMut(&mut Core) -> Answer<T> + 'static,
    ) -> Result<T, LogError> {
        self.shared.call(&self.env, what, operation).await.map_err(super::wire::CallError::repeatable)
    }

    /// One that is answered at once.
    async fn look<T: 'static>(
        &self,
        what: &'static str,
        mut operation: impl FnMut(&mut Core) -> Result<T, LogError> + 'static,
    ) -> Result<T, LogError> {
        self.ask(what, move |core| Answer::Now(operation(core))).await
    }
}

impl std::fmt::Debug for ModelLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelLog").finish_non_exhaustive()
    }
}

#[async_trait(?Send)]
impl Log for ModelLog {
    async fn partition_count(&self, topic: &str) -> Result<u32, LogError> {
        let topic = topic.to_owned();
        self.look("metadata", move |core| Ok(core.topic(&topic)?.partitions.len() as u32)).await
    }

    async fn topics(&self, topics: &[String]) -> Result<Vec<TopicFacts>, LogError> {
        let topics = topics.to_vec();
        self.look("describe topics", move |core| {
            let facts = |topic: &String| {
                let id = core.topic_id(topic)?;
                Ok(TopicFacts { id, readable: true, writable: true })
            };
            topics.iter().map(facts).collect()
        })
        .await
    }

    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        let topics = topics.to_vec();
        self.look("create topics", move |core| {
            topics.iter().for_each(|topic| core.create_topic(&topic.name, topic.partitions));
            Ok(())
        })
        .await
    }

    async fn bounds(&self, partition: &TopicPartition) -> Result<Bounds, LogError> {
        let partition = partition.clone();
        self.look("list offsets", move |core| Ok(core.partition(core.place(&partition)?).bounds())).await
    }

    async fn resolve(&self, partition: &TopicPartition, start: StartPosition) -> Result<i64, LogError> {
        let partition = partition.clone();
        self.look("list offsets", move |core| Ok(core.partition(core.place(&partition)?).resolve(start))).await
    }

    async fn committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<CommittedOffset>>, LogError> {
        let (group, partitions) = (group.to_owned(), partitions.to_vec());
        self.ask("fetch offsets", move |core| core.committed(&group, &partitions)).await
    }

    async fn fence(&self, transactional_ids: &[String]) -> Result<(), LogError> {
        // Side by side, as the interface allows: the broker may see them in any order.
        let initialise = |id: &String| {
            let id = id.clone();
            self.ask("initialise producer", move |core| core.initialise(&id))
        };
        futures::future::try_join_all(transactional_ids.iter().map(initialise)).await?;
        Ok(())
    }

    async fn producer(&self, transactional_id: &str) -> Result<Box<dyn Producer>, LogError> {
        let id = transactional_id.to_owned();
        let session = self.ask("initialise producer", move |core| core.initialise(&id)).await?;
        Ok(Box::new(ModelProducer::new(self.shared.clone(), self.env.clone(), session)))
    }

    async fn consumer(&self, positions: &[(TopicPartition, i64)]) -> Result<Box<dyn Consumer>, LogError> {
        let partitions: Vec<TopicPartition> = positions.iter().map(|(partition, _)| partition.clone()).collect();
        self.look("metadata", move |core| partitions.iter().try_for_each(|p| core.place(p).map(|_| ()))).await?;
        Ok(Box::new(ModelConsumer::new(self.shared.clone(), self.env.clone(), positions)?))
    }

    async fn delete_records(&self, before: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        let before = before.to_vec();
        self.look("delete records", move |core| {
            for (partition, offset) in &before {
                let place = core.place(partition)?;
                core.partition_mut(place).delete_before(*offset);
            }
            Ok(())
        })
        .await
    }

    async fn delete_topics(&self, topics: &[String]) -> Result<(), LogError> {
        let topics = topics.to_vec();
        self.look("delete topics", move |core| {
            topics.iter().for_each(|topic| core.delete_topic(topic));
            Ok(())
        })
        .await
    }

    async fn delete_groups(&self, groups: &[String]) -> Result<(), LogError> {
        let groups = groups.to_vec();
        self.look("delete groups", move |core| {
            groups.iter().for_each(|group| core.forget_group(group));
            Ok(())
        })
        .await
    }
}
