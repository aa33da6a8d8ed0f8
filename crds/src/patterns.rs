//! The patterns of texts in the schemas, each with a sentence that says it in words.
//!
//! They are read by the API server (Go's RE2) and by `freshet validate` (the regex crate), so they keep to
//! what both understand alike: a `[` within a class, for instance, is always escaped.

/// A pattern of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    /// The regular expression, anchored at both ends.
    pub regex: &'static str,
    /// What it wants, in words.
    pub wanted: &'static str,
}

/// `Topic.spec.topicName`.
pub const TOPIC_NAME: &str = "^[a-zA-Z0-9._-]+$";

/// The first word of a column's type. The rest of it is checked where types are parsed.
pub const COLUMN_TYPE: &str = "^\\s*(?i:boolean|bool|tinyint|smallint|int|integer|bigint|float|real|double|decimal|\
    numeric|string|text|varchar|bytes|date|timestamp|timestamp_ltz|array|struct|row)\\s*([(<]|$)";

/// Durations.
pub const DURATION: &str = crate::duration::PATTERN;

/// `StreamJob.spec.kafka.bootstrapServers`.
pub const BOOTSTRAP_SERVERS: &str =
    r"^(\[[0-9A-Fa-f:.]+\]|[^\[\],:/\s]+):[0-9]{1,5}(,(\[[0-9A-Fa-f:.]+\]|[^\[\],:/\s]+):[0-9]{1,5})*$";

/// `StreamJob.spec.checkpoint.url`.
pub const CHECKPOINT_URL: &str = r"^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s?#]*)?|file:///[^\s?#]+|memory:///?)$";

/// `StreamJob.spec.checkpoint.s3.endpoint`.
pub const S3_ENDPOINT: &str = r"^https?://[^/\s?#]+/?$";

/// The name of another object of the namespace: RFC 1123 words joined by dots.
pub const OBJECT_NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// The id of a lineage.
pub const LINEAGE_ID: &str = "^[a-z0-9-]+$";

/// The key of an entry of a Secret.
pub const SECRET_KEY: &str = r"^[-._a-zA-Z0-9]+$";

/// All of them, in words.
pub const ALL: &[Pattern] = &[
    Pattern { regex: TOPIC_NAME, wanted: "Kafka allows letters, digits, `.`, `_` and `-` in a topic's name" },
    Pattern {
        regex: COLUMN_TYPE,
        wanted: "types are BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p,s), STRING, BYTES, DATE, \
                 TIMESTAMP(p), TIMESTAMP_LTZ(p), ARRAY<T> and STRUCT<name T, …>",
    },
    Pattern {
        regex: DURATION,
        wanted: "a duration is a whole number and a unit, for instance 200ms, 5s, 10m or 1h (no days)",
    },
    Pattern {
        regex: BOOTSTRAP_SERVERS,
        wanted: "brokers are host:port, separated by commas without spaces, for instance kafka-0:9092,kafka-1:9092",
    },
    Pattern {
        regex: CHECKPOINT_URL,
        wanted: "state lies under s3://BUCKET/PREFIX, file:///ABSOLUTE/FOLDER or memory:///",
    },
    Pattern { regex: LINEAGE_ID, wanted: "a lineage's id has lower-case letters, digits and `-`" },
    Pattern { regex: SECRET_KEY, wanted: "the key of a Secret's entry has letters, digits, `-`, `_` and `.`" },
    Pattern {
        regex: OBJECT_NAME,
        wanted: "the name of an object has lower-case letters, digits, `-` and `.`, and begins and ends with a letter or digit",
    },
    Pattern {
        regex: S3_ENDPOINT,
        wanted: "an endpoint is http://HOST:PORT or https://HOST:PORT, without a path (the bucket stands in url)",
    },
];
