use bytes::Bytes;
use freshet_env::PlantedBug;
use freshet_state::object::{
    LoadError, Manifest, ObjectError, ObjectHeader, ObjectSource, Part, StoredSection, TaskSection, decode, describe,
    encode, load_task, load_tasks, read_manifests,
};
use freshet_state::paths::{ObjectKind, ObjectName};
use freshet_state::rows::RowBuffer;
use freshet_state::store::{MemoryStore, Store};
use freshet_state::{StateError, TaskId};
use proptest::prelude::*;

use crate::{CountingStore, LINEAGE, PREFIX, header, name, rows, run, with_planted, write_delta};

fn sample() -> (ObjectHeader, Vec<TaskSection>) {
    let own = name(12, 3, 42, 0x0123_4567_89ab_cdef);
    let part = |object: ObjectName, bytes| Part { object: object.to_string(), bytes };
    let base = ObjectName { kind: ObjectKind::Merged, ..name(11, 1, 1_040, 5) };
    let before = Manifest { base: Some(part(base, 70_000)), deltas: vec![part(name(12, 3, 41, 9), 300)] };
    let changed = rows(&[
        ("agg-77ab", "konto-1", Some("5|10.00")),
        ("agg-77ab", "konto-2", None),
        ("source", "", Some("")),
        ("agg-77ab", "schlüssel", Some("ü")),
    ]);
    let sections = vec![
        TaskSection::delta(&own, TaskId::new("agg-77ab", 0), before.clone(), changed),
        TaskSection::delta(&own, TaskId::new("agg-77ab", 7), before, RowBuffer::default()),
        TaskSection::delta(
            &own,
            TaskId::new("transactions-1f0c", 3),
            Manifest::default(),
            rows(&[("w", "k", Some("v"))]),
        ),
    ];
    (header(own), sections)
}

/// The encoding is read for ever: it changes only together with its version.
#[test]
fn the_encoding_is_the_one_of_the_golden_file() {
    let (header, sections) = sample();
    let bytes = encode(&header, &sections);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/object-v1.bin");
    let golden = Bytes::from(std::fs::read(path).unwrap());
    let read = decode(&golden).unwrap();
    assert_eq!(read.header, header);
    assert_eq!(read.sections.iter().map(StoredSection::to_section).collect::<Vec<_>>(), sections);
    assert_eq!(bytes, golden, "the same state is encoded otherwise than before");
}

#[test]
fn any_flipped_bit_and_any_cut_is_detected() {
    let (header, sections) = sample();
    let whole = encode(&header, &sections);
    for at in 0..whole.len() {
        assert!(decode(&whole.slice(..at)).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 1 << bit;
            assert!(decode(&damaged.into()).is_err(), "bit {bit} of byte {at}");
        }
    }
    let longer = [&whole[..], b"x"].concat();
    assert!(decode(&longer.into()).is_err());
}

#[test]
fn planted_ignored_checksums_let_damage_through() {
    let (header, sections) = sample();
    let mut damaged = encode(&header, &sections).to_vec();
    let at = damaged.windows(7).position(|window| window == b"konto-1").unwrap();
    damaged[at] ^= 1;
    let damaged = Bytes::from(damaged);
    assert!(matches!(decode(&damaged), Err(ObjectError::Corrupt { .. })));
    let read = with_planted(PlantedBug::IgnoreChecksum, || decode(&damaged));
    assert_eq!(read.unwrap().sections[0].iter().next().unwrap().unwrap().key, b"jonto-1");
}

#[test]
fn a_newer_version_is_named() {
    let (header, sections) = sample();
    let mut newer = encode(&header, &sections).to_vec();
    newer[8] = 9;
    assert_eq!(decode(&newer.into()), Err(ObjectError::Newer { found: 9 }));
}

type Row = (u8, Vec<u8>, Option<Vec<u8>>);

fn buffer(rows: &[Row]) -> RowBuffer {
    let mut buffer = RowBuffer::default();
    for (operator, key, value) in rows {
        let tag = buffer.operator(&format!("op-{operator}"));
        match value {
            Some(value) => buffer.put(tag, key, value),
            None => buffer.delete(tag, key),
        }
    }
    buffer
}

prop_compose! {
    fn any_name()(generation: u64, slot: u32, epoch: u64, random: u64, merged: bool) -> ObjectName {
        let kind = if merged { ObjectKind::Merged } else { ObjectKind::Delta };
        ObjectName { generation, slot, kind, epoch, random }
    }
}

prop_compose! {
    fn any_part()(object in any_name(), bytes: u64) -> Part {
        Part { object: object.to_string(), bytes }
    }
}

