//! Nexmark: the auction site that engines of streams are compared on, its records and what its queries must give.
//!
//! ```text
//! records.rs   people, auctions and bids by the `nexmark` crate, as records for topics; a function of the seed
//! input.rs     where they go: files for `freshet run --input`, or topics of a Kafka
//! pipeline.rs  the queries of examples/nexmark, read from their manifests: SQL, tables, topics
//! recount.rs   what each query must write, by the plainest code
//! row.rs       rows of any writer in one spelling, so that they can be compared
//! ```
//!
//! The crate makes each event from its number alone. A seed shifts the numbers that the contents are made from and leaves
//! those that times and kinds come from, so two seeds give different records at the same times. Event time begins at a
//! fixed day: no result depends on when it was computed.

mod input;
mod pipeline;
mod records;
mod recount;
mod row;

pub(crate) use input::ensure_topics;
pub use input::{Destination, TopicWriter, write};
pub use pipeline::{Pipeline, Table};
pub use records::{Kind, Record, Records, Settings};
pub use recount::{QUERIES, Recount};
pub use row::{same, spelled};

/// Partitions of each topic, as the manifests declare.
pub const PARTITIONS: u32 = 4;
/// How far out of order records may come by the manifests, ms.
pub const DISORDER_MS: i64 = 4_000;
