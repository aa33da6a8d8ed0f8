//! First row: the row of each key with the least event time, once, and nothing after it.
//!
//! A row that is the first so far waits until the watermark says that no earlier one will come; then it goes out, and
//! of its key only that it is done is kept. So nothing is ever taken back. A row whose time the watermark had passed
//! before it came is late, whatever its key: it might have been the first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use freshet_env::{PlantedBug, planted};
use freshet_state::rows::RowBuffer;

use super::spec::Entry;
use super::state::{DONE, WAITING, begin_value, put_key, read_value, take_time};
use super::{Key, RankSpec};
use crate::group::key::ordered_int;
use crate::operator::expiry::Expiry;
use crate::operator::leaving::{CHUNK_ROWS, emit_all};
use crate::operator::{Context, Fed, LateGroups, Operator, OperatorStats, Progress};
use crate::repartition::PartialColumns;
use crate::types::arrow_schema;
use crate::watermark::NONE;
use crate::{EngineError, Rows};

/// The operator of [`freshet_plan::Step::Rank`] and [`freshet_plan::Step::RankMerge`] where a first row is final.
pub struct RankFirstOperator {
    spec: Arc<RankSpec>,
    keys: HashMap<Key, First>,
    /// Rows that wait, by their times.
    waiting: BTreeSet<(i64, Key)>,
    /// Keys to be written, and those whose rows of state, by kind, are to be deleted.
    dirty: BTreeSet<Key>,
    forgotten: BTreeMap<Key, u8>,
    expiry: Option<Expiry<Key>>,
    expired: u64,
    watermark: i64,
    /// What keys and rows that wait take.
    bytes: usize,
    fed: Fed,
    /// Rows of state, while they come.
    restoring: HashMap<Vec<u8>, Vec<u8>>,
}

/// What is known of a key.
struct First {
    touched_at: i64,
    /// The first row so far and its time; `None` once it has gone out.
    waiting: Option<(i64, Entry)>,
    /// As what it is in the state.
    stored: Option<u8>,
}

impl RankFirstOperator {
    /// There are no keys.
    pub(crate) fn new(spec: Arc<RankSpec>, fed: Fed) -> Self {
        Self {
            expiry: spec.ttl_ms.map(Expiry::new),
            spec,
            keys: HashMap::new(),
            waiting: BTreeSet::new(),
            dirty: BTreeSet::new(),
            forgotten: BTreeMap::new(),
            expired: 0,
            watermark: NONE,
            bytes: 0,
            fed,
            restoring: HashMap::new(),
        }
    }

    /// Takes a row of `key` that is not late: its time is above `watermark`, which is not behind that of the operator.
    fn offer(&mut self, key: &[u8], row: Entry, time: i64, watermark: i64) {
        let known = self.keys.get_key_value(key).map(|(key, first)| (Arc::clone(key), first.touched_at));
        let known = match (known, &self.expiry) {
            (Some((key, touched_at)), Some(expiry)) if expiry.is_over(touched_at, watermark) => {
                self.forget(&key);
                None
            }
            (known, _) => known,
        };
        let (key, touched_at) = known.map_or_else(|| (Key::from(key), None), |(key, at)| (key, Some(at)));
        if let Some(expiry) = &mut self.expiry {
            expiry.touch(&key, touched_at, time);
            self.dirty.insert(Arc::clone(&key));
        }
        match self.keys.get_mut(&key) {
            None => {
                self.waiting.insert((time, Arc::clone(&key)));
                self.dirty.insert(Arc::clone(&key));
                self.bytes += key_bytes(&key) + row_bytes(&row);
                self.keys.insert(key, First { touched_at: time, waiting: Some((time, row)), stored: None });
            }
            Some(first) => {
                first.touched_at = first.touched_at.max(time);
                // One whose time has passed is the first for good, whether or not it has gone out by now.
                let Some((before, kept)) = &mut first.waiting else { return };
                if *before <= watermark || (time, &row) >= (*before, &*kept) {
                    return;
                }
                self.waiting.remove(&(*before, Arc::clone(&key)));
                self.bytes = self.bytes + row_bytes(&row) - row_bytes(kept);
                (*before, *kept) = (time, row);
                self.waiting.insert((time, Arc::clone(&key)));
                self.dirty.insert(key);
            }
        }
    }

