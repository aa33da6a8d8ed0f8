//! What is asked of a Kafka cluster, and what it answers.

use std::fmt;

use freshet_log::LogError;
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::error::is_about_rights;

/// What a request gives, as a whole or for one of its topics.
pub type AdminResult<T> = Result<T, AdminError>;

/// A refusal or failure, in the broker's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminError {
    /// What can be done about it.
    pub trouble: Trouble,
    /// Kafka's name of the error, for instance `INVALID_CONFIG`; those of librdkafka begin with `_`.
    pub code: String,
    /// What the broker (or librdkafka) says about it.
    pub words: String,
}

/// What can be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody answered, or not in time, or somebody who is busy: ask again. Whether a change was made is not known.
    Unavailable,
    /// The credentials are wrong, or their rights are too few.
    Unauthorised,
    /// The topic, partition or group is not there.
    NotFound,
    /// The topic is there already.
    Exists,
    /// It can't be done as it was asked for.
    Refused,
}

impl AdminError {
    pub(super) fn new(code: Code, name: String, words: String) -> Self {
        Self { trouble: trouble(code), code: name, words }
    }

    /// The same error as the log trait has it; `doing` says what was tried.
    #[must_use]
    pub fn into_log_error(self, doing: &str) -> LogError {
        let text = format!("{doing}: {self}");
        match self.trouble {
            Trouble::Unavailable => LogError::Unavailable(text),
            Trouble::Unauthorised => LogError::Unauthorised(text),
            Trouble::NotFound => LogError::UnknownTopic(text),
            Trouble::Exists | Trouble::Refused => LogError::Refused(text),
        }
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.words.trim_end_matches('.'), self.code)
    }
}

impl std::error::Error for AdminError {}

fn trouble(code: Code) -> Trouble {
    match code {
        code if is_about_rights(code) => Trouble::Unauthorised,
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicId
        | Code::GroupIdNotFound => Trouble::NotFound,
        Code::TopicAlreadyExists => Trouble::Exists,
        Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidConfig
        | Code::InvalidRequest
        | Code::InvalidArgument
        | Code::InvalidGroupId
        | Code::PolicyViolation
        | Code::TopicDeletionDisabled
        | Code::NonEmptyGroup
        | Code::GroupSubscribedToTopic
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::NotImplemented => Trouble::Refused,
        _ => Trouble::Unavailable,
    }
}

/// A Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its id, by which two addresses are known to be one cluster.
    pub id: String,
    /// How many brokers are in it now.
    pub brokers: usize,
    /// What the client's user may do to the cluster; `None` when the brokers don't say.
    pub rights: Option<Vec<Operation>>,
}

/// A topic, as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id: another topic of the same name has another one.
    pub id: String,
    /// Whether it is one of Kafka's own.
    pub internal: bool,
    /// Its partitions.
    pub partitions: Vec<Partition>,
    /// What the client's user may do to it; `None` when it was not asked for, or the brokers don't say.
    pub rights: Option<Vec<Operation>>,
}

/// A partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub id: u32,
    /// How many copies it should have.
    pub replicas: usize,
    /// How many of them are up to date.
    pub in_sync: usize,
    /// Whether a broker leads it now.
    pub has_leader: bool,
}

/// Something that a user may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "Kafka's own words")]
pub enum Operation {
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    DescribeConfigs,
    AlterConfigs,
    ClusterAction,
    IdempotentWrite,
}

/// An entry of a topic's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its value; `None` when it is sensitive.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
    /// Whether it can't be changed.
    pub read_only: bool,
    /// Whether its value is a secret.
    pub sensitive: bool,
}

/// Where the value of a configuration entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// It was set on the topic itself.
    Topic,
    /// It was set on the brokers.
    Broker,
    /// It is Kafka's default.
    Default,
}

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// How many copies of each; `None`: the broker's default.
    pub replicas: Option<i16>,
    /// Its configuration: names and values.
    pub config: Vec<(String, String)>,
}

/// A change of one entry of a topic's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Set on the topic.
    Set {
        /// The entry's name.
        name: String,
        /// Its new value.
        value: String,
    },
    /// No longer set on the topic, so that the brokers' or Kafka's default holds.
    Unset {
        /// The entry's name.
        name: String,
    },
}

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that is still there.
    Earliest,
    /// One past the last.
    Latest,
    /// That of the record with the largest timestamp.
    MaxTimestamp,
    /// The first at or after a time, in milliseconds since 1970; -1 when there is none.
    Timestamp(i64),
}
