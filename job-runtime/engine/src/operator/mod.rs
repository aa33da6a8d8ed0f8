//! Operators: what is done with rows between a source and a sink. One file an operator.
//!
//! An operator is driven by its task, one call at a time, and pushes rows to what lies behind it through
//! its [`Context`], which returns when they are all the way through: nothing is ever in flight between
//! two calls. The calls, in the order in which a task makes them:
//!
//! ```text
//! restore* → restored → ( on_rows* → on_watermark? )* → on_flush → snapshot → …
//! ```
//!
//! * [`Operator::on_rows`]: rows have come, of one of its inputs.
//! * [`Operator::on_watermark`]: every row with an event time ≤ W has come, on all inputs. What an
//!   operator emits here goes out before what lies behind it hears of the same watermark.
//! * [`Operator::on_flush`]: an epoch ends; what is held back only to be combined goes out now.
//! * [`Operator::snapshot`]: hand over the rows of state that changed since the last one.
//!
//! An operator's output must not depend on how rows are cut into batches. That is why lateness is judged
//! by the watermark that each row carries, and why windows fire in the order of their ends and keys.

mod combining;
mod expiry;
pub mod filter;
pub mod group;
mod grouping;
mod leaving;
pub mod project;
pub mod rank;
pub mod session_aggregate;
pub mod session_combine;
mod sessions;
pub mod window_aggregate;
pub mod window_combine;
pub mod window_merge;
mod windows;

use std::sync::Arc;

use arrow::array::RecordBatch;
use freshet_log::{Fetched, Outgoing};
use freshet_plan::{Column, Step, Window};
use freshet_state::rows::RowBuffer;

pub(crate) use sessions::SessionSpec;
pub(crate) use windows::{WindowSpec, timestamps_ms};

use crate::{EngineError, Rows};

/// What a task can do with an operator.
pub trait Operator {
    /// The rows that come next are those of `batch`, which their origins point into.
    fn reads(&mut self, _batch: &Fetched) {}

    /// Takes rows of the input with this number (0 where there is only one).
    ///
    /// # Errors
    /// What the operator can't compute; the task fails.
    fn on_rows(&mut self, input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError>;

    /// Every row with an event time ≤ `watermark` has come. An operator that stops because the output is
    /// full ([`Context::is_full`]) is called again, with this watermark or a greater one, before anything
    /// else; what lies behind it does not hear of the watermark until it is done.
    ///
    /// # Errors
    /// What the operator can't compute; the task fails.
    fn on_watermark(&mut self, _watermark: i64, _context: &mut Context<'_>) -> Result<Progress, EngineError> {
        Ok(Progress::Done)
    }

    /// An epoch ends.
    ///
    /// # Errors
    /// What the operator can't compute; the task fails.
    fn on_flush(&mut self, _context: &mut Context<'_>) -> Result<(), EngineError> {
        Ok(())
    }

    /// The name of its state; `None` for an operator that keeps none across epochs.
    fn state_id(&self) -> Option<&str> {
        None
    }

    /// Takes back one row of its state. A later row for a key replaces an earlier one; `None` deletes it.
    ///
    /// # Errors
    /// [`EngineError::State`] for a row that this operator does not write.
    fn restore(&mut self, _key: &[u8], _value: Option<&[u8]>) -> Result<(), EngineError> {
        Ok(())
    }

    /// All rows are in, and `watermark` is the last one that it was given. Nothing is dirty afterwards.
    ///
    /// # Errors
    /// [`EngineError::State`] for rows that don't fit together.
    fn restored(&mut self, _watermark: i64) -> Result<(), EngineError> {
        Ok(())
    }

    /// Hands over the rows of state that changed, and marks them clean.
    fn snapshot(&mut self, _rows: &mut RowBuffer) {}

    /// Whether a flush and a snapshot would hand over anything.
    fn is_dirty(&self) -> bool {
        false
    }

    /// What it holds.
    fn stats(&self) -> OperatorStats {
        OperatorStats::default()
    }

    /// How many keys of its state have expired since it was made.
    fn expired(&self) -> u64 {
        0
    }
}

/// The operator of a window step, by itself: for benchmarks and tests of one operator.
///
/// # Errors
/// [`EngineError::Plan`] for a step that is no window, or one that this runtime does not do.
pub fn of_window(step: &Step) -> Result<Box<dyn Operator>, EngineError> {
    Ok(match step {
        Step::WindowAggregate(plan) | Step::WindowCombine(plan) | Step::WindowMerge(plan)
            if matches!(plan.window, Window::Session { .. }) =>
        {
            of_sessions(step, Arc::new(SessionSpec::of_sessions(plan)?))
        }
        Step::WindowAggregate(plan) => {
            Box::new(window_aggregate::WindowAggregateOperator::new(Arc::new(WindowSpec::new(plan)?)))
        }
        Step::WindowCombine(plan) => {
            Box::new(window_combine::WindowCombineOperator::new(Arc::new(WindowSpec::new(plan)?)))
        }
        Step::WindowMerge(plan) => Box::new(window_merge::WindowMergeOperator::new(Arc::new(WindowSpec::new(plan)?))),
        Step::Filter { .. }
        | Step::Project { .. }
        | Step::GroupAggregate(_)
        | Step::GroupCombine(_)
        | Step::GroupMerge(_)
        | Step::Rank(_)
        | Step::RankCombine(_)
        | Step::RankMerge(_) => {
            return Err(EngineError::Plan("the step is no window".to_owned()));
        }
    })
}

/// The operator of a step over sessions, whose aggregate is `spec`.
pub(crate) fn of_sessions(step: &Step, spec: Arc<SessionSpec>) -> Box<dyn Operator> {
    use session_aggregate::SessionAggregateOperator;
    match step {
        Step::WindowCombine(_) => Box::new(session_combine::SessionCombineOperator::new(spec)),
        Step::WindowMerge(_) => Box::new(SessionAggregateOperator::new(spec, Fed::Partials)),
        _ => Box::new(SessionAggregateOperator::new(spec, Fed::Rows)),
    }
}

/// What rows an operator gets that aggregates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fed {
    /// Rows as they were read.
    Rows,
    /// What the first halves in the upstream tasks combined.
    Partials,
}

