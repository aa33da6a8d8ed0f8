//! Session aggregate: aggregates the sessions of each group, and gives their results once the watermark has reached their
//! ends. Over rows where the input is partitioned by the grouping key already; over partial aggregates in a stage behind
//! a repartition topic, where [`super::session_combine`] has combined what each upstream task read in an epoch.
//!
//! A partial aggregate is late only where an upstream partition that had been idle woke up with rows whose session would
//! have ended for the others. Its source records are not known any more: group, session and how many records are told.

use std::sync::Arc;

use freshet_state::rows::RowBuffer;

use super::leaving::emit_all;
use super::sessions::{SessionSpec, Sessions};
use super::{Context, Fed, Operator, OperatorStats, Progress};
use crate::repartition::PartialColumns;
use crate::{EngineError, Rows};

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
            let spec = &self.sessions.spec;
            let spans = late.iter().map(|row| spec.span(&partials, *row)).collect::<Result<Vec<_>, _>>()?;
            let (starts, ends) = spans.into_iter().map(|(first, last)| (first, spec.panes.end(last))).unzip();
            context.late().groups.push(spec.late_groups(&partials, &late, starts, ends)?);
        }
        Ok(())
    }
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
        emit_all(context, || self.sessions.next_results(watermark))
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
