//! The rows of a window that has closed.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};

use super::{OpenWindow, WindowSpec};
use crate::group::key::decode_columns;
use crate::{EngineError, Rows};

/// Rows that leave a window at once.
const CHUNK_ROWS: usize = 8192;

impl WindowSpec {
    /// Gives `each` the results of the window that begins at `start`, in chunks, in the order of the
    /// groups' keys. `before` is the watermark that held before the window closed.
    pub fn results(
        &self,
        start: i64,
        window: &OpenWindow,
        before: i64,
        mut each: impl FnMut(Rows) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let last_instant = self.window.last_instant(start);
        for ids in window.groups.sorted_ids().chunks(CHUNK_ROWS) {
            let repeated = |time: i64| Arc::new(TimestampMillisecondArray::from_value(time, ids.len())) as ArrayRef;
            let mut columns = self.group_arrays(ids.iter().map(|id| window.groups.key(*id)))?;
            columns.extend([repeated(start), repeated(self.window.end(start)), repeated(last_instant)]);
            columns.extend(window.accumulators.finish(ids).map_err(|error| self.failed(&error))?);
            each(Rows {
                batch: RecordBatch::try_new(self.output.clone(), columns)
                    .map_err(|error| EngineError::Plan(format!("operator {}: {error}", self.id)))?,
                event_time: Int64Array::from_value(last_instant, ids.len()),
                watermark: Int64Array::from_value(before, ids.len()),
                origin: None,
            })?;
        }
        Ok(())
    }

    /// The grouping columns of encoded keys.
    pub fn group_arrays<'k>(
        &self,
        keys: impl ExactSizeIterator<Item = &'k [u8]>,
    ) -> Result<Vec<ArrayRef>, EngineError> {
        decode_columns(&self.group_columns, keys)
            .map_err(|detail| EngineError::State { operator: self.id.clone(), detail })
    }
}
