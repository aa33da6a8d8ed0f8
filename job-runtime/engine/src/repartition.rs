//! Internal records: what one stage writes into a repartition topic and the next one reads.
//!
//! ```text
//! record   version (1 byte: 1) · kind (1 byte) · body
//! kind 1   partial aggregates, as many as the body holds:
//!            group key (varint length, bytes) · start of their pane (signed varint) ·
//!            records it stands for (varint) · accumulators (varint length, bytes)
//! kind 3   the same for windows that overlap, whose rows need not count in all windows that hold their pane:
//!            behind the pane's start, how long after it the first window ends in which they count (varint);
//!            and for sessions, which begin at that start: how long they are
//! kind 2   a mark: the upstream task (varint) · idle (1 byte) · its watermark (8 bytes, little-endian)
//! ```
//! Group keys are those of [`crate::group::key`], accumulators those of [`crate::accumulate`]. A group is
//! placed by Murmur2 of its encoded key, so that all its records meet in one task. Marks go into every
//! partition, after the rows that they cover: a reader that has seen a mark has seen those rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow_schema::{DataType as ArrowType, Field, Schema};
use freshet_log::Fetched;
use freshet_state::rows::{put_varint, take_bytes, take_varint};

use crate::accumulate::{put_signed, take_signed};
use crate::watermark::{CombinedWatermark, Mark};
use crate::{EngineError, Rows};

/// The version of this encoding.
pub const FORMAT_VERSION: u32 = 1;

const VERSION: u8 = FORMAT_VERSION as u8;
const PARTIALS: u8 = 1;
const MARK: u8 = 2;
const PARTIALS_OF_PANES: u8 = 3;

/// Rows of partial aggregates: `key` (encoded group), `pane_start` (ms), `records`, `partial`, and, where
/// windows overlap, `first_end` (ms), or of sessions their end.
pub(crate) fn partial_rows(
    key: BinaryArray,
    pane_start: Int64Array,
    first_end: Option<Int64Array>,
    records: Int64Array,
    partial: BinaryArray,
) -> RecordBatch {
    let field = |name, data_type| Field::new(name, data_type, false);
    let mut fields = vec![
        field("key", ArrowType::Binary),
        field("pane_start", ArrowType::Int64),
        field("records", ArrowType::Int64),
        field("partial", ArrowType::Binary),
    ];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(key), Arc::new(pane_start), Arc::new(records), Arc::new(partial)];
    if let Some(first_end) = first_end {
        fields.push(field("first_end", ArrowType::Int64));
        columns.push(Arc::new(first_end));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .expect("columns of one length and of the schema's types")
}

/// The columns of [`partial_rows`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartialColumns<'a> {
    pub key: &'a BinaryArray,
    pub pane_start: &'a Int64Array,
    pub records: &'a Int64Array,
    pub partial: &'a BinaryArray,
    pub first_end: Option<&'a Int64Array>,
}

impl<'a> PartialColumns<'a> {
    /// The columns of `batch`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it holds other rows.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, EngineError> {
        let binary = |at: usize| batch.columns().get(at).and_then(|column| column.as_binary_opt::<i32>());
        let number = |at: usize| batch.columns().get(at).and_then(|column| column.as_primitive_opt::<Int64Type>());
        match (binary(0), number(1), number(2), binary(3)) {
            (Some(key), Some(pane_start), Some(records), Some(partial)) => {
                Ok(Self { key, pane_start, records, partial, first_end: number(4) })
            }
            _ => Err(EngineError::Plan(format!("rows of partial aggregates were wanted, not {}", batch.schema()))),
        }
    }
}

/// Begins an internal record of such partial aggregates.
pub(crate) fn begin_partials(rows: &PartialColumns<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[VERSION, if rows.first_end.is_some() { PARTIALS_OF_PANES } else { PARTIALS }]);
}

