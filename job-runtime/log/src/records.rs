//! Batches of records: one buffer of bytes and a list of ranges into it.

use crate::TopicPartition;

/// A half-open range of a batch's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanRange {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl SpanRange {
    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// One record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchedRecord {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in ms since the Unix epoch; −1 when it has none.
    pub timestamp_ms: i64,
    /// Its key, if it has one.
    pub key: Option<SpanRange>,
    /// Its value; `None` is a tombstone.
    pub value: Option<SpanRange>,
}

/// Records of one partition, in offset order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where they come from.
    pub partition: TopicPartition,
    /// Keys and values, back to back.
    pub bytes: Vec<u8>,
    /// The records.
    pub records: Vec<FetchedRecord>,
    /// The position after this batch: at least one past its last record.
    pub next_offset: i64,
    /// Whether nothing more was visible after this batch when it was fetched.
    pub at_end: bool,
    /// One past the last visible offset, as known when it was fetched; for lag.
    pub high: i64,
}

impl Fetched {
    /// An empty batch at `next_offset`.
    #[must_use]
    pub const fn empty(partition: TopicPartition, next_offset: i64) -> Self {
        Self { partition, bytes: Vec::new(), records: Vec::new(), next_offset, at_end: false, high: next_offset }
    }

    /// Appends a record and moves `next_offset` past it.
    pub fn push(&mut self, offset: i64, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        let key = key.map(|bytes| append(&mut self.bytes, bytes));
        let value = value.map(|bytes| append(&mut self.bytes, bytes));
        self.records.push(FetchedRecord { offset, timestamp_ms, key, value });
        self.next_offset = offset + 1;
    }

    /// The key of `record`.
    #[must_use]
    pub fn key(&self, record: &FetchedRecord) -> Option<&[u8]> {
        record.key.map(|range| range.of(&self.bytes))
    }

    /// The value of `record`.
    #[must_use]
    pub fn value(&self, record: &FetchedRecord) -> Option<&[u8]> {
        record.value.map(|range| range.of(&self.bytes))
    }
}

/// A record header: a name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// For instance `freshet-error-reason`.
    pub name: &'static str,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// One record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingRecord {
    /// Index into [`Outgoing::topics`].
    pub topic: u16,
    /// The partition.
    pub partition: u32,
    /// The record's timestamp in ms since the Unix epoch: its event time.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<SpanRange>,
    /// Its value; `None` is a tombstone.
    pub value: Option<SpanRange>,
    /// Index into [`Outgoing::headers`].
    pub headers: Option<u32>,
}

/// Records to write, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The names of the topics that records point to.
    pub topics: Vec<String>,
    /// Keys and values, back to back.
    pub bytes: Vec<u8>,
    /// The records.
    pub records: Vec<OutgoingRecord>,
    /// Header lists of the few records that have any.
    pub headers: Vec<Vec<Header>>,
}

impl Outgoing {
    /// No records yet, for these topics.
    #[must_use]
    pub fn new(topics: Vec<String>) -> Self {
        Self { topics, ..Self::default() }
    }

    /// Appends a record.
    pub fn push(&mut self, topic: u16, partition: u32, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        let key = key.map(|bytes| append(&mut self.bytes, bytes));
        let value = value.map(|bytes| append(&mut self.bytes, bytes));
        self.records.push(OutgoingRecord { topic, partition, timestamp_ms, key, value, headers: None });
    }

    /// Gives the record that was appended last these headers.
    pub fn set_headers(&mut self, headers: Vec<Header>) {
        let index = u32::try_from(self.headers.len()).ok();
        if let Some(record) = self.records.last_mut() {
            record.headers = index;
            self.headers.push(headers);
        }
    }

    /// The key of `record`.
    #[must_use]
    pub fn key(&self, record: &OutgoingRecord) -> Option<&[u8]> {
        record.key.map(|range| range.of(&self.bytes))
    }

    /// The value of `record`.
    #[must_use]
    pub fn value(&self, record: &OutgoingRecord) -> Option<&[u8]> {
        record.value.map(|range| range.of(&self.bytes))
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Forgets the records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.headers.clear();
    }
}

fn append(buffer: &mut Vec<u8>, bytes: &[u8]) -> SpanRange {
    // Batches are bounded far below 4 GiB by the queues that they pass through.
    let start = buffer.len() as u32;
    buffer.extend_from_slice(bytes);
    SpanRange { start, end: buffer.len() as u32 }
}
