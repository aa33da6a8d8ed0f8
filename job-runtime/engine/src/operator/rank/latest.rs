//! Rank: the first rows of each key as they are by now. Used where the input is partitioned by the key already, and
//! behind a combining half.
//!
//! With numbers, a row is known by its key and number: a row that comes in moves those behind it, and each number whose
//! row is another one gets a new row. Without numbers and with one row a key, it is known by its key. Without numbers
//! and with more, rows come and go by themselves (+I, −D), which no topic of upserts can hold: only a query shows that.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt8Array};
use freshet_plan::Emits;
use freshet_state::rows::RowBuffer;

use super::spec::Entry;
use super::{Change, Parts, RankSpec};
use crate::changelog::RowKind;
use crate::operator::leaving::CHUNK_ROWS;
use crate::operator::{Context, Fed, Operator, OperatorStats, Progress};
use crate::repartition::PartialColumns;
use crate::watermark::NONE;
use crate::{EngineError, Rows};

/// The operator of [`freshet_plan::Step::Rank`] and [`freshet_plan::Step::RankMerge`], where what is first changes.
pub struct RankOperator {
    parts: Parts,
    fed: Fed,
}

/// A row that goes out.
struct Out {
    kind: RowKind,
    row: Entry,
    number: i64,
}

impl RankOperator {
    /// There are no keys.
    pub(crate) fn new(spec: Arc<RankSpec>, fed: Fed) -> Self {
        Self { parts: Parts::new(spec), fed }
    }

    fn send(&self, rows: &[Out], event_time: i64, context: &mut Context<'_>) -> Result<(), EngineError> {
        let spec = &self.parts.spec;
        let mut columns = spec.arrays(rows.iter().map(|out| out.row.row()))?;
        if spec.numbered {
            let numbers = Int64Array::from_iter_values(rows.iter().map(|out| out.number));
            columns.push(Arc::new(numbers) as ArrayRef);
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&spec.output), columns, &options);
        context.emit(Rows {
            batch: batch.map_err(|error| spec.mistaken(error))?,
            event_time: Int64Array::from_value(event_time, rows.len()),
            watermark: Int64Array::from_value(self.parts.watermark, rows.len()),
            origin: None,
            kinds: Some(UInt8Array::from_iter_values(rows.iter().map(|out| out.kind as u8))),
        })
    }
}

/// The rows of a change.
fn rows_of(spec: &RankSpec, change: Change, out: &mut Vec<Out>) {
    let Change { key: _, before, after } = change;
    if !spec.numbered && spec.limit > 1 {
        return come_and_go(before, after, out);
    }
    let mut before = before.into_iter();
    for (number, row) in (1..).zip(after) {
        let kind = match before.next() {
            None => RowKind::Insert,
            Some(old) if old.row() == row.row() => continue,
            Some(old) => {
                if spec.emits == Emits::Changes {
                    out.push(Out { kind: RowKind::UpdateBefore, row: old, number });
                }
                RowKind::UpdateAfter
            }
        };
        out.push(Out { kind, row, number });
    }
}

/// Rows that are no more among the first ones, and rows that are new there.
fn come_and_go(before: Vec<Entry>, after: Vec<Entry>, out: &mut Vec<Out>) {
    let mut gone = before;
    let mut come = Vec::new();
    for row in after {
        match gone.iter().position(|old| *old == row) {
            Some(at) => drop(gone.remove(at)),
            None => come.push(row),
        }
    }
    out.extend(gone.into_iter().map(|row| Out { kind: RowKind::Delete, row, number: 0 }));
    out.extend(come.into_iter().map(|row| Out { kind: RowKind::Insert, row, number: 0 }));
}

impl Operator for RankOperator {
    fn on_rows(&mut self, _input: usize, rows: Rows, _context: &mut Context<'_>) -> Result<(), EngineError> {
        let spec = Arc::clone(&self.parts.spec);
        if self.fed == Fed::Partials {
            let partials = PartialColumns::of(&rows.batch)?;
            for at in 0..partials.key.len() {
                let (bytes, mut read) = (partials.partial.value(at), 0);
                while read < bytes.len() {
                    let row = Entry::decode(bytes, &mut read)
                        .ok_or_else(|| spec.damaged("a row that was sent is damaged"))?;
                    let time = partials.pane_start.value(at);
                    self.parts.offer(partials.key.value(at), row, time, rows.watermark.value(at));
                }
            }
            return Ok(());
        }
        let writer = spec.writer(&rows.batch)?;
        let mut key = Vec::new();
        for row in 0..rows.batch.num_rows() {
            key.clear();
            writer.key(row, &mut key);
            self.parts.offer(&key, writer.entry(row), rows.event_time.value(row), rows.watermark.value(row));
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: i64, _context: &mut Context<'_>) -> Result<Progress, EngineError> {
        self.parts.watermark = watermark;
        Ok(Progress::Done)
    }

    fn on_flush(&mut self, context: &mut Context<'_>) -> Result<(), EngineError> {
        let event_time = std::mem::replace(&mut self.parts.newest, NONE).max(0);
        let mut out = Vec::new();
        for change in self.parts.take_changes() {
            rows_of(&self.parts.spec, change, &mut out);
            if out.len() >= CHUNK_ROWS {
                self.send(&out, event_time, context)?;
                out.clear();
            }
        }
        if !out.is_empty() {
            self.send(&out, event_time, context)?;
        }
        self.parts.sweep();
        Ok(())
    }

    fn state_id(&self) -> Option<&str> {
        Some(&self.parts.spec.id)
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        self.parts.restore(key, value)
    }

    fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.parts.restored(watermark);
        Ok(())
    }

    fn snapshot(&mut self, rows: &mut RowBuffer) {
        self.parts.snapshot(rows);
    }

    fn is_dirty(&self) -> bool {
        self.parts.is_dirty()
    }

    fn stats(&self) -> OperatorStats {
        OperatorStats { keys: self.parts.parts.len() as u64, bytes: self.parts.bytes as u64 }
    }

    fn expired(&self) -> u64 {
        self.parts.expired
    }
}