prop_compose! {
    fn any_section()(
        stage in "[a-z0-9-]{1,8}",
        partition: u32,
        base in prop::option::of(any_part()),
        deltas in prop::collection::vec(any_part(), 0..4),
        rows in prop::collection::vec((0..3_u8, any::<Vec<u8>>(), any::<Option<Vec<u8>>>()), 0..12),
    ) -> TaskSection {
        TaskSection { task: TaskId::new(stage, partition), manifest: Manifest { base, deltas }, rows: buffer(&rows) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn decoding_gives_back_what_was_encoded(
        name in any_name(),
        sections in prop::collection::vec(any_section(), 0..6),
        lineage in "\\PC{0,20}",
    ) {
        let header = ObjectHeader { lineage, ..header(name) };
        let bytes = encode(&header, &sections);
        let read = decode(&bytes).unwrap();
        prop_assert_eq!(read.bytes, bytes.len() as u64);
        prop_assert_eq!(read.header, header);
        prop_assert_eq!(read.sections.iter().map(StoredSection::to_section).collect::<Vec<_>>(), sections);
    }

    #[test]
    fn bytes_of_any_kind_never_panic(
        bytes: Vec<u8>,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        prop_assert!(decode(&bytes.into()).is_err());
        let (header, sections) = sample();
        let whole = encode(&header, &sections);
        let mut damaged = whole.to_vec();
        for (index, mask) in flips {
            let at = index.index(damaged.len());
            damaged[at] ^= mask;
        }
        let changed = damaged != whole[..];
        prop_assert_eq!(decode(&damaged.clone().into()).is_err(), changed);
        // Even where nothing is checked, nothing but an error comes out.
        let unchecked = with_planted(PlantedBug::IgnoreChecksum, || decode(&damaged.into()));
        if let Ok(object) = unchecked {
            object.sections.iter().for_each(|section| section.iter().for_each(drop));
        }
    }
}

fn task(partition: u32) -> TaskId {
    TaskId::new("agg", partition)
}

fn source(store: &dyn Store) -> ObjectSource<'_> {
    ObjectSource { store, prefix: PREFIX }
}

fn load(store: &dyn Store, wanted: &[(TaskId, String)]) -> Result<Vec<String>, LoadError<String>> {
    let mut seen = Vec::new();
    run(load_tasks(source(store), wanted, &mut |task, row| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let value = row.value.map_or("-".into(), text);
        seen.push(format!("{task} {} {}={value}", row.operator, text(row.key)));
        Ok::<(), String>(())
    }))?;
    Ok(seen)
}

/// Two tasks whose state is spread over three deltas of one slot.
fn three_deltas(store: &dyn Store) -> [ObjectName; 3] {
    let names = [name(1, 0, 1, 1), name(1, 0, 2, 2), name(1, 0, 3, 3)];
    let empty = Manifest::default;
    let after = write_delta(
        store,
        names[0],
        vec![(task(0), empty(), rows(&[("a", "x", Some("1"))])), (task(1), empty(), rows(&[("a", "y", Some("1"))]))],
    );
    let after = write_delta(
        store,
        names[1],
        vec![
            (task(0), after[0].clone(), rows(&[("a", "x", Some("2")), ("b", "z", Some("2"))])),
            (task(1), after[1].clone(), RowBuffer::default()),
        ],
    );
    write_delta(
        store,
        names[2],
        vec![
            (task(0), after[0].clone(), rows(&[("a", "x", None)])),
            (task(1), after[1].clone(), rows(&[("a", "y", Some("3"))])),
        ],
    );
    names
}