    fn forget(&mut self, key: &Key) {
        let Some(first) = self.keys.remove(key) else { return };
        self.expired += 1;
        self.bytes -= key_bytes(key);
        self.dirty.remove(key);
        if let Some(kind) = first.stored {
            self.forgotten.insert(Arc::clone(key), kind);
        }
        if let Some((time, row)) = first.waiting {
            self.bytes -= row_bytes(&row);
            self.waiting.remove(&(time, Arc::clone(key)));
        }
    }

    /// The rows whose time `watermark` has passed, in the order of their times and keys, some at once.
    fn next_rows(&mut self, watermark: i64) -> Vec<(i64, Entry)> {
        let mut rows = Vec::new();
        while rows.len() < CHUNK_ROWS
            && let Some((time, key)) = self.waiting.first().filter(|(time, _)| *time <= watermark).cloned()
        {
            self.waiting.remove(&(time, Arc::clone(&key)));
            if let Some(waited) = self.keys.get_mut(&key).and_then(|first| first.waiting.take()) {
                self.bytes -= row_bytes(&waited.1);
                rows.push(waited);
                self.dirty.insert(key);
            }
        }
        rows
    }

    fn rows(&self, rows: &[(i64, Entry)]) -> Result<Rows, EngineError> {
        let mut columns = self.spec.arrays(rows.iter().map(|(_, row)| row.row()))?;
        if self.spec.numbered {
            columns.push(Arc::new(Int64Array::from_value(1, rows.len())) as ArrayRef);
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.spec.output), columns, &options);
        Ok(Rows {
            batch: batch.map_err(|error| self.spec.mistaken(error))?,
            event_time: Int64Array::from_iter_values(rows.iter().map(|(time, _)| *time)),
            watermark: Int64Array::from_value(self.watermark, rows.len()),
            origin: None,
            kinds: None,
        })
    }

    /// Rows that combining halves have sent. One is late only where an upstream partition that had been idle woke up.
    fn merge(&mut self, rows: &Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        let partials = PartialColumns::of(&rows.batch)?;
        let (mut late, mut records) = (Vec::new(), Vec::new());
        for at in 0..partials.key.len() {
            let row = Entry::decode(partials.partial.value(at), &mut 0)
                .ok_or_else(|| self.spec.damaged("a row that was sent is damaged"))?;
            let (time, watermark) = (partials.pane_start.value(at), rows.watermark.value(at).max(self.watermark));
            if time <= watermark {
                late.push(row);
                records.push(partials.records.value(at).unsigned_abs());
            } else {
                self.offer(partials.key.value(at), row, time, watermark);
            }
        }
        if !late.is_empty() {
            let columns = self.spec.kept_columns.clone();
            let arrays = self.spec.arrays(late.iter().map(Entry::row))?;
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(late.len()));
            let rows = RecordBatch::try_new_with_options(arrow_schema(&columns), arrays, &options)
                .map_err(|error| self.spec.mistaken(error))?;
            context.late().groups.push(LateGroups { columns, rows, records });
        }
        Ok(())
    }
}

impl Operator for RankFirstOperator {
    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        if self.fed == Fed::Partials {
            return self.merge(&rows, context);
        }
        let spec = Arc::clone(&self.spec);
        let writer = spec.writer(&rows.batch)?;
        let mut key = Vec::new();
        for row in 0..rows.batch.num_rows() {
            let (time, watermark) = (rows.event_time.value(row), rows.watermark.value(row).max(self.watermark));
            if time <= watermark {
                context.late().row(&rows, row);
                continue;
            }
            key.clear();
            writer.key(row, &mut key);
            self.offer(&key, writer.entry(row), time, watermark);
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: i64, context: &mut Context<'_>) -> Result<Progress, EngineError> {
        let progress = emit_all(context, || match self.next_rows(watermark) {
            rows if rows.is_empty() => Ok(None),
            rows => self.rows(&rows).map(Some),
        })?;
        if progress == Progress::Done {
            self.watermark = watermark;
        }
        Ok(progress)
    }

