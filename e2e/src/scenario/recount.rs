//! What the job must write: a recount of its input topic in the plainest code that can hold the rules.
//!
//! * Every record is copied, in the order of its partition.
//! * A window of a partition closes once the partition's newest event time, less the allowed disorder,
//!   reaches the window's end. A record whose window closed before it came is late and counts nowhere.
//! * `by-key` holds the windows that closed in the key's partition; `by-group` those that closed in all.

use std::collections::HashMap;

use freshet_kafka::bulk::read_committed;
use serde::Deserialize;

use super::Role;
use super::job::{DISORDER_MS, Job, PARTITIONS};
use crate::LabError;

/// The length of a window, ms of event time.
pub const WINDOW_MS: i64 = 10_000;

/// A group's window, and what it holds: records and the sum of `v`.
pub(super) type Windows = HashMap<(u32, i64), (u64, i64)>;

/// What the job must have written.
#[derive(Debug, Default)]
pub struct Recount {
    /// Records of the input.
    pub records: u64,
    /// Of them, those after their window had closed.
    pub late: u64,
    /// By key: the copies, as `seq` and `v`, in order.
    pub(super) copies: HashMap<u32, Vec<(u64, i64)>>,
    /// The rows of `by-key`.
    pub(super) by_key: Windows,
    /// The rows of `by-group`.
    pub(super) by_group: Windows,
}

/// A record of the input.
#[derive(Debug, Deserialize)]
struct Event<'a> {
    k: &'a str,
    g: &'a str,
    seq: u64,
    v: i64,
    ts: i64,
}

impl Recount {
    /// Recounts the whole input topic of `job`.
    ///
    /// # Errors
    /// When it can't be read.
    ///
    /// # Panics
    /// When a record is not what the scenarios write.
    pub fn of(job: &Job) -> Result<Self, LabError> {
        let mut recount = Self::default();
        let mut newest = vec![i64::MIN / 2; PARTITIONS as usize];
        // Windows by key know their partition, for each closes by its own time.
        let mut by_key: HashMap<(u32, i64), (usize, u64, i64)> = HashMap::new();
        let mut by_group = Windows::new();
        let topic = job.topic(Role::Events);
        let read = read_committed(job.kafka(), &topic, |batch| {
            let partition = batch.partition.partition as usize;
            for record in &batch.records {
                let value = batch.value(record).expect("the scenarios write no tombstones");
                let event: Event<'_> = serde_json::from_slice(value).expect("the scenarios write these columns");
                let (key, group) = (number(event.k), number(event.g));
                recount.copies.entry(key).or_default().push((event.seq, event.v));
                let start = event.ts.div_euclid(WINDOW_MS) * WINDOW_MS;
                if start + WINDOW_MS <= newest[partition] - DISORDER_MS {
                    recount.late += 1;
                    continue;
                }
                newest[partition] = newest[partition].max(event.ts);
                let window = by_key.entry((key, start)).or_insert((partition, 0, 0));
                (window.1, window.2) = (window.1 + 1, window.2 + event.v);
                let window = by_group.entry((group, start)).or_insert((0, 0));
                *window = (window.0 + 1, window.1 + event.v);
            }
        });
        recount.records = read.map_err(LabError::kafka(format!("recounting {topic}")))?;
        let closed = |start: i64, newest: i64| start + WINDOW_MS <= newest - DISORDER_MS;
        let everywhere = newest.iter().copied().min().unwrap_or(i64::MIN / 2);
        recount.by_key = by_key
            .into_iter()
            .filter(|((_, start), (partition, ..))| closed(*start, newest[*partition]))
            .map(|(window, (_, count, sum))| (window, (count, sum)))
            .collect();
        recount.by_group = by_group.into_iter().filter(|((_, start), _)| closed(*start, everywhere)).collect();
        Ok(recount)
    }

    /// How many records the topic of `role` must hold.
    #[must_use]
    pub fn expected(&self, role: Role) -> u64 {
        match role {
            Role::Events | Role::Copies => self.records,
            Role::ByKey => self.by_key.len() as u64,
            Role::ByGroup => self.by_group.len() as u64,
        }
    }
}

/// The number in a name such as `k17`; a name that nobody wrote is a number that nobody has.
pub(super) fn number(name: &str) -> u32 {
    name.get(1..).and_then(|digits| digits.parse().ok()).unwrap_or(u32::MAX)
}
