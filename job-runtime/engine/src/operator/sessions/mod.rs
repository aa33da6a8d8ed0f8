//! Sessions: windows that the rows of a group make by themselves.
//!
//! Rows of one group that follow one another by no more than the gap are one session. It begins at its first row and ends
//! a gap after its last one: `window_end` is the first instant at which a row would no longer have to be told apart by the
//! gap, and a row exactly there still belongs to it.
//!
//! ```text
//! gap 10        0    5       15                    40   44
//! rows          x    x       x                     x    x
//! sessions      [──────────────────────)           [─────────────)
//!               0                      25          40            54
//! ```
//!
//! A row that comes between two sessions and no further than the gap from each joins them: the earlier takes in what the
//! later has.
//!
//! # Which rows are late
//! A row is late when the watermark had reached its time before it came. So it is on time as long as it is no further out
//! of order than the topic allows, and late whenever it is: also where a session is still open that it would lie in.
//! Anything kinder would make results depend on chance. What a row belongs to is decided by other rows, which may lie in
//! other partitions; whether the session that it touches has gone out already would then depend on how far those had been
//! read. As it is, a row that is on time touches no session that could have gone out: a session goes out once the
//! watermark has reached its end, and the row's time is after the watermark.
//!
//! # Order
//! Rows are taken one after another, each with the watermark before it; sums are added up as columns, over all rows since
//! the last time that two sessions were joined. Results go out in the order of their ends and of their groups' keys. Two
//! sessions of one group never have one end.
//!
//! A heap holds each session once, by an end that it had: rows move ends without touching it, and what it gives too early
//! is put back with the end of today.

mod results;
mod state;
mod table;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch};
use freshet_env::{PlantedBug, planted};
use freshet_plan::{Window, WindowAggregate};

use super::OperatorStats;
use super::windows::{Deleted, WindowSpec};
use crate::accumulate::{AccumulateError, Accumulators, AggregateSpec, Selected};
use crate::group::key::KeyWriter;
use crate::repartition::PartialColumns;
use crate::watermark::NONE;
use crate::{EngineError, Rows};
use table::SessionTable;

/// The longest time between two rows of a session that follow one another, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap(i64);

impl Gap {
    /// When a session ends whose last row is at `last`.
    pub const fn end(self, last: i64) -> i64 {
        last.saturating_add(self.0)
    }
}

/// A checked aggregate over sessions.
pub(crate) type SessionSpec = WindowSpec<Gap>;

impl SessionSpec {
    /// Checks an aggregate.
    ///
    /// # Errors
    /// [`EngineError::Plan`] for what this runtime does not do.
    pub fn of_sessions(plan: &WindowAggregate) -> Result<Self, EngineError> {
        let gap = match plan.window {
            Window::Session { gap_ms } => plan.window.check().map(|()| Gap(gap_ms)),
            other => Err(format!("{other:?} are no sessions")),
        };
        Self::with(plan, gap)
    }
}

/// The sessions of one operator.
pub(crate) struct Sessions {
    pub spec: Arc<SessionSpec>,
    accumulated: Vec<AggregateSpec>,
    table: SessionTable,
    accumulators: Accumulators,
    /// Each session once, by an end that it had.
    due: BinaryHeap<Reverse<(i64, u32)>>,
    firing: results::Firing,
    /// Those that changed since the last snapshot.
    changed: Vec<u32>,
    deleted: Deleted,
    /// What sessions that have gone left behind, as [`Accumulators::weight`] counts.
    waste: usize,
    /// Rows that are in a session already, and their sessions, and are still to be added up.
    pending: (Vec<u32>, Vec<u32>),
    touching: Vec<u32>,
    /// The greatest watermark that has fired sessions.
    pub fired: i64,
}

impl Sessions {
    /// There is no session. `accumulated` is what is kept for each: the spec's aggregates, and perhaps more.
    pub fn new(spec: Arc<SessionSpec>, accumulated: Vec<AggregateSpec>) -> Self {
        Self {
            spec,
            table: SessionTable::default(),
            accumulators: Accumulators::linked(&accumulated),
            accumulated,
            due: BinaryHeap::new(),
            firing: results::Firing::default(),
            changed: Vec::new(),
            deleted: Deleted::default(),
            waste: 0,
            pending: (Vec::new(), Vec::new()),
            touching: Vec::new(),
            fired: NONE,
        }
    }

    /// Accumulates rows; calls `late` with the position of each that came too late.
    pub fn accumulate(&mut self, rows: &Rows, mut late: impl FnMut(usize)) -> Result<(), EngineError> {
        let spec = self.spec.clone();
        let keys = KeyWriter::new(&rows.batch, &spec.group)
            .map_err(|error| EngineError::Plan(format!("{}: {error}", spec.id)))?;
        let times = spec.times(&rows.batch)?;
        let mut key = Vec::new();
        for (row, (time, before)) in times.iter().zip(rows.watermark.values()).enumerate() {
            let closed = (*before).max(self.fired);
            if *time <= closed {
                late(row);
                continue;
            }
            key.clear();
            keys.write(row, &mut key);
            self.touch(&key, (*time, *time), closed);
            let id = match self.touching.len() {
                0 => self.begin(&key, (*time, *time)),
                1 => self.touching[0],
                _ => {
                    self.add_up(&rows.batch)?;
                    self.join()?
                }
            };
            self.lengthen(id, (*time, *time));
            self.pending.0.push(row as u32);
            self.pending.1.push(id);
        }
        self.add_up(&rows.batch)
    }

