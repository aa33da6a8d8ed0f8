//! Topics of tests, made and deleted.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use crate::LabError;

/// A client that makes and deletes things.
pub(super) fn admin(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>, LabError> {
    let client = ClientConfig::new().set("bootstrap.servers", bootstrap).create();
    client.map_err(|error| LabError::Wrong(format!("an admin client: {error}")))
}

/// Makes topics: names, and how many partitions each has. Their records never expire, and
/// there are as many copies as the brokers make by themselves.
///
/// # Errors
/// When Kafka refuses one.
pub fn make(bootstrap: &str, topics: &[(String, u32)]) -> Result<(), LabError> {
    let topics: Vec<_> = topics
        .iter()
        .map(|(name, partitions)| {
            NewTopic::new(name, *partitions as i32, TopicReplication::Fixed(-1)).set("retention.ms", "-1")
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let client = admin(bootstrap)?;
    let made = block_on(client.create_topics(&topics, &options))?;
    let made = made.map_err(|error| LabError::Wrong(format!("making topics: {error}")))?;
    made.into_iter().try_for_each(|topic| {
        topic.map(drop).map_err(|(name, code)| LabError::Wrong(format!("making topic {name}: {code}")))
    })
}

/// Deletes every topic whose name holds `part`: a test's own, and the internal ones of its jobs.
///
/// # Errors
/// When Kafka can't be asked, or refuses.
pub fn delete_all(bootstrap: &str, part: &str) -> Result<(), LabError> {
    let client = admin(bootstrap)?;
    let listed = client.inner().fetch_metadata(None, Duration::from_secs(20));
    let listed = listed.map_err(|error| LabError::Wrong(format!("listing topics: {error}")))?;
    let names: Vec<&str> =
        listed.topics().iter().map(rdkafka::metadata::MetadataTopic::name).filter(|name| name.contains(part)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let deleted = block_on(client.delete_topics(&names, &options))?;
    let deleted = deleted.map_err(|error| LabError::Wrong(format!("deleting topics: {error}")))?;
    deleted.into_iter().try_for_each(|topic| {
        topic.map(drop).map_err(|(name, code)| LabError::Wrong(format!("deleting topic {name}: {code}")))
    })
}

/// Deletes every consumer group whose name holds `part`, with its offsets; gives their names.
///
/// # Errors
/// When Kafka can't be asked, or refuses.
pub fn delete_groups(bootstrap: &str, part: &str) -> Result<Vec<String>, LabError> {
    let client = admin(bootstrap)?;
    let listed = client.inner().fetch_group_list(None, Duration::from_secs(30));
    let listed = listed.map_err(|error| LabError::Wrong(format!("listing groups: {error}")))?;
    let groups = listed.groups().iter().map(rdkafka::groups::GroupInfo::name);
    let names: Vec<String> = groups.filter(|name| name.contains(part)).map(str::to_owned).collect();
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let deleted = block_on(client.delete_groups(&asked, &AdminOptions::new()))?;
    for group in deleted.map_err(|error| LabError::Wrong(format!("deleting groups: {error}")))? {
        group.map_err(|(name, code)| LabError::Wrong(format!("deleting group {name}: {code}")))?;
    }
    Ok(names)
}

pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(LabError::file("starting a runtime in", "."))?.block_on(work))
}
