use std::collections::BTreeMap;

use freshet_env::PlantedBug;
use freshet_state::object::{
    Manifest, MergeHeader, MergeRange, Merged, ObjectSource, TaskSection, after_merge, encode, load_task, merge,
    plan_merge,
};
use freshet_state::paths::ObjectName;
use freshet_state::rows::RowBuffer;
use freshet_state::store::{MemoryStore, Store};
use freshet_state::{StateError, TaskId};
use proptest::prelude::*;

use crate::{PREFIX, TestEnv, header, name, rows, run, with_planted, write_delta};

type State = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fn source(store: &dyn Store) -> ObjectSource<'_> {
    ObjectSource { store, prefix: PREFIX }
}

fn merge_header(generation: u64, epoch: u64) -> MergeHeader {
    MergeHeader { generation, slot: 0, epoch, plan_fingerprint: "7c9f2b0011aa".into(), runtime_version: "0.1.0".into() }
}

fn merge_tasks(store: &dyn Store, epoch: u64, tasks: &[(TaskId, Manifest, MergeRange)]) -> Vec<Merged> {
    run(merge(source(store), &merge_header(1, epoch), tasks, &TestEnv::shared())).unwrap()
}

/// The whole state of `task` as a start would load it, by way of a commit that names a delta.
fn state_of(store: &dyn Store, manifest: &Manifest, task: &TaskId) -> State {
    thread_local!(static COMMITS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
    COMMITS.set(COMMITS.get() + 1);
    let own = name(7, 7, COMMITS.get(), 0);
    let section = TaskSection::delta(&own, task.clone(), manifest.clone(), RowBuffer::default());
    run(store.create(&format!("{PREFIX}{own}"), encode(&header(own), &[section]))).unwrap();
    let mut state = State::new();
    let loaded = run(load_task(source(store), &own.to_string(), task, &mut |row| {
        let key = (row.operator.to_owned(), row.key.to_vec());
        match row.value {
            Some(value) => state.insert(key, value.to_vec()),
            None => state.remove(&key),
        };
        Ok::<(), String>(())
    }));
    assert_eq!(loaded.as_ref(), Ok(manifest));
    state
}

fn delta(store: &dyn Store, epoch: u64, task: &TaskId, before: &Manifest, rows: RowBuffer) -> Manifest {
    write_delta(store, name(1, 0, epoch, epoch), vec![(task.clone(), before.clone(), rows)]).remove(0)
}

/// The delta of an epoch.
fn at(generation: u64, epoch: u64) -> ObjectName {
    name(generation, 0, epoch, 0)
}

fn agg(partition: u32) -> TaskId {
    TaskId::new("agg", partition)
}

#[test]
fn a_base_holds_the_last_rows_and_no_tombstones_and_later_deltas_stay() {
    let store = MemoryStore::new();
    let mut manifest = Manifest::default();
    manifest = delta(&store, 1, &agg(0), &manifest, rows(&[("b", "k", Some("1")), ("a", "z", Some("1"))]));
    manifest = delta(&store, 2, &agg(0), &manifest, rows(&[("a", "y", Some("2")), ("a", "z", None)]));
    let whole = MergeRange::whole(&manifest);
    let merged = merge_tasks(&store, 2, &[(agg(0), manifest.clone(), whole)]).remove(0);
    let later = delta(&store, 3, &agg(0), &manifest, rows(&[("a", "y", Some("3"))]));

    let after = after_merge(&later, &merged, &at(1, 4)).expect("in time");
    assert_eq!(after.deltas, later.deltas[2..]);
    let expected: State =
        [(("a".into(), b"y".to_vec()), b"3".to_vec()), (("b".into(), b"k".to_vec()), b"1".to_vec())].into();
    assert_eq!(state_of(&store, &after, &agg(0)), expected);

    let base = after.base.clone().unwrap();
    let object = run(source(&store).object(&base.object, "the test")).unwrap();
    let keys: Vec<_> = object.sections[0].iter().map(|row| row.unwrap().key.to_vec()).collect();
    assert_eq!(keys, [b"y".to_vec(), b"k".to_vec()], "sorted by operator and key, and the tombstone is gone");
    assert_eq!(base.bytes, object.sections[0].rows.len() as u64);

    // Once more, on top of that base.
    let again = MergeRange::whole(&after);
    let merged = merge_tasks(&store, 4, &[(agg(0), after.clone(), again)]).remove(0);
    let twice = after_merge(&after, &merged, &at(1, 5)).unwrap();
    assert_eq!((twice.deltas.len(), state_of(&store, &twice, &agg(0))), (0, expected));
}

#[test]
fn merged_deltas_keep_tombstones_of_what_the_base_holds() {
    let store = MemoryStore::new();
    let first = delta(&store, 1, &agg(0), &Manifest::default(), rows(&[("a", "x", Some("1")), ("a", "y", Some("1"))]));
    let merged = merge_tasks(&store, 1, &[(agg(0), first.clone(), MergeRange::whole(&first))]).remove(0);
    let mut manifest = after_merge(&first, &merged, &at(1, 2)).unwrap();
    manifest = delta(&store, 2, &agg(0), &manifest, rows(&[("a", "x", None)]));
    manifest = delta(&store, 3, &agg(0), &manifest, rows(&[("a", "z", Some("3"))]));
    let range = MergeRange { from: 0, to: 2, into_base: false };
    let merged = merge_tasks(&store, 3, &[(agg(0), manifest.clone(), range)]).remove(0);
    let after = after_merge(&manifest, &merged, &at(1, 4)).unwrap();
    assert_eq!((after.base.is_some(), after.deltas.len()), (true, 1));
    assert_eq!(state_of(&store, &after, &agg(0)), state_of(&store, &manifest, &agg(0)));
    assert!(!state_of(&store, &after, &agg(0)).contains_key(&("a".into(), b"x".to_vec())));
}

#[test]
fn a_state_that_was_all_deleted_has_no_base() {
    let store = MemoryStore::new();
    let mut manifest = delta(&store, 1, &agg(0), &Manifest::default(), rows(&[("a", "x", Some("1"))]));
    manifest = delta(&store, 2, &agg(0), &manifest, rows(&[("a", "x", None)]));
    let objects = store.len();
    let merged = merge_tasks(&store, 2, &[(agg(0), manifest.clone(), MergeRange::whole(&manifest))]).remove(0);
    assert_eq!(after_merge(&manifest, &merged, &at(1, 3)), Some(Manifest::default()));
    assert_eq!(store.len(), objects, "no object is written for no rows");
}

#[test]
fn small_tasks_share_an_object_and_large_ones_do_not() {
    let store = MemoryStore::new();
    let big = "x".repeat(6 << 20);
    let value = |partition: u32| if partition < 2 { big.as_str() } else { "small" };
    let tasks: Vec<_> = (0..5).map(|p| (agg(p), Manifest::default(), rows(&[("a", "k", Some(value(p)))]))).collect();
    let manifests = write_delta(&store, name(1, 0, 1, 1), tasks);
    let wanted: Vec<_> = (0..5).zip(&manifests).map(|(p, m)| (agg(p), m.clone(), MergeRange::whole(m))).collect();
    let merged = merge_tasks(&store, 1, &wanted);
    let bases: Vec<_> = merged
        .iter()
        .zip(&manifests)
        .map(|(merged, before)| after_merge(before, merged, &at(1, 2)).unwrap().base.unwrap().object)
        .collect();
    assert_ne!(bases[0], bases[1]);
    assert!(bases[1..].iter().all(|base| *base == bases[1]), "{bases:?}");
    for (p, merged) in (0..5).zip(&merged) {
        let after = after_merge(&manifests[p as usize], merged, &at(1, 2)).unwrap();
        assert_eq!(state_of(&store, &after, &agg(p)).len(), 1);
    }
}

#[test]
fn a_merge_is_not_taken_up_too_late_or_elsewhere_or_on_other_state() {
    let store = MemoryStore::new();
    let first = delta(&store, 1, &agg(0), &Manifest::default(), rows(&[("a", "x", Some("1"))]));
    let second = delta(&store, 2, &agg(0), &first, rows(&[("a", "x", Some("2"))]));
    let merged = merge_tasks(&store, 2, &[(agg(0), second.clone(), MergeRange::whole(&second))]).remove(0);
    assert!(after_merge(&second, &merged, &at(1, 1002)).is_some());
    assert_eq!(after_merge(&second, &merged, &at(1, 1003)), None, "too late");
    assert_eq!(after_merge(&second, &merged, &at(2, 3)), None, "another generation");
    assert_eq!(after_merge(&second, &merged, &name(1, 1, 3, 0)), None, "another slot");
    assert_eq!(after_merge(&first, &merged, &at(1, 3)), None, "the second delta was never committed");
    let base = after_merge(&second, &merged, &at(1, 3)).unwrap();
    assert_eq!(after_merge(&base, &merged, &at(1, 4)), None, "taken up already");
}

#[test]
fn a_merge_of_a_missing_part_is_an_error() {
    let store = MemoryStore::new();
    let manifest = delta(&store, 1, &agg(0), &Manifest::default(), rows(&[("a", "x", Some("1"))]));
    run(store.delete(&format!("{PREFIX}{}", name(1, 0, 1, 1)))).unwrap();
    let tasks = [(agg(0), manifest.clone(), MergeRange::whole(&manifest))];
    let error = run(merge(source(&store), &merge_header(1, 1), &tasks, &TestEnv::shared())).expect_err("missing");
    assert!(matches!(error, StateError::Missing { .. }), "{error}");
}

/// What an epoch does: set or delete keys of a small range.
type Changes = Vec<(u8, u8, Option<u8>)>;

/// Runs epochs and merges as a slot would, and compares the state with a plain map after each.
fn merges_change_nothing(epochs: &[Changes], lag: usize) -> Result<(), TestCaseError> {
    let store = MemoryStore::new();
    let task = agg(3);
    let (mut manifest, mut model) = (Manifest::default(), State::new());
    let mut pending: Vec<(usize, Merged)> = Vec::new();
    let mut taken_up = 0;
    for (turn, changes) in epochs.iter().enumerate() {
        let epoch = turn as u64 + 1;
        while let Some((_, merged)) = pending.first().filter(|(ready, _)| *ready <= turn) {
            if let Some(after) = after_merge(&manifest, merged, &at(1, epoch)) {
                manifest = after;
                taken_up += 1;
            }
            pending.remove(0);
        }
        let mut buffer = RowBuffer::default();
        for (operator, key, value) in changes {
            let operator = format!("op-{}", operator % 2);
            let tag = buffer.operator(&operator);
            match value {
                Some(value) => {
                    buffer.put(tag, &[*key % 16], &[*value]);
                    model.insert((operator, vec![*key % 16]), vec![*value]);
                }
                None => {
                    buffer.delete(tag, &[*key % 16]);
                    model.remove(&(operator, vec![*key % 16]));
                }
            }
        }
        manifest = delta(&store, epoch, &task, &manifest, buffer);
        prop_assert_eq!(&state_of(&store, &manifest, &task), &model, "after epoch {}", epoch);
        if let (Some(range), true) = (plan_merge(&manifest), pending.is_empty()) {
            let merged = merge_tasks(&store, epoch, &[(task.clone(), manifest.clone(), range)]).remove(0);
            pending.push((turn + 1 + lag, merged));
        }
    }
    prop_assert!(epochs.len() < 60 || taken_up > 0, "no merge was ever taken up");
    Ok(())
}

fn some_epochs() -> impl Strategy<Value = Vec<Changes>> {
    prop::collection::vec(prop::collection::vec((any::<u8>(), any::<u8>(), any::<Option<u8>>()), 1..6), 1..90)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn whatever_is_merged_when_the_state_stays_the_same(epochs in some_epochs(), lag in 0..5_usize) {
        merges_change_nothing(&epochs, lag)?;
    }
}

#[test]
fn planted_forgotten_deltas_are_seen() {
    let epochs: Vec<Changes> = (0..90).map(|n| vec![(0, n, Some(n))]).collect();
    merges_change_nothing(&epochs, 1).expect("without the bug all is well");
    let caught = with_planted(PlantedBug::ForgetDeltaInMerge, || merges_change_nothing(&epochs, 1));
    caught.expect_err("a delta is forgotten");
}

/// A merged object is spared until nobody may name it any more: its epoch has passed, or its generation is
/// fenced, and from then on nobody takes it up.
#[test]
fn a_merged_object_is_collected_exactly_when_it_can_no_longer_be_taken_up() {
    use std::rc::Rc;

    use freshet_state::collect::{Collector, Swept};
    use freshet_state::generation::GenerationLog;
    use freshet_state::metadata::CommitMetadata;

    let store = MemoryStore::new();
    let log = GenerationLog::new(Rc::new(store.clone()), PREFIX.to_owned());
    let manifest = delta(&store, 1, &agg(0), &Manifest::default(), rows(&[("a", "x", Some("1"))]));
    let merged = merge_tasks(&store, 1, &[(agg(0), manifest.clone(), MergeRange::whole(&manifest))]).remove(0);
    let base = after_merge(&manifest, &merged, &at(1, 2)).unwrap().base.unwrap().object;
    let collected_at = |generation, epoch| {
        let object = Some(name(1, 0, 1, 1).to_string());
        let commit = CommitMetadata { generation, epoch, slot: 0, object };
        let read = async || Ok::<_, StateError>(vec![(agg(0), Some(commit))]);
        let swept = run(Collector::new(i64::MAX).collect(source(&store), &log, read, &[], 0)).unwrap();
        let Swept::Done { waiting, .. } = swept else { panic!("{swept:?}") };
        waiting == 1
    };
    for epoch in [1, 2, 500, 1_000, 1_001, 1_002] {
        // The next epoch that may take it up is the one after the committed one.
        let may_be_taken_up = after_merge(&manifest, &merged, &at(1, epoch + 1)).is_some();
        assert_eq!(collected_at(1, epoch), !may_be_taken_up, "at epoch {epoch} ({base})");
    }
    run(log.mark_fenced(2)).unwrap();
    assert!(collected_at(1, 2), "generation 1 is fenced");
    assert_eq!(after_merge(&manifest, &merged, &at(2, 1)), None);
}
