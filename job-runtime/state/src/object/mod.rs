//! State objects: what an epoch changed, written once, and never changed again.
//!
//! # Names
//! A *delta* is written by one slot for one epoch and holds, for every task of the slot, the task's
//! [`Manifest`], and the rows of those tasks that changed. A *merged* object holds rows of several earlier
//! objects in one: as a new *base* (the last row of each key, no tombstones), or as one longer delta. A task's
//! whole state is its manifest's base, then its deltas, oldest first: the last row of a key counts.
//!
//! ```text
//! committed offset of task T ──names──▶ delta e42 ──its manifest of T──▶ base m1040, deltas e40, e41, e42
//! ```
//!
//! # Rules
//! * A commit names a delta, never a merged object. Whoever has the named object knows all others.
//! * A merged object may be named (by a manifest) for the first time only in the generation and by the slot
//!   that wrote it, and in an epoch up to the one in its name ([`after_merge`] keeps this). So the collector knows, by
//!   facts and not by the clock, that one which nothing names can never be named any more.
//! * An object knows its own name and lineage: one that was copied to another place is refused.
//! * Every byte is under a CRC32C: of the header, of each section, of the footer.
//!
//! # Encoding (golden file: `tests/golden/object-v1.bin`)
//! Numbers are LEB128 unless a width is given; fixed widths are little-endian; text and bytes have their
//! length first.
//! ```text
//! magic    8 bytes "FRESHSTA"
//! version  u32
//! header   length u32 · lineage · generation · slot · kind (0 delta, 1 merged) · epoch · random u64
//!          · plan fingerprint · runtime version
//!          · table of texts (count, texts): stages and object names
//!          · tasks (count): stage (index) · partition · has rows (0, 1)
//!            · base (0, or index + 1 and bytes) · deltas (count; index and bytes each)
//!          · crc32c u32 of all from the magic on
//! sections one for each task that has rows, in the order of the header:
//!          length u64 · operators (count, texts) · row count · rows (see `rows`) · crc32c u32 of all of it
//! footer   sections u32 · length of the whole object u64 · crc32c u32 of these · 8 bytes "FRESHEND"
//! ```

mod decode;
mod describe;
mod encode;
mod fetch;
mod load;
mod merge;
mod policy;

use bytes::Bytes;

use crate::TaskId;
use crate::paths::ObjectName;
use crate::rows::{RowBuffer, Rows, rows};

pub use decode::{ObjectError, decode};
pub use describe::{ObjectDescription, OperatorDescription, PartDescription, TaskDescription, describe};
pub use encode::encode;
pub(crate) use fetch::Fetcher;
pub use fetch::ObjectSource;
pub use load::{LoadError, load_task, load_tasks, read_manifests};
pub use merge::{MergeHeader, Merged, after_merge, merge};
pub use policy::{MergeRange, plan_merge, should_merge};

/// What an object says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHeader {
    /// The lineage that it belongs to.
    pub lineage: String,
    /// Its name: generation, slot, epoch, kind, and random bits.
    pub name: ObjectName,
    /// The fingerprint of the plan whose operators wrote the rows.
    pub plan_fingerprint: String,
    /// The version of the runtime that wrote it.
    pub runtime_version: String,
}

/// One object's share of a task's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The object's path, relative to the lineage.
    pub object: String,
    /// How many bytes the task's rows take in it.
    pub bytes: u64,
}

/// Where a task's whole state is. Empty: the task has no state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// What comes first.
    pub base: Option<Part>,
    /// What changed since, oldest first.
    pub deltas: Vec<Part>,
}

impl Manifest {
    /// All parts, in the order in which their rows count.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.base.iter().chain(&self.deltas)
    }

    /// How many bytes all rows take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts().map(|part| part.bytes).sum()
    }

    /// Whether there is no state.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.base.is_none() && self.deltas.is_empty()
    }
}

/// What an object holds of one task, as it is handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSection {
    /// The task.
    pub task: TaskId,
    /// Where the task's whole state is, the object itself included when it has rows of the task.
    pub manifest: Manifest,
    /// What changed; empty when nothing did.
    pub rows: RowBuffer,
}

impl TaskSection {
    /// What a delta called `name` holds of `task`, whose state was at `before` and of which `rows` changed.
    #[must_use]
    pub fn delta(name: &ObjectName, task: TaskId, mut before: Manifest, rows: RowBuffer) -> Self {
        if !rows.is_empty() {
            before.deltas.push(Part { object: name.to_string(), bytes: rows.bytes().len() as u64 });
        }
        Self { task, manifest: before, rows }
    }
}

/// An object that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateObject {
    /// What it says of itself.
    pub header: ObjectHeader,
    /// What it holds of each task.
    pub sections: Vec<StoredSection>,
    /// Its length in bytes.
    pub bytes: u64,
}

impl StateObject {
    /// What it holds of `task`.
    #[must_use]
    pub fn section(&self, task: &TaskId) -> Option<&StoredSection> {
        self.sections.iter().find(|section| section.task == *task)
    }
}

/// What an object holds of one task, as it was read. Its rows share the object's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSection {
    /// The task.
    pub task: TaskId,
    /// Where the task's whole state is. Empty in a merged object.
    pub manifest: Manifest,
    /// Table of operators.
    pub operators: Vec<String>,
    /// How many rows there are.
    pub row_count: u64,
    /// The encoded rows.
    pub rows: Bytes,
    /// Where they begin in the object.
    pub rows_at: u64,
}

impl StoredSection {
    /// The rows, in the order in which they were put.
    #[must_use]
    pub fn iter(&self) -> Rows<'_> {
        rows(&self.operators, &self.rows)
    }

    /// The section as it was handed in.
    #[must_use]
    pub fn to_section(&self) -> TaskSection {
        TaskSection {
            task: self.task.clone(),
            manifest: self.manifest.clone(),
            rows: RowBuffer::from_parts(self.operators.clone(), self.rows.to_vec(), self.row_count),
        }
    }
}

impl<'a> IntoIterator for &'a StoredSection {
    type Item = <Rows<'a> as Iterator>::Item;
    type IntoIter = Rows<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

const MAGIC: &[u8; 8] = b"FRESHSTA";
const END_MAGIC: &[u8; 8] = b"FRESHEND";
const VERSION: u32 = 1;
/// Section count, length, checksum, magic.
const FOOTER_LEN: usize = 4 + 8 + 4 + 8;
