use std::rc::Rc;

use freshet_env::PlantedBug;
use freshet_state::generation::{Generation, GenerationLog, Pointer, PointerOffset, Proposed, Retired, Standing};
use freshet_state::run_policy::{BadRecords, LateRecords, RunPolicy};
use freshet_state::store::{FaultyStore, MemoryStore, Outcome, Store, StoreFault, StoreOperation};
use freshet_state::{StateError, TaskId};

use crate::{PREFIX, TestEnv, generation, run, with_planted};

fn log(store: &MemoryStore) -> GenerationLog {
    GenerationLog::new(Rc::new(store.clone()), PREFIX.to_owned())
}

#[test]
fn the_stored_generation_is_the_assignment() {
    let log = log(&MemoryStore::new());
    let told = [generation(1, 2, &[("a", 0, 0), ("a", 1, 1)]), generation(1, 2, &[("a", 0, 1), ("a", 1, 0)])];
    run(async {
        assert_eq!(log.latest().await, Ok(None));
        assert_eq!(log.propose(&told[0]).await, Ok(Proposed::Ours(told[0].clone())));
        assert_eq!(log.propose(&told[1]).await, Ok(Proposed::Adopted(told[0].clone())));
        assert_eq!(log.propose(&told[0]).await, Ok(Proposed::Ours(told[0].clone())), "asked twice");
        assert_eq!(log.latest().await, Ok(Some(told[0].clone())));
        assert_eq!(log.get(2).await, Ok(None));
        let tasks: Vec<_> = told[0].tasks_of(1).cloned().collect();
        assert_eq!(tasks, [TaskId::new("a", 1)]);
    });
}

#[test]
fn a_proposal_whose_answer_got_lost_is_still_ours() {
    let store = MemoryStore::new();
    let losing = FaultyStore::new(store.clone(), TestEnv::shared(), |operation, _| {
        let outcome = if operation == StoreOperation::Create { Outcome::FailsAfter } else { Outcome::Works };
        StoreFault { outcome, ..StoreFault::NONE }
    });
    let proposal = generation(1, 1, &[("a", 0, 0)]);
    let lost = run(GenerationLog::new(Rc::new(losing), PREFIX.to_owned()).propose(&proposal));
    assert!(lost.is_err_and(|error| error.is_transient()));
    assert_eq!(run(log(&store).propose(&proposal)), Ok(Proposed::Ours(proposal)));
}

#[test]
fn planted_overwriting_makes_two_assignments_of_one_number() {
    let log = log(&MemoryStore::new());
    let told = [generation(1, 2, &[("a", 0, 0)]), generation(1, 2, &[("a", 0, 1)])];
    let ours = with_planted(PlantedBug::OverwriteGeneration, || told.clone().map(|one| run(log.propose(&one))));
    assert_eq!(ours, told.map(|one| Ok(Proposed::Ours(one))), "both believe in their own");
}

#[test]
fn a_generation_that_makes_no_sense_is_not_written() {
    let store = MemoryStore::new();
    for bad in [generation(1, 1, &[("a", 0, 1)]), generation(0, 1, &[])] {
        let error = run(log(&store).propose(&bad)).expect_err("makes no sense");
        assert!(matches!(error, StateError::Malformed { .. }), "{error}");
    }
    assert!(store.is_empty());
}

/// What was handed out by a runtime of any version is read by every later one; the bytes never change.
#[test]
fn generations_are_stored_as_they_always_were() {
    let store = MemoryStore::new();
    let log = log(&store);
    let path = |number: u64| format!("{PREFIX}generations/g{number:08}");
    let second = Generation {
        number: 7,
        slots: 2,
        assignment: [(TaskId::new("a", 0), 0), (TaskId::new("a", 11), 1)].into(),
        partition_counts: [("payments.transactions".to_owned(), 12)].into(),
        plan_fingerprint: "7c9f2b0011aa".into(),
        policy: Some(RunPolicy {
            on_bad_record: BadRecords::DeadLetter { topic: "dead".into() },
            on_late: LateRecords::Drop,
            epoch_interval_ms: 500,
        }),
        starts: [(TaskId::new("a", 0), 5), (TaskId::new("a", 11), 0)].into(),
        renamed: [("agg-1".to_owned(), "agg-1-r7".to_owned())].into(),
        retired: [
            ("agg-1".to_owned(), Retired { since: 5, topic: None }),
            ("b-00ff".to_owned(), Retired { since: 6, topic: Some("refunds".into()) }),
        ]
        .into(),
        ..generation(7, 2, &[])
    };
    let first = Generation {
        number: 4,
        policy: None,
        starts: [].into(),
        renamed: [].into(),
        retired: [].into(),
        ..second.clone()
    };
    run(async {
        let golden: [&[u8]; 2] =
            [include_bytes!("../golden/generation-v1.txt"), include_bytes!("../golden/generation-v2.txt")];
        store.damage(&path(4), golden[0].into());
        store.damage(&path(7), golden[1].into());
        assert_eq!(log.get(4).await, Ok(Some(first)));
        assert_eq!(log.get(7).await, Ok(Some(second.clone())));
        let again = MemoryStore::new();
        GenerationLog::new(Rc::new(again.clone()), PREFIX.to_owned()).propose(&second).await.unwrap();
        let written = again.get(&path(7)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(golden[1]));
    });
}

