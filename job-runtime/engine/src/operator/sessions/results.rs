//! The rows of sessions that have ended.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use freshet_env::{PlantedBug, planted};

use super::Sessions;
use crate::operator::leaving::chunk;
use crate::repartition::partial_rows;
use crate::{EngineError, Rows};

/// Sessions that have ended and go out, and how many of them have.
#[derive(Debug, Default)]
pub(super) struct Firing {
    ids: Vec<u32>,
    done: usize,
}

impl Sessions {
    /// The next results of the sessions that `watermark` ends, in the order of their ends and of their groups' keys;
    /// `None` when all have gone out.
    pub fn next_results(&mut self, watermark: i64) -> Result<Option<Rows>, EngineError> {
        if self.firing.done == self.firing.ids.len() {
            let ids = self.ended(watermark);
            self.firing = Firing { ids, done: 0 };
        }
        let ids = self.chunk(&self.firing.ids[self.firing.done..]).to_vec();
        if ids.is_empty() {
            self.firing = Firing::default();
            self.fired = self.fired.max(watermark);
            self.tidy().map_err(|error| self.spec.failed(&error))?;
            return Ok(None);
        }
        self.firing.done += ids.len();
        let rows = self.rows(&ids)?;
        ids.iter().for_each(|id| self.forget(*id));
        Ok(Some(rows))
    }

    /// Takes off the heap what has ended.
    fn ended(&mut self, watermark: i64) -> Vec<u32> {
        let mut ended = Vec::new();
        while let Some(Reverse((due, id))) = self.due.peek().copied().filter(|Reverse((due, _))| *due <= watermark) {
            self.due.pop();
            if !self.table.is_live(id) {
                continue;
            }
            let end = self.spec.panes.end(self.table.get(id).last);
            if end <= watermark || planted(PlantedBug::EndSessionAtFirstGap) {
                ended.push(id);
            } else {
                debug_assert!(end > due, "an end only moves on");
                self.due.push(Reverse((end, id)));
            }
        }
        let order = |id: &u32| (self.table.get(*id).last, self.table.key(*id));
        ended.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
        ended
    }

    /// The first of the sessions `ids` that leave at once: at least one, if there is any.
    fn chunk<'i>(&self, ids: &'i [u32]) -> &'i [u32] {
        chunk(ids, |id| self.table.key(id).len() + self.accumulators.text_bytes(id))
    }

    fn ends(&self, ids: &[u32]) -> Vec<i64> {
        ids.iter().map(|id| self.spec.panes.end(self.table.get(*id).last)).collect()
    }

    fn rows(&self, ids: &[u32]) -> Result<Rows, EngineError> {
        let spec = &self.spec;
        let times = |times: Vec<i64>| Arc::new(TimestampMillisecondArray::from(times)) as ArrayRef;
        let ends = self.ends(ids);
        let last_instants: Vec<i64> = ends.iter().map(|end| end - 1).collect();
        let mut columns = spec.group_arrays(ids.iter().map(|id| self.table.key(*id)))?;
        columns.push(times(ids.iter().map(|id| self.table.get(*id).first).collect()));
        columns.extend([times(ends), times(last_instants.clone())]);
        columns.extend(self.accumulators.finish(ids).map_err(|error| spec.failed(&error))?);
        Ok(Rows {
            batch: RecordBatch::try_new(spec.output.clone(), columns)
                .map_err(|error| EngineError::Plan(format!("operator {}: {error}", spec.id)))?,
            event_time: Int64Array::from(last_instants),
            watermark: Int64Array::from_value(self.fired, ids.len()),
            origin: None,
            kinds: None,
        })
    }

    /// All sessions as rows of partial aggregates, of their first `aggregates` each; the one behind those counts records.
    pub fn partials(&self, aggregates: usize) -> Vec<Rows> {
        let live = self.table.live_ids();
        let partials = self.accumulators.partials();
        let mut left = live.as_slice();
        let mut chunks = Vec::new();
        while !left.is_empty() {
            let ids;
            (ids, left) = left.split_at(self.chunk(left).len());
            let (records, values) = partials.of(ids, aggregates);
            let starts: Int64Array = ids.iter().map(|id| self.table.get(*id).first).collect();
            chunks.push(Rows {
                batch: partial_rows(
                    BinaryArray::from_iter_values(ids.iter().map(|id| self.table.key(*id))),
                    starts.clone(),
                    Some(Int64Array::from(self.ends(ids))),
                    records,
                    values,
                ),
                event_time: starts,
                watermark: Int64Array::from_value(self.fired, ids.len()),
                origin: None,
                kinds: None,
            });
        }
        chunks
    }
}
