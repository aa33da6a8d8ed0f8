//! Deleting records, topics and consumer groups: what a job does with its own.

use std::future::Future;
use std::time::Duration;

use freshet_log::{LogError, TopicPartition};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use crate::config::KafkaConfig;
use crate::error::{Action, Failure, classify};
use crate::events::Events;
use crate::thread::away;

type Client = AdminClient<Events>;

/// Deletes the records before each offset.
pub(crate) async fn delete_records(config: &KafkaConfig, before: Vec<(TopicPartition, i64)>) -> Result<(), LogError> {
    if before.is_empty() {
        return Ok(());
    }
    let config = config.clone();
    away("freshet-admin", move || {
        const DOING: &str = "deleting records";
        let mut list = TopicPartitionList::with_capacity(before.len());
        for (partition, offset) in &before {
            let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
            let added = list.add_partition_offset(&partition.topic, number, Offset::Offset(*offset));
            added.map_err(|error| classify(&error, Action::Ask, DOING))?;
        }
        let (client, options) = open(&config)?;
        let answer = wait_for(client.delete_records(&list, &options))?;
        let answer = answer.map_err(|error| explain(&client, &error, DOING))?;
        for entry in answer.elements() {
            let doing = || format!("{DOING} of {}[{}]", entry.topic(), entry.partition());
            entry.error().map_err(|error| classify(&error, Action::Ask, &doing()))?;
        }
        Ok(())
    })
    .await
}

/// Deletes `topics`; one that is not there is no error.
pub(crate) async fn delete_topics(config: &KafkaConfig, topics: Vec<String>) -> Result<(), LogError> {
    const DOING: &str = "deleting topics";
    delete(config, topics, DOING, |client, names, options| {
        let answer = wait_for(client.delete_topics(names, options))?;
        answer.map_err(|error| explain(client, &error, DOING))
    })
    .await
}

/// Deletes consumer groups with their offsets; one that is not there is no error.
pub(crate) async fn delete_groups(config: &KafkaConfig, groups: Vec<String>) -> Result<(), LogError> {
    const DOING: &str = "deleting consumer groups";
    delete(config, groups, DOING, |client, names, options| {
        let answer = wait_for(client.delete_groups(names, options))?;
        answer.map_err(|error| explain(client, &error, DOING))
    })
    .await
}

type Deleted = Vec<Result<String, (String, Code)>>;

async fn delete(
    config: &KafkaConfig,
    names: Vec<String>,
    doing: &'static str,
    ask: impl Fn(&Client, &[&str], &AdminOptions) -> Result<Deleted, LogError> + Send + 'static,
) -> Result<(), LogError> {
    if names.is_empty() {
        return Ok(());
    }
    let config = config.clone();
    away("freshet-admin", move || {
        let (client, options) = open(&config)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for answer in ask(&client, &names, &options)? {
            match answer {
                Ok(_) | Err((_, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::GroupIdNotFound)) => {}
                Err((name, code)) => {
                    return Err(Failure::of(code).classify(Action::Ask, &format!("{doing}: {name}")));
                }
            }
        }
        Ok(())
    })
    .await
}

fn open(config: &KafkaConfig) -> Result<(Client, AdminOptions), LogError> {
    let create = config.for_administration().create_with_context(Events::default());
    let client: Client = create.map_err(|error| classify(&error, Action::Ask, "connecting"))?;
    // The broker's share must end before ours does.
    let limit = config.request_timeout;
    let options = AdminOptions::new().request_timeout(Some(limit)).operation_timeout(Some(limit * 4 / 5));
    Ok((client, options))
}

fn explain(client: &Client, error: &KafkaError, doing: &str) -> LogError {
    client.inner().context().explain(classify(error, Action::Ask, doing))
}

/// Waits on this thread, which is one of its own.
fn wait_for<T>(answer: impl Future<Output = T>) -> Result<T, LogError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| LogError::Unavailable(format!("no runtime for a request: {error}")))?;
    let answer = runtime.block_on(answer);
    runtime.shutdown_timeout(Duration::ZERO);
    Ok(answer)
}
