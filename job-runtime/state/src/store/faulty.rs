//! A store that misbehaves as it is told: a test aid of the simulation (feature `faults` only).

use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use freshet_env::SharedEnv;

use super::{Created, Store, StoreError};

/// What is asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOperation {
    /// [`Store::create`].
    Create,
    /// [`Store::get`].
    Get,
    /// [`Store::list`].
    List,
    /// [`Store::delete`].
    Delete,
}

/// How an operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Works,
    /// [`StoreError::Unavailable`], and nothing has happened.
    FailsBefore,
    /// [`StoreError::Unavailable`], though it has happened.
    FailsAfter,
}

/// What happens to one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFault {
    /// How long the request travels before the store sees it.
    pub before: Duration,
    /// How long the answer travels.
    pub after: Duration,
    /// How it ends.
    pub outcome: Outcome,
}

impl StoreFault {
    /// No fault.
    pub const NONE: Self = Self { before: Duration::ZERO, after: Duration::ZERO, outcome: Outcome::Works };
}

/// Decides what happens to an operation on a path.
type Decide = Rc<dyn Fn(StoreOperation, &str) -> StoreFault>;

/// A store whose every operation is decided on by `decide`, given the operation and the path.
#[derive(Clone)]
pub struct FaultyStore<S> {
    inner: S,
    env: SharedEnv,
    decide: Decide,
}

impl<S> std::fmt::Debug for FaultyStore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore").finish_non_exhaustive()
    }
}

impl<S: Store> FaultyStore<S> {
    /// `inner` behind faults that take their time from `env`.
    pub fn new(inner: S, env: SharedEnv, decide: impl Fn(StoreOperation, &str) -> StoreFault + 'static) -> Self {
        Self { inner, env, decide: Rc::new(decide) }
    }

    async fn through<T>(
        &self,
        operation: StoreOperation,
        path: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fault = (self.decide)(operation, path);
        self.pass(fault.before).await;
        if fault.outcome == Outcome::FailsBefore {
            return Err(StoreError::Unavailable(format!("planned: {operation:?} {path} did not arrive")));
        }
        let result = work.await;
        self.pass(fault.after).await;
        if fault.outcome == Outcome::FailsAfter {
            return Err(StoreError::Unavailable(format!("planned: the answer to {operation:?} {path} got lost")));
        }
        result
    }

    async fn pass(&self, time: Duration) {
        if time > Duration::ZERO {
            self.env.sleep(time).await;
        }
    }
}

#[async_trait(?Send)]
impl<S: Store> Store for FaultyStore<S> {
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created, StoreError> {
        self.through(StoreOperation::Create, path, self.inner.create(path, bytes)).await
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        self.through(StoreOperation::Get, path, self.inner.get(path)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.through(StoreOperation::List, prefix, self.inner.list(prefix)).await
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.through(StoreOperation::Delete, path, self.inner.delete(path)).await
    }

    async fn overwrite(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.overwrite(path, bytes).await
    }
}
