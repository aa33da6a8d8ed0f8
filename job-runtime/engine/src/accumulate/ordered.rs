//! Aggregates that go by the order of rows, and those that keep every value.
//!
//! Rows are ordered by event time, then by partition and offset of their record: an order of the stream itself, that
//! no batch, no crash and no second stage changes. A row's *place* is that order as bytes which sort alike:
//!
//! ```text
//! event time in ms (8 bytes) · partition (4) · offset (8)      big-endian, the sign bits of the numbers turned
//! ```
//! FIRST_VALUE and LAST_VALUE keep one place with the value behind it, encoded as in a key ([`crate::group::key`]), and
//! are then the least and the greatest of such bytes. ARRAY_AGG keeps one for each row, as DISTINCT keeps values: each
//! is a row of state of its own, so that a snapshot costs as much as there are new values. ARRAY_AGG(DISTINCT …) keeps
//! values without places and sorts them, null last.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow_schema::Field;
use freshet_plan::{Column, DataType};

use super::cells::{CellError, Cells};
use super::distinct::ByGroup;
use super::spec::{AggregateSpec, Kind};
use super::{AccumulateError, Accumulator, Selected};
use crate::column::ColumnView;
use crate::group::key::{KeyValue, decode_columns, ordered_int, put_value, take_value};

/// How many values an array of a group may have.
pub const MAX_COLLECTED: usize = 1_000_000;
/// How many bytes they may have, as they are encoded.
pub const MAX_COLLECTED_BYTES: usize = 64 << 20;

const PLACE_BYTES: usize = 20;
/// A null, as a value behind a place is encoded.
const NULL: &[u8] = &[0];

/// The places of a batch's rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    /// The event time of each row, in ms.
    pub times: &'a [i64],
    /// The partition that they come from.
    pub partition: u32,
    /// The position of each row's record in the batch that was read.
    pub origin: &'a [u32],
    /// The offset of each record of that batch.
    pub offsets: &'a [i64],
}

impl Order<'_> {
    fn put(&self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&ordered_int(self.times[row]));
        out.extend_from_slice(&self.partition.to_be_bytes());
        out.extend_from_slice(&ordered_int(self.offsets[self.origin[row] as usize]));
    }
}

impl Accumulator {
    /// Accumulates the selected rows for which `mask` holds, each by its place.
    pub(super) fn update_by_place(
        &mut self,
        column: &ArrayRef,
        selected: Selected<'_>,
        mask: Option<&BooleanBuffer>,
        order: Option<&Order<'_>>,
    ) -> Result<(), AccumulateError> {
        let view = ColumnView::of(column).map_err(|found| self.wrong_column(format!("it can't aggregate {found}")))?;
        if self.spec.needs_order() && order.is_none() {
            return Err(
                self.wrong_column("its rows don't come straight from a topic, so they have no order".to_owned())
            );
        }
        let order = order.filter(|_| self.spec.needs_order());
        let mut entry = Vec::new();
        for (&row, &id) in selected.rows.iter().zip(selected.ids) {
            let row = row as usize;
            if mask.is_some_and(|mask| !mask.value(row)) {
                continue;
            }
            entry.clear();
            if let Some(order) = order {
                order.put(row, &mut entry);
            }
            put_value(&view, row, &mut entry);
            match (self.spec.kind, &mut self.cells) {
                (Kind::Ordered(side), Cells::Bytes(_, texts)) => texts.offer(id as usize, &entry, side),
                _ => self.keep(id, &entry)?,
            }
        }
        Ok(())
    }

    /// Adds a value that was kept before, in the state or by another stage.
    pub(super) fn collect(&mut self, id: u32, entry: &[u8]) -> Result<(), AccumulateError> {
        let mut at = if self.spec.distinct { 0 } else { PLACE_BYTES };
        match take_value(entry, &mut at) {
            Some(_) if at == entry.len() => self.keep(id, entry),
            _ => Err(self.failed(CellError::Damaged)),
        }
    }

    fn keep(&mut self, id: u32, entry: &[u8]) -> Result<(), AccumulateError> {
        let (Some(members), Cells::States(states)) = (&mut self.members, &mut self.cells) else {
            return Err(self.failed(CellError::Type));
        };
        if members.insert(id, entry) {
            states.collected(id as usize, entry.len()).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }
}

/// The values behind places.
pub(super) fn values<'v>(
    entries: impl ExactSizeIterator<Item = Option<&'v [u8]>>,
    spec: &AggregateSpec,
) -> Result<ArrayRef, AccumulateError> {
    decoded(entries.map(|entry| entry.and_then(|entry| entry.get(PLACE_BYTES..)).unwrap_or(NULL)), &spec.output, spec)
}

fn decoded<'v>(
    values: impl ExactSizeIterator<Item = &'v [u8]>,
    data_type: &DataType,
    spec: &AggregateSpec,
) -> Result<ArrayRef, AccumulateError> {
    let damaged = || AccumulateError::Damaged { aggregate: spec.name.clone() };
    let columns = decode_columns(&[Column::new(&spec.name, data_type.clone())], values).map_err(|_| damaged())?;
    columns.into_iter().next().ok_or_else(damaged)
}

/// The arrays of the groups `ids`; null of a group that has no value.
pub(super) fn arrays(members: &ByGroup<'_>, ids: &[u32], spec: &AggregateSpec) -> Result<ArrayRef, AccumulateError> {
    let damaged = || AccumulateError::Damaged { aggregate: spec.name.clone() };
    let DataType::Array(item) = &spec.output else { return Err(damaged()) };
    let (mut all, mut lengths): (Vec<&[u8]>, Vec<usize>) = (Vec::new(), Vec::with_capacity(ids.len()));
    for id in ids {
        let mut entries: Vec<&[u8]> = members.values(*id).collect();
        if spec.distinct {
            entries.sort_by(|a, b| value_order(a, b));
            all.extend(&entries);
        } else {
            entries.sort_unstable();
            all.extend(entries.iter().map(|entry| entry.get(PLACE_BYTES..).unwrap_or(NULL)));
        }
        lengths.push(entries.len());
    }
    let nulls: NullBuffer = lengths.iter().map(|length| *length > 0).collect::<Vec<bool>>().into();
    let items = decoded(all.into_iter(), item, spec)?;
    let field = Arc::new(Field::new_list_field(crate::types::arrow_type(item), true));
    let lists = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), items, Some(nulls));
    Ok(Arc::new(lists.map_err(|_| damaged())?))
}

/// The order of two encoded values, null last.
fn value_order(a: &[u8], b: &[u8]) -> Ordering {
    match (take_value(a, &mut 0), take_value(b, &mut 0)) {
        (Some(KeyValue::Bytes(a)), Some(KeyValue::Bytes(b))) => a.cmp(b),
        (Some(KeyValue::Null), Some(KeyValue::Null)) => Ordering::Equal,
        (Some(KeyValue::Null), _) => Ordering::Greater,
        (_, Some(KeyValue::Null)) => Ordering::Less,
        // Bytes of numbers sort as numbers do.
        _ => a.cmp(b),
    }
}
