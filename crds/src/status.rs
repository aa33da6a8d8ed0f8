//! What the operator says of a resource. Nobody else writes it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// `observedGeneration` before the operator has seen the resource.
pub(crate) const fn never_observed() -> i64 {
    -1
}

/// Status of a Topic.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// The generation of the resource that this status speaks of; -1 before there was one.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// Kafka's id of the topic: it guards against a topic that was re-created behind the operator's back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// The Kafka topic that readers should use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_topic: Option<String>,
    /// How many partitions the Kafka topic has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// Ready, Reconciling and Stalled, each with its reason and a message that says what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl Default for TopicStatus {
    fn default() -> Self {
        Self {
            observed_generation: never_observed(),
            topic_id: None,
            active_topic: None,
            partitions: None,
            conditions: Vec::new(),
        }
    }
}

/// Status of a StreamJob.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamJobStatus {
    /// The generation of the resource that this status speaks of; -1 before there was one.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// How many worker pods there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many of them are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// The generation of the assignment, as the generation log has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The state history that the job lives in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<LineageStatus>,
    /// Selects the worker pods: autoscalers count them by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// How many workers are ready, of how many there should be, as 3/4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<String>,
    /// Which spec runs, and which is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionStatus>,
    /// Version of the runtime that the workers run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// What the job's SQL became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// Age of the oldest record that waits, in coarse steps: the exact figure is a metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<String>,
    /// Ready, Reconciling and Stalled, each with its reason and a message that says what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl Default for StreamJobStatus {
    fn default() -> Self {
        Self {
            observed_generation: never_observed(),
            replicas: None,
            ready_replicas: None,
            generation: None,
            lineage: None,
            selector: None,
            workers: None,
            revision: None,
            runtime_version: None,
            plan: None,
            lag: None,
            conditions: Vec::new(),
        }
    }
}

/// A lineage: one state history and one exclusive set of writers.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LineageStatus {
    /// Its id, unique in the world.
    pub id: String,
    /// When it was born.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
}

/// Which spec runs, and which is asked for. A revision is a short hash of what makes the job compute what it does:
/// SQL, Topics, places and runtime, but not how many workers share it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// The one that the workers run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// The one that the spec asks for; absent while the spec can't work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What a job's SQL became.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// How many stages it has.
    pub stages: i32,
    /// How many tasks, on the partitions that the inputs have.
    pub tasks: i32,
    /// The internal topics, by their names in Kafka.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub internal_topics: Vec<String>,
}
