//! Group combine: the first half of a group aggregate whose second half is in another stage.
//!
//! It combines rows of a group between two flushes, so that one internal record stands for many. It keeps nothing
//! across epochs: a flush comes before every snapshot.

use std::sync::Arc;

use arrow::array::{BinaryBuilder, Int64Array};

use super::GroupSpec;
use crate::accumulate::{Accumulators, AggregateSpec, Selected};
use crate::group::key::KeyWriter;
use crate::group::table::GroupTable;
use crate::operator::windows::key_array;
use crate::operator::{Context, Operator, OperatorStats, Progress};
use crate::repartition::partial_rows;
use crate::watermark::NONE;
use crate::{EngineError, Rows};

/// Groups that are held back at most: beyond it they go out before the epoch ends.
const MAX_GROUPS: usize = 1 << 17;
/// The same for what DISTINCT aggregates have seen, in bytes. A group's values go out in one row, which must fit an
/// internal record of at most 1 MB.
const MAX_MEMBER_BYTES: usize = 256 * 1024;
/// Groups that go out at once.
const CHUNK_GROUPS: usize = 4096;

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
        let mut accumulated = spec.aggregates.clone();
        accumulated.push(AggregateSpec::count_rows());
        Self {
            accumulators: Accumulators::new(&accumulated),
            spec,
            groups: GroupTable::default(),
            newest: Vec::new(),
            watermark: NONE,
        }
    }

    fn send(&mut self, context: &mut Context<'_>) -> Result<(), EngineError> {
        let ids: Vec<u32> = (0..self.groups.len() as u32).collect();
        let partials = self.accumulators.partials();
        let mut encoded = Vec::new();
        for ids in ids.chunks(CHUNK_GROUPS) {
            let mut values = BinaryBuilder::with_capacity(ids.len(), ids.len() * 16);
            for id in ids {
                encoded.clear();
                partials.encode(*id, self.spec.aggregates.len(), &mut encoded);
                values.append_value(&encoded);
            }
            let times = Int64Array::from_iter_values(ids.iter().map(|id| self.newest[*id as usize]));
            let records = ids.iter().map(|id| self.accumulators.last_count(*id) as i64).collect();
            context.emit(Rows {
                batch: partial_rows(key_array(&self.groups, ids), times.clone(), None, records, values.finish()),
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
        self.accumulators.update(&rows.batch, selected).map_err(|error| self.spec.failed(&error))?;
        if self.groups.len() > MAX_GROUPS || self.accumulators.member_bytes() > MAX_MEMBER_BYTES {
            self.send(context)?;
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