#[test]
fn a_revision_follows_plan_and_policy_and_nothing_else() {
    let one = generation(4, 2, &[("a", 0, 1)]);
    let moved = Generation { number: 5, slots: 9, starts: [(TaskId::new("a", 0), 5)].into(), ..one.clone() };
    assert_eq!(one.revision(), moved.revision());
    let other = Generation { plan_fingerprint: "another".into(), ..one.clone() };
    assert_ne!(one.revision(), other.revision());
    let mut slower = one.clone();
    slower.policy.as_mut().unwrap().epoch_interval_ms = 501;
    assert_ne!(one.revision(), slower.revision());
    assert_eq!(one.revision().len(), 12);
}

#[test]
fn a_tombstone_has_no_slots_and_the_next_number() {
    let last = generation(4, 2, &[("a", 0, 1)]);
    let tombstone = last.tombstone(9);
    assert!(tombstone.is_tombstone() && !last.is_tombstone());
    assert_eq!((tombstone.number, tombstone.slots, tombstone.assignment.len()), (5, 0, 0));
    let log = log(&MemoryStore::new());
    assert_eq!(run(log.propose(&tombstone)), Ok(Proposed::Ours(tombstone)));
}

#[test]
fn what_must_be_fenced_reaches_back_to_the_newest_mark() {
    let log = log(&MemoryStore::new());
    run(async {
        let numbers = |generations: Vec<freshet_state::generation::Generation>| {
            generations.iter().map(|generation| generation.number).collect::<Vec<_>>()
        };
        for number in [1, 2, 4, 10] {
            log.propose(&generation(number, 1, &[])).await.unwrap();
        }
        assert_eq!(log.numbers().await, Ok(vec![1, 2, 4, 10]));
        assert_eq!(log.latest_number().await, Ok(10));
        assert_eq!((log.fenced_before().await, log.is_marked(1).await), (Ok(0), Ok(false)));
        assert_eq!(numbers(log.unfenced_before(10).await.unwrap()), [1, 2, 4]);
        log.mark_fenced(2).await.unwrap();
        log.mark_fenced(2).await.unwrap();
        assert_eq!(
            (log.is_marked(1).await, log.is_marked(2).await, log.is_marked(4).await),
            (Ok(true), Ok(true), Ok(false))
        );
        assert_eq!(numbers(log.unfenced_before(10).await.unwrap()), [2, 4]);
        log.mark_fenced(10).await.unwrap();
        assert_eq!(log.unfenced_before(4).await, Ok(vec![]));
    });
}

#[test]
fn incarnations_count_up_for_each_slot_of_a_generation() {
    let store = MemoryStore::new();
    let log = log(&store);
    run(async {
        assert_eq!(log.latest_incarnation(3, 0).await, Ok(0));
        assert_eq!(log.start_incarnation(3, 0, 7, 1).await, Ok(1));
        assert_eq!(log.start_incarnation(3, 0, 7, 2).await, Ok(2));
        assert_eq!(log.start_incarnation(3, 1, 7, 3).await, Ok(1));
        assert_eq!(log.start_incarnation(4, 0, 7, 4).await, Ok(1));
        assert_eq!(log.latest_incarnation(3, 0).await, Ok(2));
    });
}

#[test]
fn starts_that_race_get_different_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || {
                let log = GenerationLog::new(freshet_state::store::open(&url, None).unwrap(), PREFIX.to_owned());
                run(async {
                    let mut numbers = Vec::new();
                    for _ in 0..20 {
                        numbers.push(log.start_incarnation(1, 0, 7, 0).await.unwrap());
                    }
                    numbers
                })
            })
        })
        .collect();
    let mut numbers: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=160).collect::<Vec<_>>());
}