    fn on_flush(&mut self, _context: &mut Context<'_>) -> Result<(), EngineError> {
        let Some(expiry) = &mut self.expiry else { return Ok(()) };
        for key in expiry.take_over(self.watermark, |key| self.keys.get(key).map(|first| first.touched_at)) {
            self.forget(&key);
        }
        Ok(())
    }

    fn state_id(&self) -> Option<&str> {
        Some(&self.spec.id)
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        // A key that is done has its former row deleted, and rows of state come in no order: only when all are in is
        // it known what a key is.
        match value {
            Some(value) => drop(self.restoring.insert(key.to_vec(), value.to_vec())),
            None => drop(self.restoring.remove(key)),
        }
        Ok(())
    }

    fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.watermark = watermark;
        for (key, value) in std::mem::take(&mut self.restoring) {
            let (kind, key) = match key.split_first() {
                Some((kind @ (&DONE | &WAITING), key)) => (*kind, Key::from(key)),
                _ => return Err(self.spec.damaged("a row is no key of a first row")),
            };
            let (touched_at, rest) = read_value(&self.spec, &value)?;
            let waiting = if kind == WAITING {
                let (time, rest) = take_time(&self.spec, rest)?;
                let row =
                    Entry::decode(rest, &mut 0).ok_or_else(|| self.spec.damaged("a row that waits is damaged"))?;
                self.waiting.insert((time, Arc::clone(&key)));
                self.bytes += row_bytes(&row);
                Some((time, row))
            } else {
                None
            };
            if let Some(expiry) = &mut self.expiry {
                expiry.touch(&key, None, touched_at);
            }
            self.bytes += key_bytes(&key);
            if self.keys.insert(key, First { touched_at, waiting, stored: Some(kind) }).is_some() {
                return Err(self.spec.damaged("a key is done and waits"));
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, rows: &mut RowBuffer) {
        let operator = rows.operator(&self.spec.id);
        let (mut bytes, mut value) = (Vec::new(), Vec::new());
        for (key, kind) in std::mem::take(&mut self.forgotten) {
            put_key(kind, &key, &mut bytes);
            rows.delete(operator, &bytes);
        }
        for key in std::mem::take(&mut self.dirty) {
            let Some(first) = self.keys.get_mut(&key) else { continue };
            let kind = if first.waiting.is_some() { WAITING } else { DONE };
            if kind == DONE && planted(PlantedBug::ForgetFirst) {
                continue;
            }
            if let Some(before) = first.stored.replace(kind).filter(|before| *before != kind) {
                put_key(before, &key, &mut bytes);
                rows.delete(operator, &bytes);
            }
            put_key(kind, &key, &mut bytes);
            begin_value(first.touched_at, &mut value);
            if let Some((time, row)) = &first.waiting {
                value.extend_from_slice(&ordered_int(*time));
                row.encode(&mut value);
            }
            rows.put(operator, &bytes, &value);
        }
    }

    fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.forgotten.is_empty()
    }

    fn stats(&self) -> OperatorStats {
        OperatorStats { keys: self.keys.len() as u64, bytes: self.bytes as u64 }
    }

    fn expired(&self) -> u64 {
        self.expired
    }
}

/// About what a key takes: its bytes, and its places in the table and in the sets.
const fn key_bytes(key: &[u8]) -> usize {
    key.len() + 96
}

/// What a row takes that waits, with its place among those.
const fn row_bytes(row: &Entry) -> usize {
    row.memory_bytes() + 64
}
