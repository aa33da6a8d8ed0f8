//! Watermarks: of a source partition, and of a task that many upstream tasks write to.
//!
//! A watermark W (ms since the Unix epoch) says that every record with event time ≤ W has been seen.
//!
//! # A source partition
//! Its watermark is the greatest event time read, minus the allowed disorder, minus 1 ms. A partition
//! that was read to its end and stayed there for the idle time-out is idle: it no longer holds others
//! back, and its own watermark follows theirs. The *effective* watermark, the greater of both, is what
//! lateness is judged by and what fires windows; it is state, so that a replay from a committed offset
//! fires nothing twice. That a partition is idle is not state: after a start it must prove again that it
//! is at its end, since records may have come meanwhile.
//!
//! # A later stage
//! Upstream tasks write marks (task, watermark, idle) into every partition of the repartition topic. The
//! combined watermark is the minimum over upstream tasks that are not idle, once each has been heard from.
//! When all are idle it is the maximum: what the last of them would have given, in whatever order they
//! fell idle. It never goes back. Nothing times an upstream task out. Marks are state.

use std::collections::BTreeSet;

use arrow::array::Int64Array;
use freshet_env::{PlantedBug, planted};
use freshet_state::rows::{OperatorTag, RowBuffer, put_varint, take_bytes, take_varint};

/// Before there is a watermark.
pub const NONE: i64 = i64::MIN;

/// Event times beyond ± 8.64e15 ms (275,000 years) are no times: a record with one is bad, or it would
/// close every window for ever.
pub const MAX_EVENT_TIME_MS: i64 = 8_640_000_000_000_000;

const VERSION: u8 = 1;

/// The watermark of a source partition.
#[derive(Debug, Clone)]
pub struct SourceWatermark {
    disorder_ms: i64,
    idle_timeout_ms: Option<i64>,
    effective: i64,
    at_end_since_ms: Option<i64>,
    idle: bool,
    changed: bool,
}

impl SourceWatermark {
    /// No record has been read. Without a time-out the partition is never idle.
    #[must_use]
    pub const fn new(disorder_ms: i64, idle_timeout_ms: Option<i64>) -> Self {
        Self { disorder_ms, idle_timeout_ms, effective: NONE, at_end_since_ms: None, idle: false, changed: false }
    }

    /// The effective watermark; [`NONE`] before there is one.
    #[must_use]
    pub const fn effective(&self) -> i64 {
        self.effective
    }

    /// Whether the partition is idle.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.idle
    }

    /// Moves over records with these event times; gives the watermark that held just before each.
    pub fn advance(&mut self, event_times: &Int64Array) -> Int64Array {
        let mut watermark = self.effective;
        let before = event_times.values().iter().map(|time| {
            let before = watermark;
            watermark = watermark.max(time.saturating_sub(self.disorder_ms).saturating_sub(1));
            before
        });
        let before: Vec<i64> = before.collect();
        self.raise(watermark);
        Int64Array::from(before)
    }

    /// Reading begins anew: nothing is known of the partition's end.
    pub fn reopened(&mut self) {
        self.at_end_since_ms = None;
        self.idle = false;
    }

    /// A batch was read at `now_ms`, with or without records, and perhaps up to the partition's end.
    pub fn read(&mut self, records: bool, at_end: bool, now_ms: i64) {
        if records {
            self.idle = false;
        }
        if !at_end {
            self.at_end_since_ms = None;
        } else if records || self.at_end_since_ms.is_none() {
            self.at_end_since_ms = Some(now_ms);
        }
    }

    /// Time passes. An idle partition follows `others`, the least watermark of the active ones.
    pub fn tick(&mut self, now_ms: i64, others: Option<i64>) {
        if let (Some(timeout), Some(since)) = (self.idle_timeout_ms, self.at_end_since_ms) {
            self.idle = self.idle || now_ms.saturating_sub(since) >= timeout;
        }
        if self.idle {
            self.raise(others.unwrap_or(NONE));
        }
    }

    fn raise(&mut self, watermark: i64) {
        if watermark > self.effective {
            self.effective = watermark;
            self.changed = true;
        }
    }

    /// Takes back a stored watermark; `None` when the bytes are damaged.
    #[must_use]
    pub fn restore(&mut self, value: Option<&[u8]>) -> Option<()> {
        self.effective = match value {
            None => NONE,
            Some(bytes) => decode_watermark(bytes)?,
        };
        Some(())
    }

    /// Nothing is dirty any more.
    pub const fn restored(&mut self) {
        self.changed = false;
    }

    /// Whether there is something for a snapshot.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        self.changed
    }

    /// Writes what changed: one row with an empty key.
    pub fn snapshot(&mut self, operator: OperatorTag, rows: &mut RowBuffer) {
        if std::mem::take(&mut self.changed) {
            rows.put(operator, b"", &encode_watermark(self.effective));
        }
    }
}