#[test]
fn of_two_assignments_told_under_one_number_all_racers_adopt_one() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let threads: Vec<_> = (0..8_u32)
        .map(|slot| {
            let url = url.clone();
            std::thread::spawn(move || {
                let log = GenerationLog::new(freshet_state::store::open(&url, None).unwrap(), PREFIX.to_owned());
                run(async {
                    let mut stored = Vec::new();
                    for number in 1..=20 {
                        let told = generation(number, 8, &[("a", 0, slot)]);
                        stored.push(log.propose(&told).await.unwrap().into_stored());
                    }
                    stored
                })
            })
        })
        .collect();
    let stored: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(stored.iter().all(|one| *one == stored[0]), "workers hold different assignments of one number");
}

#[test]
fn processes_of_a_slot_are_ranked_whatever_the_generation() {
    let store = MemoryStore::new();
    let log = log(&store);
    run(async {
        assert_eq!(log.latest_process(0).await, Ok(0));
        assert_eq!((log.enlist(0, "a", 1).await, log.enlist(1, "b", 2).await), (Ok(1), Ok(1)));
        assert_eq!((log.enlist(0, "c", 3).await, log.latest_process(0).await), (Ok(2), Ok(2)));
        assert_eq!(log.latest_process(1).await, Ok(1));
    });
}

fn pointer(epoch: u64) -> Pointer {
    let offset = PointerOffset {
        group: "freshet.r1.a".into(),
        topic: "t".into(),
        partition: 3,
        offset: 99,
        metadata: "v1|2|7|0|".into(),
    };
    Pointer { epoch, stopped_at_ms: 5, offsets: vec![offset] }
}

#[test]
fn a_pointer_is_written_once_for_each_incarnation() {
    let store = MemoryStore::new();
    let log = log(&store);
    run(async {
        assert_eq!(log.standing(2, 0).await, Ok(Standing::Untouched));
        log.write_pointer(2, 0, 1, &pointer(7)).await.unwrap();
        log.write_pointer(2, 0, 1, &pointer(7)).await.unwrap();
        assert_eq!(log.standing(2, 0).await, Ok(Standing::Stopped(pointer(7))));
        assert_eq!(log.standing(2, 1).await, Ok(Standing::Untouched), "another slot");
        let refused = log.write_pointer(2, 0, 1, &pointer(8)).await;
        assert!(matches!(refused, Err(StateError::Foreign { .. })), "{refused:?}");
    });
}

#[test]
fn a_pointer_counts_until_a_later_start_has_resumed() {
    let store = MemoryStore::new();
    let log = log(&store);
    run(async {
        log.mark_resumed(2, 0, 1, 0).await.unwrap();
        assert_eq!(log.standing(2, 0).await, Ok(Standing::WentOn));
        log.write_pointer(2, 0, 1, &pointer(7)).await.unwrap();
        // Starts that die on their way leave it as good as it was.
        log.start_incarnation(2, 0, 1, 0).await.unwrap();
        log.start_incarnation(2, 0, 2, 0).await.unwrap();
        assert_eq!(log.standing(2, 0).await, Ok(Standing::Stopped(pointer(7))));
        log.mark_resumed(2, 0, 4, 0).await.unwrap();
        log.mark_resumed(2, 0, 4, 0).await.unwrap();
        assert_eq!(log.standing(2, 0).await, Ok(Standing::WentOn));
        // One that stood still writes its pointer when others have gone on.
        log.write_pointer(2, 0, 3, &pointer(8)).await.unwrap();
        assert_eq!(log.standing(2, 0).await, Ok(Standing::WentOn));
        log.write_pointer(2, 0, 4, &pointer(9)).await.unwrap();
        assert_eq!(log.standing(2, 0).await, Ok(Standing::Stopped(pointer(9))));
    });
}

#[test]
fn planted_trust_in_a_spent_pointer() {
    let log = log(&MemoryStore::new());
    run(log.write_pointer(2, 0, 1, &pointer(7))).unwrap();
    run(log.mark_resumed(2, 0, 2, 0)).unwrap();
    let standing = with_planted(PlantedBug::HonourSpentPointer, || run(log.standing(2, 0)));
    assert_eq!(standing, Ok(Standing::Stopped(pointer(7))));
}

#[test]
fn a_damaged_or_misplaced_generation_is_named() {
    let store = MemoryStore::new();
    let log = log(&store);
    run(async {
        log.propose(&generation(1, 1, &[])).await.unwrap();
        let path = |number: u64| format!("{PREFIX}generations/g{number:08}");
        let bytes = store.get(&path(1)).await.unwrap().unwrap();
        store.damage(&path(2), bytes.clone());
        let error = log.latest().await.expect_err("generation 1 under the number 2");
        assert!(matches!(error, StateError::Foreign { field: "number", .. }), "{error}");
        store.damage(&path(2), bytes.slice(1..));
        let error = log.latest().await.expect_err("cut").to_string();
        assert!(error.contains(&path(2)) && error.contains("corrupt"), "{error}");
    });
}
