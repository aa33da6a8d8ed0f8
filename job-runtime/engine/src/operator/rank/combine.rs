//! Rank combine: the first half of a ranking whose second half is in another stage. It keeps the first rows of each key
//! between two flushes: those of all epochs' that are first are among them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BinaryArray, Int64Array};
use freshet_plan::Emits;

use super::spec::Entry;
use super::{PARTIAL_BYTES, RankSpec};
use crate::operator::{Context, Operator, OperatorStats, Progress};
use crate::repartition::partial_rows;
use crate::watermark::NONE;
use crate::{EngineError, Rows};

/// Bytes of rows that are held back at most: beyond it they go out before the epoch ends.
const MAX_BYTES: usize = 16 << 20;

/// The operator of [`freshet_plan::Step::RankCombine`].
pub struct RankCombineOperator {
    spec: Arc<RankSpec>,
    keys: BTreeMap<Vec<u8>, Held>,
    bytes: usize,
    watermark: i64,
}

struct Held {
    rows: Vec<Entry>,
    /// The time of the rows that are sent: of a first row its own, otherwise the greatest.
    time: i64,
    records: i64,
}

impl RankCombineOperator {
    /// Nothing is held back.
    pub(crate) fn new(spec: Arc<RankSpec>) -> Self {
        Self { spec, keys: BTreeMap::new(), bytes: 0, watermark: NONE }
    }

    fn offer(&mut self, key: &[u8], row: Entry, time: i64) {
        let held = match self.keys.get_mut(key) {
            Some(held) => held,
            None => self.keys.entry(key.to_vec()).or_insert(Held { rows: Vec::new(), time, records: 0 }),
        };
        held.records += 1;
        let place = held.rows.partition_point(|kept| *kept <= row);
        held.time = match self.spec.emits {
            Emits::First if place == 0 => time,
            Emits::First => held.time,
            Emits::Latest | Emits::Changes => held.time.max(time),
        };
        if place < self.spec.limit {
            self.bytes += row.memory_bytes();
            held.rows.insert(place, row);
            held.rows.truncate(self.spec.limit);
        }
    }

    fn send(&mut self, context: &mut Context<'_>) -> Result<(), EngineError> {
        self.bytes = 0;
        let (mut keys, mut times, mut records, mut partials) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (key, held) in std::mem::take(&mut self.keys) {
            let mut partial = Vec::new();
            let mut stands_for = held.records;
            for (at, row) in held.rows.iter().enumerate() {
                row.encode(&mut partial);
                if partial.len() >= PARTIAL_BYTES || at + 1 == held.rows.len() {
                    keys.push(key.clone());
                    times.push(held.time);
                    records.push(std::mem::take(&mut stands_for));
                    partials.push(std::mem::take(&mut partial));
                }
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        let times = Int64Array::from(times);
        let count = keys.len();
        context.emit(Rows {
            batch: partial_rows(
                BinaryArray::from_iter_values(keys),
                times.clone(),
                None,
                records.into(),
                BinaryArray::from_iter_values(partials),
            ),
            event_time: times,
            watermark: Int64Array::from_value(self.watermark, count),
            origin: None,
            kinds: None,
        })
    }
}

impl Operator for RankCombineOperator {
    fn on_rows(&mut self, _input: usize, rows: Rows, context: &mut Context<'_>) -> Result<(), EngineError> {
        let spec = Arc::clone(&self.spec);
        let writer = spec.writer(&rows.batch)?;
        let mut key = Vec::new();
        for row in 0..rows.batch.num_rows() {
            let time = rows.event_time.value(row);
            if spec.emits == Emits::First && time <= rows.watermark.value(row).max(self.watermark) {
                context.late().row(&rows, row);
                continue;
            }
            key.clear();
            writer.key(row, &mut key);
            self.offer(&key, writer.entry(row), time);
        }
        if self.bytes > MAX_BYTES {
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
        !self.keys.is_empty()
    }

    fn stats(&self) -> OperatorStats {
        OperatorStats { keys: 0, bytes: self.bytes as u64 }
    }
}
