//! Window combine: the first half of a window aggregate whose second half is in another stage.
//!
//! It combines rows of a group and window between two flushes, so that one internal record stands for
//! many. It keeps nothing across epochs: a flush comes before every snapshot. Lateness is judged here, by
//! the source's own watermark, as a window aggregate without a second stage would judge it.

use std::sync::Arc;

use arrow::array::Int64Array;
use freshet_log::Fetched;

use super::windows::{OpenPane, Pane, Windows, key_array};
use super::{Context, Operator, OperatorStats, Progress, WindowSpec, combining};
use crate::repartition::partial_rows;
use crate::{EngineError, Rows};

/// The operator of [`freshet_plan::Step::WindowCombine`].
pub struct WindowCombineOperator {
    windows: Windows,
    aggregates: usize,
}

impl WindowCombineOperator {
    /// Nothing is held back.
    pub(crate) fn new(spec: Arc<WindowSpec>) -> Self {
        let (aggregates, accumulated) = (spec.aggregates.len(), combining::accumulated(&spec.aggregates));
        Self { windows: Windows::new(spec, accumulated), aggregates }
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
        let mut left = ids.as_slice();
        while !left.is_empty() {
            let ids;
            (ids, left) = left.split_at(open.chunk(left).len());
            let (records, values) = partials.of(ids, self.aggregates);
            context.emit(Rows {
                batch: partial_rows(
                    key_array(&open.groups, ids),
                    Int64Array::from_value(pane.start, ids.len()),
                    overlap.then(|| Int64Array::from_value(pane.first_end, ids.len())),
                    records,
                    values,
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

impl Operator for WindowCombineOperator {
    fn reads(&mut self, batch: &Fetched) {
        self.windows.reads(batch);
    }

    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        let spec = Arc::clone(&self.windows.spec);
        for rows in combining::parts(rows, &spec.aggregates) {
            let late = context.late();
            self.windows.accumulate(&rows, |row| late.row(&rows, row))?;
            if combining::is_too_much(self.windows.group_count(), self.windows.member_bytes()) {
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
