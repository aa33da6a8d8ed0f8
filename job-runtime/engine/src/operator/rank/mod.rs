//! The first rows of each key by an order: deduplication and top-N.
//!
//! | the order | rows come out | operator |
//! | --- | --- | --- |
//! | event time, ascending, one row a key | once, when the watermark has passed the row's time | [`RankFirstOperator`] |
//! | any other | at the end of each epoch in which they changed: a changelog | [`RankOperator`] |
//!
//! Rows only come and never go, so a row that is not among the first ones of its key never will be, and is not kept.
//! Rows that are equal by the order are put in the order of their kept columns: what is first depends on the rows and
//! not on which came first, so that it is the same in one stage and in two, and after a crash.
//!
//! A combining half keeps the first rows of an epoch and sends them on; the first rows of all are among them.
//!
//! Time to live is that of a grouping ([`super::group`]): a key's age is measured on the stream's own clock, and the row
//! that finds its key expired begins it anew.

mod combine;
mod first;
mod latest;
mod order;
mod spec;
mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub use combine::RankCombineOperator;
pub use first::RankFirstOperator;
pub use latest::RankOperator;
pub(crate) use spec::RankSpec;

use super::expiry::Expiry;
use crate::watermark::NONE;
use spec::Entry;

/// Partial aggregates hold so many bytes of rows at the most, or one row: they must fit an internal record.
const PARTIAL_BYTES: usize = 64 * 1024;

/// An encoded key.
type Key = Arc<[u8]>;

/// The kept rows of one key, first to last.
#[derive(Debug, Clone, Default)]
struct Part {
    rows: Vec<Entry>,
    /// When it was touched last, on the stream's clock, ms.
    touched_at: i64,
}

/// What became of a key's rows since the last flush.
struct Change {
    key: Key,
    before: Vec<Entry>,
    after: Vec<Entry>,
}

/// The kept rows of all keys.
struct Parts {
    spec: Arc<RankSpec>,
    parts: HashMap<Key, Part>,
    /// The rows before, of keys whose rows have changed since the last flush.
    before: BTreeMap<Key, Vec<Entry>>,
    /// Changes of keys that have expired since.
    past: Vec<Change>,
    /// Keys to be written, and keys whose rows of state are to be deleted.
    dirty: BTreeSet<Key>,
    forgotten: BTreeSet<Key>,
    expiry: Option<Expiry<Key>>,
    expired: u64,
    /// The greatest event time of the rows since the last flush, ms.
    newest: i64,
    watermark: i64,
    /// What keys and rows take, without those of `before` and `past`.
    bytes: usize,
}

impl Parts {
    fn new(spec: Arc<RankSpec>) -> Self {
        Self {
            expiry: spec.ttl_ms.map(Expiry::new),
            spec,
            parts: HashMap::new(),
            before: BTreeMap::new(),
            past: Vec::new(),
            dirty: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            expired: 0,
            newest: NONE,
            watermark: NONE,
            bytes: 0,
        }
    }

    /// Takes a row of `key`, of this event time and before which this watermark held.
    fn offer(&mut self, key: &[u8], row: Entry, event_time: i64, watermark: i64) {
        self.newest = self.newest.max(event_time);
        let watermark = watermark.max(self.watermark);
        let now = event_time.max(watermark);
        let known = self.parts.get_key_value(key).map(|(key, part)| (Arc::clone(key), part.touched_at));
        let known = match (known, &self.expiry) {
            (Some((key, touched_at)), Some(expiry)) if expiry.is_over(touched_at, watermark) => {
                self.forget(&key);
                None
            }
            (known, _) => known,
        };
        let (key, touched_at) = known.map_or_else(|| (Key::from(key), None), |(key, at)| (key, Some(at)));
        if let Some(expiry) = &mut self.expiry {
            expiry.touch(&key, touched_at, now);
            self.dirty.insert(Arc::clone(&key));
        }
        let bytes = &mut self.bytes;
        let part = self.parts.entry(Arc::clone(&key)).or_insert_with(|| {
            *bytes += key_bytes(&key);
            Part { rows: Vec::new(), touched_at: now }
        });
        part.touched_at = now.max(part.touched_at);
        let place = part.rows.partition_point(|kept| *kept <= row);
        if place >= self.spec.limit {
            return;
        }
        if !self.before.contains_key(&key) {
            self.before.insert(Arc::clone(&key), part.rows.clone());
        }
        *bytes += row.memory_bytes();
        part.rows.insert(place, row);
        if part.rows.len() > self.spec.limit {
            *bytes -= part.rows.pop().map_or(0, |last| last.memory_bytes());
        }
        self.dirty.insert(key);
    }

    /// A key has expired. What has become of its rows until then still goes out.
    fn forget(&mut self, key: &Key) {
        let Some(part) = self.take(key) else { return };
        self.expired += 1;
        if let Some(before) = self.before.remove(key) {
            self.past.push(Change { key: Arc::clone(key), before, after: part.rows });
        }
        self.dirty.remove(key);
        self.forgotten.insert(Arc::clone(key));
    }

    /// Takes out what has changed since the last flush, in the order of the keys; an expired key's former life first.
    fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = std::mem::take(&mut self.past);
        for (key, before) in std::mem::take(&mut self.before) {
            let after = self.parts.get(&key).map_or_else(Vec::new, |part| part.rows.clone());
            changes.push(Change { key, before, after });
        }
        // Stable: former lives stay before later ones.
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        changes
    }

    /// Forgets the keys that have expired. What has changed has been taken out.
    fn sweep(&mut self) {
        let Some(expiry) = &mut self.expiry else { return };
        for key in expiry.take_over(self.watermark, |key| self.parts.get(key).map(|part| part.touched_at)) {
            self.forget(&key);
        }
    }

    fn put(&mut self, key: Key, part: Part) {
        self.take(&key);
        self.bytes += key_bytes(&key) + rows_bytes(&part.rows);
        self.parts.insert(key, part);
    }

    fn take(&mut self, key: &[u8]) -> Option<Part> {
        let part = self.parts.remove(key)?;
        self.bytes -= key_bytes(key) + rows_bytes(&part.rows);
        Some(part)
    }
}

/// About what a key takes beside its rows: its bytes, and its places in the table and in itself.
const fn key_bytes(key: &[u8]) -> usize {
    key.len() + 80
}

fn rows_bytes(rows: &[Entry]) -> usize {
    rows.iter().map(Entry::memory_bytes).sum()
}
