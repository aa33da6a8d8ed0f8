//! Group merge: the second half of a group aggregate. It merges what the first halves in the upstream tasks combined.

use std::sync::Arc;

use freshet_state::rows::RowBuffer;

use super::{GroupAggregateOperator, GroupSpec};
use crate::operator::{Context, Operator, OperatorStats, Progress};
use crate::{EngineError, Rows};

/// The operator of [`freshet_plan::Step::GroupMerge`].
pub struct GroupMergeOperator(GroupAggregateOperator);

impl GroupMergeOperator {
    /// There are no groups.
    pub(crate) fn new(spec: Arc<GroupSpec>) -> Self {
        Self(GroupAggregateOperator::new(spec))
    }
}

impl Operator for GroupMergeOperator {
    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        self.0.merge(&rows, context)
    }

    fn on_watermark(&mut self, watermark: i64, context: &mut Context<'_>) -> Result<Progress, EngineError> {
        self.0.on_watermark(watermark, context)
    }

    fn on_flush(&mut self, context: &mut Context<'_>) -> Result<(), EngineError> {
        self.0.on_flush(context)
    }

    fn state_id(&self) -> Option<&str> {
        self.0.state_id()
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        self.0.restore(key, value)
    }

    fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.0.restored(watermark)
    }

    fn snapshot(&mut self, rows: &mut RowBuffer) {
        self.0.snapshot(rows);
    }

    fn is_dirty(&self) -> bool {
        self.0.is_dirty()
    }

    fn stats(&self) -> OperatorStats {
        self.0.stats()
    }

    fn expired(&self) -> u64 {
        self.0.expired()
    }
}