/// Appends one row to an internal record.
pub(crate) fn put_partial(rows: &PartialColumns<'_>, row: usize, out: &mut Vec<u8>) {
    let (key, partial) = (rows.key.value(row), rows.partial.value(row));
    let start = rows.pane_start.value(row);
    put_varint(out, key.len() as u64);
    out.extend_from_slice(key);
    put_signed(out, start.into());
    if let Some(first_end) = rows.first_end {
        put_varint(out, first_end.value(row).abs_diff(start));
    }
    put_varint(out, rows.records.value(row).unsigned_abs());
    put_varint(out, partial.len() as u64);
    out.extend_from_slice(partial);
}

/// A whole internal record that holds a mark.
pub(crate) fn encode_mark(mark: Mark, out: &mut Vec<u8>) {
    out.extend_from_slice(&[VERSION, MARK]);
    mark.encode(out);
}

/// Reads a batch of internal records: their rows, each with the combined watermark that held before it.
/// Marks move `watermark` on.
///
/// # Errors
/// [`EngineError::Internal`] for a record that no upstream task writes.
pub(crate) fn decode(batch: &Fetched, watermark: &mut CombinedWatermark) -> Result<Rows, EngineError> {
    let mut rows = PartialBuilder::default();
    for record in &batch.records {
        let damaged = |detail: &str| EngineError::Internal {
            topic: batch.partition.topic.clone(),
            partition: batch.partition.partition,
            offset: record.offset,
            detail: detail.to_owned(),
        };
        let value = batch.value(record).ok_or_else(|| damaged("it has no value"))?;
        match value {
            [VERSION, kind @ (PARTIALS | PARTIALS_OF_PANES), body @ ..] => {
                let of_panes = *kind == PARTIALS_OF_PANES;
                if rows.of_panes.replace(of_panes).is_some_and(|before| before != of_panes) {
                    return Err(damaged("its kind is another than that of the records before it"));
                }
                let mut at = 0;
                while at < body.len() {
                    rows.take(body, &mut at, watermark.effective(), of_panes)
                        .ok_or_else(|| damaged("a partial aggregate is cut short"))?;
                }
            }
            [VERSION, MARK, body @ ..] => {
                let mark = Mark::decode(body, &mut 0).ok_or_else(|| damaged("a mark is damaged"))?;
                watermark
                    .hear(mark)
                    .ok_or_else(|| damaged("its mark names an upstream task that the plan does not have"))?;
            }
            [VERSION, _, ..] => return Err(damaged("its kind is unknown")),
            _ => return Err(damaged("its version is unknown")),
        }
    }
    Ok(rows.finish())
}

#[derive(Default)]
struct PartialBuilder {
    key: BinaryBuilder,
    pane_start: Vec<i64>,
    records: Vec<i64>,
    partial: BinaryBuilder,
    watermark: Vec<i64>,
    /// Whether rows are of panes that windows share; `None` before there are any.
    of_panes: Option<bool>,
    first_end: Vec<i64>,
}

impl PartialBuilder {
    fn take(&mut self, body: &[u8], at: &mut usize, watermark: i64, of_panes: bool) -> Option<()> {
        let key_len = take_varint(body, at)?;
        let key = take_bytes(body, at, key_len)?;
        let pane_start = i64::try_from(take_signed(body, at)?).ok()?;
        let first_end = if of_panes { Some(pane_start.checked_add_unsigned(take_varint(body, at)?)?) } else { None };
        let records = i64::try_from(take_varint(body, at)?).ok()?;
        let partial_len = take_varint(body, at)?;
        let partial = take_bytes(body, at, partial_len)?;
        self.key.append_value(key);
        self.pane_start.push(pane_start);
        self.first_end.extend(first_end);
        self.records.push(records);
        self.partial.append_value(partial);
        self.watermark.push(watermark);
        Some(())
    }

    fn finish(mut self) -> Rows {
        let pane_start = Int64Array::from(self.pane_start);
        let first_end = (self.of_panes == Some(true)).then(|| Int64Array::from(self.first_end));
        let (key, partial) = (self.key.finish(), self.partial.finish());
        Rows {
            batch: partial_rows(key, pane_start.clone(), first_end, self.records.into(), partial),
            event_time: pane_start,
            watermark: self.watermark.into(),
            origin: None,
            kinds: None,
        }
    }
}