#[test]
fn tasks_get_their_rows_in_order_and_each_object_is_fetched_once() {
    let store = CountingStore::new(MemoryStore::new());
    let names = three_deltas(&store);
    let wanted = [(task(0), names[2].to_string()), (task(1), names[2].to_string())];
    let seen = load(&store, &wanted).unwrap();
    assert_eq!(seen, ["agg/0 a x=1", "agg/0 a x=2", "agg/0 b z=2", "agg/0 a x=-", "agg/1 a y=1", "agg/1 a y=3"]);
    assert_eq!(store.gets.borrow().values().copied().collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn an_older_commit_gives_the_older_state() {
    let store = MemoryStore::new();
    let names = three_deltas(&store);
    let mut count = 0;
    let manifest = run(load_task(source(&store), &names[1].to_string(), &task(0), &mut |_| {
        count += 1;
        Ok::<(), String>(())
    }))
    .unwrap();
    assert_eq!((count, manifest.deltas.len()), (3, 2));
    let manifests = run(read_manifests(source(&store), &[(task(1), names[1].to_string())])).unwrap();
    assert_eq!(manifests[&task(1)].parts().map(|part| part.object.clone()).collect::<Vec<_>>(), [names[0].to_string()]);
}

#[test]
fn a_missing_object_is_named_with_who_names_it() {
    let store = MemoryStore::new();
    let names = three_deltas(&store);
    let wanted = [(task(0), names[2].to_string())];
    run(store.delete(&format!("{PREFIX}{}", names[0]))).unwrap();
    let error = load(&store, &wanted).expect_err("its first delta is gone").to_string();
    assert!(error.contains(&format!("{PREFIX}{} is missing", names[0])), "{error}");
    assert!(error.contains(&names[2].to_string()) && error.contains("agg/0"), "{error}");
    run(store.delete(&format!("{PREFIX}{}", names[2]))).unwrap();
    let error = load(&store, &wanted).expect_err("the named object is gone");
    let LoadError::State(StateError::Missing { path, named_by }) = error else { panic!("{error}") };
    assert_eq!(path, format!("{PREFIX}{}", names[2]));
    assert!(named_by.contains("committed offset of task agg/0"), "{named_by}");
}

#[test]
fn a_corrupt_object_is_named_with_the_place() {
    let store = MemoryStore::new();
    let names = three_deltas(&store);
    let path = format!("{PREFIX}{}", names[1]);
    let whole = run(store.get(&path)).unwrap().unwrap();
    store.damage(&path, whole.slice(..whole.len() - 1));
    let error = load(&store, &[(task(0), names[2].to_string())]).expect_err("cut short");
    let LoadError::State(StateError::Corrupt { path: named, .. }) = error else { panic!("{error}") };
    assert_eq!(named, path);
}

#[test]
fn an_object_in_another_place_or_of_another_lineage_is_refused() {
    let store = MemoryStore::new();
    let names = three_deltas(&store);
    let first = run(store.get(&format!("{PREFIX}{}", names[0]))).unwrap().unwrap();
    store.damage(&format!("{PREFIX}{}", names[1]), first);
    let error = load(&store, &[(task(0), names[2].to_string())]).expect_err("epoch 1 in the place of epoch 2");
    let LoadError::State(StateError::Foreign { field: "name", found, wanted, .. }) = error else { panic!("{error}") };
    assert_eq!((found, wanted), (names[0].to_string(), names[1].to_string()));

    let own = name(1, 0, 9, 9);
    let copied = encode(&ObjectHeader { lineage: "r9-other".into(), ..header(own) }, &[]);
    store.damage(&format!("{PREFIX}{own}"), copied);
    let error = load(&store, &[(task(0), own.to_string())]).expect_err("another lineage's");
    let LoadError::State(StateError::Foreign { field: "lineage", found, wanted, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!((found.as_str(), wanted.as_str()), ("r9-other", LINEAGE));
}

#[test]
fn a_task_that_the_object_does_not_know_and_a_refused_row_are_errors() {
    let store = MemoryStore::new();
    let names = three_deltas(&store);
    let error = load(&store, &[(task(5), names[2].to_string())]).expect_err("no such task");
    assert!(matches!(error, LoadError::State(StateError::NoTask { .. })), "{error}");
    let object = names[2].to_string();
    let error = run(load_task(source(&store), &object, &task(0), &mut |row| match row.operator {
        "b" => Err("no operator b"),
        _ => Ok(()),
    }))
    .expect_err("b is refused");
    assert_eq!(error, LoadError::Row { task: task(0), error: "no operator b" });
}

#[test]
fn an_object_can_be_looked_into() {
    let (header, sections) = sample();
    let seen = describe(&encode(&header, &sections)).unwrap();
    assert_eq!((seen.kind, seen.epoch, seen.slot, seen.tasks.len()), ("delta", 42, 3, 3));
    let first = &seen.tasks[0];
    assert_eq!((first.task.as_str(), first.deltas.len(), first.damage.as_deref()), ("agg-77ab/0", 2, None));
    let operator = &first.operators["agg-77ab"];
    assert_eq!((operator.rows, operator.tombstones), (2, 1));
    assert_eq!(operator.first_keys, ["\"konto-1\"", "\"konto-2\"", "\"schlüssel\""]);
    let text = seen.to_string();
    for line in [
        "delta g00000012/s0003/e000000000042-0123456789abcdef (382 bytes)\n",
        "  lineage r1-8k3f9q, generation 12, slot 3, epoch 42\n",
        "task agg-77ab/7: 70300 bytes of state, 0 of them here\n",
        "  base   g00000011/s0001/m000000001040-0000000000000005      70000 bytes\n",
        "  here   agg-77ab: 2 rows, 1 tombstones, 33 bytes\n         keys \"konto-1\", \"konto-2\", \"schlüssel\"\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let json = serde_json::to_value(&seen).unwrap();
    assert_eq!(json["tasks"][0]["base"]["bytes"], 70_000);
    assert_eq!(json["planFingerprint"], "7c9f2b0011aa");
}