/// How far a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All is done.
    Done,
    /// The output is full; there is more to emit.
    More,
}

/// What an operator holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OperatorStats {
    /// Keys in its state.
    pub keys: u64,
    /// About how many bytes of memory it takes.
    pub bytes: u64,
}

/// Where a chain ends.
pub trait Sink {
    /// Writes rows.
    ///
    /// # Errors
    /// Rows that can't be encoded.
    fn write(&mut self, rows: &Rows, out: &mut Outgoing) -> Result<(), EngineError>;

    /// Everything up to `watermark` has been written.
    fn on_watermark(&mut self, _watermark: i64) {}

    /// An epoch ends, and the task is `idle` or not: writes what is held back.
    fn on_flush(&mut self, _idle: bool, _out: &mut Outgoing) {}

    /// Takes back a row of state under [`MARKS`] if it is this sink's; `None` when it is damaged.
    fn restore(&mut self, _key: &[u8], _value: Option<&[u8]>) -> Option<bool> {
        Some(false)
    }

    /// All rows are in, and everything up to `watermark` had been written. Nothing is dirty afterwards.
    fn restored(&mut self, _watermark: i64) {}

    /// Hands over the rows of state that changed, under [`MARKS`], and marks them clean.
    fn snapshot(&mut self, _rows: &mut RowBuffer) {}

    /// Whether a flush and a snapshot would hand over anything, the task being `idle` or not.
    fn is_dirty(&self, _idle: bool) -> bool {
        false
    }
}

/// The name of the state of watermark marks, sent and heard.
pub const MARKS: &str = "marks";

/// What a call to a chain does besides changing its state.
pub struct Effects<'a> {
    /// Records to write.
    pub out: &'a mut Outgoing,
    /// Late rows.
    pub late: &'a mut Late,
    /// From how many bytes in `out` on the output is full.
    pub full_at_bytes: usize,
}

impl Effects<'_> {
    /// The same, for a shorter time.
    fn again(&mut self) -> Effects<'_> {
        Effects { out: self.out, late: self.late, full_at_bytes: self.full_at_bytes }
    }
}

/// What lies behind an operator, for the time of one call.
pub struct Context<'a> {
    behind: &'a mut [Box<dyn Operator>],
    sink: &'a mut dyn Sink,
    effects: Effects<'a>,
}

impl Context<'_> {
    /// Sends rows on, all the way to the sink.
    ///
    /// # Errors
    /// Whatever an operator behind this one, or the sink, can't do.
    pub fn emit(&mut self, rows: Rows) -> Result<(), EngineError> {
        push(self.behind, self.sink, rows, self.effects.again())
    }

    /// Whether an operator with much to emit should stop for now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.effects.out.bytes.len() >= self.effects.full_at_bytes
    }

    /// Rows that came after their window had closed.
    pub fn late(&mut self) -> &mut Late {
        self.effects.late
    }
}

/// Sends rows through `operators` to `sink`.
///
/// # Errors
/// Whatever one of them can't do.
pub fn push(
    operators: &mut [Box<dyn Operator>],
    sink: &mut dyn Sink,
    rows: Rows,
    effects: Effects<'_>,
) -> Result<(), EngineError> {
    if rows.batch.num_rows() == 0 {
        return Ok(());
    }
    match operators.split_first_mut() {
        None => sink.write(&rows, effects.out),
        Some((operator, behind)) => operator.on_rows(0, rows, &mut Context { behind, sink, effects }),
    }
}

/// Calls `each` for every operator from the front, with what lies behind it, as long as it says `Done`.
///
/// # Errors
/// Whatever one of them can't do.
pub fn for_each(
    operators: &mut [Box<dyn Operator>],
    sink: &mut dyn Sink,
    mut effects: Effects<'_>,
    mut each: impl FnMut(&mut dyn Operator, &mut Context<'_>) -> Result<Progress, EngineError>,
) -> Result<Progress, EngineError> {
    let mut rest = operators;
    while let Some((operator, behind)) = rest.split_first_mut() {
        let context = &mut Context { behind: &mut *behind, sink: &mut *sink, effects: effects.again() };
        if each(operator.as_mut(), context)? == Progress::More {
            return Ok(Progress::More);
        }
        rest = behind;
    }
    Ok(Progress::Done)
}

/// Late rows of one call to a task.
#[derive(Debug, Default)]
pub struct Late {
    /// Positions of source records in the batch that is being processed; one may be there twice, from two
    /// chains.
    pub records: Vec<u32>,
    /// Late groups of which the source records are not known any more.
    pub groups: Vec<LateGroups>,
}

impl Late {
    /// The row at `row` of `rows` is late. A row whose record is not known is a window's result: none of
    /// them can be late, since its time is above every watermark that has fired.
    pub fn row(&mut self, rows: &Rows, row: usize) {
        if let Some(origin) = &rows.origin {
            self.records.push(origin.value(row));
        }
    }
}

/// Groups that an upstream stage combined and that came after their window had closed: only after a
/// partition that had been idle woke up.
#[derive(Debug)]
pub struct LateGroups {
    /// The group's columns, `window_start` and `window_end`.
    pub columns: Vec<Column>,
    /// One row a group.
    pub rows: RecordBatch,
    /// How many source records each stands for.
    pub records: Vec<u64>,
}
