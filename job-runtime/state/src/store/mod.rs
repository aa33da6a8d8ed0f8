//! The store: create-only objects by path.
//!
//! Every object is written once and never changed, so there is nothing to lock, and a reader never sees
//! half an object. A write whose answer got lost may have happened: callers either use names that nobody
//! else uses ([`create_own`]), or read what is stored after [`Created::Existed`] and go by that.
//!
//! [`open`] gives the store behind a URL: a bucket (`s3://`), a local folder (`file://`), or memory
//! (`memory://`).

#[cfg(feature = "faults")]
mod faulty;
mod memory;
mod object;

use async_trait::async_trait;
use bytes::Bytes;

#[cfg(feature = "faults")]
pub use faulty::{FaultyStore, Outcome, StoreFault, StoreOperation};
pub use memory::MemoryStore;
pub use object::{ObjectStoreAdapter, S3Options, open};

use crate::paths::PROBE;

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
    #[error(
        "the object store ignores create-only writes (If-None-Match: *): two workers could both own a job; use a store \
         that supports them"
    )]
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

/// Writes an object under a name that nobody else uses. One that is there already with the same content is
/// our own write, whose answer got lost.
///
/// # Errors
/// Those of the store; [`StoreError::Unusable`] when somebody else's object has that name.
pub async fn create_own(store: &dyn Store, path: &str, bytes: Bytes) -> Result<(), StoreError> {
    match store.create(path, bytes.clone()).await? {
        Created::New => Ok(()),
        Created::Existed => match store.get(path).await? {
            Some(stored) if stored == bytes => Ok(()),
            Some(_) => Err(StoreError::Unusable(format!(
                "{path} was to be written under a name of its own, but holds something else already: two jobs write \
                 to one folder, or the store hands out writes twice"
            ))),
            None => Err(StoreError::Unavailable(format!("{path} exists, says the store, but can't be read"))),
        },
    }
}

/// Tries out whether the store keeps create-only writes: creates one object twice, under a name made of
/// `random`, in `root` (empty, or ending in `/`). The object is deleted again.
///
/// # Errors
/// [`StoreError::NoCreateOnly`] when the second write succeeds; otherwise those of the store.
pub async fn probe_create_only(store: &dyn Store, root: &str, random: u64) -> Result<(), StoreError> {
    let path = format!("{root}{PROBE}{random:016x}");
    // The first answer says nothing: a write that the client repeated finds its own object.
    store.create(&path, Bytes::from_static(b"first")).await?;
    let second = store.create(&path, Bytes::from_static(b"second")).await?;
    let stored = store.get(&path).await?;
    store.delete(&path).await?;
    match (second, stored.as_deref()) {
        (Created::Existed, Some(b"first")) => Ok(()),
        (Created::Existed, None) => Err(StoreError::Unavailable(format!("{path} was written, but can't be read back"))),
        (Created::New, _) | (_, Some(_)) => Err(StoreError::NoCreateOnly),
    }
}
