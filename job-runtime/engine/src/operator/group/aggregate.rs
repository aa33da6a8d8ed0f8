//! Group aggregate: groups rows by key without a window, where the input is partitioned by the grouping key already; in a
//! stage behind a repartition topic it merges what the first halves in the upstream tasks combined.

use std::sync::Arc;

use freshet_plan::Emits;
use freshet_state::rows::RowBuffer;

use super::{GroupSpec, Groups};
use crate::operator::{Context, Fed, Operator, OperatorStats, Progress};
use crate::repartition::PartialColumns;
use crate::{EngineError, Rows};

/// The operator of [`freshet_plan::Step::GroupAggregate`] and of [`freshet_plan::Step::GroupMerge`].
pub struct GroupAggregateOperator {
    groups: Groups,
    fed: Fed,
}

impl GroupAggregateOperator {
    /// There are no groups.
    pub(crate) fn new(spec: Arc<GroupSpec>, fed: Fed) -> Self {
        Self { groups: Groups::new(spec), fed }
    }

    /// Where a group's row comes out once, it comes out at once, with the time of the row that made the group.
    fn emit_new(
        &mut self,
        rows: &Rows,
        times: &arrow::array::Int64Array,
        context: &mut Context<'_>,
    ) -> Result<(), EngineError> {
        if self.groups.spec.emits != Emits::First {
            return Ok(());
        }
        match self.groups.new_rows(rows, times)? {
            Some(rows) => context.emit(rows),
            None => Ok(()),
        }
    }
}

impl Operator for GroupAggregateOperator {
    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        match self.fed {
            Fed::Rows => {
                self.groups.accumulate(&rows)?;
                self.emit_new(&rows, &rows.event_time, context)
            }
            Fed::Partials => {
                let partials = PartialColumns::of(&rows.batch)?;
                self.groups.merge(&partials, &rows)?;
                self.emit_new(&rows, partials.pane_start, context)
            }
        }
    }

    fn on_watermark(&mut self, watermark: i64, _context: &mut Context<'_>) -> Result<Progress, EngineError> {
        self.groups.advance(watermark);
        Ok(Progress::Done)
    }

    fn on_flush(&mut self, context: &mut Context<'_>) -> Result<(), EngineError> {
        let mut results = self.groups.take_results();
        if self.groups.spec.emits != Emits::First {
            while let Some(rows) = self.groups.next_rows(&mut results)? {
                context.emit(rows)?;
            }
        }
        self.groups.sweep();
        Ok(())
    }

    fn state_id(&self) -> Option<&str> {
        Some(&self.groups.spec.id)
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        self.groups.restore(key, value)
    }

    fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.groups.restored(watermark)
    }

    fn snapshot(&mut self, rows: &mut RowBuffer) {
        self.groups.snapshot(rows);
    }

    fn is_dirty(&self) -> bool {
        self.groups.is_dirty()
    }

    fn stats(&self) -> OperatorStats {
        self.groups.stats()
    }

    fn expired(&self) -> u64 {
        self.groups.expired
    }
}
