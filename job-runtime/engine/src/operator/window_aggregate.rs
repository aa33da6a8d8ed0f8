//! Window aggregate: groups rows of a window by key and aggregates them until the watermark passes the
//! window's end. Used where the input is partitioned by the grouping key already.

use std::sync::Arc;

use freshet_log::Fetched;
use freshet_state::rows::RowBuffer;

use super::leaving::emit_all;
use super::windows::Windows;
use super::{Context, Operator, OperatorStats, Progress, WindowSpec};
use crate::{EngineError, Rows};

/// The operator of [`freshet_plan::Step::WindowAggregate`].
pub struct WindowAggregateOperator {
    windows: Windows,
}

impl WindowAggregateOperator {
    /// No window is open.
    pub(crate) fn new(spec: Arc<WindowSpec>) -> Self {
        let accumulated = spec.aggregates.clone();
        Self { windows: Windows::new(spec, accumulated) }
    }
}

impl Operator for WindowAggregateOperator {
    fn reads(&mut self, batch: &Fetched) {
        self.windows.reads(batch);
    }

    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        let late = context.late();
        self.windows.accumulate(&rows, |row| late.row(&rows, row))
    }

    fn on_watermark(&mut self, watermark: i64, context: &mut Context<'_>) -> Result<Progress, EngineError> {
        emit_all(context, || self.windows.next_results(watermark))
    }

    fn state_id(&self) -> Option<&str> {
        Some(&self.windows.spec.id)
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        self.windows.restore(key, value)
    }

    fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.windows.restored(watermark)
    }

    fn snapshot(&mut self, rows: &mut RowBuffer) {
        self.windows.snapshot(rows);
    }

    fn is_dirty(&self) -> bool {
        self.windows.is_dirty()
    }

    fn stats(&self) -> OperatorStats {
        self.windows.stats()
    }
}
