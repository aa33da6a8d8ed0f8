//! Writes an updating result to a user's topic: as upserts and tombstones, or every change by itself.
//!
//! A topic that is compacted keeps the last record of each key, so an upsert says all: a row that is new or has changed
//! is a record, and a row that is gone a record without a value. The row before a change says nothing where the row
//! after it follows; it does where a filter has dropped that.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow_schema::SchemaRef;
use freshet_log::{Outgoing, OutgoingRecord, SpanRange};
use freshet_plan::changelog::OP_COLUMN;
use freshet_plan::key::partition_of;
use freshet_plan::{Column, DataType, TopicSink};

use crate::changelog::RowKind;
use crate::format::{Encoder, KeyEncoder, encoder};
use crate::operator::Sink;
use crate::types::arrow_schema;
use crate::{EngineError, Rows};

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A record that replaces the one before it.
    Upsert,
    /// A record without a value.
    Tombstone,
    /// Nothing: what follows says it.
    Nothing,
}

/// The fate of each row, of which the keys are `keys`.
fn fates<K: PartialEq>(kinds: &[RowKind], keys: &[K]) -> Vec<Fate> {
    let fate = |at: usize| match kinds[at] {
        RowKind::Insert | RowKind::UpdateAfter => Fate::Upsert,
        RowKind::UpdateBefore | RowKind::Delete => {
            let is_replaced = kinds.get(at + 1).is_some_and(|next| !next.is_retraction()) && keys[at] == keys[at + 1];
            if is_replaced { Fate::Nothing } else { Fate::Tombstone }
        }
    };
    (0..kinds.len()).map(fate).collect()
}

/// Upserts and tombstones. A record is placed by Murmur2 of its key, as Java's clients do.
pub(super) struct UpsertWriter {
    table: String,
    topic: u16,
    partitions: u32,
    encoder: Box<dyn Encoder>,
    keys: KeyEncoder,
    key_bytes: Vec<u8>,
    key_spans: Vec<Option<SpanRange>>,
    ends: Vec<u32>,
}

impl UpsertWriter {
    pub fn new(table: String, topic: u16, partitions: u32, encoder: Box<dyn Encoder>, keys: KeyEncoder) -> Self {
        Self { table, topic, partitions, encoder, keys, key_bytes: Vec::new(), key_spans: Vec::new(), ends: Vec::new() }
    }

    fn no_key(&self) -> EngineError {
        EngineError::Expression {
            operator: format!("table {}", self.table),
            detail: "the key of a row is null, and a record without key can't be replaced; leave such rows out with \
                     WHERE … IS NOT NULL"
                .to_owned(),
        }
    }
}

impl Sink for UpsertWriter {
    fn write(&mut self, rows: &Rows, out: &mut Outgoing) -> Result<(), EngineError> {
        self.key_bytes.clear();
        self.key_spans.clear();
        self.ends.clear();
        self.keys.encode(&rows.batch, &mut self.key_bytes, &mut self.key_spans)?;
        let key = |span: &Option<SpanRange>| span.map(|span| &self.key_bytes[span.start as usize..span.end as usize]);
        let keys: Vec<&[u8]> = self.key_spans.iter().map(key).collect::<Option<_>>().ok_or_else(|| self.no_key())?;
        let kinds: Vec<RowKind> = (0..rows.batch.num_rows()).map(|row| RowKind::of(rows.kinds.as_ref(), row)).collect();
        let fates = fates(&kinds, &keys);
        let mut start = out.bytes.len() as u32;
        self.encoder.encode(&kept(&rows.batch, &fates)?, &mut out.bytes, &mut self.ends)?;
        let mut ends = self.ends.iter();
        for ((fate, key), time) in fates.iter().zip(&keys).zip(rows.event_time.values()) {
            let value = match fate {
                Fate::Nothing => continue,
                Fate::Tombstone => None,
                Fate::Upsert => {
                    let end = ends.next().copied().unwrap_or(start);
                    Some(SpanRange { start: std::mem::replace(&mut start, end), end })
                }
            };
            let key_start = out.bytes.len() as u32;
            out.bytes.extend_from_slice(key);
            out.records.push(OutgoingRecord {
                topic: self.topic,
                partition: partition_of(key, self.partitions),
                timestamp_ms: (*time).max(0),
                key: Some(SpanRange { start: key_start, end: out.bytes.len() as u32 }),
                value,
                headers: None,
            });
        }
        Ok(())
    }
}

/// The rows that become records with values.
fn kept(batch: &RecordBatch, fates: &[Fate]) -> Result<RecordBatch, EngineError> {
    if fates.iter().all(|fate| *fate == Fate::Upsert) {
        return Ok(batch.clone());
    }
    let kept: BooleanArray = fates.iter().map(|fate| Some(*fate == Fate::Upsert)).collect();
    filter_record_batch(batch, &kept).map_err(|error| EngineError::Plan(format!("rows can't be filtered: {error}")))
}

/// Every change as a record of its own, with the kind in its first column.
pub(super) struct LogWriter {
    topic: u16,
    schema: SchemaRef,
    encoder: Box<dyn Encoder>,
    ends: Vec<u32>,
}

impl LogWriter {
    pub fn new(topic: u16, sink: &TopicSink) -> Self {
        let mut columns = vec![Column::required(OP_COLUMN, DataType::String)];
        columns.extend_from_slice(&sink.columns);
        let encoder = encoder(sink.format, &columns);
        Self { topic, schema: arrow_schema(&columns), encoder, ends: Vec::new() }
    }

    /// Rows with their kinds before them.
    fn with_kinds(&self, rows: &Rows) -> Result<RecordBatch, EngineError> {
        let kinds = (0..rows.batch.num_rows()).map(|row| RowKind::of(rows.kinds.as_ref(), row).symbol());
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(kinds))];
        columns.extend_from_slice(rows.batch.columns());
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| EngineError::Plan(format!("rows are other ones than planned: {error}")))
    }
}

impl Sink for LogWriter {
    fn write(&mut self, rows: &Rows, out: &mut Outgoing) -> Result<(), EngineError> {
        self.ends.clear();
        let mut start = out.bytes.len() as u32;
        self.encoder.encode(&self.with_kinds(rows)?, &mut out.bytes, &mut self.ends)?;
        for (end, time) in self.ends.iter().zip(rows.event_time.values()) {
            out.records.push(OutgoingRecord {
                topic: self.topic,
                partition: 0,
                timestamp_ms: (*time).max(0),
                key: None,
                value: Some(SpanRange { start: std::mem::replace(&mut start, *end), end: *end }),
                headers: None,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_replaced_says_nothing_and_one_that_is_gone_says_so() {
        use Fate::{Nothing, Tombstone, Upsert};
        use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
        for (kinds, keys, wanted) in [
            (&[Insert, Insert][..], "ab", &[Upsert, Upsert][..]),
            (&[UpdateBefore, UpdateAfter], "aa", &[Nothing, Upsert]),
            (&[UpdateBefore, UpdateAfter], "ab", &[Tombstone, Upsert]),
            (&[UpdateBefore, UpdateBefore, UpdateAfter], "abb", &[Tombstone, Nothing, Upsert]),
            (&[UpdateBefore], "a", &[Tombstone]),
            (&[Delete, Insert], "aa", &[Nothing, Upsert]),
            (&[UpdateBefore, UpdateAfter, Insert], "aaa", &[Nothing, Upsert, Upsert]),
        ] {
            assert_eq!(fates(kinds, keys.as_bytes()), wanted, "{kinds:?} of {keys}");
        }
    }
}