/// A stored watermark: a version byte and 8 bytes, little-endian.
fn encode_watermark(watermark: i64) -> [u8; 9] {
    let mut bytes = [VERSION; 9];
    bytes[1..].copy_from_slice(&watermark.to_le_bytes());
    bytes
}

fn decode_watermark(bytes: &[u8]) -> Option<i64> {
    let (version, watermark) = bytes.split_first()?;
    (*version == VERSION).then_some(())?;
    Some(i64::from_le_bytes(watermark.try_into().ok()?))
}

/// What an upstream task says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The task, by its partition.
    pub task: u32,
    /// Its watermark; [`NONE`] before there is one.
    pub watermark: i64,
    /// Whether it is idle.
    pub idle: bool,
}

impl Mark {
    /// Appends `task (varint) · flags (1: idle) · watermark (8 bytes, little-endian)`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.task));
        out.push(u8::from(self.idle));
        out.extend_from_slice(&self.watermark.to_le_bytes());
    }

    /// Reads a mark that takes up all of `bytes` from `at` on; `None` when they are no mark.
    #[must_use]
    pub fn decode(bytes: &[u8], at: &mut usize) -> Option<Self> {
        let task = u32::try_from(take_varint(bytes, at)?).ok()?;
        let idle = match take_bytes(bytes, at, 1)? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let watermark = i64::from_le_bytes(take_bytes(bytes, at, 8)?.try_into().ok()?);
        (*at == bytes.len()).then_some(Self { task, watermark, idle })
    }
}

/// The watermark of a task that reads a repartition topic.
#[derive(Debug, Clone)]
pub struct CombinedWatermark {
    /// The last mark of each upstream task; `None` until it has been heard from.
    upstream: Vec<Option<Mark>>,
    effective: i64,
    changed: BTreeSet<u32>,
}

/// The row of the combined watermark; upstream tasks' rows are `r` and the task.
const COMBINED: &[u8] = b"w";

impl CombinedWatermark {
    /// Nothing has been heard of `tasks` upstream tasks.
    #[must_use]
    pub fn new(tasks: u32) -> Self {
        Self { upstream: vec![None; tasks as usize], effective: NONE, changed: BTreeSet::new() }
    }

    /// The combined watermark; [`NONE`] before there is one.
    #[must_use]
    pub const fn effective(&self) -> i64 {
        self.effective
    }

