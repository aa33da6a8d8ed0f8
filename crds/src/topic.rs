//! The kind Topic.
#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "the fields' documentation is what `kubectl explain` shows, as plain text"
)]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, TopicStatus, patterns, rules};

/// A Kafka topic, its data contract, and a table of the SQL catalogue.
///
/// The table is called as the resource, with `-` written as `_` (`order-items` is the table
/// `order_items`); the quoted resource name works too. A Topic without `schema` is a plain topic: it can
/// take dead letters, but SQL can't read or write it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "freshet.dev",
    version = "v1alpha1",
    kind = "Topic",
    namespaced,
    status = "TopicStatus",
    derive = "PartialEq",
    category = "freshet",
    doc = "A Kafka topic and its data contract, and a table of the SQL catalogue.",
    validation = rules::TOPIC_RESOURCE_NAME,
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the Kafka topic is as the resource says."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why."
    ),
    printcolumn(
        name = "Kafka Topic",
        type_ = "string",
        json_path = ".status.activeTopic",
        description = "The Kafka topic that readers should use."
    ),
    printcolumn(
        name = "Partitions",
        type_ = "integer",
        json_path = ".status.partitions",
        description = "How many partitions the Kafka topic has."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "Why, in words.",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = rules::TOPIC_NAME_NO_FOLDER,
    validation = rules::TOPIC_NAME_FIXED,
    validation = rules::PARTITIONS_GROW,
    validation = rules::MANAGED_OR_NOT
)]
#[serde(rename_all = "camelCase")]
pub struct TopicSpec {
    /// The topic's name in Kafka. Default: metadata.name. It can never change, nor be set later.
    /// Example: payments.transactions
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), pattern(patterns::TOPIC_NAME))]
    pub topic_name: Option<String>,

    /// How many partitions the topic has. It may grow, never shrink. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub partitions: Option<i32>,

    /// How many copies Kafka keeps of each partition. Default: the broker's own. Example: 3
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32_767))]
    pub replicas: Option<i32>,

    /// Configuration of the Kafka topic: names as Kafka has them, values always strings. On a cluster it is the
    /// whole of what is set on the topic: what somebody else sets is reverted, unless unmanagedConfig names it.
    /// Example: retention.ms: "604800000"
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,

    /// Names of configuration entries that are left as they are found: others set them. Example: [compression.type]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 249)))]
    pub unmanaged_config: Option<Vec<String>>,

    /// The Kafka cluster that has the topic. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<TopicKafkaSpec>,

    /// The data contract: what a record is. Without it the topic can take dead letters, but is no table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaSpec>,

    /// What becomes of the Kafka topic when this resource is deleted. Retain: it stays. Delete: it is deleted with
    /// all that is in it, unless another Topic names it too. Default: Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,

    /// What may be done to the Kafka topic. Managed: it is made and kept as this resource says; one that is there
    /// already is taken over only if nothing would change, and otherwise the status says what would. Adopt: one
    /// that is there already is taken over and changed. Observe: nothing is ever written to Kafka.
    /// Default: Managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_policy: Option<ManagementPolicy>,
}

/// The Kafka cluster that has a topic.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicKafkaSpec {
    /// Brokers to begin with: host:port, separated by commas without spaces. Example: kafka:9092
    #[schemars(length(min = 1, max = 4096), pattern(patterns::BOOTSTRAP_SERVERS))]
    pub bootstrap_servers: String,
}

/// What becomes of what a resource stands for when it is deleted.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(description = "")]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted.
    Delete,
}

/// What may be done to a Kafka topic.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(description = "")]
pub enum ManagementPolicy {
    /// It is made and kept as the resource says.
    #[default]
    Managed,
    /// One that is there already is taken over and changed.
    Adopt,
    /// Nothing is ever written.
    Observe,
}

/// The data contract of a topic.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[x_kube(
    validation = rules::KEY_IS_COLUMNS,
    validation = rules::KEY_UNIQUE,
    validation = rules::PARTITIONER_NEEDS_KEY,
    validation = rules::EVENT_TIME_IS_TIMESTAMP
)]
#[serde(rename_all = "camelCase")]
pub struct SchemaSpec {
    /// How record values are encoded. JSON: one object a record.
    pub format: FormatName,

    /// The columns that make up the record key, which places records on partitions. Default: records
    /// have no key that means anything. Example: [account_id]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 128)))]
    pub key: Option<Vec<String>>,

    /// How the topic's writers place keys on partitions. The key is trusted for grouping only where this
    /// is declared; otherwise a grouping by the key goes through an internal topic. Default: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitioner: Option<Partitioner>,

    /// The columns of the table: fields of the JSON object. Fields that are not listed are not read.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(min = 1, max = 500))]
    pub columns: Vec<ColumnSpec>,

    /// Where a record's event time comes from. Default: the record's own timestamp, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTimeSpec>,
}

/// How record values are encoded.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(description = "")]
pub enum FormatName {
    /// One JSON object a record.
    #[serde(rename = "JSON")]
    Json,
}

/// How keys are placed on partitions.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(description = "")]
pub enum Partitioner {
    /// As Kafka's Java clients do by default: Murmur2 of the key's bytes.
    Murmur2,
}

/// A column.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ColumnSpec {
    /// Its name: the field's name in the JSON object, case-sensitive.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,

    /// Its type: BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p,s), STRING, BYTES, DATE,
    /// TIMESTAMP(p), TIMESTAMP_LTZ(p), ARRAY<T> or STRUCT<name T, …>. Example: DECIMAL(12,2)
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 2048), pattern(patterns::COLUMN_TYPE))]
    pub data_type: String,

    /// Whether null, or an absent field, breaks the contract. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
}

/// Where a record's event time comes from.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[x_kube(validation = rules::IDLE_TIMEOUT_POSITIVE)]
#[serde(rename_all = "camelCase")]
pub struct EventTimeSpec {
    /// The column that holds it, of type TIMESTAMP(p) or TIMESTAMP_LTZ(p). Example: ts
    #[schemars(length(min = 1, max = 128))]
    pub column: String,

    /// How far behind the newest record of its partition a record may be and still be on time. Windows
    /// wait as long. Default: 0s. Example: 5s
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_out_of_orderness: Option<Duration>,

    /// How long a partition may be at its end, without new records, before windows no longer wait for
    /// it. Default: for ever. Example: 30s
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
}
