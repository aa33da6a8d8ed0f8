use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use freshet_env::PlantedBug;
use freshet_state::collect::{Collector, Facts, Swept, garbage};
use freshet_state::generation::{GenerationLog, Pointer, PointerOffset};
use freshet_state::metadata::CommitMetadata;
use freshet_state::object::{Manifest, ObjectSource};
use freshet_state::paths::LineagePath;
use freshet_state::store::{MemoryStore, Store};
use freshet_state::{StateError, TaskId};
use proptest::prelude::*;

use crate::{PREFIX, generation, name, rows, run, with_planted, write_delta};

fn source(store: &MemoryStore) -> ObjectSource<'_> {
    ObjectSource { store, prefix: PREFIX }
}

fn log(store: &MemoryStore) -> GenerationLog {
    GenerationLog::new(Rc::new(store.clone()), PREFIX.to_owned())
}

fn task() -> TaskId {
    TaskId::new("agg", 0)
}

fn commit(generation: u64, epoch: u64, object: &str) -> CommitMetadata {
    CommitMetadata { generation, epoch, slot: 0, object: Some(object.to_owned()) }
}

fn collect(
    store: &MemoryStore,
    collector: &mut Collector,
    commits: &[Option<CommitMetadata>],
    now_ms: i64,
) -> Result<Swept, StateError> {
    let commits = commits.iter().map(|commit| (task(), commit.clone())).collect();
    run(collector.collect(source(store), &log(store), async || Ok::<_, StateError>(commits), &[], now_ms))
}

fn write(store: &MemoryStore, generation: u64, epoch: u64, random: u64, before: &Manifest) -> Manifest {
    let rows = rows(&[("a", "k", Some("v"))]);
    write_delta(store, name(generation, 0, epoch, random), vec![(task(), before.clone(), rows)]).remove(0)
}

fn names(store: &MemoryStore) -> BTreeSet<String> {
    let listed = run(store.list(PREFIX)).unwrap();
    listed.iter().filter_map(|path| path[PREFIX.len()..].parse().ok()).map(|p: LineagePath| p.to_string()).collect()
}

#[test]
fn an_object_is_garbage_only_when_nothing_reaches_it_nor_can() {
    let object = |generation, epoch| LineagePath::Object(name(generation, 0, epoch, 1));
    let facts = Facts {
        existing: vec![
            LineagePath::Birth,
            LineagePath::Start,
            LineagePath::Generation(1),
            LineagePath::Fenced(2),
            LineagePath::Begun { generation: 1, slot: 0, incarnation: 1 },
            LineagePath::Incarnation { generation: 1, slot: 0, incarnation: 1 },
            LineagePath::Pointer { generation: 1, slot: 0, incarnation: 1 },
            LineagePath::Pointer { generation: 2, slot: 0, incarnation: 1 },
            LineagePath::Resumed { generation: 1, slot: 0, incarnation: 1 },
            LineagePath::Resumed { generation: 2, slot: 0, incarnation: 1 },
            LineagePath::Process { slot: 0, rank: 1 },
            LineagePath::Process { slot: 0, rank: 2 },
            LineagePath::Process { slot: 1, rank: 1 },
            object(1, 9),
            object(2, 4),
            object(2, 5),
            object(2, 6),
            object(3, 1),
        ],
        reachable: [name(2, 0, 4, 1).to_string()].into(),
        fenced_before: 2,
        committed: [((2, 0), 5)].into(),
    };
    let expected = [
        "g00000001/s0000/start-000001".to_owned(),
        "g00000001/s0000/pointer-000001".to_owned(),
        "g00000001/s0000/resumed-000001".to_owned(),
        "processes/s0000-000001".to_owned(),
        name(1, 0, 9, 1).to_string(),
        name(2, 0, 5, 1).to_string(),
    ];
    assert_eq!(garbage(&facts), expected);
    // Some task has not committed in the newer generation yet: what its slot left in the older one may be needed.
    let facts = Facts { committed: [((2, 0), 5), ((1, 1), 3)].into(), ..facts };
    assert!(garbage(&facts).iter().all(|path| !path.contains("pointer") && !path.contains("resumed")));
}

