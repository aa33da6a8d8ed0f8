//! What the window operators share: open windows, each with its groups and their accumulators.
//!
//! A window is found by its start in an ordered map, so that firing takes windows off the front. Within
//! it, groups have dense ids, and everything a window holds is freed at once when it fires.

mod assign;
mod bits;
mod results;
mod spec;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, BinaryArray, Int64Array};

pub(crate) use assign::Assignment;
pub(crate) use spec::{WindowSpec, timestamps_ms};
pub(crate) use state::Deleted;

use super::OperatorStats;
use crate::accumulate::{AccumulateError, Accumulators, AggregateSpec, Selected};
use crate::group::key::KeyWriter;
use crate::group::table::GroupTable;
use crate::watermark::NONE;
use crate::{EngineError, Rows};

/// The open windows of one operator.
pub(crate) struct Windows {
    pub spec: Arc<WindowSpec>,
    accumulated: Vec<AggregateSpec>,
    open: BTreeMap<i64, OpenWindow>,
    /// The window whose results are going out.
    firing: Option<results::Firing>,
    /// Windows that have been emptied, kept for their memory.
    spare: Vec<OpenWindow>,
    assignment: Assignment,
    deleted: Deleted,
    key: Vec<u8>,
    ids: Vec<u32>,
    /// The greatest watermark that has fired windows.
    pub fired: i64,
}

/// Groups and accumulators of one window.
#[derive(Debug, Clone)]
pub(crate) struct OpenWindow {
    pub groups: GroupTable,
    pub accumulators: Accumulators,
    tracked: state::Tracked,
}

/// Groups that leave a window at once.
const CHUNK_ROWS: usize = 8192;
/// About how many bytes of texts they have: an array of texts holds at most 2 GiB.
const CHUNK_BYTES: usize = 16 << 20;

/// A window is kept for its memory when it had at most this many groups.
const SPARE_GROUPS: usize = 1 << 16;
const SPARE_WINDOWS: usize = 2;

impl OpenWindow {
    fn new(aggregates: &[AggregateSpec]) -> Self {
        Self {
            groups: GroupTable::default(),
            accumulators: Accumulators::new(aggregates),
            tracked: state::Tracked::default(),
        }
    }

    /// The first of the groups `ids` that leave at once: at least one, if there is any.
    pub fn chunk<'i>(&self, ids: &'i [u32]) -> &'i [u32] {
        let mut bytes = 0;
        let full = ids.iter().take(CHUNK_ROWS).position(|id| {
            let full = bytes >= CHUNK_BYTES;
            bytes += self.groups.key(*id).len() + self.accumulators.text_bytes(*id);
            full
        });
        &ids[..full.unwrap_or(ids.len().min(CHUNK_ROWS))]
    }

    fn memory_bytes(&self) -> usize {
        self.groups.memory_bytes() + self.accumulators.memory_bytes() + self.tracked.memory_bytes()
    }
}

impl Windows {
    /// No window is open. `accumulated` is what is kept a group: the spec's aggregates, and perhaps more.
    pub fn new(spec: Arc<WindowSpec>, accumulated: Vec<AggregateSpec>) -> Self {
        Self {
            spec,
            accumulated,
            open: BTreeMap::new(),
            firing: None,
            spare: Vec::new(),
            assignment: Assignment::default(),
            deleted: Deleted::default(),
            key: Vec::new(),
            ids: Vec::new(),
            fired: NONE,
        }
    }

    /// Accumulates rows; calls `late` with the position of each that came too late.
    pub fn accumulate(&mut self, rows: &Rows, late: impl FnMut(usize)) -> Result<(), EngineError> {
        let Self { spec, assignment, .. } = self;
        let keys = KeyWriter::new(&rows.batch, &spec.group)
            .map_err(|error| EngineError::Plan(format!("{}: {error}", spec.id)))?;
        let times = spec.times(&rows.batch)?;
        assignment.assign(spec.window, &times, &rows.watermark, self.fired, late);
        for at in 0..self.assignment.len() {
            let (start, selected) = self.assignment.window(at);
            let window = open_window(&mut self.open, &mut self.spare, &self.accumulated, start);
            self.ids.clear();
            for row in selected {
                self.key.clear();
                keys.write(*row as usize, &mut self.key);
                self.ids.push(window.groups.id_of(&self.key));
            }
            window.accumulators.grow(window.groups.len());
            window.tracked.touch(&self.ids, window.groups.len());
            let selected = Selected { rows: selected, ids: &self.ids };
            window.accumulators.update(&rows.batch, selected).map_err(|error| self.spec.failed(&error))?;
        }
        Ok(())
    }

    /// Merges partial aggregates, one row each; calls `late` with the position of each that came too late.
    pub fn merge(
        &mut self,
        partials: &crate::repartition::PartialColumns<'_>,
        watermark: &Int64Array,
        mut late: impl FnMut(usize),
    ) -> Result<(), EngineError> {
        for row in 0..partials.key.len() {
            let start = partials.window_start.value(row);
            if self.spec.window.last_instant(start) <= watermark.value(row).max(self.fired) {
                late(row);
                continue;
            }
            let window = open_window(&mut self.open, &mut self.spare, &self.accumulated, start);
            let id = window.groups.id_of(partials.key.value(row));
            window.accumulators.grow(window.groups.len());
            window.tracked.touch(&[id], window.groups.len());
            window.accumulators.merge(id, partials.partial.value(row)).map_err(|error| self.spec.failed(&error))?;
        }
        Ok(())
    }

    /// Takes off the first window, closed or not.
    pub fn take_first(&mut self) -> Option<(i64, OpenWindow)> {
        self.open.pop_first()
    }

    /// Keeps the memory of a window that is not needed any more.
    pub fn recycle(&mut self, mut window: OpenWindow) {
        if self.spare.len() < SPARE_WINDOWS && window.groups.len() <= SPARE_GROUPS {
            window.groups.clear();
            window.accumulators.clear();
            window.tracked.clear();
            self.spare.push(window);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Groups of all open windows.
    pub fn group_count(&self) -> usize {
        self.open.values().map(|window| window.groups.len()).sum()
    }

    /// Bytes of what DISTINCT aggregates have seen.
    pub fn member_bytes(&self) -> usize {
        self.open.values().map(|window| window.accumulators.member_bytes()).sum()
    }

    pub fn stats(&self) -> OperatorStats {
        let bytes: usize = self.open.values().chain(&self.spare).map(OpenWindow::memory_bytes).sum();
        OperatorStats { keys: self.group_count() as u64, bytes: (bytes + self.deleted.memory_bytes()) as u64 }
    }
}

fn open_window<'w>(
    open: &'w mut BTreeMap<i64, OpenWindow>,
    spare: &mut Vec<OpenWindow>,
    aggregates: &[AggregateSpec],
    start: i64,
) -> &'w mut OpenWindow {
    open.entry(start).or_insert_with(|| spare.pop().unwrap_or_else(|| OpenWindow::new(aggregates)))
}

impl WindowSpec {
    pub fn failed(&self, error: &AccumulateError) -> EngineError {
        EngineError::Expression { operator: self.id.clone(), detail: error.to_string() }
    }
}

/// Keys of the groups `ids`, as an array.
pub(crate) fn key_array(groups: &GroupTable, ids: &[u32]) -> BinaryArray {
    BinaryArray::from_iter_values(ids.iter().map(|id| groups.key(*id)))
}
