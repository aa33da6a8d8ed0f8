//! What the operators of a grouping without a window share: the groups, which live until they are forgotten.
//!
//! ```text
//! rows ─▶ find a group's id ─▶ accumulate ─▶ touched ──flush──▶ results ─▶ dirty ──snapshot──▶ rows of state
//!              │ expired                                                        │
//!              └▶ forgotten, and begun anew under another id                    └▶ deleted rows of forgotten ones
//! ```
//!
//! Groups have dense ids, as those of a window have, so that the accumulators are the same. A group that is forgotten
//! leaves its id behind: its key is taken out of the table, and gets another id when it comes again. Ids that stand for
//! nothing go when they are the greater part (after a snapshot, when nothing is in flight).
//!
//! # Time to live
//! A group's *age* is measured on the stream's own clock: from the later of its last row's event time and the watermark
//! before that row, to the watermark. No clock of a machine is asked, so that the same records give the same result
//! whenever they are read: an epoch that is done again, a job that catches up after a night, a replay from the
//! beginning. A row that finds its group expired begins it anew, whether or not it had been swept out by then.
//!
//! # What comes out
//! A flush (the end of an epoch) gives each group that was touched once, in the order of the groups' encoded keys; see
//! `results`. So rows of a group that changed several times within an epoch come out once.

mod aggregate;
mod combine;
mod results;
mod spec;
mod state;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, UInt32Array};

pub use aggregate::GroupAggregateOperator;
pub use combine::GroupCombineOperator;
pub(crate) use spec::GroupSpec;

use super::OperatorStats;
use super::expiry::Expiry;
use super::windows::Bits;
use crate::accumulate::{Accumulators, Selected};
use crate::group::key::KeyWriter;
use crate::group::table::GroupTable;
use crate::repartition::PartialColumns;
use crate::watermark::NONE;
use crate::{EngineError, Rows};
use freshet_plan::Emits;

/// The groups of one operator.
pub(crate) struct Groups {
    pub spec: Arc<GroupSpec>,
    table: GroupTable,
    accumulators: Accumulators,
    /// When each was last touched, on the stream's clock, ms.
    touched_at: Vec<i64>,
    /// Groups that changed since the last flush, as a set and in the order of their first change.
    touched: Bits,
    touched_ids: Vec<u32>,
    /// The aggregates' results of touched groups before they were touched, where those are needed.
    before: Vec<(Vec<u32>, Vec<ArrayRef>)>,
    /// Groups that the last batch made, each with the position of the row that made it.
    made: Vec<(u32, u32)>,
    /// The greatest event time of the rows since the last flush, ms.
    newest: i64,
    /// The watermark of the last call.
    watermark: i64,
    stored: state::Stored,
    expiry: Option<Expiry<u32>>,
    /// How many groups have expired since the task was made.
    pub expired: u64,
    key: Vec<u8>,
    ids: Vec<u32>,
}

