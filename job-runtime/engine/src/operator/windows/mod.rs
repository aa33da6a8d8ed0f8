//! What the window operators share: open panes, each with its groups and their accumulators.
//!
//! A pane ([`panes`]) is a window where windows don't overlap, and a piece that several share where they do. Panes
//! are found by their start in an ordered map, so that firing takes them off the front. Within one, groups have dense
//! ids, and everything a pane holds is freed at once when its last window has fired.

mod assign;
mod bits;
mod panes;
mod places;
mod results;
mod spec;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, BinaryArray, Int64Array};
use freshet_log::Fetched;

pub(crate) use assign::Assignment;
pub(crate) use bits::Bits;
pub(crate) use panes::Pane;
pub(crate) use spec::{STATE_VERSION, WindowSpec, timestamps_ms};
pub(crate) use state::Deleted;

use super::OperatorStats;
use super::leaving::chunk;
use crate::accumulate::{AccumulateError, Accumulators, AggregateSpec, Selected};
use crate::group::key::KeyWriter;
use crate::group::table::GroupTable;
use crate::watermark::NONE;
use crate::{EngineError, Rows};

/// The open windows of one operator.
pub(crate) struct Windows {
    pub spec: Arc<WindowSpec>,
    accumulated: Vec<AggregateSpec>,
    open: BTreeMap<Pane, OpenPane>,
    /// The window whose results are going out.
    firing: Option<results::Firing>,
    /// Panes that have been emptied, kept for their memory.
    spare: Vec<OpenPane>,
    assignment: Assignment,
    deleted: Deleted,
    /// Where the rows of the batch that is read come from, if an aggregate needs to know.
    places: Option<places::Places>,
    key: Vec<u8>,
    ids: Vec<u32>,
    /// The greatest watermark that has fired windows.
    pub fired: i64,
    /// The last instant of the last window that has fired, which is ahead of `fired` while windows are firing.
    emitted: i64,
}

/// Groups and accumulators of one pane.
#[derive(Debug, Clone)]
pub(crate) struct OpenPane {
    pub groups: GroupTable,
    pub accumulators: Accumulators,
    tracked: state::Tracked,
}

/// A pane is kept for its memory when it had at most this many groups.
const SPARE_GROUPS: usize = 1 << 16;
const SPARE_PANES: usize = 2;

impl OpenPane {
    fn new(aggregates: &[AggregateSpec]) -> Self {
        Self {
            groups: GroupTable::default(),
            accumulators: Accumulators::new(aggregates),
            tracked: state::Tracked::default(),
        }
    }

    /// The first of the groups `ids` that leave at once: at least one, if there is any.
    pub fn chunk<'i>(&self, ids: &'i [u32]) -> &'i [u32] {
        chunk(ids, |id| self.groups.key(id).len() + self.accumulators.text_bytes(id))
    }

    /// Adds the groups of `other`. `ids` is used for those that they have here.
    fn absorb(&mut self, other: &Self, ids: &mut Vec<u32>) -> Result<(), AccumulateError> {
        ids.clear();
        ids.extend((0..other.groups.len() as u32).map(|id| self.groups.id_of(other.groups.key(id))));
        self.accumulators.grow(self.groups.len());
        self.accumulators.absorb(&other.accumulators, ids)
    }

    fn memory_bytes(&self) -> usize {
        self.groups.memory_bytes() + self.accumulators.memory_bytes() + self.tracked.memory_bytes()
    }
}

impl Windows {
    /// No window is open. `accumulated` is what is kept a group: the spec's aggregates, and perhaps more.
    pub fn new(spec: Arc<WindowSpec>, accumulated: Vec<AggregateSpec>) -> Self {
        let places = accumulated.iter().any(AggregateSpec::needs_order).then(places::Places::default);
        Self {
            spec,
            accumulated,
            places,
            open: BTreeMap::new(),
            firing: None,
            spare: Vec::new(),
            assignment: Assignment::default(),
            deleted: Deleted::default(),
            key: Vec::new(),
            ids: Vec::new(),
            fired: NONE,
            emitted: NONE,
        }
    }

    /// The rows that come next are those of `batch`.
    pub fn reads(&mut self, batch: &Fetched) {
        if let Some(places) = &mut self.places {
            places.read(batch);
        }
    }

