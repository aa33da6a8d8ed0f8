//! What a task reads: records of a user's topic, or internal records of an earlier stage.

use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use freshet_log::Fetched;
use freshet_state::rows::RowBuffer;

use crate::format::Decoder;
use crate::operator::MARKS;
use crate::operator::filter::select;
use crate::operator::timestamps_ms;
use crate::watermark::{CombinedWatermark, MAX_EVENT_TIME_MS, SourceWatermark};
use crate::{EngineError, Rows, repartition};

/// The name of the state of a source's watermark.
pub const SOURCE: &str = "source";

/// A record without event time: its column is null.
pub const EVENT_TIME_MISSING: &str = "EventTimeMissing";
/// A record whose event time is no time of this world: see [`MAX_EVENT_TIME_MS`].
pub const EVENT_TIME_OUT_OF_RANGE: &str = "EventTimeOutOfRange";

/// A record that gives no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    /// Its position in the batch.
    pub index: usize,
    pub reason: &'static str,
    pub detail: String,
}

/// A user's topic.
pub(super) struct TopicReader {
    pub decoder: Box<dyn Decoder>,
    /// The event-time column's position and name; without one, event time is the record's timestamp.
    pub event_time: Option<(usize, String)>,
    pub watermark: SourceWatermark,
    /// Whether rows carry their records' positions.
    pub with_origin: bool,
}

/// What a task reads.
pub(super) enum Source {
    Topic(TopicReader),
    Repartition(CombinedWatermark),
}

impl Source {
    /// Rows of a batch, and the records that give none.
    pub fn read(&mut self, batch: &Fetched, now_ms: i64) -> Result<(Option<Rows>, Vec<Bad>), EngineError> {
        match self {
            Self::Topic(topic) => topic.read(batch, now_ms),
            Self::Repartition(watermark) => Ok((Some(repartition::decode(batch, watermark)?), Vec::new())),
        }
    }

    /// The effective watermark.
    pub const fn watermark(&self) -> i64 {
        match self {
            Self::Topic(topic) => topic.watermark.effective(),
            Self::Repartition(watermark) => watermark.effective(),
        }
    }

    pub fn is_idle(&self) -> bool {
        match self {
            Self::Topic(topic) => topic.watermark.is_idle(),
            Self::Repartition(watermark) => watermark.is_idle(),
        }
    }

    pub fn reopened(&mut self) {
        if let Self::Topic(topic) = self {
            topic.watermark.reopened();
        }
    }

    pub fn tick(&mut self, now_ms: i64, others: Option<i64>) {
        if let Self::Topic(topic) = self {
            topic.watermark.tick(now_ms, others);
        }
    }

    /// Takes back a row of state; `None` when it is damaged or not of this source.
    pub fn restore(&mut self, operator: &str, key: &[u8], value: Option<&[u8]>) -> Option<()> {
        match self {
            Self::Topic(topic) if operator == SOURCE && key.is_empty() => topic.watermark.restore(value),
            Self::Repartition(watermark) if operator == MARKS => watermark.restore(key, value),
            _ => None,
        }
    }

    pub fn restored(&mut self) {
        match self {
            Self::Topic(topic) => topic.watermark.restored(),
            Self::Repartition(watermark) => watermark.restored(),
        }
    }

    pub fn is_dirty(&self) -> bool {
        match self {
            Self::Topic(topic) => topic.watermark.is_dirty(),
            Self::Repartition(watermark) => watermark.is_dirty(),
        }
    }

    pub fn snapshot(&mut self, rows: &mut RowBuffer) {
        if !self.is_dirty() {
            return;
        }
        match self {
            Self::Topic(topic) => {
                let operator = rows.operator(SOURCE);
                topic.watermark.snapshot(operator, rows);
            }
            Self::Repartition(watermark) => {
                let operator = rows.operator(MARKS);
                watermark.snapshot(operator, rows);
            }
        }
    }
}

impl TopicReader {
    fn read(&mut self, batch: &Fetched, now_ms: i64) -> Result<(Option<Rows>, Vec<Bad>), EngineError> {
        self.watermark.read(!batch.records.is_empty(), batch.at_end, now_ms);
        if batch.records.is_empty() {
            return Ok((None, Vec::new()));
        }
        let decoded = self.decoder.decode(batch);
        let bad = decoded.bad.into_iter().map(|bad| Bad {
            index: bad.index,
            reason: bad.reason.as_str(),
            detail: bad.detail,
        });
        let mut bad: Vec<Bad> = bad.collect();
        let origin = match decoded.good {
            Some(good) => UInt32Array::from(good),
            None => UInt32Array::from_iter_values(0..decoded.rows.num_rows() as u32),
        };
        let times = self.event_times(batch, &decoded.rows, &origin)?;
        let Some(mut rows) = self.with_times(decoded.rows, times, origin, &mut bad)? else { return Ok((None, bad)) };
        rows.watermark = self.watermark.advance(&rows.event_time);
        if !self.with_origin {
            rows.origin = None;
        }
        Ok((Some(rows), bad))
    }

    fn event_times(
        &self,
        batch: &Fetched,
        rows: &RecordBatch,
        origin: &UInt32Array,
    ) -> Result<Int64Array, EngineError> {
        let Some((position, name)) = &self.event_time else {
            // Without a time there are no windows, only output records that carry it: a record without
            // timestamp is as good as any.
            let timestamp = |record: &u32| batch.records[*record as usize].timestamp_ms.max(0);
            return Ok(Int64Array::from_iter_values(origin.values().iter().map(timestamp)));
        };
        let column = rows.column(*position);
        let times = timestamps_ms(column)
            .ok_or_else(|| EngineError::Plan(format!("the event-time column `{name}` is {}", column.data_type())))?;
        Ok(Int64Array::new(times.into(), column.nulls().cloned()))
    }

    /// The rows that have an event time; the others are bad records.
    fn with_times(
        &self,
        batch: RecordBatch,
        times: Int64Array,
        origin: UInt32Array,
        bad: &mut Vec<Bad>,
    ) -> Result<Option<Rows>, EngineError> {
        let in_range = |time: i64| (-MAX_EVENT_TIME_MS..=MAX_EVENT_TIME_MS).contains(&time);
        let good = times.null_count() == 0 && times.values().iter().all(|time| in_range(*time));
        let rows = Rows { batch, watermark: times.clone(), event_time: times, origin: Some(origin), kinds: None };
        if good {
            return Ok(Some(rows));
        }
        let name = self.event_time.as_ref().map_or("the record's timestamp", |(_, name)| name);
        let records = rows.origin.iter().flat_map(UInt32Array::values);
        for (time, record) in rows.event_time.iter().zip(records) {
            let (reason, detail) = match time {
                Some(time) if in_range(time) => continue,
                None => (EVENT_TIME_MISSING, format!("{name} is null; it holds the event time")),
                Some(_) => (EVENT_TIME_OUT_OF_RANGE, format!("{name} is more than 275,000 years from 1970")),
            };
            bad.push(Bad { index: *record as usize, reason, detail });
        }
        bad.sort_by_key(|bad| bad.index);
        let kept: BooleanArray = rows.event_time.iter().map(|time| Some(time.is_some_and(in_range))).collect();
        // Nulls are filtered out below, so that what is left has none.
        let rows = select(rows, &kept)?;
        Ok(rows.map(|rows| Rows { event_time: Int64Array::new(rows.event_time.values().clone(), None), ..rows }))
    }
}
