//! Tasks: what a slot drives.
//!
//! A [`StageProgram`] is a stage of a plan, checked and compiled once; its tasks share it. A [`Task`] is
//! one partition of it: source, operators and sinks with their state. It is driven like this:
//!
//! ```text
//! restore* → restored → ( ( process | tick )* → flush → snapshot )*
//! ```
//!
//! A call gives all the output that there is, unless the output is limited ([`Task::limit_output`]): then a
//! window with many groups goes out in parts, and the slot asks for the rest ([`Task::resume`]) as it has
//! room for it. An epoch ends with nothing left over: a flush asks for all of it.
//!
//! Between two calls nothing else is in flight. When a call fails, the task's state is somewhere between two
//! batches: the slot throws the task away and begins anew from what is committed.

mod dead_letter;
mod program;
mod sink;
mod source;
mod upsert;

use std::sync::Arc;

use freshet_log::{Fetched, Outgoing};
use freshet_state::rows::RowBuffer;

pub use dead_letter::{HEADER_DETAIL, HEADER_OFFSET, HEADER_PARTITION, HEADER_REASON, HEADER_TOPIC, LATE, LATE_GROUP};
pub use program::StageProgram;
pub use source::{EVENT_TIME_MISSING, EVENT_TIME_OUT_OF_RANGE, SOURCE};

use crate::EngineError;
use crate::operator::{self, Effects, Late, MARKS, Operator, Progress, Sink};
use crate::watermark::NONE;
use dead_letter::DeadLetters;
use source::{Bad, Source};

/// What is done with a record that can't be decoded or breaks its contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnBadRecord {
    /// The job stops, naming the record.
    Fail,
    /// It is counted and skipped.
    Skip,
    /// It is counted and written, unchanged, to this topic with the reason in its headers.
    DeadLetter(String),
}

/// What is done with a record whose window has closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnLate {
    /// It is counted and dropped.
    Drop,
    /// It is counted and written, unchanged, to this topic with the reason in its headers.
    DeadLetter(String),
}

/// A topic that tasks write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputTopic {
    /// Its name in Kafka.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
}

/// What a stage needs to know besides the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobContext {
    /// The job's name; part of internal topics' names.
    pub job: String,
    /// The lineage; part of internal topics' names.
    pub lineage: String,
    /// Every topic that any task of the job writes to: sinks, repartition topics, dead letters. The
    /// `topic` of outgoing records is a position in this list.
    pub outputs: Vec<OutputTopic>,
    /// What is done with bad records.
    pub on_bad_record: OnBadRecord,
    /// What is done with late records.
    pub on_late: OnLate,
    /// For each stage of the plan, in order, how many tasks it has.
    pub stage_tasks: Vec<u32>,
}

/// Counters of a task since it was made. Never part of its state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskStats {
    /// Records read.
    pub records_in: u64,
    /// Bytes of their keys and values.
    pub bytes_in: u64,
    /// Records written, of each kind of output.
    pub records_out: u64,
    /// Bytes of their keys and values.
    pub bytes_out: u64,
    /// Bad records by reason.
    pub bad: std::collections::BTreeMap<&'static str, u64>,
    /// Records that came after their window had closed.
    pub late: u64,
    /// Keys of the state that have expired.
    pub expired: u64,
    /// Keys in the state.
    pub state_keys: u64,
    /// About how many bytes the state takes in memory.
    pub state_bytes: u64,
}

/// One partition of a stage.
pub struct Task {
    partition: u32,
    context: Arc<JobContext>,
    source: Source,
    chains: Vec<Chain>,
    dead_letters: DeadLetters,
    /// The greatest watermark that the chains are done with.
    advanced: i64,
    full_at_bytes: usize,
    stats: TaskStats,
}

/// Operators in a line, and where they end.
struct Chain {
    operators: Vec<Box<dyn Operator>>,
    sink: Box<dyn Sink>,
}

impl Task {
    fn new(
        partition: u32,
        context: Arc<JobContext>,
        source: Source,
        chains: Vec<Chain>,
        dead_letters: DeadLetters,
    ) -> Self {
        Self {
            partition,
            context,
            source,
            chains,
            dead_letters,
            advanced: NONE,
            full_at_bytes: usize::MAX,
            stats: TaskStats::default(),
        }
    }