    /// Merges partial aggregates, one row each; calls `late` with the position of each whose session has gone out.
    pub fn merge(
        &mut self,
        partials: &PartialColumns<'_>,
        watermark: &Int64Array,
        mut late: impl FnMut(usize),
    ) -> Result<(), EngineError> {
        for row in 0..partials.key.len() {
            let (first, last) = self.spec.span(partials, row)?;
            let closed = watermark.value(row).max(self.fired);
            if self.spec.panes.end(last) <= closed {
                late(row);
                continue;
            }
            let key = partials.key.value(row);
            self.touch(key, (first, last), closed);
            let id = match self.touching.len() {
                0 => self.begin(key, (first, last)),
                1 => self.touching[0],
                _ => self.join()?,
            };
            self.lengthen(id, (first, last));
            self.accumulators.merge(id, partials.partial.value(row)).map_err(|error| self.spec.failed(&error))?;
        }
        Ok(())
    }

    /// Finds the sessions of `key` that rows from `first` to `last` touch and that a watermark of `closed` has not
    /// closed.
    fn touch(&mut self, key: &[u8], (first, last): (i64, i64), closed: i64) {
        let Self { table, touching, spec, .. } = self;
        touching.clear();
        let end = spec.panes.end(last);
        touching.extend(table.of_key(key).filter(|id| {
            let session = table.get(*id);
            let its_end = spec.panes.end(session.last);
            first <= its_end && session.first <= end && its_end > closed
        }));
    }

    fn begin(&mut self, key: &[u8], (first, last): (i64, i64)) -> u32 {
        let id = self.table.add(key, first, (first, last));
        self.accumulators.grow(self.table.len());
        self.due.push(Reverse((self.spec.panes.end(last), id)));
        id
    }

    /// A session now holds rows from `first` to `last` too.
    fn lengthen(&mut self, id: u32, (first, last): (i64, i64)) {
        let session = self.table.get_mut(id);
        session.first = session.first.min(first);
        session.last = session.last.max(last);
        if !session.changed {
            session.changed = true;
            self.changed.push(id);
        }
    }

    /// Makes one session of those that are touched: the earliest.
    fn join(&mut self) -> Result<u32, EngineError> {
        let mut joined = std::mem::take(&mut self.touching);
        joined.sort_unstable_by_key(|id| self.table.get(*id).first);
        let (into, others) = joined.split_first().expect("several sessions are joined");
        for other in others {
            let (first, last) = (self.table.get(*other).first, self.table.get(*other).last);
            if !planted(PlantedBug::ForgetJoinedSession) {
                self.accumulators.absorb_group(*into, *other).map_err(|error| self.spec.failed(&error))?;
            }
            self.lengthen(*into, (first, last));
            self.forget(*other);
        }
        let into = *into;
        self.touching = joined;
        Ok(into)
    }

    /// Adds up the rows that are waiting for it.
    fn add_up(&mut self, batch: &RecordBatch) -> Result<(), EngineError> {
        let (rows, ids) = &mut self.pending;
        let selected = Selected { rows, ids };
        self.accumulators.update(batch, selected).map_err(|error| self.spec.failed(&error))?;
        rows.clear();
        ids.clear();
        Ok(())
    }

    /// A session goes, and its rows of state.
    fn forget(&mut self, id: u32) {
        self.delete_rows(id);
        self.waste += self.accumulators.weight_of(id);
        self.accumulators.forget_group(id);
        self.table.remove(id);
    }

    /// Copies the sessions that live out of what the others left behind, once that is most of it.
    fn tidy(&mut self) -> Result<(), AccumulateError> {
        const NOT_WORTH_IT: usize = 1024;
        if self.waste <= self.accumulators.weight() / 2 + NOT_WORTH_IT {
            return Ok(());
        }
        self.copy_living()
    }

    fn copy_living(&mut self) -> Result<(), AccumulateError> {
        let live = self.table.live_ids();
        self.accumulators = self.accumulators.copied(Accumulators::linked(&self.accumulated), &live)?;
        self.table = self.table.copied(&live);
        let ids = 0..self.table.len() as u32;
        self.due = ids.clone().map(|id| Reverse((self.spec.panes.end(self.table.get(id).last), id))).collect();
        self.changed = ids.filter(|id| self.table.get(*id).changed).collect();
        self.waste = 0;
        Ok(())
    }

    /// Forgets everything; for operators that keep nothing across epochs.
    pub fn clear(&mut self) {
        let (spec, accumulated, fired) = (self.spec.clone(), std::mem::take(&mut self.accumulated), self.fired);
        *self = Self { fired, ..Self::new(spec, accumulated) };
    }

    pub const fn is_empty(&self) -> bool {
        self.table.live() == 0
    }

    /// How many sessions there are.
    pub const fn len(&self) -> usize {
        self.table.live()
    }

    /// Bytes of what DISTINCT aggregates have seen.
    pub fn member_bytes(&self) -> usize {
        self.accumulators.member_bytes()
    }

    pub fn stats(&self) -> OperatorStats {
        let bytes = self.table.memory_bytes()
            + self.accumulators.memory_bytes()
            + self.deleted.memory_bytes()
            + self.due.capacity() * size_of::<Reverse<(i64, u32)>>();
        OperatorStats { keys: self.table.live() as u64, bytes: bytes as u64 }
    }
}

impl SessionSpec {
    /// The times of the first and the last row that a row of partial aggregates stands for.
    pub fn span(&self, partials: &PartialColumns<'_>, row: usize) -> Result<(i64, i64), EngineError> {
        let first = partials.pane_start.value(row);
        let last = partials.first_end.map(|end| end.value(row).saturating_sub(self.panes.0));
        last.filter(|last| *last >= first).map(|last| (first, last)).ok_or_else(|| {
            EngineError::Plan(format!("operator {}: rows of partial aggregates that are no sessions", self.id))
        })
    }
}
