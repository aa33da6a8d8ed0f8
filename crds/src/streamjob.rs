//! The kind StreamJob.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeletionPolicy, Duration, StreamJobStatus, patterns, rules};

/// A streaming job: SQL that reads and writes Topics, and how it is run.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "freshet.dev",
    version = "v1alpha1",
    kind = "StreamJob",
    namespaced,
    status = "StreamJobStatus",
    derive = "PartialEq",
    category = "freshet",
    doc = "A streaming job: SQL that reads and writes Topics, and how it is run.",
    validation = rules::JOB_NAME_SHORT,
    validation = rules::JOB_NAME_NO_DOTS,
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the job runs and makes progress."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why."
    ),
    printcolumn(
        name = "Workers",
        type_ = "string",
        json_path = ".status.workers",
        description = "How many workers are ready, of how many there should be."
    ),
    printcolumn(
        name = "Lag",
        type_ = "string",
        json_path = ".status.lag",
        description = "Age of the oldest record that waits, in coarse steps."
    ),
    printcolumn(
        name = "Revision",
        type_ = "string",
        json_path = ".status.revision.current",
        description = "The revision that runs."
    ),
    printcolumn(
        name = "Generation",
        type_ = "integer",
        json_path = ".status.generation",
        description = "The generation of the assignment.",
        priority = 1
    ),
    printcolumn(
        name = "Lineage",
        type_ = "string",
        json_path = ".status.lineage.id",
        description = "The state history that the job lives in.",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "Why, in words.",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    )
)]
#[x_kube(validation = rules::MAX_PARALLELISM_FIXED, validation = rules::EPOCH_INTERVAL_BOUNDS)]
#[x_kube(validation = rules::STATE_TTL_BOUNDS)]
#[serde(rename_all = "camelCase")]
pub struct StreamJobSpec {
    /// One or more statements `INSERT INTO topic SELECT …`, separated by semicolons. Tables are the Topics
    /// of the same namespace.
    #[schemars(length(min = 1))]
    pub sql: String,

    /// On a cluster: whether the job is to run. Suspended: its workers commit a last epoch and go; Running: they go
    /// on from there. Default: Running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DesiredState>,

    /// Where a new job begins to read its inputs; a job that has state goes on where it was.
    /// Default: {type: Earliest}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_from: Option<StartFrom>,

    /// On a cluster: what becomes of state that an earlier life of the job has left, when the job is new or when
    /// restoreNonce changes. A job that runs keeps its state whatever is written here meanwhile. Default: {type: Latest}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<RestoreFrom>,

    /// On a cluster: any text; another one asks for restoreFrom once more, and none asks for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub restore_nonce: Option<String>,

    /// How many workers (slots) share the job. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub replicas: Option<i32>,

    /// On a cluster: any text; a change restarts the workers, one after the other, from the last epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub restart_nonce: Option<String>,

    /// How many partitions internal topics have: the most tasks that a stage behind one can have. It can
    /// never change, nor be set later. Default: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_024))]
    pub max_parallelism: Option<i32>,

    /// How often output, offsets and state are committed together, and so how fresh output is; between
    /// 10ms and 5m. Default: 500ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch_interval: Option<Duration>,

    /// How long the state of a key is kept at least after its last record, by operators that would keep it for ever
    /// (grouping without a window, DISTINCT), on the clock of event time; at least 1s. What comes for a key after that
    /// begins anew. Default: state is kept for ever, and grows with the number of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_ttl: Option<Duration>,

    /// The Kafka cluster that holds the job's Topics. Default: where the job is run says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSpec>,

    /// Where state is kept. Default: where the job is run says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointSpec>,

    /// What is done with records that can't be used. Default: {onBadRecord: Fail, onLate: Drop}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<ErrorsSpec>,

    /// On a cluster: what the job is to keep to. A breach is a condition of its own, and no fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<SloSpec>,

    /// On a cluster: the ServiceAccount that workers run as, for a workload's identity. Default: one that is made
    /// for the job, without a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), pattern(patterns::OBJECT_NAME))]
    pub service_account_name: Option<String>,

    /// What a change of the SQL may do to state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeSpec>,

    /// On a cluster: what becomes of the job's state, offsets and internal topics when this resource is deleted. Retain:
    /// they stay, and the same job applied again goes on where it stopped. Delete: they are deleted with it, behind
    /// fences; the Topics stay. Default: Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,

