//! The CEL rules of the schemas: everything that compares two fields, or a field with its old value.
//!
//! Each rule stands here once, with its message, and is attached to a type by its name. Messages say
//! what is wanted and what to do. A rule that mentions `oldSelf` is evaluated on updates only; those on
//! optional fields guard both "has it" and its value, so that setting, unsetting and changing are caught.
//!
//! The API server bounds what a rule may cost by the schema's `maxItems` and `maxLength`: a rule that
//! walks a list needs them on it.

use kube::core::{Message, Rule};

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CelRule {
    /// A Boolean expression over `self` (and `oldSelf`).
    pub rule: &'static str,
    /// What is shown when it is false. A text and no CEL expression: API servers count what an expression that makes
    /// texts may cost, and refuse those over names and numbers.
    pub message: &'static str,
    /// The field to blame, relative to where the rule is attached.
    pub field_path: Option<&'static str>,
    /// The fields that it reads, relative to where it is attached, through lists without index: where one
    /// of them has the wrong shape, the rule's verdict means nothing.
    pub reads: &'static [&'static str],
}

impl CelRule {
    const fn new(reads: &'static [&'static str], rule: &'static str, message: &'static str) -> Self {
        Self { rule, message, field_path: None, reads }
    }

    const fn at(mut self, field_path: &'static str) -> Self {
        self.field_path = Some(field_path);
        self
    }
}

impl From<CelRule> for Rule {
    fn from(rule: CelRule) -> Self {
        let with_message = Self::new(rule.rule).message(Message::Message(rule.message.to_owned()));
        match rule.field_path {
            Some(path) => with_message.field_path(path),
            None => with_message,
        }
    }
}

/// A Topic without `topicName` is called after its resource; Kafka's names are shorter than Kubernetes'.
pub const TOPIC_RESOURCE_NAME: CelRule = CelRule::new(
    &["spec.topicName", "metadata.name"],
    "has(self.spec.topicName) || size(self.metadata.name) <= 249",
    "a Kafka topic's name has at most 249 characters, and this one comes from metadata.name: set spec.topicName",
);

/// Kafka refuses the two names that are folders.
pub const TOPIC_NAME_NO_FOLDER: CelRule = CelRule::new(
    &["topicName"],
    "!has(self.topicName) || !(self.topicName in ['.', '..'])",
    "a Kafka topic can't be called `.` or `..`: choose another name",
)
.at(".topicName");

/// A Topic names one Kafka topic for life.
pub const TOPIC_NAME_FIXED: CelRule = CelRule::new(
    &["topicName"],
    "has(self.topicName) == has(oldSelf.topicName) && (!has(self.topicName) || self.topicName == oldSelf.topicName)",
    "topicName can never be changed, set later or unset: a Topic is one Kafka topic for life. Make a new Topic",
)
.at(".topicName");

/// Kafka can't shrink a topic.
pub const PARTITIONS_GROW: CelRule = CelRule::new(
    &["partitions"],
    "(has(self.partitions) ? self.partitions : 1) >= (has(oldSelf.partitions) ? oldSelf.partitions : 1)",
    "fewer partitions than before (the default is 1); Kafka can't shrink a topic. Set as many as before or more, or \
     make a new Topic",
)
.at(".partitions");

/// An entry has one owner.
pub const MANAGED_OR_NOT: CelRule = CelRule::new(
    &["config", "unmanagedConfig"],
    "!has(self.unmanagedConfig) || !has(self.config) || self.unmanagedConfig.all(k, !(k in self.config))",
    "an entry of unmanagedConfig is left as it is found, so config can't have it too: take it out of one of them",
)
.at(".unmanagedConfig");

/// The key's columns are columns.
pub const KEY_IS_COLUMNS: CelRule = CelRule::new(
    &["key", "columns.name"],
    "!has(self.key) || self.key.all(k, self.columns.exists(c, c.name == k))",
    "every entry of key must be the name of a column in columns",
)
.at(".key");

/// The key names a column once.
pub const KEY_UNIQUE: CelRule = CelRule::new(
    &["key"],
    "!has(self.key) || self.key.all(k, self.key.exists_one(other, other == k))",
    "key names a column twice: name each once",
)
.at(".key");

/// A partitioner places keys, so there must be one.
pub const PARTITIONER_NEEDS_KEY: CelRule = CelRule::new(
    &["partitioner", "key"],
    "!has(self.partitioner) || has(self.key)",
    "partitioner says how keys are placed, but there is no key: declare key, or leave partitioner out",
)
.at(".partitioner");

/// Event time comes from a column that holds times.
pub const EVENT_TIME_IS_TIMESTAMP: CelRule = CelRule::new(
    &["eventTime.column", "columns.name", "columns.type"],
    "!has(self.eventTime) || self.columns.exists(c, c.name == self.eventTime.column && \
     c.type.matches('^\\\\s*(?i:timestamp)'))",
    "eventTime.column must name a column of type TIMESTAMP(p) or TIMESTAMP_LTZ(p)",
)
.at(".eventTime");

/// A partition that is idle after no time at all would never be waited for.
pub const IDLE_TIMEOUT_POSITIVE: CelRule = CelRule::new(
    &["idleTimeout"],
    "!has(self.idleTimeout) || duration(self.idleTimeout) > duration('0s')",
    "idleTimeout must be longer than nothing; leave it out to wait for every partition for ever",
)
.at(".idleTimeout");