#[test]
fn what_a_commit_reaches_stays_and_the_rest_goes_after_its_grace_time() {
    let store = MemoryStore::new();
    let first = write(&store, 1, 1, 1, &Manifest::default());
    write(&store, 1, 2, 66, &first); // aborted
    write(&store, 1, 2, 2, &first);
    write(&store, 1, 3, 3, &first); // under way
    let commits = [Some(commit(1, 2, &name(1, 0, 2, 2).to_string()))];
    let mut collector = Collector::new(1_000);
    let waiting = Swept::Done { deleted: 0, waiting: 1, kept: 3 };
    assert_eq!(collect(&store, &mut collector, &commits, 10_000), Ok(waiting.clone()));
    assert_eq!(collect(&store, &mut collector, &commits, 10_999), Ok(waiting));
    assert_eq!(collect(&store, &mut collector, &commits, 11_000), Ok(Swept::Done { deleted: 1, waiting: 0, kept: 3 }));
    let left = [name(1, 0, 1, 1), name(1, 0, 2, 2), name(1, 0, 3, 3)].map(|name| name.to_string());
    assert_eq!(names(&store), left.into());
}

#[test]
fn before_every_task_has_committed_nothing_is_collected() {
    let store = MemoryStore::new();
    write(&store, 1, 1, 1, &Manifest::default());
    let commits = [Some(commit(1, 9, &name(1, 0, 1, 1).to_string())), None];
    assert_eq!(collect(&store, &mut Collector::new(0), &commits, 0), Ok(Swept::TooEarly(task())));
}

#[test]
fn pointers_and_pins_keep_what_they_name() {
    let store = MemoryStore::new();
    for random in 1..=4 {
        write(&store, 1, 1, random, &Manifest::default());
    }
    let named = |random| name(1, 0, 1, random).to_string();
    let offset = PointerOffset {
        group: "g".into(),
        topic: "t".into(),
        partition: 0,
        offset: 5,
        metadata: commit(1, 1, &named(1)).to_string(),
    };
    run(log(&store).write_pointer(1, 0, 1, &Pointer { epoch: 1, stopped_at_ms: 0, offsets: vec![offset] })).unwrap();
    let commits = vec![(task(), Some(commit(1, 1, &named(2))))];
    let read = async || Ok::<_, StateError>(commits);
    let swept = run(Collector::new(0).collect(source(&store), &log(&store), read, &[named(3)], 0));
    assert_eq!(swept, Ok(Swept::Done { deleted: 1, waiting: 0, kept: 3 }));
    assert!(!names(&store).contains(&named(4)));
}

#[test]
fn nothing_is_deleted_when_a_named_object_is_missing() {
    let store = MemoryStore::new();
    write(&store, 1, 1, 1, &Manifest::default());
    let commits = [Some(commit(1, 5, &name(1, 0, 5, 5).to_string()))];
    let error = collect(&store, &mut Collector::new(0), &commits, 0).expect_err("missing");
    assert!(matches!(error, StateError::Missing { .. }), "{error}");
    assert_eq!(names(&store).len(), 1);
}

/// One step of a history in which slots write, commit and abort, generations follow one another, and a
/// collector's two steps fall anywhere between.
#[derive(Debug, Clone, Copy)]
enum Step {
    Write,
    Commit,
    Abort,
    Rescale,
    Fence,
    Look,
    ReadCommits,
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Step::{Abort, Commit, Fence, Look, ReadCommits, Rescale, Sweep, Write};
    prop::collection::vec(
        prop::sample::select(vec![
            Write,
            Write,
            Write,
            Commit,
            Commit,
            Commit,
            Abort,
            Rescale,
            Fence,
            Look,
            Look,
            ReadCommits,
            ReadCommits,
            Sweep,
            Sweep,
        ]),
        1..120,
    )
}

