//! Which keys have not been touched for how long.
//!
//! Keys lie in buckets of a sixteenth of their time to live, by when they were last touched. A key that is touched again
//! joins a later bucket, and stays listed in the earlier one: whoever empties that sees that it has moved. So a touch
//! costs nothing within one bucket, and a sweep looks at as many keys as were touched.

use std::collections::BTreeMap;

/// Keys (or what stands for them) by when they were last touched.
#[derive(Debug)]
pub(super) struct Expiry<K> {
    ttl_ms: i64,
    width_ms: i64,
    buckets: BTreeMap<i64, Vec<K>>,
}

impl<K: Clone> Expiry<K> {
    /// Keys live for `ttl_ms` > 0.
    pub fn new(ttl_ms: i64) -> Self {
        Self { ttl_ms, width_ms: (ttl_ms / 16).max(1), buckets: BTreeMap::new() }
    }

    /// Whether a key that was touched last at `touched_at` has expired at `watermark`.
    pub const fn is_over(&self, touched_at: i64, watermark: i64) -> bool {
        touched_at.saturating_add(self.ttl_ms) <= watermark
    }

    /// `key` is touched at `now`, and was touched `before` that, unless it is new.
    pub fn touch(&mut self, key: &K, before: Option<i64>, now: i64) {
        let bucket = now.div_euclid(self.width_ms);
        if before.is_none_or(|before| before.div_euclid(self.width_ms) < bucket) {
            self.buckets.entry(bucket).or_default().push(key.clone());
        }
    }

    /// Takes out the keys that have expired at `watermark`, of those that `touched_at` still knows: when each was touched
    /// last. One may come twice.
    pub fn take_over(&mut self, watermark: i64, touched_at: impl Fn(&K) -> Option<i64>) -> Vec<K> {
        let mut over = Vec::new();
        while let Some(keys) = self.next_over(watermark) {
            let is_over = |key: &K| touched_at(key).is_some_and(|at| self.is_over(at, watermark));
            over.extend(keys.into_iter().filter(is_over));
        }
        over
    }

    /// Takes out the keys of the next bucket that is over at `watermark`; some may have been touched since.
    fn next_over(&mut self, watermark: i64) -> Option<Vec<K>> {
        let first = self.buckets.first_entry()?;
        let last_instant = first.key().saturating_add(1).saturating_mul(self.width_ms).saturating_sub(1);
        (last_instant.saturating_add(self.ttl_ms) <= watermark).then(|| first.remove())
    }

    /// No key is there.
    pub fn clear(&mut self) {
        self.buckets.clear();
    }

    pub fn memory_bytes(&self) -> usize {
        self.buckets.values().map(|keys| keys.capacity() * size_of::<K>() + 64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_over_when_its_time_has_passed_and_not_before() {
        let expiry = Expiry::<u32>::new(160);
        assert!(!expiry.is_over(1_000, 1_159));
        assert!(expiry.is_over(1_000, 1_160));
        assert!(!expiry.is_over(i64::MAX - 1, i64::MAX - 2));
    }

    #[test]
    fn buckets_come_out_when_all_in_them_are_over() {
        let mut expiry = Expiry::<u32>::new(160);
        expiry.touch(&0, None, 1_000);
        expiry.touch(&1, None, 1_009);
        expiry.touch(&2, None, -5);
        expiry.touch(&0, Some(1_000), 1_005);
        assert_eq!(expiry.next_over(154), None);
        assert_eq!(expiry.next_over(159), Some(vec![2]));
        assert_eq!(expiry.next_over(1_168), None);
        expiry.touch(&1, Some(1_009), 2_000);
        assert_eq!(expiry.next_over(1_169), Some(vec![0, 1]), "who empties it sees that 1 has moved");
        assert_eq!(expiry.next_over(2_200), Some(vec![1]));
        assert_eq!(expiry.next_over(i64::MAX), None);
    }
}