    /// Whether every upstream task is idle.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.upstream.iter().all(|mark| mark.is_some_and(|mark| mark.idle))
    }

    /// Takes a mark; `None` when there is no such upstream task.
    #[must_use]
    pub fn hear(&mut self, mark: Mark) -> Option<()> {
        *self.upstream.get_mut(mark.task as usize)? = Some(mark);
        self.changed.insert(mark.task);
        self.effective = self.effective.max(self.combined());
        Some(())
    }

    fn combined(&self) -> i64 {
        let heard = || self.upstream.iter().flatten();
        if planted(PlantedBug::WatermarkMaximum) {
            return heard().map(|mark| mark.watermark).max().unwrap_or(NONE);
        }
        if self.upstream.iter().any(Option::is_none) {
            return NONE;
        }
        let active = heard().filter(|mark| !mark.idle).map(|mark| mark.watermark).min();
        active.or_else(|| heard().map(|mark| mark.watermark).max()).unwrap_or(NONE)
    }

    /// Takes back a stored row; `None` when it is damaged or names a task that is not there.
    #[must_use]
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<()> {
        if key == COMBINED {
            self.effective = value.map_or(Some(NONE), decode_watermark)?;
            return Some(());
        }
        let task = u32::from_be_bytes(key.strip_prefix(b"r")?.try_into().ok()?);
        let mark = match value {
            None => None,
            Some(bytes) => {
                let mark =
                    Mark::decode(bytes, &mut 1).filter(|mark| bytes.first() == Some(&VERSION) && mark.task == task);
                Some(mark?)
            }
        };
        *self.upstream.get_mut(task as usize)? = mark;
        Some(())
    }

    /// All rows are in; nothing is dirty any more.
    pub fn restored(&mut self) {
        if planted(PlantedBug::ForgetMarksOnRestore) {
            // As if marks were kept in memory only, and the minimum taken over those heard since.
            for (task, mark) in (0..).zip(&mut self.upstream) {
                *mark = Some(Mark { task, watermark: NONE, idle: true });
            }
        }
        self.changed.clear();
    }

    /// Whether there is something for a snapshot.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Writes what changed: a row an upstream task, and the combined watermark.
    pub fn snapshot(&mut self, operator: OperatorTag, rows: &mut RowBuffer) {
        if self.changed.is_empty() {
            return;
        }
        for task in std::mem::take(&mut self.changed) {
            if let Some(Some(mark)) = self.upstream.get(task as usize) {
                let mut key = vec![b'r'];
                key.extend_from_slice(&task.to_be_bytes());
                let mut value = vec![VERSION];
                mark.encode(&mut value);
                rows.put(operator, &key, &value);
            }
        }
        rows.put(operator, COMBINED, &encode_watermark(self.effective));
    }
}

/// The last mark that a task has written to one repartition topic: it writes another only when that changed.
#[derive(Debug, Clone)]
pub struct MarkSender {
    key: Vec<u8>,
    sent: Option<Mark>,
    changed: bool,
}

impl MarkSender {
    /// Nothing has been sent to the topic of `operator`.
    #[must_use]
    pub fn new(operator: &str) -> Self {
        Self { key: format!("s{operator}").into_bytes(), sent: None, changed: false }
    }

    /// Whether `mark` says something new. Without a watermark and not idle, there is nothing to say.
    #[must_use]
    pub fn is_due(&self, mark: Mark) -> bool {
        match self.sent {
            None => mark.watermark != NONE || mark.idle,
            Some(sent) => sent != mark,
        }
    }

    /// `mark` was written.
    pub fn sent(&mut self, mark: Mark) {
        self.sent = Some(mark);
        self.changed = true;
    }

    /// Takes back a stored row if it is this sender's; `None` when it is damaged.
    #[must_use]
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<bool> {
        if key != self.key {
            return Some(false);
        }
        self.sent = match value {
            None => None,
            Some(bytes) => Some(Mark::decode(bytes, &mut 1).filter(|_| bytes.first() == Some(&VERSION))?),
        };
        Some(true)
    }

    /// Nothing is dirty any more.
    pub const fn restored(&mut self) {
        self.changed = false;
    }

    /// Whether there is something for a snapshot.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        self.changed
    }

    /// Writes what changed.
    pub fn snapshot(&mut self, operator: OperatorTag, rows: &mut RowBuffer) {
        if let (true, Some(mark)) = (std::mem::take(&mut self.changed), self.sent) {
            let mut value = vec![VERSION];
            mark.encode(&mut value);
            rows.put(operator, &self.key, &value);
        }
    }
}