    /// On a cluster: what is particular about the workers' pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateSpec>,
}

/// Whether a job is to run.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(description = "")]
pub enum DesiredState {
    /// Its workers run.
    Running,
    /// It has no workers; its state stays.
    Suspended,
}

/// What a job is to keep to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SloSpec {
    /// The most that the oldest waiting record may be old; beyond it the condition LagWithinObjective is False.
    /// Example: 1m
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<Duration>,
}

/// What is particular about the workers' pods.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateSpec {
    /// Compute resources of a worker. Default: none requested, none limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<WorkerResources>,

    /// Labels that a node must have. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that workers tolerate, beside those of a lost node, which they tolerate for 10 seconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<WorkerToleration>,
}

/// Compute resources of a worker.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerResources {
    /// What the scheduler sets aside, by name, as quantities in quotes. Example: {cpu: "500m", memory: "512Mi"}
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, String>,

    /// What a worker may use at most, by name, as quantities in quotes. Example: {memory: "1Gi"}
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
}

/// A taint that workers tolerate.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerToleration {
    /// The taint's key. Default: every taint. Example: dedicated
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,

    /// Equal: key and value are the taint's. Exists: the key is. Default: Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,

    /// The taint's value. Example: streaming
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,

    /// The taint's effect: NoSchedule, PreferNoSchedule or NoExecute. Default: every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,

    /// With effect NoExecute: how long the taint is tolerated, in seconds. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub toleration_seconds: Option<i64>,
}

/// How a toleration compares.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(description = "")]
pub enum TolerationOperator {
    /// Key and value are the taint's.
    Equal,
    /// The key is.
    Exists,
}

/// What a taint does to pods that don't tolerate it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(description = "")]
pub enum TaintEffect {
    /// They are not placed on the node.
    NoSchedule,
    /// They are placed there when nowhere else is room.
    PreferNoSchedule,
    /// They are removed from it.
    NoExecute,
}

/// Where a new job begins to read.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[x_kube(validation = rules::START_TIMESTAMP)]
#[serde(rename_all = "camelCase")]
pub struct StartFrom {
    /// Earliest: the first record that Kafka still has. Latest: only records written from now on.
    /// Timestamp: the first record at or after `timestamp`, by the records' own timestamps.
    #[serde(rename = "type")]
    pub start_type: StartType,

    /// For type Timestamp: a moment in RFC 3339. Example: 2026-01-31T00:00:00Z
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub timestamp: Option<String>,
}

/// Kinds of start positions.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(description = "")]
pub enum StartType {
    /// The first record that Kafka still has.
    Earliest,
    /// Only records written from now on.
    Latest,
    /// The first record at or after a time.
    Timestamp,
}

/// What becomes of state that is there already.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[x_kube(validation = rules::RESTORE_LINEAGE)]
#[serde(rename_all = "camelCase")]
pub struct RestoreFrom {
    /// Latest: the job goes on in the lineage that is there; without one it begins. None: that lineage ends, its workers
    /// are fenced, and a new one begins at startFrom; what the old one has written is written once more. Lineage: the
    /// job goes on in the lineage `lineageId`, also where it belongs to another cluster, whose workers are fenced.
    #[serde(rename = "type")]
    pub restore_type: RestoreType,

    /// For type Lineage: the id of the newest lineage under the job's folder of checkpoint.url, as status.lineage.id of
    /// the job that had it, or the reason LineageOwnedElsewhere, names it. Example: r-00c0ffee42
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), pattern(patterns::LINEAGE_ID))]
    pub lineage_id: Option<String>,
}

/// Kinds of what becomes of state.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(description = "")]
pub enum RestoreType {
    /// The job goes on where it stopped.
    Latest,
    /// It begins anew.
    None,
    /// It takes a lineage over by name.
    Lineage,
}

/// What a change may do to state.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeSpec {
    /// Operators of the plan whose state may be dropped, by the ids that the reason StateWouldBeDropped names: what they
    /// have counted and not written yet never comes out. An id is never used again in a lineage, so one that stays here
    /// accepts nothing later. Example: [agg-77ab01cd]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    pub accept_dropped_state: Vec<String>,
}

