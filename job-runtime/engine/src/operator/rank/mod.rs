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
    expiry: Option<Expiry>,
    expired: u64,
    /// The greatest event time of the rows since the last flush, ms.
    newest: i64,
    watermark: i64,
}

/// Keys by when they were touched last, in buckets of a sixteenth of their time to live.
struct Expiry {
    ttl_ms: i64,
    width_ms: i64,
    buckets: BTreeMap<i64, Vec<Key>>,
}

impl Expiry {
    const fn is_over(&self, touched_at: i64, watermark: i64) -> bool {
        touched_at.saturating_add(self.ttl_ms) <= watermark
    }

    fn touch(&mut self, key: &Key, before: Option<i64>, now: i64) {
        let bucket = now.div_euclid(self.width_ms);
        if before.is_none_or(|before| before.div_euclid(self.width_ms) < bucket) {
            self.buckets.entry(bucket).or_default().push(Arc::clone(key));
        }
    }

    fn next_over(&mut self, watermark: i64) -> Option<Vec<Key>> {
        let first = self.buckets.first_entry()?;
        let last_instant = first.key().saturating_add(1).saturating_mul(self.width_ms).saturating_sub(1);
        (last_instant.saturating_add(self.ttl_ms) <= watermark).then(|| first.remove())
    }
}

impl Parts {
    fn new(spec: Arc<RankSpec>) -> Self {
        let expiry = |ttl_ms: i64| Expiry { ttl_ms, width_ms: (ttl_ms / 16).max(1), buckets: BTreeMap::new() };
        Self {
            expiry: spec.ttl_ms.map(expiry),
            spec,
            parts: HashMap::new(),
            before: BTreeMap::new(),
            past: Vec::new(),
            dirty: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            expired: 0,
            newest: NONE,
            watermark: NONE,
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
        let part = self.parts.entry(Arc::clone(&key)).or_insert_with(|| Part { rows: Vec::new(), touched_at: now });
        part.touched_at = now.max(part.touched_at);
        let place = part.rows.partition_point(|kept| *kept <= row);
        if place >= self.spec.limit {
            return;
        }
        if !self.before.contains_key(&key) {
            self.before.insert(Arc::clone(&key), part.rows.clone());
        }
        part.rows.insert(place, row);
        part.rows.truncate(self.spec.limit);
        self.dirty.insert(key);
    }

    /// A key has expired. What has become of its rows until then still goes out.
    fn forget(&mut self, key: &Key) {
        let Some(part) = self.parts.remove(key) else { return };
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
        while let Some(keys) = self.expiry.as_mut().and_then(|expiry| expiry.next_over(self.watermark)) {
            for key in keys {
                let over =
                    |part: &Part| self.expiry.as_ref().is_some_and(|e| e.is_over(part.touched_at, self.watermark));
                if self.parts.get(&key).is_some_and(over) {
                    self.forget(&key);
                }
            }
        }
    }

    fn memory_bytes(&self) -> u64 {
        // Counted only where it is asked for: a look at every key.
        let part =
            |(key, part): (&Key, &Part)| key.len() + 80 + part.rows.iter().map(Entry::memory_bytes).sum::<usize>();
        self.parts.iter().map(part).sum::<usize>() as u64
    }
}