    /// One row of stored state, in the order base, deltas…; a later row for a key replaces an earlier one;
    /// `None` deletes.
    ///
    /// # Errors
    /// [`EngineError::State`] for a row that no task of this stage writes.
    pub fn restore(&mut self, operator: &str, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        let damaged = |detail: &str| EngineError::State { operator: operator.to_owned(), detail: detail.to_owned() };
        if operator == MARKS {
            for chain in &mut self.chains {
                if chain.sink.restore(key, value).ok_or_else(|| damaged("a mark that was sent is damaged"))? {
                    return Ok(());
                }
            }
        }
        if operator == SOURCE || operator == MARKS {
            return self
                .source
                .restore(operator, key, value)
                .ok_or_else(|| damaged("a watermark is damaged or of another plan"));
        }
        // Two chains may hold the same operator: then both have the same state.
        let mut found = false;
        for operators in self.chains.iter_mut().map(|chain| &mut chain.operators) {
            for keeper in operators.iter_mut().filter(|keeper| keeper.state_id() == Some(operator)) {
                found = true;
                keeper.restore(key, value)?;
            }
        }
        if found { Ok(()) } else { Err(damaged("the plan has no such operator in this stage")) }
    }

    /// All rows are in. Nothing is dirty afterwards.
    ///
    /// # Errors
    /// [`EngineError::State`] for rows that don't fit together.
    pub fn restored(&mut self) -> Result<(), EngineError> {
        self.source.restored();
        self.advanced = self.source.watermark();
        for chain in &mut self.chains {
            for operator in &mut chain.operators {
                operator.restored(self.advanced)?;
            }
            chain.sink.restored(self.advanced);
        }
        Ok(())
    }

    /// Its input is read anew from where it stands: whether the partition is idle must show again.
    pub fn reopened(&mut self) {
        self.source.reopened();
    }

    /// Processes records of this task's input partition, and fires the windows that they close (those that
    /// were left to fire before, first). `now_ms` is a clock for idleness only: the time in which the input was
    /// looked at, from whenever. A batch without records may say that the end was reached.
    ///
    /// # Errors
    /// A bad record where the job says `Fail`; an expression, a result or a record that can't be.
    pub fn process(&mut self, batch: &Fetched, now_ms: i64, out: &mut Outgoing) -> Result<(), EngineError> {
        let before = self.count_in(batch, out);
        self.advance(usize::MAX, out)?;
        let (rows, bad) = self.source.read(batch, now_ms)?;
        for bad in bad {
            self.bad_record(batch, bad, out)?;
        }
        let mut late = Late::default();
        if let Some(rows) = rows {
            for Chain { operators, sink } in &mut self.chains {
                operators.iter_mut().for_each(|operator| operator.reads(batch));
                let effects = Effects { out, late: &mut late, full_at_bytes: self.full_at_bytes };
                operator::push(operators, sink.as_mut(), rows.clone(), effects)?;
            }
        }
        self.advance(self.full_at_bytes, out)?;
        self.stats.late += self.dead_letters.late(batch, late, &self.context, out)?;
        self.count_out(before, out);
        Ok(())
    }

    /// Time passes: the partition may fall idle. `stage_watermark` is the least watermark of the active
    /// tasks of the same stage in this slot, which an idle task follows; windows may fire.
    ///
    /// # Errors
    /// An expression or a result that can't be.
    pub fn tick(&mut self, now_ms: i64, stage_watermark: Option<i64>, out: &mut Outgoing) -> Result<(), EngineError> {
        let before = Before::of(out);
        self.source.tick(now_ms, stage_watermark);
        self.advance(self.full_at_bytes, out)?;
        self.count_out(before, out);
        Ok(())
    }

    /// From how many bytes of keys and values in `out` on [`Task::process`], [`Task::tick`] and
    /// [`Task::resume`] stop firing windows, and leave the rest for later. Without it they never stop.
    pub const fn limit_output(&mut self, full_at_bytes: usize) {
        self.full_at_bytes = full_at_bytes;
    }

    /// Whether windows are left to fire because the output was full.
    #[must_use]
    pub const fn has_more(&self) -> bool {
        self.source.watermark() > self.advanced
    }

    /// Goes on firing windows, once `out` has room again.
    ///
    /// # Errors
    /// An expression or a result that can't be.
    pub fn resume(&mut self, out: &mut Outgoing) -> Result<(), EngineError> {
        let before = Before::of(out);
        self.advance(self.full_at_bytes, out)?;
        self.count_out(before, out);
        Ok(())
    }

