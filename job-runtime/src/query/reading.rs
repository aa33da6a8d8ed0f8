//! Pure: how far each partition is to be read, and since when one has been at its end.
//!
//! | the query | a partition's end | records behind it |
//! | --- | --- | --- |
//! | reads what is there | as it was at the start | are cut off |
//! | follows | as it was at the start, for idleness only | come through |
//! | reads what is being written first | known once that is done ([`Reading::ends`]) | as above |
//!
//! A task learns how long its partition has been at its end from the time that comes with a batch. For the end that
//! was there at the start this is the timestamp of the last record before it; for an empty partition it is the
//! beginning of time; for an end that was seen to come it is now.

use std::collections::BTreeMap;

use freshet_log::{Fetched, TopicPartition};

/// The positions of a query.
#[derive(Debug)]
pub struct Reading {
    follows: bool,
    /// Since when a partition has been at its end of which no record was read.
    unread_since_ms: i64,
    partitions: BTreeMap<TopicPartition, Partition>,
}

#[derive(Debug)]
struct Partition {
    position: i64,
    end: Option<i64>,
    last_ms: Option<i64>,
    /// Whether it was read to its end.
    ended: bool,
}

/// A batch for a task, with the time that its idleness is measured by.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// The records, cut off at the end.
    pub batch: Fetched,
    /// Where the batch reaches the end: since when the partition has been there, ms since the Unix epoch.
    pub since_ms: i64,
}

impl Reading {
    /// Begins at `starts`. A query that begins at the ends of partitions has not seen their last records: it takes them
    /// for as old as `unread_since_ms`; one that begins at their beginnings gives `i64::MIN`.
    #[must_use]
    pub fn new(starts: &[(TopicPartition, i64)], follows: bool, unread_since_ms: i64) -> Self {
        let partition = |(partition, position): &(TopicPartition, i64)| {
            (partition.clone(), Partition { position: *position, end: None, last_ms: None, ended: false })
        };
        Self { follows, unread_since_ms, partitions: starts.iter().map(partition).collect() }
    }

    /// The ends are known now. Gives an empty batch for each partition that is there already.
    pub fn ends(&mut self, ends: &[(TopicPartition, i64)]) -> Vec<Read> {
        let mut closings = Vec::new();
        for (name, end) in ends {
            let Some(partition) = self.partitions.get_mut(name) else { continue };
            partition.end = Some(*end);
            if partition.position >= *end && !partition.ended {
                partition.ended = true;
                let batch = Fetched { at_end: true, ..Fetched::empty(name.clone(), partition.position) };
                closings.push(Read { batch, since_ms: partition.last_ms.unwrap_or(self.unread_since_ms) });
            }
        }
        closings
    }

    /// What of a batch is for the partition's task; nothing where it tells the task nothing.
    pub fn take(&mut self, mut batch: Fetched, now_ms: i64) -> Option<Read> {
        let partition = self.partitions.get_mut(&batch.partition)?;
        let had_ended = partition.ended;
        if !self.follows {
            if partition.ended {
                return None;
            }
            // An end that is not known yet is none: more is being written.
            let end = partition.end.unwrap_or(i64::MAX);
            batch.records.retain(|record| record.offset < end);
            batch.next_offset = batch.next_offset.min(end);
            batch.at_end = batch.next_offset >= end;
        }
        let behind = partition.end.is_none_or(|end| batch.records.last().is_some_and(|last| last.offset >= end));
        partition.position = batch.next_offset;
        partition.last_ms = batch.records.last().map(|record| record.timestamp_ms).or(partition.last_ms);
        partition.ended |= partition.end.is_some_and(|end| batch.next_offset >= end);
        if batch.records.is_empty() && !batch.at_end {
            return None;
        }
        let seen_to_come = self.follows && (had_ended || behind);
        let since_ms = if seen_to_come { now_ms } else { partition.last_ms.unwrap_or(self.unread_since_ms) };
        Some(Read { batch, since_ms })
    }

