//! When to merge, and what: a pure decision on a manifest.
//!
//! A merge costs what it writes, and saves fetching when the task is loaded. Two rules keep both small,
//! whatever the size of the state:
//!
//! * A run of [`FAN`] or more of the newest deltas, in which no delta is larger than all newer ones
//!   together, becomes one delta. So the sizes of what remains at least double from new to old, as in a
//!   binary counter: their number grows with the logarithm of the state, and each row is written again as
//!   seldom.
//! * When the run reaches back to the base and is at least half its size, the base takes part, and
//!   tombstones fall out. So deletes cost at most a third of the state.

use super::Manifest;

/// How many deltas are merged at the least.
const FAN: usize = 16;
/// How many deltas a manifest has at the most, whatever their sizes.
const MOST_DELTAS: usize = 64;
/// Deltas of this size together are merged once they are as large as the base, however few they are.
const LARGE_BYTES: u64 = 4 << 20;

/// Which parts of a manifest become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeRange {
    /// The first delta.
    pub from: usize,
    /// One past the last delta.
    pub to: usize,
    /// Whether the base takes part, so that the result is a new base. Then `from` is 0.
    pub into_base: bool,
}

impl MergeRange {
    /// Everything: what rewrites a base, for instance because a bucket's rule would soon delete it.
    #[must_use]
    pub const fn whole(manifest: &Manifest) -> Self {
        Self { from: 0, to: manifest.deltas.len(), into_base: true }
    }
}

/// Whether [`plan_merge`] finds something to merge.
#[must_use]
pub fn should_merge(manifest: &Manifest) -> bool {
    plan_merge(manifest).is_some()
}

/// What is worth merging now.
#[must_use]
pub fn plan_merge(manifest: &Manifest) -> Option<MergeRange> {
    let deltas = &manifest.deltas;
    let base = manifest.base.as_ref().map_or(0, |base| base.bytes);
    let all: u64 = deltas.iter().map(|delta| delta.bytes).sum();
    if all >= base.max(LARGE_BYTES) && (manifest.base.is_some() || deltas.len() > 1) {
        return Some(MergeRange::whole(manifest));
    }
    let (mut from, mut newer) = (deltas.len(), 0);
    while from > 0 && (newer == 0 || deltas[from - 1].bytes <= newer) {
        from -= 1;
        newer += deltas[from].bytes;
    }
    if deltas.len() >= MOST_DELTAS {
        (from, newer) = (0, all);
    }
    if deltas.len() - from < FAN {
        return None;
    }
    let into_base = from == 0 && base <= newer.saturating_mul(2);
    Some(MergeRange { from, to: deltas.len(), into_base })
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::*;

    fn part(bytes: u64) -> Part {
        Part { object: String::new(), bytes }
    }

    /// Runs epochs that change `per_epoch(n)` bytes each, of a state that never grows beyond `live`, merging
    /// whenever the policy says so. Gives bytes written a byte changed, and the most parts that there ever were.
    fn run(epochs: u64, live: u64, per_epoch: impl Fn(u64) -> u64) -> (f64, usize) {
        let mut manifest = Manifest::default();
        let (mut changed, mut written, mut most) = (0, 0, 0);
        for epoch in 0..epochs {
            let bytes = per_epoch(epoch);
            changed += bytes;
            written += bytes;
            manifest.deltas.push(part(bytes));
            if let Some(range) = plan_merge(&manifest) {
                let taken: u64 = manifest.deltas.drain(range.from..range.to).map(|delta| delta.bytes).sum();
                let base = manifest.base.as_ref().map_or(0, |base| base.bytes);
                let merged = if range.into_base { (taken + base).min(live) } else { taken.min(live) };
                written += merged;
                if range.into_base {
                    manifest.base = Some(part(merged));
                } else {
                    manifest.deltas.insert(range.from, part(merged));
                }
            }
            most = most.max(manifest.parts().count());
        }
        (written as f64 / changed as f64, most)
    }

    #[test]
    fn what_is_written_and_kept_does_not_follow_the_size_of_the_state() {
        for live in [100_000, 10_000_000, 1_000_000_000] {
            let (cost, most) = run(20_000, live, |_| 10_000);
            assert!(cost < 16.0, "live {live}: each byte is written {cost} times");
            assert!(most <= MOST_DELTAS + 1, "live {live}: {most} parts");
        }
    }

    #[test]
    fn uneven_epochs_stay_bounded_too() {
        let sizes: [fn(u64) -> u64; 4] = [
            |n| 1 + (n * 7919) % 100_000,
            |n| if n % 50 == 0 { 1_000_000 } else { 10 },
            |n| 1 << (n % 20),
            |n| 1_000_000 >> (n % 20),
        ];
        for (which, size) in sizes.into_iter().enumerate() {
            let (cost, most) = run(20_000, 50_000_000, size);
            assert!(cost < 24.0 && most <= MOST_DELTAS + 1, "sizes {which}: cost {cost}, {most} parts");
        }
    }

    #[test]
    fn few_small_deltas_are_left_alone_and_large_ones_are_not() {
        let deltas = |count: usize, bytes| Manifest { base: Some(part(10_000)), deltas: vec![part(bytes); count] };
        assert_eq!(plan_merge(&Manifest::default()), None);
        assert_eq!(plan_merge(&deltas(FAN - 1, 10)), None);
        assert_eq!(plan_merge(&deltas(FAN, 10)), Some(MergeRange { from: 0, to: FAN, into_base: false }));
        assert_eq!(plan_merge(&deltas(FAN, 1000)), Some(MergeRange { from: 0, to: FAN, into_base: true }));
        assert_eq!(plan_merge(&deltas(2, LARGE_BYTES)), Some(MergeRange { from: 0, to: 2, into_base: true }));
    }
}