/// Children and internal topics are named after the job.
pub const JOB_NAME_SHORT: CelRule = CelRule::new(
    &["metadata.name"],
    "size(self.metadata.name) <= 40",
    "the name of a StreamJob has at most 40 characters; names of children and internal topics come from it. Shorten \
     metadata.name",
);

/// Children's names are DNS labels, and internal topics' names are split at dots.
pub const JOB_NAME_NO_DOTS: CelRule = CelRule::new(
    &["metadata.name"],
    "!self.metadata.name.contains('.')",
    "the name of a StreamJob has no dots; names of children and internal topics come from it. Use `-` instead",
);

/// `startFrom` is a union: `timestamp` belongs to `Timestamp`.
pub const START_TIMESTAMP: CelRule = CelRule::new(
    &["type", "timestamp"],
    "(self.type == 'Timestamp') == has(self.timestamp)",
    "timestamp goes with type Timestamp, and only with it: set both, or leave timestamp out",
);

/// `restoreFrom` is a union: `lineageId` belongs to `Lineage`.
pub const RESTORE_LINEAGE: CelRule = CelRule::new(
    &["type", "lineageId"],
    "(self.type == 'Lineage') == has(self.lineageId)",
    "lineageId goes with type Lineage, and only with it: set both, or leave lineageId out",
);

/// Internal topics can't change their number of partitions under a job's state.
pub const MAX_PARALLELISM_FIXED: CelRule = CelRule::new(
    &["maxParallelism"],
    "has(self.maxParallelism) == has(oldSelf.maxParallelism) && \
     (!has(self.maxParallelism) || self.maxParallelism == oldSelf.maxParallelism)",
    "maxParallelism can never be changed, set later or unset: keys are placed by it. Make a new StreamJob",
)
.at(".maxParallelism");

/// Shorter is a busy loop of commits, longer is aborted by the broker's transaction time-out.
pub const EPOCH_INTERVAL_BOUNDS: CelRule = CelRule::new(
    &["epochInterval"],
    "!has(self.epochInterval) || \
     (duration(self.epochInterval) >= duration('10ms') && duration(self.epochInterval) <= duration('5m'))",
    "epochInterval lies between 10ms and 5m: each epoch is one Kafka transaction",
)
.at(".epochInterval");

/// Shorter than any disorder of records, and every record would find its key's state gone.
pub const STATE_TTL_BOUNDS: CelRule = CelRule::new(
    &["stateTtl"],
    "!has(self.stateTtl) || duration(self.stateTtl) >= duration('1s')",
    "stateTtl is at least 1s: state that is gone before the next record of its key counts nothing",
)
.at(".stateTtl");

/// `s3` belongs to `s3://`.
pub const S3_NEEDS_URL: CelRule = CelRule::new(
    &["s3", "url"],
    "!has(self.s3) || self.url.startsWith('s3://')",
    "s3 holds settings of an S3 store, but url is no s3:// URL: leave s3 out, or change url",
)
.at(".s3");

/// Dead letters need a place to go.
pub const DEAD_LETTERS_NEED_TOPIC: CelRule = CelRule::new(
    &["onBadRecord", "onLate", "deadLetterTopic"],
    "has(self.deadLetterTopic) || \
     !((has(self.onBadRecord) && self.onBadRecord == 'DeadLetter') || (has(self.onLate) && self.onLate == 'DeadLetter'))",
    "DeadLetter needs deadLetterTopic: the name of the Topic resource that takes such records",
)
.at(".deadLetterTopic");

/// All of them, with the field of which kind they are attached to.
pub const ALL: &[(&str, &str, CelRule)] = &[
    ("Topic", "", TOPIC_RESOURCE_NAME),
    ("Topic", "spec", TOPIC_NAME_NO_FOLDER),
    ("Topic", "spec", TOPIC_NAME_FIXED),
    ("Topic", "spec", PARTITIONS_GROW),
    ("Topic", "spec", MANAGED_OR_NOT),
    ("Topic", "spec.schema", KEY_IS_COLUMNS),
    ("Topic", "spec.schema", KEY_UNIQUE),
    ("Topic", "spec.schema", PARTITIONER_NEEDS_KEY),
    ("Topic", "spec.schema", EVENT_TIME_IS_TIMESTAMP),
    ("Topic", "spec.schema.eventTime", IDLE_TIMEOUT_POSITIVE),
    ("StreamJob", "", JOB_NAME_SHORT),
    ("StreamJob", "", JOB_NAME_NO_DOTS),
    ("StreamJob", "spec", MAX_PARALLELISM_FIXED),
    ("StreamJob", "spec", EPOCH_INTERVAL_BOUNDS),
    ("StreamJob", "spec", STATE_TTL_BOUNDS),
    ("StreamJob", "spec.startFrom", START_TIMESTAMP),
    ("StreamJob", "spec.restoreFrom", RESTORE_LINEAGE),
    ("StreamJob", "spec.checkpoint", S3_NEEDS_URL),
    ("StreamJob", "spec.errors", DEAD_LETTERS_NEED_TOPIC),
];
