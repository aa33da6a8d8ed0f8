//! Sessions by their group's key.
//!
//! A group has one session, mostly; several only where rows come out of order or the watermark is behind. So a hash table
//! holds the first session of each key, and the others of the key are linked behind it. Sessions have dense ids, by
//! which their accumulators are found. An id whose session has gone is not used again before the table is copied.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// One session. Times are in ms since the Unix epoch.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// The time by which it is known in the state: never changed, between its first row and its last.
    pub anchor: i64,
    /// The time of its first row.
    pub first: i64,
    /// The time of its last row.
    pub last: i64,
    /// Whether it changed since the last snapshot.
    pub changed: bool,
    /// Whether it has a row in the state.
    pub saved: bool,
    live: bool,
    /// The next session of the same key.
    next: Option<u32>,
    /// Where its key ends.
    key_end: usize,
}

/// The sessions of all groups.
#[derive(Debug, Clone, Default)]
pub(super) struct SessionTable {
    heads: HashTable<u32>,
    hasher: DefaultHashBuilder,
    sessions: Vec<Session>,
    /// Their keys, back to back in the order of their ids.
    keys: Vec<u8>,
    live: usize,
}

fn key_of<'k>(sessions: &[Session], keys: &'k [u8], id: u32) -> &'k [u8] {
    let id = id as usize;
    let start = if id == 0 { 0 } else { sessions[id - 1].key_end };
    &keys[start..sessions[id].key_end]
}

impl SessionTable {
    /// A new session of `key` that holds rows from `first` to `last`, known by `anchor`.
    ///
    /// # Panics
    /// Beyond 2³² − 1 sessions: long after memory has ended.
    pub fn add(&mut self, key: &[u8], anchor: i64, (first, last): (i64, i64)) -> u32 {
        let id = u32::try_from(self.sessions.len()).expect("fewer than 2^32 sessions");
        let hash = self.hasher.hash_one(key);
        let Self { heads, hasher, sessions, keys, live } = self;
        let entry = heads.entry(
            hash,
            |head| key_of(sessions, keys, *head) == key,
            |head| hasher.hash_one(key_of(sessions, keys, *head)),
        );
        let next = match entry {
            Entry::Occupied(mut found) => Some(std::mem::replace(found.get_mut(), id)),
            Entry::Vacant(place) => {
                place.insert(id);
                None
            }
        };
        keys.extend_from_slice(key);
        let key_end = keys.len();
        sessions.push(Session { anchor, first, last, changed: false, saved: false, live: true, next, key_end });
        *live += 1;
        id
    }

    /// The sessions of `key`, the newest first.
    pub fn of_key(&self, key: &[u8]) -> impl Iterator<Item = u32> {
        let hash = self.hasher.hash_one(key);
        let head = self.heads.find(hash, |head| self.key(*head) == key).copied();
        std::iter::successors(head, |id| self.sessions[*id as usize].next)
    }

    /// Takes a session away. Its id and its key stay what they are.
    pub fn remove(&mut self, id: u32) {
        let Self { heads, hasher, sessions, keys, live } = self;
        let key = key_of(sessions, keys, id);
        let next = sessions[id as usize].next.take();
        if let Ok(mut head) = heads.find_entry(hasher.hash_one(key), |head| key_of(sessions, keys, *head) == key) {
            if *head.get() == id {
                match next {
                    Some(next) => *head.get_mut() = next,
                    None => drop(head.remove()),
                }
            } else {
                let mut at = Some(*head.get());
                while let Some(before) = at {
                    at = sessions[before as usize].next;
                    if at == Some(id) {
                        sessions[before as usize].next = next;
                        break;
                    }
                }
            }
        }
        sessions[id as usize].live = false;
        *live -= 1;
    }

    pub fn key(&self, id: u32) -> &[u8] {
        key_of(&self.sessions, &self.keys, id)
    }

    pub fn get(&self, id: u32) -> &Session {
        &self.sessions[id as usize]
    }

    pub fn get_mut(&mut self, id: u32) -> &mut Session {
        &mut self.sessions[id as usize]
    }

    /// Whether it has not been taken away.
    pub fn is_live(&self, id: u32) -> bool {
        self.sessions[id as usize].live
    }

    /// The ids of those that have not.
    pub fn live_ids(&self) -> Vec<u32> {
        (0..self.sessions.len() as u32).filter(|id| self.is_live(*id)).collect()
    }

    /// How many of them there are.
    pub const fn live(&self) -> usize {
        self.live
    }

    /// All ids are below it.
    pub const fn len(&self) -> usize {
        self.sessions.len()
    }

    /// The same sessions without those that were taken away: the n-th of `live` has id n.
    pub fn copied(&self, live: &[u32]) -> Self {
        let mut copy = Self::default();
        // Those of one key keep their order.
        for id in live {
            let Session { anchor, first, last, changed, saved, .. } = *self.get(*id);
            let new = copy.add(self.key(*id), anchor, (first, last));
            let session = copy.get_mut(new);
            (session.changed, session.saved) = (changed, saved);
        }
        copy
    }

    pub fn memory_bytes(&self) -> usize {
        self.keys.capacity()
            + self.sessions.capacity() * size_of::<Session>()
            + self.heads.capacity() * (size_of::<u32>() + 1) * 8 / 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_key(table: &SessionTable, key: &str) -> Vec<i64> {
        table.of_key(key.as_bytes()).map(|id| table.get(id).first).collect()
    }

    #[test]
    fn sessions_of_a_key_come_and_go_in_any_order() {
        for gone in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut table = SessionTable::default();
            for time in 0..3 {
                table.add(b"a", time, (time, time));
                table.add(b"b", time, (time, time));
            }
            let mut left = vec![2, 1, 0];
            for time in gone {
                table.remove(time as u32 * 2);
                left.retain(|other| *other != time);
                assert_eq!(of_key(&table, "a"), left);
                assert_eq!(of_key(&table, "b"), [2, 1, 0]);
                assert_eq!(table.live(), 3 + left.len());
                let copy = table.copied(&table.live_ids());
                assert_eq!((copy.len(), of_key(&copy, "a")), (table.live(), left.clone()));
                assert_eq!(of_key(&copy, "b"), [2, 1, 0]);
            }
            assert_eq!(table.add(b"a", 9, (9, 9)), 6);
            assert_eq!(of_key(&table, "a"), [9]);
        }
        assert_eq!(of_key(&SessionTable::default(), "a"), Vec::<i64>::new());
    }

    #[test]
    fn many_keys_are_found_after_others_have_gone() {
        let mut table = SessionTable::default();
        for n in 0..10_000_u32 {
            table.add(&n.to_be_bytes(), 0, (n.into(), n.into()));
            if n >= 100 {
                table.remove(n - 100);
            }
        }
        assert_eq!(table.live(), 100);
        for n in 0..10_000_u32 {
            let found: Vec<u32> = table.of_key(&n.to_be_bytes()).collect();
            assert_eq!(found, if n >= 9_900 { vec![n] } else { vec![] });
        }
    }
}
