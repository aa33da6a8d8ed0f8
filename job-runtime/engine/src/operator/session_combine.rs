//! Session combine: the first half of a session aggregate whose second half is in another stage.
//!
//! It makes sessions of what is read between two flushes, so that one internal record stands for many. Which rows belong
//! together is told by the times between them alone: rows that follow one another by no more than the gap here are in one
//! session whatever other partitions hold, so that sending them as one, with the first and the last time, loses nothing. It
//! keeps nothing across epochs: a flush comes before every snapshot. Lateness is judged here, by the source's own watermark.

use std::sync::Arc;

use super::sessions::{SessionSpec, Sessions};
use super::{Context, Operator, OperatorStats, Progress, combining};
use crate::{EngineError, Rows};

/// The operator of [`freshet_plan::Step::WindowCombine`] over sessions.
pub struct SessionCombineOperator {
    sessions: Sessions,
    aggregates: usize,
}

impl SessionCombineOperator {
    /// Nothing is held back.
    pub(crate) fn new(spec: Arc<SessionSpec>) -> Self {
        let (aggregates, accumulated) = (spec.aggregates.len(), combining::accumulated(&spec.aggregates));
        Self { sessions: Sessions::new(spec, accumulated), aggregates }
    }

    fn send(&mut self, context: &mut Context<'_>) -> Result<(), EngineError> {
        if self.sessions.is_empty() {
            return Ok(());
        }
        for rows in self.sessions.partials(self.aggregates) {
            context.emit(rows)?;
        }
        self.sessions.clear();
        Ok(())
    }
}

impl Operator for SessionCombineOperator {
    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        let spec = Arc::clone(&self.sessions.spec);
        for rows in combining::parts(rows, &spec.aggregates) {
            let late = context.late();
            self.sessions.accumulate(&rows, |row| late.row(&rows, row))?;
            if combining::is_too_much(self.sessions.len(), self.sessions.member_bytes()) {
                self.send(context)?;
            }
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: i64, _context: &mut Context<'_>) -> Result<Progress, EngineError> {
        self.sessions.fired = watermark;
        Ok(Progress::Done)
    }

    fn on_flush(&mut self, context: &mut Context<'_>) -> Result<(), EngineError> {
        self.send(context)
    }

    fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.sessions.fired = watermark;
        Ok(())
    }

    fn is_dirty(&self) -> bool {
        !self.sessions.is_empty()
    }

    fn stats(&self) -> OperatorStats {
        OperatorStats { keys: 0, ..self.sessions.stats() }
    }
}
