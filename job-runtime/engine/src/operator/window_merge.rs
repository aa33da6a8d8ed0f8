//! Window merge: the second half of a window aggregate. It merges what the first halves in the upstream
//! tasks combined, and fires by their combined watermark.
//!
//! A partial aggregate is late only where an upstream partition that had been idle woke up with rows of
//! windows that the others have closed. Its source records are not known any more: what is known of it
//! (group, window, how many records) is reported instead.

use std::sync::Arc;

use freshet_state::rows::RowBuffer;

use super::leaving::emit_all;
use super::windows::Windows;
use super::{Context, Operator, OperatorStats, Progress, WindowSpec};
use crate::repartition::PartialColumns;
use crate::{EngineError, Rows};

/// The operator of [`freshet_plan::Step::WindowMerge`].
pub struct WindowMergeOperator {
    windows: Windows,
}

impl WindowMergeOperator {
    /// No window is open.
    pub(crate) fn new(spec: Arc<WindowSpec>) -> Self {
        let accumulated = spec.aggregates.clone();
        Self { windows: Windows::new(spec, accumulated) }
    }
}

impl Operator for WindowMergeOperator {
    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        let partials = PartialColumns::of(&rows.batch)?;
        let mut late = Vec::new();
        self.windows.merge(&partials, &rows.watermark, |row| late.push(row))?;
        if !late.is_empty() {
            let spec = &self.windows.spec;
            // The last window that they would have counted in.
            let ends = late.iter().map(|row| spec.panes.last_end(partials.pane_start.value(*row)));
            let ends: Vec<i64> = ends.collect();
            let starts = ends.iter().map(|end| spec.panes.window_start(*end)).collect();
            context.late().groups.push(spec.late_groups(&partials, &late, starts, ends)?);
        }
        Ok(())
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
