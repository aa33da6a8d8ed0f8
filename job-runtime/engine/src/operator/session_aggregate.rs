//! Session aggregate: aggregates the sessions of each group, and gives their results once the watermark has reached their
//! ends. Over rows where the input is partitioned by the grouping key already; over partial aggregates in a stage behind
//! a repartition topic, where [`super::session_combine`] has combined what each upstream task read in an epoch.
//!
//! A partial aggregate is late only where an upstream partition that had been idle woke up with rows whose session would
//! have ended for the others. Its source records are not known any more: group, session and how many records are told.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMillisecondArray};
use freshet_plan::{Column, DataType};
use freshet_state::rows::RowBuffer;

use super::sessions::{SessionSpec, Sessions};
use super::{Context, LateGroups, Operator, OperatorStats, Progress};
use crate::repartition::PartialColumns;
use crate::types::arrow_schema;
use crate::{EngineError, Rows};

/// What rows the operator gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fed {
    /// Rows as they were read.
    Rows,
    /// Partial aggregates.
    Partials,
}

/// The operator of [`freshet_plan::Step::WindowAggregate`] and [`freshet_plan::Step::WindowMerge`] over sessions.
pub struct SessionAggregateOperator {
    sessions: Sessions,
    fed: Fed,
}

impl SessionAggregateOperator {
    /// There is no session.
    pub(crate) fn new(spec: Arc<SessionSpec>, fed: Fed) -> Self {
        let accumulated = spec.aggregates.clone();
        Self { sessions: Sessions::new(spec, accumulated), fed }
    }

    fn merge(&mut self, rows: &Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        let partials = PartialColumns::of(&rows.batch)?;
        let mut late = Vec::new();
        self.sessions.merge(&partials, &rows.watermark, |row| late.push(row))?;
        if !late.is_empty() {
            let groups = describe(&self.sessions.spec, &partials, &late)?;
            context.late().groups.push(groups);
        }
        Ok(())
    }
}

fn describe(spec: &SessionSpec, partials: &PartialColumns<'_>, rows: &[usize]) -> Result<LateGroups, EngineError> {
    let spans = rows.iter().map(|row| spec.span(partials, *row)).collect::<Result<Vec<_>, _>>()?;
    let starts: Vec<i64> = spans.iter().map(|(first, _)| *first).collect();
    let ends: Vec<i64> = spans.iter().map(|(_, last)| spec.panes.end(*last)).collect();
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

impl Operator for SessionAggregateOperator {
    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        match self.fed {
            Fed::Rows => {
                let late = context.late();
                self.sessions.accumulate(&rows, |row| late.row(&rows, row))
            }
            Fed::Partials => self.merge(&rows, context),
        }
    }

    fn on_watermark(&mut self, watermark: i64, context: &mut Context<'_>) -> Result<Progress, EngineError> {
        while let Some(rows) = self.sessions.next_results(watermark)? {
            context.emit(rows)?;
            if context.is_full() {
                return Ok(Progress::More);
            }
        }
        Ok(Progress::Done)
    }

    fn state_id(&self) -> Option<&str> {
        Some(&self.sessions.spec.id)
    }

    fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        self.sessions.restore(key, value)
    }

    fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.sessions.restored(watermark)
    }

    fn snapshot(&mut self, rows: &mut RowBuffer) {
        self.sessions.snapshot(rows);
    }

    fn is_dirty(&self) -> bool {
        self.sessions.is_dirty()
    }

    fn stats(&self) -> OperatorStats {
        self.sessions.stats()
    }
}