impl Groups {
    /// There are none.
    pub fn new(spec: Arc<GroupSpec>) -> Self {
        Self {
            accumulators: Accumulators::new(&spec.aggregates),
            expiry: spec.ttl_ms.map(Expiry::new),
            spec,
            table: GroupTable::default(),
            touched_at: Vec::new(),
            touched: Bits::default(),
            touched_ids: Vec::new(),
            before: Vec::new(),
            made: Vec::new(),
            newest: NONE,
            watermark: NONE,
            stored: state::Stored::default(),
            expired: 0,
            key: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// Accumulates rows.
    pub fn accumulate(&mut self, rows: &Rows) -> Result<(), EngineError> {
        let spec = Arc::clone(&self.spec);
        let keys = KeyWriter::new(&rows.batch, &spec.group).map_err(|error| spec.mistaken(error))?;
        let known = self.table.len();
        let mut ids = std::mem::take(&mut self.ids);
        ids.clear();
        self.made.clear();
        let mut key = std::mem::take(&mut self.key);
        for row in 0..rows.batch.num_rows() {
            key.clear();
            keys.write(row, &mut key);
            ids.push(self.find(row, &key, rows.event_time.value(row), rows.watermark.value(row)));
        }
        self.touch(&ids, known)?;
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        let selected = Selected { rows: &positions, ids: &ids };
        self.accumulators.update(&rows.batch, selected).map_err(|error| spec.failed(&error))?;
        (self.ids, self.key) = (ids, key);
        Ok(())
    }

    /// Merges partial aggregates, one row each.
    pub fn merge(&mut self, partials: &PartialColumns<'_>, rows: &Rows) -> Result<(), EngineError> {
        let known = self.table.len();
        let mut ids = std::mem::take(&mut self.ids);
        ids.clear();
        self.made.clear();
        for row in 0..partials.key.len() {
            let (key, time) = (partials.key.value(row), partials.pane_start.value(row));
            ids.push(self.find(row, key, time, rows.watermark.value(row)));
        }
        self.touch(&ids, known)?;
        for (row, id) in ids.iter().enumerate() {
            self.accumulators.merge(*id, partials.partial.value(row)).map_err(|error| self.spec.failed(&error))?;
        }
        self.ids = ids;
        Ok(())
    }

    /// The id of the group of `key`, touched by a row of this time before which this watermark held. One that has
    /// expired is forgotten, and begins anew.
    fn find(&mut self, row: usize, key: &[u8], event_time: i64, watermark: i64) -> u32 {
        self.newest = self.newest.max(event_time);
        let watermark = watermark.max(self.watermark);
        let now = event_time.max(watermark);
        let mut id = self.table.id_of(key);
        let is_known = (id as usize) < self.touched_at.len();
        if let Some(expiry) = &mut self.expiry {
            if is_known && expiry.is_over(self.touched_at[id as usize], watermark) {
                self.table.forget(id);
                self.stored.forget(id);
                self.expired += 1;
                id = self.table.id_of(key);
                expiry.touch(&id, None, now);
            } else if is_known {
                expiry.touch(&id, Some(self.touched_at[id as usize]), now);
            } else {
                expiry.touch(&id, None, now);
            }
        }
        if id as usize == self.touched_at.len() {
            self.touched_at.push(now);
            self.made.push((id, row as u32));
        } else {
            let touched_at = &mut self.touched_at[id as usize];
            *touched_at = now.max(*touched_at);
        }
        id
    }

    /// The groups `ids` change; those from `known` on are new in this batch.
    fn touch(&mut self, ids: &[u32], known: usize) -> Result<(), EngineError> {
        let groups = self.table.len();
        self.accumulators.grow(groups);
        self.touched.grow(groups);
        // Where a group's row comes out once, nothing of it changes later but its age.
        let only_new = self.spec.emits == Emits::First && self.expiry.is_none();
        let mut changing = Vec::new();
        for id in ids {
            if (only_new && (*id as usize) < known) || !self.touched.insert(*id) {
                continue;
            }
            self.touched_ids.push(*id);
            if (*id as usize) < known {
                changing.push(*id);
            }
        }
        if self.spec.emits == Emits::Changes && !changing.is_empty() {
            let results = self.accumulators.finish(&changing).map_err(|error| self.spec.failed(&error))?;
            self.before.push((changing, results));
        }
        Ok(())
    }

    /// The rows of the groups that the last batch made, each with what belongs to the row that made it; `times` are
    /// the event times of the batch.
    pub fn new_rows(&self, rows: &Rows, times: &Int64Array) -> Result<Option<Rows>, EngineError> {
        if self.made.is_empty() {
            return Ok(None);
        }
        let columns = self.spec.group_arrays(self.made.iter().map(|(id, _)| self.table.key(*id)))?;
        let made = || self.made.iter().map(|(_, row)| *row as usize);
        Ok(Some(Rows {
            batch: results::batch(&self.spec, columns, self.made.len())?,
            event_time: Int64Array::from_iter_values(made().map(|row| times.value(row))),
            watermark: Int64Array::from_iter_values(made().map(|row| rows.watermark.value(row))),
            origin: rows.origin.as_ref().map(|o| UInt32Array::from_iter_values(made().map(|row| o.value(row)))),
            kinds: None,
        }))
    }

    /// Every row up to `watermark` has come.
    pub const fn advance(&mut self, watermark: i64) {
        self.watermark = watermark;
    }

    pub fn stats(&self) -> OperatorStats {
        let bytes = self.table.memory_bytes()
            + self.accumulators.memory_bytes()
            + self.touched_at.capacity() * size_of::<i64>()
            + self.touched.memory_bytes()
            + self.touched_ids.capacity() * size_of::<u32>()
            + self
                .before
                .iter()
                .flat_map(|(_, results)| results)
                .map(arrow::array::Array::get_array_memory_size)
                .sum::<usize>()
            + self.stored.memory_bytes()
            + self.expiry.as_ref().map_or(0, Expiry::memory_bytes);
        OperatorStats { keys: (self.table.len() - self.stored.forgotten_count()) as u64, bytes: bytes as u64 }
    }
}