    /// Whether every partition was read to its end as it was at the start.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.partitions.values().all(|partition| partition.ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn at(number: u32) -> TopicPartition {
        TopicPartition::new("t", number)
    }

    fn batch(partition: u32, offsets: std::ops::Range<i64>, at_end: bool) -> Fetched {
        let mut batch = Fetched::empty(at(partition), offsets.start);
        for offset in offsets {
            batch.push(offset, offset * 10, None, Some(b"{}"));
        }
        Fetched { at_end, ..batch }
    }

    fn offsets(read: &Read) -> Vec<i64> {
        read.batch.records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn what_comes_later_is_cut_off() {
        let mut reading = Reading::new(&[(at(0), 3), (at(1), 0)], false, i64::MIN);
        assert_eq!(reading.ends(&[(at(0), 6), (at(1), 2)]), []);
        let first = reading.take(batch(0, 3..5, true), NOW).expect("records");
        assert_eq!((offsets(&first), first.batch.at_end), (vec![3, 4], false), "the log's end is not the query's");
        let second = reading.take(batch(0, 5..9, false), NOW).expect("a record");
        assert_eq!((offsets(&second), second.batch.at_end, second.batch.next_offset), (vec![5], true, 6));
        assert_eq!(second.since_ms, 50, "since its last record was written");
        assert_eq!(reading.take(batch(0, 9..12, true), NOW), None);
        assert!(!reading.is_done());
        // Two records that nobody may see, and then the end.
        let end = Fetched { at_end: true, ..Fetched::empty(at(1), 2) };
        let read = reading.take(end, NOW).expect("the end");
        assert_eq!((read.batch.at_end, read.since_ms), (true, i64::MIN));
        assert!(reading.is_done());
    }

    #[test]
    fn an_empty_partition_has_always_been_at_its_end() {
        let mut reading = Reading::new(&[(at(0), 0), (at(1), 7)], false, i64::MIN);
        let closings = reading.ends(&[(at(0), 0), (at(1), 7)]);
        assert!(closings.iter().all(|read| read.batch.at_end && read.batch.records.is_empty()));
        assert_eq!(closings.iter().map(|read| read.since_ms).collect::<Vec<_>>(), [i64::MIN, i64::MIN]);
        assert!(reading.is_done());
    }

    #[test]
    fn an_end_that_is_not_known_yet_is_none() {
        let mut reading = Reading::new(&[(at(0), 0)], false, i64::MIN);
        let read = reading.take(batch(0, 0..2, true), NOW).expect("records");
        assert!(!read.batch.at_end);
        assert_eq!(reading.take(Fetched { at_end: true, ..Fetched::empty(at(0), 2) }, NOW), None);
        assert!(!reading.is_done());
        let closings = reading.ends(&[(at(0), 2)]);
        assert_eq!(closings.iter().map(|read| read.since_ms).collect::<Vec<_>>(), [10]);
        assert!(reading.is_done());
    }

    #[test]
    fn who_follows_sees_all_and_was_there_for_what_came_later() {
        let mut reading = Reading::new(&[(at(0), 0)], true, i64::MIN);
        assert_eq!(reading.ends(&[(at(0), 2)]), []);
        let old = reading.take(batch(0, 0..2, true), NOW).expect("records");
        assert_eq!((offsets(&old), old.batch.at_end, old.since_ms), (vec![0, 1], true, 10));
        let new = reading.take(batch(0, 2..3, true), NOW).expect("a record");
        assert_eq!((offsets(&new), new.batch.at_end, new.since_ms), (vec![2], true, NOW));
        let mut late = Reading::new(&[(at(0), 0)], true, i64::MIN);
        assert_eq!(late.ends(&[(at(0), 2)]), []);
        let both = late.take(batch(0, 0..3, true), NOW).expect("records");
        assert_eq!((offsets(&both), both.since_ms), (vec![0, 1, 2], NOW));
    }

    #[test]
    fn who_begins_at_the_end_does_not_take_partitions_for_idle() {
        let mut reading = Reading::new(&[(at(0), 5)], true, NOW);
        let closings = reading.ends(&[(at(0), 5)]);
        assert_eq!(closings.iter().map(|read| read.since_ms).collect::<Vec<_>>(), [NOW]);
    }
}
