//! What can be wrong with state, by what the caller can do about it.

use crate::TaskId;
use crate::store::StoreError;

/// How a job begins anew, to be read after "or".
pub const NEW_LINEAGE: &str =
    "start a new lineage (on a cluster: spec.restoreFrom: {type: None}, with another text in spec.restoreNonce)";

/// State can't be read or written. Only [`StateError::Store`] may heal by itself (see
/// [`StateError::is_transient`]); every other kind needs a person, and nothing is guessed or reset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object that something names is gone.
    #[error(
        "object {path} is missing, but {named_by} names it: was it deleted, or expired by a rule of the bucket? \
         Restore it from a backup of the bucket, or {anew}",
        anew = NEW_LINEAGE
    )]
    Missing {
        /// The object, as the store knows it.
        path: String,
        /// What names it.
        named_by: String,
    },
    /// An object's bytes are not what was written.
    #[error(
        "object {path} is corrupt at byte {at}: {what}. Restore it from a backup of the bucket, or {anew}",
        anew = NEW_LINEAGE
    )]
    Corrupt {
        /// The object, as the store knows it.
        path: String,
        /// What is wrong.
        what: String,
        /// Where, bytes from the beginning.
        at: u64,
    },
    /// An object was written by a newer runtime.
    #[error("object {path} has format version {found}, this runtime reads up to {known}: use a newer runtime")]
    Newer {
        /// The object, as the store knows it.
        path: String,
        /// The version that it has.
        found: u32,
        /// The newest version that this runtime reads.
        known: u32,
    },
    /// An object is whole, but it is not the one that belongs here.
    #[error(
        "object {path} has {field} {found}, wanted {wanted}: it was copied from elsewhere or the job was told wrong"
    )]
    Foreign {
        /// The object, as the store knows it.
        path: String,
        /// Which fact differs.
        field: &'static str,
        /// What the object says.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// An object holds nothing about a task whose commit names it.
    #[error("object {path} holds no state of task {task}, but the task's committed offsets name it")]
    NoTask {
        /// The object, as the store knows it.
        path: String,
        /// The task.
        task: TaskId,
    },
    /// What was to be written makes no sense, and would stay for ever.
    #[error("{path} is not written: {what}")]
    Malformed {
        /// Where it was to be written.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// Work that was handed off ended without a result (it panicked, or the process is ending).
    #[error("{0} ended without a result")]
    Interrupted(&'static str),
}

impl StateError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Store(StoreError::Unavailable(_)))
    }
}
