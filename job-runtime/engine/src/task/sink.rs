//! Where a chain ends: in a user's topic, or in the repartition topic of a later stage.

use freshet_log::{Outgoing, OutgoingRecord, SpanRange};
use freshet_plan::key::partition_of;
use freshet_state::rows::RowBuffer;

use crate::format::{Encoder, KeyEncoder};
use crate::operator::{MARKS, Sink};
use crate::repartition::{PartialColumns, begin_partials, encode_mark, put_partial};
use crate::watermark::{Mark, MarkSender, NONE};
use crate::{EngineError, Rows};

/// Writes rows to a user's topic.
///
/// A record's timestamp is its row's event time (0 for times before 1970, which Kafka has none for). A record
/// with a key is placed by Murmur2 of the key, as
/// Java's clients do; records without keys all go to one partition, that of the task's number, so that a
/// task's output stays in order.
pub(super) struct TopicWriter {
    topic: u16,
    partitions: u32,
    task: u32,
    encoder: Box<dyn Encoder>,
    keys: KeyEncoder,
    ends: Vec<u32>,
    spans: Vec<Option<SpanRange>>,
}

impl TopicWriter {
    pub fn new(topic: u16, partitions: u32, task: u32, encoder: Box<dyn Encoder>, keys: KeyEncoder) -> Self {
        Self { topic, partitions, task, encoder, keys, ends: Vec::new(), spans: Vec::new() }
    }
}

impl Sink for TopicWriter {
    fn write(&mut self, rows: &Rows, out: &mut Outgoing) -> Result<(), EngineError> {
        self.ends.clear();
        self.spans.clear();
        let mut start = out.bytes.len() as u32;
        self.encoder.encode(&rows.batch, &mut out.bytes, &mut self.ends)?;
        self.keys.encode(&rows.batch, &mut out.bytes, &mut self.spans)?;
        out.records.reserve(self.ends.len());
        for ((end, key), time) in self.ends.iter().zip(&self.spans).zip(rows.event_time.values()) {
            let partition = match key {
                Some(key) => partition_of(&out.bytes[key.start as usize..key.end as usize], self.partitions),
                None => self.task % self.partitions,
            };
            out.records.push(OutgoingRecord {
                topic: self.topic,
                partition,
                timestamp_ms: (*time).max(0),
                key: *key,
                value: Some(SpanRange { start, end: *end }),
                headers: None,
            });
            start = *end;
        }
        Ok(())
    }
}

/// An internal record is written once it has this many bytes.
const RECORD_BYTES: usize = 64 * 1024;

/// Writes partial aggregates to a repartition topic, and marks behind them.
pub(super) struct RepartitionWriter {
    topic: u16,
    task: u32,
    /// For each partition, the record that is being filled.
    filling: Vec<Filling>,
    watermark: i64,
    marks: MarkSender,
}

#[derive(Debug, Clone, Default)]
struct Filling {
    bytes: Vec<u8>,
    timestamp_ms: i64,
}

impl Filling {
    fn send(&mut self, topic: u16, partition: usize, out: &mut Outgoing) {
        if !self.bytes.is_empty() {
            out.push(topic, partition as u32, self.timestamp_ms, None, Some(&self.bytes));
            self.bytes.clear();
            self.timestamp_ms = 0;
        }
    }
}

impl RepartitionWriter {
    pub fn new(topic: u16, partitions: u32, task: u32, operator: &str) -> Self {
        Self {
            topic,
            task,
            filling: vec![Filling::default(); partitions as usize],
            watermark: NONE,
            marks: MarkSender::new(operator),
        }
    }

    const fn mark(&self, idle: bool) -> Mark {
        Mark { task: self.task, watermark: self.watermark, idle }
    }
}

impl Sink for RepartitionWriter {
    fn write(&mut self, rows: &Rows, out: &mut Outgoing) -> Result<(), EngineError> {
        let partials = PartialColumns::of(&rows.batch)?;
        let partitions = self.filling.len() as u32;
        for (row, time) in rows.event_time.values().iter().enumerate() {
            let partition = partition_of(partials.key.value(row), partitions) as usize;
            let filling = &mut self.filling[partition];
            let room = RECORD_BYTES.saturating_sub(filling.bytes.len());
            if partials.key.value(row).len() + partials.partial.value(row).len() > room {
                filling.send(self.topic, partition, out);
            }
            if filling.bytes.is_empty() {
                begin_partials(&partials, &mut filling.bytes);
            }
            put_partial(&partials, row, &mut filling.bytes);
            filling.timestamp_ms = filling.timestamp_ms.max(*time);
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: i64) {
        self.watermark = watermark;
    }

    fn on_flush(&mut self, idle: bool, out: &mut Outgoing) {
        for (partition, filling) in self.filling.iter_mut().enumerate() {
            filling.send(self.topic, partition, out);
        }
        let mark = self.mark(idle);
        if self.marks.is_due(mark) {
            let mut value = Vec::new();
            encode_mark(mark, &mut value);
            for partition in 0..self.filling.len() as u32 {
                out.push(self.topic, partition, mark.watermark.max(0), None, Some(&value));
            }
            self.marks.sent(mark);
        }
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<bool> {
        self.marks.restore(key, value)
    }

    fn restored(&mut self, watermark: i64) {
        self.watermark = watermark;
        self.marks.restored();
    }

    fn snapshot(&mut self, rows: &mut RowBuffer) {
        if self.marks.is_dirty() {
            let operator = rows.operator(MARKS);
            self.marks.snapshot(operator, rows);
        }
    }

    fn is_dirty(&self, idle: bool) -> bool {
        self.marks.is_dirty() || self.marks.is_due(self.mark(idle)) || self.filling.iter().any(|f| !f.bytes.is_empty())
    }
}
