//! Window combine: the first half of a window aggregate whose second half is in another stage.
//!
//! It combines rows of a group and window between two flushes, so that one internal record stands for
//! many. It keeps nothing across epochs: a flush comes before every snapshot. Lateness is judged here, by
//! the source's own watermark, as a window aggregate without a second stage would judge it.

use std::sync::Arc;

use arrow::array::{BinaryBuilder, Int64Array};
use freshet_log::Fetched;

use super::windows::{OpenPane, Pane, Windows, key_array};
use super::{Context, Operator, OperatorStats, Progress, WindowSpec};
use crate::accumulate::AggregateSpec;
use crate::repartition::partial_rows;
use crate::{EngineError, Rows};

/// Groups that are held back at most: beyond it they go out before the epoch ends.
const MAX_GROUPS: usize = 1 << 17;
/// The same for what DISTINCT aggregates have seen, in bytes. A group's values go out in one row, which
/// must fit an internal record of at most 1 MB.
const MAX_MEMBER_BYTES: usize = 256 * 1024;

/// The operator of [`freshet_plan::Step::WindowCombine`].
pub struct WindowCombineOperator {
    windows: Windows,
    aggregates: usize,
}

impl WindowCombineOperator {
    /// Nothing is held back.
    pub(crate) fn new(spec: Arc<WindowSpec>) -> Self {
        let aggregates = spec.aggregates.len();
        let mut accumulated = spec.aggregates.clone();
        // How many records a row stands for, so that the second half can count late ones.
        accumulated.push(AggregateSpec::count_rows());
        Self { windows: Windows::new(spec, accumulated), aggregates }
    }

    /// How many of the rows are accumulated before it is asked whether that is enough for a record.
    fn rows_at_once(&self, rows: &Rows) -> usize {
        let all = rows.batch.num_rows();
        if !self.windows.spec.aggregates.iter().any(AggregateSpec::has_members) {
            return all.max(1);
        }
        let bytes_each = rows.batch.get_array_memory_size() / all.max(1);
        (MAX_MEMBER_BYTES / bytes_each.max(1)).max(1)
    }

    fn send(&mut self, context: &mut Context<'_>) -> Result<(), EngineError> {
        while let Some((pane, open)) = self.windows.take_first() {
            self.send_pane(pane, &open, context)?;
            self.windows.recycle(open);
        }
        Ok(())
    }

    fn send_pane(&self, pane: Pane, open: &OpenPane, context: &mut Context<'_>) -> Result<(), EngineError> {
        let partials = open.accumulators.partials();
        let ids: Vec<u32> = (0..open.groups.len() as u32).collect();
        let overlap = self.windows.spec.panes.rows_differ();
        let mut encoded = Vec::new();
        let mut left = ids.as_slice();
        while !left.is_empty() {
            let ids;
            (ids, left) = left.split_at(open.chunk(left).len());
            let mut values = BinaryBuilder::with_capacity(ids.len(), ids.len() * 16);
            for id in ids {
                encoded.clear();
                partials.encode(*id, self.aggregates, &mut encoded);
                values.append_value(&encoded);
            }
            let records = ids.iter().map(|id| open.accumulators.last_count(*id) as i64);
            context.emit(Rows {
                batch: partial_rows(
                    key_array(&open.groups, ids),
                    Int64Array::from_value(pane.start, ids.len()),
                    overlap.then(|| Int64Array::from_value(pane.first_end, ids.len())),
                    records.collect(),
                    values.finish(),
                ),
                // The pane's start: its end may lie in a future that a broker refuses as a timestamp.
                event_time: Int64Array::from_value(pane.start, ids.len()),
                watermark: Int64Array::from_value(self.windows.fired, ids.len()),
                origin: None,
                kinds: None,
            })?;
        }
        Ok(())
    }
}

/// `count` rows from `from` on.
fn part(rows: &Rows, from: usize, count: usize) -> Rows {
    Rows {
        batch: rows.batch.slice(from, count),
        event_time: rows.event_time.slice(from, count),
        watermark: rows.watermark.slice(from, count),
        origin: rows.origin.as_ref().map(|origin| origin.slice(from, count)),
        kinds: rows.kinds.as_ref().map(|kinds| kinds.slice(from, count)),
    }
}

impl Operator for WindowCombineOperator {
    fn reads(&mut self, batch: &Fetched) {
        self.windows.reads(batch);
    }

    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        let (all, most) = (rows.batch.num_rows(), self.rows_at_once(&rows));
        for from in (0..all).step_by(most) {
            let rows = if most < all { part(&rows, from, most.min(all - from)) } else { rows.clone() };
            let late = context.late();
            self.windows.accumulate(&rows, |row| late.row(&rows, row))?;
            if self.windows.group_count() > MAX_GROUPS || self.windows.member_bytes() > MAX_MEMBER_BYTES {
                self.send(context)?;
            }
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: i64, _context: &mut Context<'_>) -> Result<Progress, EngineError> {
        self.windows.fired = watermark;
        Ok(Progress::Done)
    }

    fn on_flush(&mut self, context: &mut Context<'_>) -> Result<(), EngineError> {
        self.send(context)
    }

    fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.windows.fired = watermark;
        Ok(())
    }

    fn is_dirty(&self) -> bool {
        !self.windows.is_empty()
    }

    fn stats(&self) -> OperatorStats {
        OperatorStats { keys: 0, ..self.windows.stats() }
    }
}