    /// An epoch ends: writes what is held back, and marks behind it. Call it before [`Task::snapshot`].
    ///
    /// # Errors
    /// An expression or a result that can't be.
    pub fn flush(&mut self, out: &mut Outgoing) -> Result<(), EngineError> {
        let before = Before::of(out);
        self.advance(usize::MAX, out)?;
        let idle = self.source.is_idle();
        let mut late = Late::default();
        for Chain { operators, sink } in &mut self.chains {
            let effects = Effects { out, late: &mut late, full_at_bytes: usize::MAX };
            operator::for_each(operators, sink.as_mut(), effects, |operator, context| {
                operator.on_flush(context).map(|()| Progress::Done)
            })?;
            sink.on_flush(idle, out);
        }
        self.count_out(before, out);
        Ok(())
    }

    /// Hands over the rows of state that changed since the last call, and marks them clean.
    pub fn snapshot(&mut self, rows: &mut RowBuffer) {
        self.source.snapshot(rows);
        for chain in &mut self.chains {
            for operator in &mut chain.operators {
                operator.snapshot(rows);
            }
            chain.sink.snapshot(rows);
        }
    }

    /// Whether [`Task::flush`] and [`Task::snapshot`] would hand over anything.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        let idle = self.source.is_idle();
        let chain = |c: &Chain| c.sink.is_dirty(idle) || c.operators.iter().any(|operator| operator.is_dirty());
        self.source.is_dirty() || self.chains.iter().any(chain)
    }

    /// The task's watermark, ms since the Unix epoch; `None` before there is one.
    #[must_use]
    pub fn watermark(&self) -> Option<i64> {
        Some(self.source.watermark()).filter(|watermark| *watermark != NONE)
    }

    /// Whether the task's input is idle: at its end for the time-out, or fed by idle tasks only.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.source.is_idle()
    }

    /// The partition of the stage's input.
    #[must_use]
    pub const fn partition(&self) -> u32 {
        self.partition
    }

    /// Counters, and what the state holds now.
    #[must_use]
    pub fn stats(&self) -> TaskStats {
        let mut stats = self.stats.clone();
        for operator in self.chains.iter().flat_map(|chain| &chain.operators) {
            let held = operator.stats();
            stats.state_keys += held.keys;
            stats.state_bytes += held.bytes;
            stats.expired += operator.expired();
        }
        stats
    }

    /// Gives the chains the source's watermark, if it is a new one or not all of them are done with it.
    fn advance(&mut self, full_at_bytes: usize, out: &mut Outgoing) -> Result<(), EngineError> {
        let watermark = self.source.watermark();
        if watermark <= self.advanced {
            return Ok(());
        }
        // What fires is never late: its time is above every watermark that has fired.
        let mut late = Late::default();
        let mut all = Progress::Done;
        for Chain { operators, sink } in &mut self.chains {
            let effects = Effects { out, late: &mut late, full_at_bytes };
            let progress = operator::for_each(operators, sink.as_mut(), effects, |operator, context| {
                operator.on_watermark(watermark, context)
            })?;
            match progress {
                Progress::Done => sink.on_watermark(watermark),
                Progress::More => all = Progress::More,
            }
        }
        if all == Progress::Done {
            self.advanced = watermark;
        }
        Ok(())
    }

    fn bad_record(&mut self, batch: &Fetched, bad: Bad, out: &mut Outgoing) -> Result<(), EngineError> {
        *self.stats.bad.entry(bad.reason).or_default() += 1;
        match self.context.on_bad_record {
            OnBadRecord::Fail => Err(EngineError::BadRecord {
                topic: batch.partition.topic.clone(),
                partition: batch.partition.partition,
                offset: batch.records[bad.index].offset,
                reason: bad.reason,
                detail: bad.detail,
            }),
            OnBadRecord::Skip => Ok(()),
            OnBadRecord::DeadLetter(_) => {
                self.dead_letters.bad(batch, &bad, out);
                Ok(())
            }
        }
    }

    fn count_in(&mut self, batch: &Fetched, out: &Outgoing) -> Before {
        self.stats.records_in += batch.records.len() as u64;
        self.stats.bytes_in += batch.bytes.len() as u64;
        Before::of(out)
    }

    fn count_out(&mut self, before: Before, out: &Outgoing) {
        self.stats.records_out += (out.records.len() - before.records) as u64;
        self.stats.bytes_out += (out.bytes.len() - before.bytes) as u64;
    }
}

/// How much there was to write before a call.
#[derive(Clone, Copy)]
struct Before {
    records: usize,
    bytes: usize,
}

impl Before {
    fn of(out: &Outgoing) -> Self {
        Self { records: out.records.len(), bytes: out.bytes.len() }
    }
}
