//! The rows of a window that has closed.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};

use super::{OpenWindow, WindowSpec, Windows};
use crate::group::key::decode_columns;
use crate::{EngineError, Rows};

/// A window that has closed and whose results go out.
pub(crate) struct Firing {
    start: i64,
    window: OpenWindow,
    /// Its groups, in the order of their keys.
    ids: Vec<u32>,
    /// How many of them have gone out.
    done: usize,
}

impl Windows {
    /// The next results of the windows that `watermark` closes; `None` when all have gone out.
    pub fn next_results(&mut self, watermark: i64) -> Result<Option<Rows>, EngineError> {
        while let Some(mut firing) = self.firing.take().or_else(|| self.close_first(watermark)) {
            if let Some(rows) = self.spec.next_results(&mut firing, self.fired)? {
                self.firing = Some(firing);
                return Ok(Some(rows));
            }
            self.forget(firing.start, &mut firing.window);
            self.recycle(firing.window);
        }
        self.fired = self.fired.max(watermark);
        Ok(None)
    }

    fn close_first(&mut self, watermark: i64) -> Option<Firing> {
        let first = self.open.first_entry().filter(|first| self.spec.window.last_instant(*first.key()) <= watermark)?;
        let (start, window) = first.remove_entry();
        Some(Firing { start, ids: window.groups.sorted_ids(), window, done: 0 })
    }
}

impl WindowSpec {
    /// The next results of a window, in the order of the groups' keys; `None` when all have gone out.
    /// `before` is the watermark that held before the window closed.
    fn next_results(&self, firing: &mut Firing, before: i64) -> Result<Option<Rows>, EngineError> {
        let Firing { start, window, ids, done } = firing;
        let ids = window.chunk(&ids[*done..]);
        if ids.is_empty() {
            return Ok(None);
        }
        *done += ids.len();
        let (start, last_instant) = (*start, self.window.last_instant(*start));
        let repeated = |time: i64| Arc::new(TimestampMillisecondArray::from_value(time, ids.len())) as ArrayRef;
        let mut columns = self.group_arrays(ids.iter().map(|id| window.groups.key(*id)))?;
        columns.extend([repeated(start), repeated(self.window.end(start)), repeated(last_instant)]);
        columns.extend(window.accumulators.finish(ids).map_err(|error| self.failed(&error))?);
        Ok(Some(Rows {
            batch: RecordBatch::try_new(self.output.clone(), columns)
                .map_err(|error| EngineError::Plan(format!("operator {}: {error}", self.id)))?,
            event_time: Int64Array::from_value(last_instant, ids.len()),
            watermark: Int64Array::from_value(before, ids.len()),
            origin: None,
        }))
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
