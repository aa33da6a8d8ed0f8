use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use freshet_env::Env as _;
use freshet_state::store::{
    Created, FaultyStore, MemoryStore, Outcome, Store, StoreError, StoreFault, StoreOperation, create_own, open,
    probe_create_only,
};

use crate::{TestEnv, run};

fn folder() -> (tempfile::TempDir, Rc<dyn Store>) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/state", folder.path().display());
    (folder, open(&url, None).unwrap())
}

/// What every store does.
async fn keeps_the_contract(store: &dyn Store) {
    assert_eq!(store.list("").await, Ok(vec![]));
    assert_eq!(store.get("a/b").await, Ok(None));
    assert_eq!(store.create("a/b", Bytes::from_static(b"1")).await, Ok(Created::New));
    assert_eq!(store.create("a/b", Bytes::from_static(b"2")).await, Ok(Created::Existed));
    assert_eq!(store.get("a/b").await, Ok(Some(Bytes::from_static(b"1"))));
    assert_eq!(store.create("a/c/d", Bytes::new()).await, Ok(Created::New));
    assert_eq!(store.get("a/c/d").await, Ok(Some(Bytes::new())));
    assert_eq!(store.create("ab/x", Bytes::from(vec![7; 3 << 20])).await, Ok(Created::New));
    assert_eq!(store.get("ab/x").await.unwrap().unwrap().len(), 3 << 20);
    assert_eq!(store.list("").await, Ok(vec!["a/b".into(), "a/c/d".into(), "ab/x".into()]));
    assert_eq!(store.list("a/").await, Ok(vec!["a/b".into(), "a/c/d".into()]));
    assert_eq!(store.list("none/").await, Ok(vec![]));
    assert_eq!(store.delete("a/b").await, Ok(()));
    assert_eq!(store.delete("a/b").await, Ok(()));
    assert_eq!(store.get("a/b").await, Ok(None));
    assert_eq!(probe_create_only(store, "", 7).await, Ok(()));
    assert_eq!(store.list("").await, Ok(vec!["a/c/d".into(), "ab/x".into()]));
}

#[test]
fn memory_keeps_the_contract() {
    run(keeps_the_contract(&MemoryStore::new()));
    let opened = open("memory://", None).unwrap();
    run(keeps_the_contract(&*opened));
}

#[test]
fn a_folder_keeps_the_contract_and_leaves_no_staged_files() {
    let (folder, store) = folder();
    run(keeps_the_contract(&*store));
    let mut files = Vec::new();
    let mut folders = vec![folder.path().to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert_eq!(files.len(), 2, "{files:?}");
}

#[test]
fn a_staged_file_of_a_killed_writer_is_neither_listed_nor_in_the_way() {
    let (folder, store) = folder();
    let path = folder.path().join("state/a");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("x#1"), b"ha").unwrap();
    run(async {
        assert_eq!(store.list("").await, Ok(vec![]));
        assert_eq!(store.create("a/x", Bytes::from_static(b"whole")).await, Ok(Created::New));
        assert_eq!(store.list("").await, Ok(vec!["a/x".into()]));
        assert_eq!(store.get("a/x").await, Ok(Some(Bytes::from_static(b"whole"))));
    });
}

#[test]
fn of_eight_threads_that_create_one_object_one_succeeds_and_its_bytes_stay() {
    const THREADS: usize = 8;
    const OBJECTS: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (url, barrier) = (url.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                let store = open(&url, None).unwrap();
                run(async {
                    let mut won = Vec::new();
                    for object in 0..OBJECTS {
                        barrier.wait();
                        let bytes = Bytes::from(vec![thread as u8; 10_000]);
                        if store.create(&format!("g/{object}"), bytes).await.unwrap() == Created::New {
                            won.push((object, thread as u8));
                        }
                    }
                    won
                })
            })
        })
        .collect();
    let mut won: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    won.sort_unstable();
    assert_eq!(won.iter().map(|(object, _)| *object).collect::<Vec<_>>(), (0..OBJECTS).collect::<Vec<_>>());
    let store = open(&url, None).unwrap();
    run(async {
        for (object, thread) in won {
            let stored = store.get(&format!("g/{object}")).await.unwrap().unwrap();
            assert_eq!(stored, vec![thread; 10_000], "object {object} is not its only creator's");
        }
    });
}

#[test]
fn what_makes_a_folder_unusable_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let store = open(&format!("file://{}/file", folder.path().display()), None).unwrap();
    let error = run(store.create("a/b", Bytes::new())).expect_err("a file is no folder");
    assert!(matches!(error, StoreError::Unusable(_)), "{error}");
}

/// A store that overwrites, as one without conditional writes does.
struct Overwriting(MemoryStore);

#[async_trait(?Send)]
impl Store for Overwriting {
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created, StoreError> {
        self.0.overwrite(path, bytes).await.map(|()| Created::New)
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        self.0.get(path).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.0.list(prefix).await
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.0.delete(path).await
    }

    async fn overwrite(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.0.overwrite(path, bytes).await
    }
}

#[test]
fn a_store_without_create_only_writes_is_refused() {
    let memory = MemoryStore::new();
    assert_eq!(run(probe_create_only(&Overwriting(memory.clone()), "job/", 1)), Err(StoreError::NoCreateOnly));
    assert!(memory.is_empty(), "the probe cleans up after itself");
}

#[test]
fn a_create_whose_answer_got_lost_is_found_again() {
    let memory = MemoryStore::new();
    let answers = std::cell::Cell::new(0);
    let losing = FaultyStore::new(memory.clone(), TestEnv::shared(), move |operation, _| {
        answers.set(answers.get() + 1);
        let lost = operation == StoreOperation::Create && answers.get() == 1;
        let outcome = if lost { Outcome::FailsAfter } else { Outcome::Works };
        StoreFault { outcome, ..StoreFault::NONE }
    });
    run(async {
        let bytes = Bytes::from_static(b"mine");
        let first = create_own(&losing, "own", bytes.clone()).await;
        assert!(matches!(first, Err(StoreError::Unavailable(_))), "{first:?}");
        assert_eq!(memory.get("own").await, Ok(Some(bytes.clone())));
        assert_eq!(create_own(&losing, "own", bytes).await, Ok(()));
        let other = create_own(&losing, "own", Bytes::from_static(b"other")).await;
        assert!(matches!(other, Err(StoreError::Unusable(_))), "{other:?}");
    });
}

#[test]
fn planned_faults_take_their_time_and_happen_before_or_after() {
    let memory = MemoryStore::new();
    let env = std::rc::Rc::new(TestEnv::default());
    let faulty = FaultyStore::new(memory.clone(), env.clone(), |_, path| StoreFault {
        before: Duration::from_millis(20),
        after: Duration::from_millis(3),
        outcome: if path == "never" { Outcome::FailsBefore } else { Outcome::Works },
    });
    run(async {
        assert!(matches!(faulty.create("never", Bytes::new()).await, Err(StoreError::Unavailable(_))));
        assert_eq!(env.now_ms(), 20);
        assert_eq!(faulty.create("done", Bytes::new()).await, Ok(Created::New));
        assert_eq!(env.now_ms(), 43);
        assert_eq!(memory.list("").await, Ok(vec!["done".into()]));
    });
}
