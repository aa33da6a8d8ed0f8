//! Dense ids for byte strings.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Keys and their ids: the n-th key that was added has id n − 1.
#[derive(Debug, Clone, Default)]
pub struct GroupTable {
    slots: HashTable<Slot>,
    hasher: DefaultHashBuilder,
    /// Keys, back to back in the order of their ids.
    bytes: Vec<u8>,
    /// Where each key ends in `bytes`.
    ends: Vec<usize>,
}

/// Half the hash stands beside the id: a table that grows reads no keys, and most keys that differ are
/// told apart without looking at them.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    id: u32,
}

impl Slot {
    /// The table takes its index from the low bits and its tag from the highest seven.
    const fn spread(hash: u32) -> u64 {
        (hash as u64) << 32 | hash as u64
    }
}

impl GroupTable {
    /// The id of `key`, which is added if it is not there.
    ///
    /// # Panics
    /// Beyond 2³² − 1 keys: long after memory has ended.
    #[inline]
    pub fn id_of(&mut self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key) as u32;
        let Self { slots, bytes, ends, .. } = self;
        let entry = slots.entry(
            Slot::spread(hash),
            |slot| slot.hash == hash && key_at(bytes, ends, slot.id) == key,
            |slot| Slot::spread(slot.hash),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(found) => found.get().id,
            hashbrown::hash_table::Entry::Vacant(place) => {
                let id = u32::try_from(ends.len()).expect("fewer than 2^32 groups in a window");
                place.insert(Slot { hash, id });
                bytes.extend_from_slice(key);
                ends.push(bytes.len());
                id
            }
        }
    }

    /// Takes the key with this id out: it gets another id when it comes again. The id is not given out again, and
    /// [`GroupTable::key`] still knows its key.
    pub fn forget(&mut self, id: u32) {
        let Self { slots, hasher, bytes, ends } = self;
        let hash = hasher.hash_one(key_at(bytes, ends, id)) as u32;
        if let Ok(slot) = slots.find_entry(Slot::spread(hash), |slot| slot.id == id) {
            slot.remove();
        }
    }

    /// The key with this id.
    ///
    /// # Panics
    /// When there is none.
    #[inline]
    #[must_use]
    pub fn key(&self, id: u32) -> &[u8] {
        key_at(&self.bytes, &self.ends, id)
    }

    /// How many keys there are: all ids are below it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All ids, in the order of their keys' bytes. They are compared by the eight bytes behind what all keys begin
    /// with, and only where those are equal by all: a table's keys often begin alike, and lie apart in memory.
    #[must_use]
    pub fn sorted_ids(&self) -> Vec<u32> {
        let ids = 0..self.len() as u32;
        if ids.is_empty() {
            return Vec::new();
        }
        let first = self.key(0);
        let shared = ids.clone().fold(first.len(), |shared, id| {
            first[..shared].iter().zip(self.key(id)).take_while(|(a, b)| a == b).count()
        });
        let behind = |id: u32| &self.key(id)[shared..];
        let mut sorted: Vec<(u64, u32)> = ids.map(|id| (leading(behind(id)), id)).collect();
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| behind(a.1).cmp(behind(b.1))));
        sorted.into_iter().map(|(_, id)| id).collect()
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.ends.capacity() * size_of::<usize>()
            + self.slots.capacity() * (size_of::<Slot>() + 1) * 8 / 7
    }

    /// Bytes of all keys.
    #[must_use]
    pub fn key_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets the keys and keeps the memory.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.bytes.clear();
        self.ends.clear();
    }
}

/// The first eight bytes as a number, noughts behind shorter ones: keys whose numbers differ are ordered by them.
fn leading(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = key.len().min(8);
    bytes[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(bytes)
}

#[inline]
fn key_at<'a>(bytes: &'a [u8], ends: &[usize], id: u32) -> &'a [u8] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    &bytes[start..ends[id]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_share_an_id_and_ids_are_dense() {
        let mut table = GroupTable::default();
        for round in 0..2 {
            for n in 0..10_000_u32 {
                assert_eq!(table.id_of(&n.to_be_bytes()), n, "round {round}");
            }
        }
        assert_eq!(table.id_of(b""), 10_000);
        assert_eq!(table.len(), 10_001);
        assert_eq!(table.key(7), 7_u32.to_be_bytes());
        assert_eq!(table.key(10_000), b"");
    }

    #[test]
    fn ids_sort_by_key() {
        let mut table = GroupTable::default();
        for key in ["b", "", "ab", "a", "c"] {
            table.id_of(key.as_bytes());
        }
        let sorted: Vec<_> = table.sorted_ids().into_iter().map(|id| table.key(id).to_vec()).collect();
        assert_eq!(sorted, [&b""[..], b"a", b"ab", b"b", b"c"]);
        assert_eq!(GroupTable::default().sorted_ids(), Vec::<u32>::new());
    }

    proptest::proptest! {
        /// Whatever keys have in common, and however long they are.
        #[test]
        fn the_order_is_that_of_bytes(
            shared in proptest::collection::vec(0..3_u8, 0..12),
            ends in proptest::collection::vec(proptest::collection::vec(0..3_u8, 0..12), 1..60),
        ) {
            let mut table = GroupTable::default();
            for end in &ends {
                table.id_of(&[shared.as_slice(), end].concat());
            }
            let sorted: Vec<_> = table.sorted_ids().into_iter().map(|id| table.key(id).to_vec()).collect();
            let mut wanted: Vec<_> = (0..table.len() as u32).map(|id| table.key(id).to_vec()).collect();
            wanted.sort();
            proptest::prop_assert_eq!(sorted, wanted);
        }
    }

    #[test]
    fn a_key_that_was_forgotten_gets_another_id() {
        let mut table = GroupTable::default();
        for key in ["a", "b", "c"] {
            table.id_of(key.as_bytes());
        }
        table.forget(1);
        table.forget(1);
        assert_eq!((table.id_of(b"a"), table.id_of(b"c")), (0, 2));
        assert_eq!((table.id_of(b"b"), table.key(1), table.len()), (3, &b"b"[..], 4));
    }

    #[test]
    fn a_cleared_table_starts_anew() {
        let mut table = GroupTable::default();
        table.id_of(b"a");
        table.clear();
        assert!(table.is_empty());
        assert_eq!(table.id_of(b"b"), 0);
    }
}
