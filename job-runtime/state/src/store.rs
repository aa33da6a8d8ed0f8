//! The store: create-only objects by path.

use async_trait::async_trait;
use bytes::Bytes;

/// What a create-only write found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object was not there; now it is.
    New,
    /// An object of that name was there already; it stays as it was.
    Existed,
}

/// What went wrong with the store, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached, or failed in a way that may pass. A write may have happened all the same.
    #[error("the object store is not available: {0}")]
    Unavailable(String),
    /// Credentials or rights are missing.
    #[error("the object store refused access: {0}")]
    Unauthorised(String),
    /// The bucket or folder does not exist, the URL is wrong, and the like.
    #[error("the object store can't be used: {0}")]
    Unusable(String),
    /// It ignores create-only writes, and so can't keep two workers apart.
    #[error("the object store ignores create-only writes (If-None-Match: *): two workers could both own a job; use a store that supports them")]
    NoCreateOnly,
}

/// Objects by path, relative to one root. Paths use `/` and the characters `[A-Za-z0-9._-]`.
#[async_trait(?Send)]
pub trait Store {
    /// Writes an object if there is none of that name.
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created, StoreError>;

    /// The whole object, or `None` when there is none.
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError>;

    /// All paths that begin with `prefix` (which ends in `/` or is empty), sorted.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError>;

    /// Deletes an object; one that is not there is no error.
    async fn delete(&self, path: &str) -> Result<(), StoreError>;

    /// Writes an object whatever is there. For the planted bug that overwrites generations, and nothing else.
    #[cfg(feature = "faults")]
    async fn overwrite(&self, path: &str, bytes: Bytes) -> Result<(), StoreError>;
}