/// Runs a history of one task and says whether the committed state could always be loaded.
fn committed_state_is_always_there(history: &[Step]) -> Result<u64, TestCaseError> {
    let store = MemoryStore::new();
    let log = log(&store);
    let mut collector = Collector::new(0);
    // What Kafka knows: the commit, and whether a transaction of the generation is still under way.
    let mut committed: Option<(CommitMetadata, Manifest)> = None;
    let mut under_way: BTreeMap<u64, (u64, u64, Manifest)> = BTreeMap::new();
    let (mut newest, mut fenced, mut random, mut deleted) = (1, 0, 0, 0);
    run(log.propose(&generation(1, 1, &[]))).unwrap();
    let (mut look, mut read) = (None, None);
    for step in history {
        match step {
            // The newest generation writes, but so does a zombie whose ids are not fenced yet.
            Step::Write => {
                random += 1;
                let writer = if random % 5 == 0 { fenced.max(1) } else { newest };
                let epoch = match &committed {
                    Some((commit, _)) if commit.generation == writer => commit.epoch + 1,
                    Some((commit, _)) if commit.generation > writer => continue,
                    _ => 1,
                };
                let before = committed.as_ref().map(|(_, manifest)| manifest.clone()).unwrap_or_default();
                let keep = before.deltas.len().saturating_sub(3);
                let before = Manifest { base: None, deltas: before.deltas[keep..].to_vec() };
                let after = write(&store, writer, epoch, random, &before);
                under_way.insert(writer, (epoch, random, after));
            }
            Step::Commit => {
                let Some((generation, (epoch, random, manifest))) = under_way.pop_last() else { continue };
                // Whoever commits in a generation has fenced all before it, and read what was committed after that.
                if generation > fenced {
                    fenced = generation;
                    under_way.retain(|generation, _| *generation >= fenced);
                    run(log.mark_fenced(fenced)).unwrap();
                }
                let object = name(generation, 0, epoch, random).to_string();
                committed = Some((commit(generation, epoch, &object), manifest));
            }
            Step::Abort => drop(under_way.pop_first()),
            Step::Rescale => {
                newest += 1;
                run(log.propose(&generation(newest, 1, &[]))).unwrap();
            }
            // After this no earlier generation commits any more.
            Step::Fence => {
                fenced = newest;
                under_way.retain(|generation, _| *generation >= fenced);
                run(log.mark_fenced(fenced)).unwrap();
            }
            // Commits that were read before it are worth nothing.
            Step::Look => {
                look = Some(run(Collector::look(source(&store), &log)).unwrap());
                read = None;
            }
            Step::ReadCommits => read = look.is_some().then(|| committed.clone().map(|(commit, _)| commit)),
            Step::Sweep => {
                let (Some(look), Some(read)) = (look.take(), read.take()) else { continue };
                let swept = run(collector.sweep(source(&store), look, &[(task(), read)], &[], 0));
                match swept {
                    Ok(Swept::Done { deleted: more, .. }) => deleted += more,
                    Ok(Swept::TooEarly(_)) => {}
                    // What was committed when the commits were read may be gone after another sweep; the
                    // collector then leaves everything as it is.
                    Err(error) => prop_assert!(matches!(error, StateError::Missing { .. }), "{}", error),
                }
            }
        }
        if let Some((commit, manifest)) = &committed {
            let here = names(&store);
            let named = commit.object.iter().chain(manifest.deltas.iter().map(|part| &part.object));
            for object in named {
                prop_assert!(here.contains(object), "{} is gone, {} names it", object, commit);
            }
        }
    }
    Ok(deleted)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn whatever_happens_when_what_is_committed_stays(history in steps()) {
        committed_state_is_always_there(&history)?;
    }
}

#[test]
fn planted_collection_of_named_objects_is_seen() {
    use Step::{Commit, Look, ReadCommits, Sweep, Write};
    let history = [Write, Commit, Write, Commit, Look, ReadCommits, Sweep, Write, Look, ReadCommits, Sweep];
    committed_state_is_always_there(&history).expect("without the bug all is well");
    let caught = with_planted(PlantedBug::CollectNamedObject, || committed_state_is_always_there(&history));
    caught.expect_err("a named object is collected");
}

#[test]
fn histories_do_collect_something() {
    use Step::{Abort, Commit, Look, ReadCommits, Sweep, Write};
    let history = [Write, Abort, Write, Commit, Write, Commit, Look, ReadCommits, Sweep];
    assert_eq!(committed_state_is_always_there(&history).unwrap(), 1);
}
