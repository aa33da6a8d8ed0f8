//! Window merge: the second half of a window aggregate. It merges what the first halves in the upstream
//! tasks combined, and fires by their combined watermark.
//!
//! A partial aggregate is late only where an upstream partition that had been idle woke up with rows of
//! windows that the others have closed. Its source records are not known any more: what is known of it
//! (group, window, how many records) is reported instead.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMillisecondArray};
use freshet_plan::{Column, DataType};
use freshet_state::rows::RowBuffer;

use super::window_aggregate::fire;
use super::windows::Windows;
use super::{Context, LateGroups, Operator, OperatorStats, Progress, WindowSpec};
use crate::repartition::PartialColumns;
use crate::types::arrow_schema;
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

    fn describe(&self, partials: &PartialColumns<'_>, rows: &[usize]) -> Result<LateGroups, EngineError> {
        let spec = &self.windows.spec;
        // The last window that they would have counted in.
        let ends = rows.iter().map(|row| spec.panes.last_end(partials.pane_start.value(*row)));
        let ends: Vec<i64> = ends.collect();
        let starts: Vec<i64> = ends.iter().map(|end| spec.panes.window_start(*end)).collect();
        let mut columns = spec.group_columns.clone();
        columns.push(Column::required("window_start", DataType::Timestamp(3)));
        columns.push(Column::required("window_end", DataType::Timestamp(3)));
        let keys: Vec<&[u8]> = rows.iter().map(|row| partials.key.value(*row)).collect();
        let mut arrays = spec.group_arrays(keys.into_iter())?;
        arrays.push(Arc::new(TimestampMillisecondArray::from(starts)) as ArrayRef);
        arrays.push(Arc::new(TimestampMillisecondArray::from(ends)));
        Ok(LateGroups {
            rows: RecordBatch::try_new(arrow_schema(&columns), arrays)
                .map_err(|error| EngineError::Plan(format!("operator {}: {error}", spec.id)))?,
            columns,
            records: rows.iter().map(|row| partials.records.value(*row).unsigned_abs()).collect(),
        })
    }
}

impl Operator for WindowMergeOperator {
    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        let partials = PartialColumns::of(&rows.batch)?;
        let mut late = Vec::new();
        self.windows.merge(&partials, &rows.watermark, |row| late.push(row))?;
        if !late.is_empty() {
            let groups = self.describe(&partials, &late)?;
            context.late().groups.push(groups);
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: i64, context: &mut Context<'_>) -> Result<Progress, EngineError> {
        fire(&mut self.windows, watermark, context)
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
