//! The resources of Freshet, as Rust types and as the YAML that an API server takes.
//!
//! Two kinds, `freshet.dev/v1alpha1`, namespaced:
//!
//! * [`Topic`]: a Kafka topic and its data contract, and a table of the SQL catalogue.
//! * [`StreamJob`]: SQL that reads and writes Topics, and how it is run.
//!
//! The types here are what a user may write. What was resolved from it (defaults filled, references
//! looked up, types parsed) is another type in the room that resolves it: nobody reads a raw spec twice.
//!
//! # Where a rule lives
//! Whatever the API server can check is checked there, and only there is it written down: shapes, ranges
//! and patterns stand on the fields of [`TopicSpec`] and [`StreamJobSpec`], everything that compares two
//! fields (or a field with what it was before) is a CEL rule in [`rules`]. `freshet validate` evaluates
//! the same generated schema and the same rules, so that a laptop, CI and a cluster agree.
//!
//! A field is in the schema once it works, never before: nothing is accepted and ignored. Defaults are
//! not in the schema but in the sentence that describes the field, so that a stored object shows what
//! its user wrote.
//!
//! # Generated files
//! `cargo run -p freshet-crds --bin crdgen`, at the top of the checkout, writes `crds/topics.yaml`,
//! `crds/streamjobs.yaml` and the page of reasons in `docs`; a test fails when they differ from the types.
//!
//! # The other rooms
//! [`reasons`] holds every condition type and reason with its meaning and remedy; [`control`] what workers, the
//! preflight and the operator say to one another.

pub mod control;
pub mod definition;
pub mod duration;
pub mod patterns;
pub mod reasons;
pub mod reference;
pub mod rules;
mod status;
mod streamjob;
mod topic;

pub use duration::Duration;
pub use status::{LineageStatus, PlanStatus, RevisionStatus, StreamJobStatus, TopicStatus};
pub use streamjob::{
    CheckpointSpec, DesiredState, ErrorsSpec, KafkaSaslSpec, KafkaSpec, KafkaTlsSpec, OnBadRecord, OnLate, RestoreFrom,
    RestoreType, S3Spec, SaslMechanism, SecretKeyRef, SecretRef, SloSpec, StartFrom, StartType, StreamJob,
    StreamJobSpec, TaintEffect, TemplateSpec, TolerationOperator, UpgradeSpec, WorkerResources, WorkerToleration,
};
pub use topic::{
    ColumnSpec, DeletionPolicy, EventTimeSpec, FormatName, ManagementPolicy, Partitioner, SchemaSpec, Topic,
    TopicKafkaSpec, TopicSpec,
};

/// The API group of all kinds.
pub const GROUP: &str = "freshet.dev";

/// The one version there is.
pub const VERSION: &str = "v1alpha1";

/// What stands in `apiVersion`.
pub const API_VERSION: &str = "freshet.dev/v1alpha1";

/// The finalizer of a Topic: while it is there, the operator has not yet let go of the Kafka topic.
pub const TOPIC_FINALIZER: &str = "freshet.dev/topic";

/// Defaults of optional fields. The schema does not carry them; whoever resolves a spec does.
pub mod defaults {
    use std::time::Duration;

    /// `Topic.spec.partitions`.
    pub const PARTITIONS: u32 = 1;
    /// `StreamJob.spec.replicas`.
    pub const REPLICAS: u32 = 1;
    /// `StreamJob.spec.maxParallelism`.
    pub const MAX_PARALLELISM: u32 = 16;
    /// `StreamJob.spec.epochInterval`.
    pub const EPOCH_INTERVAL: Duration = Duration::from_millis(500);
    /// `Topic.spec.schema.eventTime.maxOutOfOrderness`.
    pub const MAX_OUT_OF_ORDERNESS: Duration = Duration::ZERO;
}
