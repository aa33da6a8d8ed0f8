//! The rows of the groups that changed since the last flush.
//!
//! Groups come in the order of their encoded keys; where a key's group expired and began anew in between, the former
//! one first. With [`Emits::Changes`] the row before comes directly before the row after; where both are equal, neither
//! does: nothing has changed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt8Array};
use arrow::compute::interleave;
use freshet_env::{PlantedBug, planted};
use freshet_plan::Emits;

use super::{GroupSpec, Groups};
use crate::changelog::RowKind;
use crate::group::key::KeyWriter;
use crate::operator::leaving::chunk;
use crate::watermark::NONE;
use crate::{EngineError, Rows};

/// The changes of one flush, on their way out.
pub(crate) struct Results {
    /// Groups that changed, in the order of their keys.
    ids: Vec<u32>,
    done: usize,
    before: Before,
    event_time: i64,
}

/// Results before the changes.
struct Before {
    /// Where a group's results are: in which arrays, and where in them.
    places: HashMap<u32, (usize, usize)>,
    /// For each batch of groups, an array an aggregate.
    results: Vec<Vec<ArrayRef>>,
}

/// What becomes a row: a group, and its results among those before the changes, or among the new ones.
struct Entry {
    id: u32,
    kind: RowKind,
    place: (usize, usize),
}

impl Groups {
    /// Takes out what has changed since the last flush. The groups are to be stored.
    pub fn take_results(&mut self) -> Results {
        let mut ids = std::mem::take(&mut self.touched_ids);
        ids.sort_unstable_by(|a, b| self.table.key(*a).cmp(self.table.key(*b)).then(a.cmp(b)));
        self.stored.touch(&ids, self.table.len());
        for id in &ids {
            self.touched.remove(*id);
        }
        let mut before = Before { places: HashMap::new(), results: Vec::new() };
        for (at, (ids, results)) in self.before.drain(..).enumerate() {
            before.places.extend(ids.iter().enumerate().map(|(place, id)| (*id, (at, place))));
            before.results.push(results);
        }
        let event_time = std::mem::replace(&mut self.newest, NONE).max(0);
        Results { ids, done: 0, before, event_time }
    }

    /// The next rows of `results`; `None` when all have gone out.
    pub fn next_rows(&self, results: &mut Results) -> Result<Option<Rows>, EngineError> {
        while results.done < results.ids.len() {
            let ids = self.chunk(&results.ids[results.done..]);
            results.done += ids.len();
            if let Some(rows) = self.rows(ids, &results.before, results.event_time)? {
                return Ok(Some(rows));
            }
        }
        Ok(None)
    }

    fn chunk<'i>(&self, ids: &'i [u32]) -> &'i [u32] {
        chunk(ids, |id| self.table.key(id).len() + self.accumulators.text_bytes(id))
    }

    fn rows(&self, ids: &[u32], before: &Before, event_time: i64) -> Result<Option<Rows>, EngineError> {
        let spec = &self.spec;
        let current = self.accumulators.finish(ids).map_err(|error| spec.failed(&error))?;
        let entries = match spec.emits {
            Emits::Changes => self.changes(ids, before, &current)?,
            Emits::Latest | Emits::First => {
                let after = |(at, id): (usize, &u32)| self.after(*id, (before.results.len(), at));
                ids.iter().enumerate().map(after).collect()
            }
        };
        if entries.is_empty() {
            return Ok(None);
        }
        let mut columns = spec.group_arrays(entries.iter().map(|entry| self.table.key(entry.id)))?;
        let places: Vec<(usize, usize)> = entries.iter().map(|entry| entry.place).collect();
        for aggregate in 0..current.len() {
            let arrays: Vec<&dyn arrow::array::Array> =
                before.results.iter().chain([&current]).map(|results| results[aggregate].as_ref()).collect();
            columns.push(interleave(&arrays, &places).map_err(|error| spec.mistaken(error))?);
        }
        Ok(Some(Rows {
            batch: batch(spec, columns, entries.len())?,
            event_time: Int64Array::from_value(event_time, entries.len()),
            watermark: Int64Array::from_value(self.watermark, entries.len()),
            origin: None,
            kinds: Some(UInt8Array::from_iter_values(entries.iter().map(|entry| entry.kind as u8))),
        }))
    }

    /// The row of a group as it is now.
    fn after(&self, id: u32, place: (usize, usize)) -> Entry {
        let kind = if self.stored.holds(id) { RowKind::UpdateAfter } else { RowKind::Insert };
        Entry { id, kind, place }
    }

    /// The rows before and after, of groups for which they differ.
    fn changes(&self, ids: &[u32], before: &Before, current: &[ArrayRef]) -> Result<Vec<Entry>, EngineError> {
        let spec = &self.spec;
        let positions: Vec<usize> = (0..current.len()).collect();
        let batches = before.results.iter().map(Vec::as_slice).chain([current]);
        let batches: Vec<RecordBatch> =
            batches.map(|results| unnamed(spec, results)).collect::<Result<_, EngineError>>()?;
        let writers = batches.iter().map(|batch| KeyWriter::new(batch, &positions));
        let writers = writers.collect::<Result<Vec<_>, _>>().map_err(|error| spec.mistaken(error))?;
        let encoded = |(array, row): (usize, usize)| {
            let mut bytes = Vec::new();
            writers[array].write(row, &mut bytes);
            bytes
        };
        let mut entries = Vec::with_capacity(2 * ids.len());
        for (at, id) in ids.iter().enumerate() {
            let now = (before.results.len(), at);
            if let Some(was) = before.places.get(id) {
                if encoded(*was) == encoded(now) {
                    continue;
                }
                if !planted(PlantedBug::LoseRetraction) {
                    entries.push(Entry { id: *id, kind: RowKind::UpdateBefore, place: *was });
                }
                entries.push(Entry { id: *id, kind: RowKind::UpdateAfter, place: now });
            } else {
                entries.push(Entry { id: *id, kind: RowKind::Insert, place: now });
            }
        }
        Ok(entries)
    }
}

/// Rows of the operator's output.
pub(super) fn batch(spec: &GroupSpec, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, EngineError> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(&spec.output), columns, &options).map_err(|error| spec.mistaken(error))
}

/// Arrays as a batch, for those who read batches.
fn unnamed(spec: &GroupSpec, columns: &[ArrayRef]) -> Result<RecordBatch, EngineError> {
    let named = columns.iter().enumerate().map(|(at, column)| (at.to_string(), Arc::clone(column), true));
    RecordBatch::try_from_iter_with_nullable(named).map_err(|error| spec.mistaken(error))
}
