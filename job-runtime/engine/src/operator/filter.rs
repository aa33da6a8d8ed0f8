//! Filter: keeps the rows for which a predicate is true.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::{FilterBuilder, filter};

use super::{Context, Operator};
use crate::expr::CompiledPredicate;
use crate::{EngineError, Rows};

/// The operator of [`freshet_plan::Step::Filter`].
pub struct Filter {
    predicate: Arc<CompiledPredicate>,
}

impl Filter {
    /// Keeps rows for which `predicate` is true: neither false nor null.
    #[must_use]
    pub const fn new(predicate: Arc<CompiledPredicate>) -> Self {
        Self { predicate }
    }
}

impl Operator for Filter {
    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        let kept = self.predicate.mask(&rows.batch)?;
        match select(rows, &kept)? {
            Some(rows) => context.emit(rows),
            None => Ok(()),
        }
    }
}

/// The rows for which `kept` (which holds no null) is true, with all that belongs to them; `None` when there
/// are none.
pub(crate) fn select(rows: Rows, kept: &BooleanArray) -> Result<Option<Rows>, EngineError> {
    let count = kept.true_count();
    if count == 0 || count == kept.len() {
        return Ok((count > 0).then_some(rows));
    }
    let failed = |error: arrow::error::ArrowError| EngineError::Plan(format!("rows can't be filtered: {error}"));
    let predicate = FilterBuilder::new(kept).optimize().build();
    let batch = predicate.filter_record_batch(&rows.batch).map_err(failed)?;
    Ok(Some(Rows {
        batch,
        event_time: filter(&rows.event_time, kept).map_err(failed)?.as_primitive().clone(),
        watermark: filter(&rows.watermark, kept).map_err(failed)?.as_primitive().clone(),
        origin: match &rows.origin {
            None => None,
            Some(origin) => Some(filter(origin, kept).map_err(failed)?.as_primitive().clone()),
        },
        kinds: match &rows.kinds {
            None => None,
            Some(kinds) => Some(filter(kinds, kept).map_err(failed)?.as_primitive().clone()),
        },
    }))
}
