//! What the first halves of aggregates share. They combine rows of a group between two flushes, so that one internal record
//! stands for many, and keep nothing across epochs: a flush comes before every snapshot.

use crate::Rows;
use crate::accumulate::AggregateSpec;

/// Groups that are held back at most: beyond it they go out before the epoch ends.
const MAX_GROUPS: usize = 1 << 17;
/// The same for what DISTINCT and collecting aggregates have seen, in bytes. A group's values go out in one row, which
/// must fit an internal record of at most 1 MB.
const MAX_MEMBER_BYTES: usize = 256 * 1024;

/// What a first half keeps a group: the aggregates, and how many records a row stands for, so that the second half can
/// count late ones.
pub(super) fn accumulated(aggregates: &[AggregateSpec]) -> Vec<AggregateSpec> {
    aggregates.iter().cloned().chain([AggregateSpec::count_rows()]).collect()
}

/// Whether so much is held back that it goes out before the epoch ends.
pub(super) const fn is_too_much(groups: usize, member_bytes: usize) -> bool {
    groups > MAX_GROUPS || member_bytes > MAX_MEMBER_BYTES
}

/// `rows` in parts, of which each is accumulated before it is asked whether that is too much.
pub(super) fn parts(rows: Rows, aggregates: &[AggregateSpec]) -> impl Iterator<Item = Rows> {
    let all = rows.batch.num_rows();
    let most = if aggregates.iter().any(AggregateSpec::has_members) {
        let bytes_each = rows.batch.get_array_memory_size() / all.max(1);
        (MAX_MEMBER_BYTES / bytes_each.max(1)).max(1)
    } else {
        all.max(1)
    };
    (0..all).step_by(most).map(move |from| part(&rows, from, most.min(all - from)))
}

/// `count` rows from `from` on.
fn part(rows: &Rows, from: usize, count: usize) -> Rows {
    Rows {
        batch: rows.batch.slice(from, count),
        event_time: rows.event_time.slice(from, count),
        watermark: rows.watermark.slice(from, count),
        origin: rows.origin.as_ref().map(|origin| origin.slice(from, count)),
        kinds: rows.kinds.as_ref().map(|kinds| kinds.slice(from, count)),
    }
}