    /// Accumulates rows; calls `late` with the position of each that came too late.
    pub fn accumulate(&mut self, rows: &Rows, late: impl FnMut(usize)) -> Result<(), EngineError> {
        let Self { spec, assignment, .. } = self;
        let keys = KeyWriter::new(&rows.batch, &spec.group)
            .map_err(|error| EngineError::Plan(format!("{}: {error}", spec.id)))?;
        let times = spec.times(&rows.batch)?;
        assignment.assign(spec.panes, &times, &rows.watermark, self.fired, late);
        let order = self.places.as_ref().and_then(|places| places.order(rows, &times));
        for at in 0..self.assignment.len() {
            let (pane, selected) = self.assignment.pane(at);
            let open = open_pane(&mut self.open, &mut self.spare, &self.accumulated, pane);
            self.ids.clear();
            for row in selected {
                self.key.clear();
                keys.write(*row as usize, &mut self.key);
                self.ids.push(open.groups.id_of(&self.key));
            }
            open.accumulators.grow(open.groups.len());
            open.tracked.touch(&self.ids, open.groups.len());
            let selected = Selected { rows: selected, ids: &self.ids };
            let updated = match &order {
                None => open.accumulators.update(&rows.batch, selected),
                Some(order) => open.accumulators.update_in_order(&rows.batch, selected, order),
            };
            updated.map_err(|error| self.spec.failed(&error))?;
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
        let panes = self.spec.panes;
        let mut known = None;
        for row in 0..partials.key.len() {
            let pane = self.spec.pane_of(partials, row, known)?;
            known = Some(pane);
            let Some(pane) = panes.still_open(pane, watermark.value(row).max(self.fired)) else {
                late(row);
                continue;
            };
            let open = open_pane(&mut self.open, &mut self.spare, &self.accumulated, pane);
            let id = open.groups.id_of(partials.key.value(row));
            open.accumulators.grow(open.groups.len());
            open.tracked.touch(&[id], open.groups.len());
            open.accumulators.merge(id, partials.partial.value(row)).map_err(|error| self.spec.failed(&error))?;
        }
        Ok(())
    }

    /// Takes off the first pane, whatever of it is closed.
    pub fn take_first(&mut self) -> Option<(Pane, OpenPane)> {
        self.open.pop_first()
    }

    /// Keeps the memory of a pane that is not needed any more.
    pub fn recycle(&mut self, mut pane: OpenPane) {
        if self.spare.len() < SPARE_PANES && pane.groups.len() <= SPARE_GROUPS {
            pane.groups.clear();
            pane.accumulators.clear();
            pane.tracked.clear();
            self.spare.push(pane);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Groups of all open panes.
    pub fn group_count(&self) -> usize {
        self.open.values().map(|pane| pane.groups.len()).sum()
    }

    /// Bytes of what DISTINCT aggregates have seen.
    pub fn member_bytes(&self) -> usize {
        self.open.values().map(|pane| pane.accumulators.member_bytes()).sum()
    }

    pub fn stats(&self) -> OperatorStats {
        let bytes: usize = self.open.values().chain(&self.spare).map(OpenPane::memory_bytes).sum();
        OperatorStats { keys: self.group_count() as u64, bytes: (bytes + self.deleted.memory_bytes()) as u64 }
    }
}

fn open_pane<'p>(
    open: &'p mut BTreeMap<Pane, OpenPane>,
    spare: &mut Vec<OpenPane>,
    aggregates: &[AggregateSpec],
    pane: Pane,
) -> &'p mut OpenPane {
    open.entry(pane).or_insert_with(|| spare.pop().unwrap_or_else(|| OpenPane::new(aggregates)))
}

impl WindowSpec {
    /// The pane of a row of partial aggregates. Most are of that of the row before, which is `known`.
    fn pane_of(
        &self,
        partials: &crate::repartition::PartialColumns<'_>,
        row: usize,
        known: Option<Pane>,
    ) -> Result<Pane, EngineError> {
        let start = partials.pane_start.value(row);
        let first_end = partials.first_end.map(|first_end| first_end.value(row));
        if let Some(known) = known
            && known.start == start
            && first_end.is_none_or(|end| end == known.first_end)
        {
            return Ok(known);
        }
        let pane = first_end.map_or_else(|| self.panes.whole(start), |first_end| Pane { start, first_end });
        if self.panes.rows_differ() == first_end.is_some() && self.panes.is_pane(pane) {
            return Ok(pane);
        }
        Err(EngineError::Plan(format!("operator {}: its windows have no such pane as {pane:?}", self.id)))
    }
}

/// Keys of the groups `ids`, as an array.
pub(crate) fn key_array(groups: &GroupTable, ids: &[u32]) -> BinaryArray {
    BinaryArray::from_iter_values(ids.iter().map(|id| groups.key(*id)))
}
