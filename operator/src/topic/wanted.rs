//! Pure (validate): what a Topic asks for, with every default filled in. Nobody behind this room looks at the raw
//! spec again.

use std::collections::{BTreeMap, BTreeSet};

use freshet_crds::{DeletionPolicy, ManagementPolicy, Topic, defaults};
use kube::ResourceExt;

/// Entries that Kafka's own tools set while they move replicas; nobody means to manage them.
const KAFKAS_OWN: &[&str] = &["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"];

/// What a Topic asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The Kafka topic's name.
    pub name: String,
    /// The cluster that has it.
    pub access: Access,
    /// How many partitions.
    pub partitions: u32,
    /// How many copies of each; `None`: as the broker likes.
    pub replicas: Option<u16>,
    /// What is set on the topic.
    pub config: BTreeMap<String, String>,
    /// What is left as it is found.
    pub unmanaged: BTreeSet<String>,
    /// What may be done.
    pub management: ManagementPolicy,
    /// What becomes of the Kafka topic at the end.
    pub deletion: DeletionPolicy,
    /// Whether a job may group by the topic's own partitions: key and partitioner are declared.
    pub trusted_key: bool,
}

/// How a Kafka cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Access {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
}

impl Access {
    /// The same for every way to write one list of brokers.
    #[must_use]
    pub fn new(bootstrap_servers: &str) -> Self {
        let servers: BTreeSet<String> = bootstrap_servers
            .split(',')
            .map(|server| server.trim().to_ascii_lowercase())
            .filter(|server| !server.is_empty())
            .collect();
        Self { bootstrap_servers: servers.into_iter().collect::<Vec<_>>().join(",") }
    }
}

impl Wanted {
    /// Whether the entry `name`, which is not in [`Wanted::config`], is left as it is found.
    #[must_use]
    pub fn leaves(&self, name: &str) -> bool {
        self.unmanaged.contains(name) || KAFKAS_OWN.contains(&name)
    }
}

/// What can't be asked for, with field and remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Nobody says which cluster.
    #[error(
        "spec.kafka.bootstrapServers is not set, and the operator has no default. Set it, or start the operator with \
         a default cluster"
    )]
    NoCluster,
    /// A text that Kafka's protocol can't carry.
    #[error("spec.config: the entry `{0}` holds a zero byte. Take it out")]
    ZeroByte(String),
}

/// The Kafka topic that `topic` names.
#[must_use]
pub fn kafka_name(topic: &Topic) -> String {
    topic.spec.topic_name.clone().unwrap_or_else(|| topic.name_any())
}

/// How the cluster of `topic` is reached; `None` when nobody says.
#[must_use]
pub fn access(topic: &Topic, default: Option<&str>) -> Option<Access> {
    let own = topic.spec.kafka.as_ref().map(|kafka| kafka.bootstrap_servers.as_str());
    own.or(default).map(Access::new)
}

/// What `topic` asks for; `default` are the brokers of Topics that name none.
///
/// # Errors
/// What the API server's own checks can't know.
pub fn validate(topic: &Topic, default: Option<&str>) -> Result<Wanted, Invalid> {
    let spec = &topic.spec;
    let access = access(topic, default).ok_or(Invalid::NoCluster)?;
    if let Some((name, _)) = spec.config.iter().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
        return Err(Invalid::ZeroByte(name.replace('\0', "\\0")));
    }
    let trusted_key = spec.schema.as_ref().is_some_and(|schema| schema.partitioner.is_some() && schema.key.is_some());
    Ok(Wanted {
        name: kafka_name(topic),
        access,
        partitions: spec.partitions.and_then(|count| u32::try_from(count).ok()).unwrap_or(defaults::PARTITIONS),
        replicas: spec.replicas.and_then(|count| u16::try_from(count).ok()),
        config: spec.config.clone(),
        unmanaged: spec.unmanaged_config.iter().flatten().cloned().collect(),
        management: spec.management_policy.unwrap_or_default(),
        deletion: spec.deletion_policy.unwrap_or_default(),
        trusted_key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_list_of_brokers_is_one_cluster_however_it_is_written() {
        let one = Access::new("kafka-0:9092,kafka-1:9092");
        assert_eq!(Access::new(" Kafka-1:9092 , kafka-0:9092,"), one);
        assert_eq!(one.bootstrap_servers, "kafka-0:9092,kafka-1:9092");
        assert_ne!(Access::new("kafka-0:9093,kafka-1:9092"), one);
    }
}
