//! One partition's log: chunks of records, what of them is visible, and reading it.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};

use super::signal::Signal;
use crate::{Bounds, Fetched, FetchedRecord, Header, SpanRange, StartPosition, TopicPartition};

/// Which producer wrote a transactional chunk: one number a transactional id, whatever its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProducerId(pub u64);

/// A chunk this large takes no more records.
const CHUNK_BYTES: usize = 256 * 1024;

/// What a committed reader makes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Records that are committed, or were written outside of any transaction.
    Visible,
    /// Records of a transaction that has not ended in this partition.
    Open(ProducerId),
    /// Aborted records.
    Aborted,
    /// A commit or abort marker: one offset, no record.
    Marker,
}

struct Chunk {
    base: i64,
    content: Content,
    bytes: Vec<u8>,
    records: Vec<FetchedRecord>,
    /// Headers of the few records that have any, by position in `records`.
    headers: Vec<(u32, Vec<Header>)>,
}

impl Chunk {
    const fn empty(base: i64, content: Content) -> Self {
        Self { base, content, bytes: Vec::new(), records: Vec::new(), headers: Vec::new() }
    }

    fn end(&self) -> i64 {
        self.base + if self.content == Content::Marker { 1 } else { self.records.len() as i64 }
    }

    fn value(&self, range: Option<SpanRange>) -> Option<&[u8]> {
        range.map(|range| &self.bytes[range.start as usize..range.end as usize])
    }

    /// Where the bytes of the records from `index` on begin.
    fn bytes_from(&self, index: usize) -> usize {
        let first = self.records[index..].iter().find_map(|record| record.key.or(record.value));
        first.map_or(self.bytes.len(), |range| range.start as usize)
    }
}

/// A record to append.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewRecord<'a> {
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header],
}

/// How far a consumer has read a partition, shared with it.
pub(super) struct Cursor {
    pub position: Cell<i64>,
    pub signal: Rc<Signal>,
}

/// A record as the log keeps it, for oracles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// The partition.
    pub partition: u32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in ms since the Unix epoch.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<Header>,
}

#[derive(Default)]
pub(super) struct Partition {
    chunks: VecDeque<Chunk>,
    low: i64,
    high: i64,
    /// Transactions that have not ended here, with their first offset.
    open: BTreeMap<ProducerId, i64>,
    stored_bytes: u64,
    readers: Vec<Weak<Cursor>>,
}

