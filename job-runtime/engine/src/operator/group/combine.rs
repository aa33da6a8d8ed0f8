//! Group combine: the first half of a group aggregate whose second half is in another stage.
//!
//! It combines rows of a group between two flushes, so that one internal record stands for many. It keeps nothing
//! across epochs: a flush comes before every snapshot.

use std::sync::Arc;

use arrow::array::Int64Array;

use super::GroupSpec;
use crate::accumulate::{Accumulators, Selected};
use crate::group::key::KeyWriter;
use crate::group::table::GroupTable;
use crate::operator::leaving::chunk;
use crate::operator::windows::key_array;
use crate::operator::{Context, Operator, OperatorStats, Progress, combining};
use crate::repartition::partial_rows;
use crate::watermark::NONE;
use crate::{EngineError, Rows};

/// The operator of [`freshet_plan::Step::GroupCombine`].
pub struct GroupCombineOperator {
    spec: Arc<GroupSpec>,
    groups: GroupTable,
    /// The spec's aggregates, and behind them how many rows a group stands for.
    accumulators: Accumulators,
    /// The greatest event time of each group's rows.
    newest: Vec<i64>,
    watermark: i64,
}

impl GroupCombineOperator {
    /// Nothing is held back.
    pub(crate) fn new(spec: Arc<GroupSpec>) -> Self {
        Self {
            accumulators: Accumulators::new(&combining::accumulated(&spec.aggregates)),
            spec,
            groups: GroupTable::default(),
            newest: Vec::new(),
            watermark: NONE,
        }
    }

    fn accumulate(&mut self, rows: &Rows) -> Result<(), EngineError> {
        let keys = KeyWriter::new(&rows.batch, &self.spec.group).map_err(|error| self.spec.mistaken(error))?;
        let (mut key, mut ids) = (Vec::new(), Vec::with_capacity(rows.batch.num_rows()));
        for row in 0..rows.batch.num_rows() {
            key.clear();
            keys.write(row, &mut key);
            let (id, time) = (self.groups.id_of(&key), rows.event_time.value(row));
            match self.newest.get_mut(id as usize) {
                Some(newest) => *newest = time.max(*newest),
                None => self.newest.push(time),
            }
            ids.push(id);
        }
        self.accumulators.grow(self.groups.len());
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        let selected = Selected { rows: &positions, ids: &ids };
        self.accumulators.update(&rows.batch, selected).map_err(|error| self.spec.failed(&error))
    }

    fn send(&mut self, context: &mut Context<'_>) -> Result<(), EngineError> {
        let ids: Vec<u32> = (0..self.groups.len() as u32).collect();
        let partials = self.accumulators.partials();
        let mut left = ids.as_slice();
        while !left.is_empty() {
            let bytes_of = |id| self.groups.key(id).len() + self.accumulators.text_bytes(id);
            let ids;
            (ids, left) = left.split_at(chunk(left, bytes_of).len());
            let (records, values) = partials.of(ids, self.spec.aggregates.len());
            let times = Int64Array::from_iter_values(ids.iter().map(|id| self.newest[*id as usize]));
            context.emit(Rows {
                batch: partial_rows(key_array(&self.groups, ids), times.clone(), None, records, values),
                event_time: times,
                watermark: Int64Array::from_value(self.watermark, ids.len()),
                origin: None,
                kinds: None,
            })?;
        }
        self.groups.clear();
        self.accumulators.clear();
        self.newest.clear();
        Ok(())
    }
}

impl Operator for GroupCombineOperator {
    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        let spec = Arc::clone(&self.spec);
        for rows in combining::parts(rows, &spec.aggregates) {
            self.accumulate(&rows)?;
            if combining::is_too_much(self.groups.len(), self.accumulators.member_bytes()) {
                self.send(context)?;
            }
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: i64, _context: &mut Context<'_>) -> Result<Progress, EngineError> {
        self.watermark = watermark;
        Ok(Progress::Done)
    }

    fn on_flush(&mut self, context: &mut Context<'_>) -> Result<(), EngineError> {
        self.send(context)
    }

    fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.watermark = watermark;
        Ok(())
    }

    fn is_dirty(&self) -> bool {
        !self.groups.is_empty()
    }

    fn stats(&self) -> OperatorStats {
        let bytes = self.groups.memory_bytes() + self.accumulators.memory_bytes();
        OperatorStats { keys: 0, bytes: (bytes + self.newest.capacity() * size_of::<i64>()) as u64 }
    }
}
