//! The rows of a window that has closed.
//!
//! Windows fire one after another, in the order of their ends. Where windows don't overlap, a window is one pane, which
//! is taken off and given out. Where they do, a window is merged from its panes in their order, into the first of them
//! where this was its last window, and otherwise into an empty one. A pane goes when its last window has fired.
//! Cumulating windows begin together, so that what one gives is what the one before it gave and its own last pane: the
//! first pane takes in the others, one as each window fires, and they go.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use freshet_env::{PlantedBug, planted};

use super::panes::Pane;
use super::{OpenPane, WindowSpec, Windows};
use crate::{EngineError, Rows};

/// A window that has closed and whose results go out.
pub(crate) struct Firing {
    end: i64,
    groups: OpenPane,
    /// The pane that `groups` was taken from; `None` where they are a copy.
    pane: Option<Pane>,
    /// Its groups, in the order of their keys.
    ids: Vec<u32>,
    /// How many of them have gone out.
    done: usize,
}

impl Windows {
    /// The next results of the windows that `watermark` closes; `None` when all have gone out.
    pub fn next_results(&mut self, watermark: i64) -> Result<Option<Rows>, EngineError> {
        loop {
            let mut firing = match self.firing.take() {
                Some(firing) => firing,
                None => match self.next_end().filter(|end| end - 1 <= watermark) {
                    Some(end) => self.close(end)?,
                    None => break,
                },
            };
            if let Some(rows) = self.spec.next_results(&mut firing, self.fired)? {
                self.firing = Some(firing);
                return Ok(Some(rows));
            }
            self.fired_through(firing);
        }
        self.fired = self.fired.max(watermark);
        Ok(None)
    }

    /// The end of the first window that has rows and has not fired.
    fn next_end(&self) -> Option<i64> {
        let panes = self.spec.panes;
        let closed = self.fired.max(self.emitted);
        let mut found: Option<i64> = None;
        for pane in self.open.keys() {
            // Windows that hold a later pane end after it.
            if found.is_some_and(|end| pane.start >= end) {
                break;
            }
            found = panes.next_end(*pane, closed).into_iter().chain(found).min();
        }
        found
    }

    /// The groups of the window that ends at `end`.
    fn close(&mut self, end: i64) -> Result<Firing, EngineError> {
        let panes = self.spec.panes;
        if panes.cumulate() {
            return self.carry(end);
        }
        let from = Pane { start: panes.window_start(end), first_end: i64::MIN };
        let to = Pane { start: end, first_end: i64::MIN };
        let mut counted: Vec<Pane> =
            self.open.range(from..to).map(|(pane, _)| *pane).filter(|pane| pane.first_end <= end).collect();
        if counted.len() > 1 && planted(PlantedBug::ForgetPane) {
            counted.pop();
        }
        let is_own = |pane: &&Pane| counted.len() == 1 || panes.last_end(pane.start) <= end;
        let pane = counted.first().filter(is_own).copied();
        let taken = pane.and_then(|pane| self.open.remove(&pane));
        let mut groups = taken.unwrap_or_else(|| self.spare.pop().unwrap_or_else(|| OpenPane::new(&self.accumulated)));
        for other in counted.iter().filter(|other| Some(**other) != pane) {
            if let Some(other) = self.open.get(other) {
                groups.absorb(other, &mut self.ids).map_err(|error| self.spec.failed(&error))?;
            }
        }
        Ok(Firing { end, ids: groups.groups.sorted_ids(), groups, pane, done: 0 })
    }

    /// The groups of the cumulating window that ends at `end`: its first pane, which takes in the others.
    fn carry(&mut self, end: i64) -> Result<Firing, EngineError> {
        let first = self.spec.panes.whole(self.spec.panes.window_start(end));
        let mut groups = match self.open.remove(&first) {
            Some(open) => open,
            None => self.spare.pop().unwrap_or_else(|| OpenPane::new(&self.accumulated)),
        };
        while let Some(next) = self.open.first_entry().filter(|next| next.key().start < end) {
            let (pane, mut other) = next.remove_entry();
            if !planted(PlantedBug::ForgetPane) {
                groups.absorb(&other, &mut self.ids).map_err(|error| self.spec.failed(&error))?;
                groups.tracked.touch(&self.ids, groups.groups.len());
            }
            self.forget(pane, &mut other);
            self.recycle(other);
        }
        Ok(Firing { end, ids: groups.groups.sorted_ids(), groups, pane: Some(first), done: 0 })
    }

    /// All results of a window have gone out: the panes go that are in no later one.
    fn fired_through(&mut self, firing: Firing) {
        let Firing { end, mut groups, pane, ids: _, done: _ } = firing;
        let panes = self.spec.panes;
        let is_over = |pane: &Pane| panes.last_end(pane.start) <= end;
        match pane {
            Some(pane) if is_over(&pane) => {
                self.forget(pane, &mut groups);
                self.recycle(groups);
            }
            Some(pane) => drop(self.open.insert(pane, groups)),
            None => self.recycle(groups),
        }
        while let Some(first) = self.open.first_entry().filter(|first| is_over(first.key())) {
            let (pane, mut groups) = first.remove_entry();
            self.forget(pane, &mut groups);
            self.recycle(groups);
        }
        self.emitted = end - 1;
    }
}

impl WindowSpec {
    /// The next results of a window, in the order of the groups' keys; `None` when all have gone out.
    /// `before` is the watermark that held before the window closed.
    fn next_results(&self, firing: &mut Firing, before: i64) -> Result<Option<Rows>, EngineError> {
        let Firing { end, groups: window, pane: _, ids, done } = firing;
        let ids = window.chunk(&ids[*done..]);
        if ids.is_empty() {
            return Ok(None);
        }
        *done += ids.len();
        let (start, end) = (self.panes.window_start(*end), *end);
        let repeated = |time: i64| Arc::new(TimestampMillisecondArray::from_value(time, ids.len())) as ArrayRef;
        let mut columns = self.group_arrays(ids.iter().map(|id| window.groups.key(*id)))?;
        columns.extend([repeated(start), repeated(end), repeated(end - 1)]);
        columns.extend(window.accumulators.finish(ids).map_err(|error| self.failed(&error))?);
        Ok(Some(Rows {
            batch: RecordBatch::try_new(self.output.clone(), columns)
                .map_err(|error| EngineError::Plan(format!("operator {}: {error}", self.id)))?,
            event_time: Int64Array::from_value(end - 1, ids.len()),
            watermark: Int64Array::from_value(before, ids.len()),
            origin: None,
            kinds: None,
        }))
    }
}