impl Partition {
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { low: self.low, stable: self.stable(), high: self.high }
    }

    /// The last stable offset: every transaction before it has ended.
    fn stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.high)
    }

    pub(super) const fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Registers a reader, which is told whenever more becomes visible.
    pub(super) fn subscribe(&mut self, cursor: &Rc<Cursor>) {
        self.readers.retain(|reader| reader.strong_count() > 0);
        self.readers.push(Rc::downgrade(cursor));
    }

    pub(super) fn notify(&self) {
        for reader in self.readers.iter().filter_map(Weak::upgrade) {
            reader.signal.raise();
        }
    }

    /// Appends a record, of `producer`'s open transaction or of none, and says whether it is the
    /// transaction's first one here. Readers are not told yet.
    pub(super) fn append(&mut self, producer: Option<ProducerId>, record: NewRecord<'_>) -> bool {
        let content = producer.map_or(Content::Visible, Content::Open);
        let first = producer.is_some_and(|producer| !self.open.contains_key(&producer));
        if let (true, Some(producer)) = (first, producer) {
            self.open.insert(producer, self.high);
        }
        let fits = |chunk: &Chunk| chunk.content == content && chunk.bytes.len() < CHUNK_BYTES;
        if !self.chunks.back().is_some_and(fits) {
            self.chunks.push_back(Chunk::empty(self.high, content));
        }
        let Some(chunk) = self.chunks.back_mut() else { return first };
        let mut append = |bytes: &[u8]| {
            let start = chunk.bytes.len() as u32;
            chunk.bytes.extend_from_slice(bytes);
            SpanRange { start, end: chunk.bytes.len() as u32 }
        };
        let key = record.key.map(&mut append);
        let value = record.value.map(&mut append);
        if !record.headers.is_empty() {
            chunk.headers.push((chunk.records.len() as u32, record.headers.to_vec()));
        }
        chunk.records.push(FetchedRecord { offset: self.high, timestamp_ms: record.timestamp_ms, key, value });
        self.high += 1;
        self.stored_bytes += size(record.key, record.value);
        first
    }

    /// Writes the marker that ends the transaction of `producer` here.
    pub(super) fn end_transaction(&mut self, producer: ProducerId, commit: bool) {
        let Some(first) = self.open.remove(&producer) else { return };
        let from = self.chunks.partition_point(|chunk| chunk.end() <= first);
        for chunk in self.chunks.range_mut(from..) {
            if chunk.content == Content::Open(producer) {
                chunk.content = if commit { Content::Visible } else { Content::Aborted };
            }
        }
        self.chunks.push_back(Chunk::empty(self.high, Content::Marker));
        self.high += 1;
        self.notify();
    }

    /// What a committed reader finds at `position`: `None` when there is nothing new, an error's bounds
    /// when the position is not in the log.
    pub(super) fn read(
        &self,
        partition: &TopicPartition,
        position: i64,
        most_records: usize,
        most_bytes: usize,
    ) -> Result<Option<Fetched>, Bounds> {
        let bounds = self.bounds();
        if position < bounds.low || position > bounds.high {
            return Err(bounds);
        }
        if position >= bounds.stable {
            return Ok(None);
        }
        let mut batch = Fetched::empty(partition.clone(), position);
        let from = self.chunks.partition_point(|chunk| chunk.end() <= position);
        for chunk in self.chunks.range(from..) {
            if chunk.base >= bounds.stable || batch.records.len() >= most_records || batch.bytes.len() >= most_bytes {
                break;
            }
            if chunk.content != Content::Visible {
                batch.next_offset = chunk.end();
                continue;
            }
            let first = (batch.next_offset - chunk.base).max(0) as usize;
            let room = most_records - batch.records.len();
            copy_records(chunk, first, room, &mut batch);
        }
        batch.at_end = batch.next_offset >= bounds.stable;
        batch.high = bounds.stable;
        Ok(Some(batch))
    }

    /// The offset of a start position.
    pub(super) fn resolve(&self, start: StartPosition) -> i64 {
        let bounds = self.bounds();
        match start {
            StartPosition::Earliest => bounds.low,
            StartPosition::Latest => bounds.stable,
            StartPosition::Timestamp(from_ms) => self
                .visible()
                .find(|(_, record)| record.timestamp_ms >= from_ms)
                .map_or(bounds.stable, |(_, record)| record.offset),
        }
    }

    fn visible(&self) -> impl Iterator<Item = (&Chunk, &FetchedRecord)> {
        let bounds = self.bounds();
        self.chunks
            .iter()
            .take_while(move |chunk| chunk.base < bounds.stable)
            .filter(|chunk| chunk.content == Content::Visible)
            .flat_map(|chunk| chunk.records.iter().map(move |record| (chunk, record)))
            .filter(move |(_, record)| record.offset >= bounds.low)
    }

    /// All records that a committed reader can see.
    pub(super) fn committed_records(&self, partition: u32) -> impl Iterator<Item = StoredRecord> {
        self.visible().map(move |(chunk, record)| {
            let index = (record.offset - chunk.base) as u32;
            let headers = chunk.headers.iter().find(|(at, _)| *at == index).map(|(_, headers)| headers.clone());
            StoredRecord {
                partition,
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                key: chunk.value(record.key).map(<[u8]>::to_vec),
                value: chunk.value(record.value).map(<[u8]>::to_vec),
                headers: headers.unwrap_or_default(),
            }
        })
    }

    /// Forgets the records before `offset`, which is no later than the last stable one.
    pub(super) fn delete_before(&mut self, offset: i64) {
        self.low = self.low.max(offset.min(self.stable()));
        while self.chunks.front().is_some_and(|chunk| chunk.end() <= self.low) {
            self.drop_first();
        }
        // A reader that stands before the new beginning has to learn it.
        self.notify();
    }

    /// Forgets the oldest chunks that every reader and group is past, as long as more than `retain` bytes
    /// are kept. `groups_past` is the least offset that a group has committed here.
    pub(super) fn trim(&mut self, retain: u64, groups_past: Option<i64>) -> bool {
        let readers = self.readers.iter().filter_map(Weak::upgrade).map(|reader| reader.position.get());
        let Some(past) = readers.chain(groups_past).min() else { return false };
        let past = past.min(self.stable());
        let before = self.chunks.len();
        // The last chunk stays: it may still grow.
        while self.stored_bytes > retain
            && self.chunks.len() > 1
            && self.chunks.front().is_some_and(|chunk| chunk.end() <= past)
        {
            self.drop_first();
        }
        self.low = self.low.max(self.chunks.front().map_or(self.high, |chunk| chunk.base));
        before != self.chunks.len()
    }

    fn drop_first(&mut self) {
        if let Some(chunk) = self.chunks.pop_front() {
            let bytes: u64 = chunk.records.iter().map(|r| size(chunk.value(r.key), chunk.value(r.value))).sum();
            self.stored_bytes -= bytes;
        }
    }
}

/// What a record takes in memory, about.
fn size(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    (key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + size_of::<FetchedRecord>()) as u64
}

/// Copies up to `most` records of `chunk` from index `first` on, as one piece of bytes.
fn copy_records(chunk: &Chunk, first: usize, most: usize, batch: &mut Fetched) {
    let last = chunk.records.len().min(first.saturating_add(most));
    let from = chunk.bytes_from(first);
    let to = if last == chunk.records.len() { chunk.bytes.len() } else { chunk.bytes_from(last) };
    let place = batch.bytes.len();
    batch.bytes.extend_from_slice(&chunk.bytes[from..to]);
    let moved = |range: SpanRange| SpanRange {
        start: (range.start as usize - from + place) as u32,
        end: (range.end as usize - from + place) as u32,
    };
    batch.records.extend(chunk.records[first..last].iter().map(|record| FetchedRecord {
        key: record.key.map(moved),
        value: record.value.map(moved),
        ..*record
    }));
    batch.next_offset = chunk.base + last as i64;
}
