use std::rc::Rc;

use freshet_state::lineage::{
    Asked, FixedFacts, Lineage, LineageError, Owner, StartPositions, all_records, begin, ended, newest_record,
    open_existing, open_or_create, take,
};
use freshet_state::store::{Created, FaultyStore, MemoryStore, Outcome, Store, StoreFault, StoreOperation};
use freshet_state::{StateError, TaskId};

use crate::{JOB, TestEnv, owner, run};

const FACTS: FixedFacts = FixedFacts { max_parallelism: 8 };

fn open_as(store: &MemoryStore, owner: &Owner, id: &str) -> Result<Lineage, LineageError> {
    run(open_or_create(Rc::new(store.clone()), JOB, owner, &FACTS, || id.to_owned(), 1_000))
}

#[test]
fn a_job_finds_its_lineage_again() {
    let store = MemoryStore::new();
    let first = open_as(&store, &owner(), "r1-aaaaaa").unwrap();
    assert_eq!((first.id(), first.is_new(), first.prefix()), ("r1-aaaaaa", true, "shop/fraud/r1-aaaaaa/"));
    let again = open_as(&store, &owner(), "r1-bbbbbb").unwrap();
    assert_eq!((again.id(), again.is_new()), ("r1-aaaaaa", false));
    let paths = run(store.list("")).unwrap();
    assert_eq!(paths, ["shop/fraud/lineages/00000001", "shop/fraud/r1-aaaaaa/birth"]);
}

#[test]
fn workers_that_start_at_once_get_one_lineage() {
    let store = MemoryStore::new();
    let ids = run(async {
        let open = |id: &'static str| {
            let slow = FaultyStore::new(store.clone(), Rc::new(freshet_env::RealEnv::new()), move |operation, path| {
                let ms = (id.len() as u64 + path.len() as u64 + operation as u64) % 3;
                StoreFault { before: std::time::Duration::from_millis(ms), ..StoreFault::NONE }
            });
            async move {
                let id = id.to_owned();
                open_or_create(Rc::new(slow), JOB, &owner(), &FACTS, move || id, 0).await.unwrap().id().to_owned()
            }
        };
        futures::future::join_all(["r1-a", "r1-bb", "r1-ccc", "r1-dddd"].map(open)).await
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(run(store.list("shop/fraud/lineages/")).unwrap().len(), 1);
}

#[test]
fn a_creator_that_died_before_the_birth_is_finished_by_the_next() {
    let store = MemoryStore::new();
    let dies = FaultyStore::new(store.clone(), TestEnv::shared(), |operation, path| {
        let fails = operation == StoreOperation::Create && path.ends_with("birth");
        StoreFault { outcome: if fails { Outcome::FailsBefore } else { Outcome::Works }, ..StoreFault::NONE }
    });
    let died = run(open_or_create(Rc::new(dies), JOB, &owner(), &FACTS, || "r1-a".into(), 0));
    assert!(matches!(died, Err(LineageError::State(error)) if error.is_transient()));
    let next = open_as(&store, &owner(), "r1-b").unwrap();
    assert_eq!((next.id(), next.is_new()), ("r1-a", false));
}

#[test]
fn another_clusters_lineage_is_refused_until_it_is_taken_over() {
    let store = MemoryStore::new();
    let first = open_as(&store, &owner(), "r1-a").unwrap();
    let other = Owner { cluster: "cluster-b".into(), ..owner() };
    let error = open_as(&store, &other, "r1-b").expect_err("another cluster's");
    assert!(matches!(&error, LineageError::OwnedElsewhere { lineage, .. } if lineage == "r1-a"), "{error}");
    assert!(error.to_string().contains("cluster-a"), "{error}");

    let asked = Asked { by: "job".into(), made_at_ms: 0, generation: 1, nonce: String::new() };
    let (number, record) = run(newest_record(&store, JOB)).unwrap().unwrap();
    for created in [Created::New, Created::Existed] {
        assert_eq!(run(take(&store, JOB, (number, &record), &other, &asked, 5)).unwrap(), created);
    }
    let taken = open_as(&store, &other, "r1-b").unwrap();
    assert_eq!((taken.id(), taken.born_at_ms()), ("r1-a", 1_000), "it was born when it was born");
    assert_eq!(run(taken.check_still_ours(JOB)), Ok(()));
    let former = first.check_still_ours(JOB);
    assert!(
        matches!(run(former), Err(LineageError::OwnedElsewhere { .. })),
        "nothing is handed out in it by whoever had it"
    );
    assert!(matches!(open_as(&store, &owner(), "r1-c"), Err(LineageError::OwnedElsewhere { .. })));
    assert_eq!(run(newest_record(&store, JOB)).unwrap().map(|(number, _)| number), Some(2));
}

#[test]
fn max_parallelism_is_fixed_for_a_lineage() {
    let store = MemoryStore::new();
    open_as(&store, &owner(), "r1-a").unwrap();
    let more = FixedFacts { max_parallelism: 9 };
    let error = run(open_or_create(Rc::new(store), JOB, &owner(), &more, || "r1-b".into(), 0)).expect_err("fixed");
    assert!(error.to_string().contains("maxParallelism 8, asked for 9"), "{error}");
}

#[test]
fn an_ended_lineage_is_followed_by_the_next() {
    let store = MemoryStore::new();
    let first = open_as(&store, &owner(), "r1-a").unwrap();
    assert_eq!(run(first.ended()), Ok(None));
    let ended = run(first.end("restored from a savepoint", 7)).unwrap();
    assert_eq!(run(first.end("a second time", 8)), Ok(ended), "the first end counts");
    let second = open_as(&store, &owner(), "r2-b").unwrap();
    assert_eq!((second.id(), second.is_new(), second.number()), ("r2-b", true, 2));
    assert_eq!(second.record().previous.as_deref(), Some("r1-a"));
}

#[test]
fn ids_that_would_be_folders_of_something_else_are_refused() {
    for id in ["", "lineages", "probe", "a/b", "Ümlaut", "A", "x".repeat(33).as_str()] {
        let error = open_as(&MemoryStore::new(), &owner(), id).expect_err(id);
        assert_eq!(error, LineageError::BadId(id.to_owned()));
    }
}

#[test]
fn start_positions_of_old_lineages_are_read() {
    let store = MemoryStore::new();
    let lineage = open_as(&store, &owner(), "r1-a").unwrap();
    assert_eq!(run(lineage.start_positions()), Ok(None));
    store.damage(&format!("{}start", lineage.prefix()), include_bytes!("../golden/start-v1.txt").as_slice().into());
    let positions = StartPositions([(("t".to_owned(), 0), 3), (("t".to_owned(), 11), 5)].into());
    assert_eq!(run(lineage.start_positions()), Ok(Some(positions)));
}

#[test]
fn a_worker_finds_a_lineage_and_starts_none() {
    let store = MemoryStore::new();
    let find = || run(open_existing(Rc::new(store.clone()), JOB, &owner()));
    assert!(find().unwrap().is_none());
    assert!(store.is_empty(), "nothing is written");
    let lineage = open_as(&store, &owner(), "r1-a").unwrap();
    assert_eq!(find().unwrap().unwrap().id(), "r1-a");
    let stranger = Owner { name: "other".into(), ..owner() };
    let refused = run(open_existing(Rc::new(store.clone()), JOB, &stranger));
    assert!(matches!(refused, Err(LineageError::OwnedElsewhere { .. })), "{refused:?}");
    run(lineage.end("retired", 9)).unwrap();
    assert!(find().unwrap().is_none(), "it has ended");
    open_as(&store, &owner(), "r2-b").unwrap();
    let numbers: Vec<u64> = run(all_records(&store, JOB)).unwrap().into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [2, 1], "the newest first");
}

