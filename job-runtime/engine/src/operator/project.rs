//! Project: computes new columns from those of each row.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;

use super::{Context, Operator};
use crate::expr::CompiledExpr;
use crate::{EngineError, Rows};

/// The operator of [`freshet_plan::Step::Project`].
pub struct Project {
    columns: Arc<[CompiledExpr]>,
    schema: SchemaRef,
}

impl Project {
    /// One expression a column of `schema`.
    #[must_use]
    pub const fn new(columns: Arc<[CompiledExpr]>, schema: SchemaRef) -> Self {
        Self { columns, schema }
    }
}

impl Operator for Project {
    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        let columns = self.columns.iter().map(|column| column.evaluate(&rows.batch)).collect::<Result<Vec<_>, _>>()?;
        // The number of rows is said apart: a projection may have no columns at all, as for COUNT(*).
        let options = RecordBatchOptions::new().with_row_count(Some(rows.batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
        let batch = batch
            .map_err(|error| EngineError::Plan(format!("a projection gives other columns than planned: {error}")))?;
        context.emit(Rows { batch, ..rows })
    }
}
