//! The crate's rooms against stores in memory and in a real folder. No server is needed.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod assign;
mod collect;
mod generation;
mod lineage;
mod merge;
mod objects;
mod store;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use freshet_env::{Env, LocalFuture, PlantedBug, SharedEnv};
use freshet_plan::Plan;
use freshet_state::TaskId;
use freshet_state::generation::Generation;
use freshet_state::lineage::Owner;
use freshet_state::object::{Manifest, ObjectHeader, TaskSection, encode};
use freshet_state::paths::{ObjectKind, ObjectName};
use freshet_state::rows::RowBuffer;
use freshet_state::run_policy::{BadRecords, LateRecords, RunPolicy};
use freshet_state::store::{Created, Store, StoreError};

/// Runs `future` to its end on this thread.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// Time that stands still unless somebody sleeps, and numbers in a row for chance.
#[derive(Default)]
pub struct TestEnv {
    now: Cell<Duration>,
    random: Cell<u64>,
}

impl TestEnv {
    pub fn shared() -> SharedEnv {
        Rc::new(Self::default())
    }
}

impl Env for TestEnv {
    fn now_ms(&self) -> i64 {
        self.now.get().as_millis() as i64
    }

    fn monotonic(&self) -> Duration {
        self.now.get()
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        self.now.set(self.now.get() + duration);
        Box::pin(std::future::ready(()))
    }

    fn random_u64(&self) -> u64 {
        self.random.set(self.random.get() + 1);
        self.random.get()
    }

    fn crash_point(&self, _label: &'static str) -> LocalFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send + 'static>) -> LocalFuture<'static, ()> {
        work();
        Box::pin(std::future::ready(()))
    }
}

/// Switches `bug` on while `work` runs.
pub fn with_planted<T>(bug: PlantedBug, work: impl FnOnce() -> T) -> T {
    freshet_env::plant(Some(bug));
    let result = work();
    freshet_env::plant(None);
    result
}

/// Counts how often each path was fetched.
pub struct CountingStore<S> {
    pub inner: S,
    pub gets: std::cell::RefCell<std::collections::BTreeMap<String, u32>>,
}

impl<S> CountingStore<S> {
    pub fn new(inner: S) -> Self {
        Self { inner, gets: Default::default() }
    }
}

#[async_trait(?Send)]
impl<S: Store> Store for CountingStore<S> {
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created, StoreError> {
        self.inner.create(path, bytes).await
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        *self.gets.borrow_mut().entry(path.to_owned()).or_insert(0) += 1;
        self.inner.get(path).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.inner.delete(path).await
    }

    async fn overwrite(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.overwrite(path, bytes).await
    }
}

pub const LINEAGE: &str = "r1-8k3f9q";
pub const PREFIX: &str = "shop/fraud/r1-8k3f9q/";
pub const JOB: &str = "shop/fraud/";

pub fn owner() -> Owner {
    Owner { cluster: "cluster-a".into(), namespace: "shop".into(), name: "fraud".into() }
}

pub fn name(generation: u64, slot: u32, epoch: u64, random: u64) -> ObjectName {
    ObjectName { generation, slot, kind: ObjectKind::Delta, epoch, random }
}

pub fn header(name: ObjectName) -> ObjectHeader {
    ObjectHeader {
        lineage: LINEAGE.into(),
        name,
        plan_fingerprint: "7c9f2b0011aa".into(),
        runtime_version: "0.1.0".into(),
    }
}

/// Rows (operator, key, value); no value is a tombstone.
pub fn rows(rows: &[(&str, &str, Option<&str>)]) -> RowBuffer {
    let mut buffer = RowBuffer::default();
    for (operator, key, value) in rows {
        let tag = buffer.operator(operator);
        match value {
            Some(value) => buffer.put(tag, key.as_bytes(), value.as_bytes()),
            None => buffer.delete(tag, key.as_bytes()),
        }
    }
    buffer
}

/// Writes a delta of these tasks and gives back their manifests after it.
pub fn write_delta(store: &dyn Store, name: ObjectName, tasks: Vec<(TaskId, Manifest, RowBuffer)>) -> Vec<Manifest> {
    let sections: Vec<_> =
        tasks.into_iter().map(|(task, before, rows)| TaskSection::delta(&name, task, before, rows)).collect();
    let path = format!("{PREFIX}{name}");
    assert_eq!(run(store.create(&path, encode(&header(name), &sections))), Ok(Created::New));
    sections.into_iter().map(|section| section.manifest).collect()
}

pub fn generation(number: u64, slots: u32, tasks: &[(&str, u32, u32)]) -> Generation {
    let plan = Plan { version: 1, max_parallelism: 8, stages: Vec::new() };
    Generation {
        number,
        slots,
        assignment: tasks.iter().map(|(stage, partition, slot)| (TaskId::new(*stage, *partition), *slot)).collect(),
        partition_counts: [("payments.transactions".to_owned(), 4)].into(),
        topic_ids: [].into(),
        plan_fingerprint: plan.fingerprint(),
        plan,
        policy: Some(RunPolicy { on_bad_record: BadRecords::Fail, on_late: LateRecords::Drop, epoch_interval_ms: 500 }),
        starts: [].into(),
        renamed: [].into(),
        retired: [].into(),
        created_at_ms: 1_700_000_000_000,
    }
}