/// A Kafka cluster.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSpec {
    /// Brokers to begin with: host:port, separated by commas without spaces. Example: kafka:9092
    #[schemars(length(min = 1, max = 4096), pattern(patterns::BOOTSTRAP_SERVERS))]
    pub bootstrap_servers: String,

    /// TLS to the brokers; `{}` trusts public authorities. Default: no TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTlsSpec>,

    /// How workers log in. Default: they don't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSaslSpec>,
}

/// TLS to Kafka.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaTlsSpec {
    /// On a cluster: the certificates, in PEM, of the authorities that sign the brokers'. Default: public authorities.
    /// Example: {name: kafka-ca, key: ca.crt}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,

    /// On a cluster: the certificate that workers show, a Secret with the keys tls.crt and tls.key in PEM. Default:
    /// none. Example: {name: fraud-kafka-certificate}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_secret_ref: Option<SecretRef>,
}

/// How workers log in to Kafka.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSaslSpec {
    /// The mechanism. Example: SCRAM-SHA-512
    pub mechanism: SaslMechanism,

    /// On a cluster: a Secret of the job's namespace with the keys username and password. Elsewhere they come from
    /// the environment: FRESHET_KAFKA_SASL_USERNAME and FRESHET_KAFKA_SASL_PASSWORD. Example: {name: fraud-kafka-user}
    pub secret_ref: SecretRef,
}

/// SASL mechanisms.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(description = "")]
pub enum SaslMechanism {
    /// The password itself; only sensible with TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge and response, SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Salted challenge and response, SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SaslMechanism {
    /// As Kafka calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// An entry of a Secret of the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), pattern(patterns::OBJECT_NAME))]
    pub name: String,

    /// The entry. Example: ca.crt
    #[schemars(length(min = 1, max = 253), pattern(patterns::SECRET_KEY))]
    pub key: String,
}

/// Where state is kept.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[x_kube(validation = rules::S3_NEEDS_URL)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSpec {
    /// s3://BUCKET/PREFIX, file:///ABSOLUTE/FOLDER (one machine) or memory:/// (gone with the process).
    /// The job's objects lie under URL/NAMESPACE/NAME. Example: s3://pipelines/state
    #[schemars(length(min = 1, max = 2048), pattern(patterns::CHECKPOINT_URL))]
    pub url: String,

    /// How an S3-compatible store is reached, for s3:// only. Credentials come from the environment:
    /// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the workload's identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Spec>,
}

/// How an S3-compatible store is reached.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Spec {
    /// Address of the store. Default: Amazon's of the region. Example: http://s3:7070
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), pattern(patterns::S3_ENDPOINT))]
    pub endpoint: Option<String>,

    /// The store's region. Default: AWS_REGION of the environment. Example: us-east-1
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,

    /// On a cluster: a Secret of the job's namespace with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and
    /// AWS_SESSION_TOKEN where there is one). Default: the workload's identity. Example: {name: s3-credentials}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// A Secret of the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), pattern(patterns::OBJECT_NAME))]
    pub name: String,
}

/// What is done with records that can't be used.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[x_kube(validation = rules::DEAD_LETTERS_NEED_TOPIC)]
#[serde(rename_all = "camelCase")]
pub struct ErrorsSpec {
    /// A record that can't be decoded or breaks its Topic's contract. Fail: the job stops and names it.
    /// Skip: it is counted. DeadLetter: it is counted, and written unchanged to deadLetterTopic with the
    /// reason in its headers. Default: Fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_bad_record: Option<OnBadRecord>,

    /// The Topic resource that takes dead letters; it needs no schema. Example: transactions-dlq
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub dead_letter_topic: Option<String>,

    /// A record whose window has closed already. Drop: it is counted. DeadLetter: it is counted, and
    /// written unchanged to deadLetterTopic with the reason in its headers. Default: Drop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_late: Option<OnLate>,
}

/// What is done with a bad record.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(description = "")]
pub enum OnBadRecord {
    /// The job stops and names the record.
    Fail,
    /// It is counted.
    Skip,
    /// It is counted, and written to the dead-letter topic.
    DeadLetter,
}

/// What is done with a late record.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(description = "")]
pub enum OnLate {
    /// It is counted.
    Drop,
    /// It is counted, and written to the dead-letter topic.
    DeadLetter,
}