#[test]
fn tasks_that_have_begun_are_those_of_all_marks() {
    let store = MemoryStore::new();
    let lineage = open_as(&store, &owner(), "r1-a").unwrap();
    let task = |partition| TaskId::new("agg", partition);
    run(async {
        assert_eq!(lineage.begun_tasks().await, Ok([].into()));
        lineage.mark_begun(1, 0, 1, [task(0), task(1)]).await.unwrap();
        lineage.mark_begun(1, 0, 1, [task(0), task(1)]).await.unwrap();
        lineage.mark_begun(1, 1, 1, [task(2)]).await.unwrap();
        assert_eq!(lineage.begun_tasks().await, Ok([task(0), task(1), task(2)].into()));
        let other = lineage.mark_begun(1, 0, 1, [task(9)]).await;
        assert!(matches!(other, Err(StateError::Foreign { field: "tasks", .. })), "{other:?}");
    });
}

#[test]
fn a_lineage_that_is_asked_for_follows_under_the_next_number_once() {
    let store = MemoryStore::new();
    let first = open_as(&store, &owner(), "r-a").unwrap();
    let asked = Asked { by: "job".into(), made_at_ms: 0, generation: 1, nonce: "x".into() };
    let newest = run(newest_record(&store, JOB)).unwrap();
    run(first.end("as asked", 5)).unwrap();
    assert!(run(ended(&store, JOB, &newest.as_ref().unwrap().1)).unwrap().is_some());
    for (id, created) in [("r-b", Created::New), ("r-c", Created::Existed)] {
        let began = run(begin(&store, JOB, newest.as_ref(), id.to_owned(), &owner(), &asked, 7));
        assert_eq!(began.unwrap(), created);
    }
    let second = open_as(&store, &owner(), "r-d").unwrap();
    assert_eq!((second.id(), second.number(), second.record().previous.as_deref()), ("r-b", 2, Some("r-a")));
    assert_eq!(second.record().asked.as_ref(), Some(&asked));
    let late = run(first.check_still_ours(JOB));
    assert!(matches!(&late, Err(LineageError::Overtaken { lineage, .. }) if lineage == "r-b"), "{late:?}");
    let bad = run(begin(&store, JOB, None, "lineages".to_owned(), &owner(), &asked, 7));
    assert_eq!(bad, Err(LineageError::BadId("lineages".to_owned())));
}
