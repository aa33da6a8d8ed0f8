//! Accumulators: what aggregates keep a group.
//!
//! Everything is columnar: one vector an aggregate, indexed by the group's dense id
//! ([`crate::group::table`]). A batch is accumulated one aggregate at a time, over pairs of a row and its
//! group's id, so that the inner loops hold no match on types and allocate nothing.
//!
//! # What the functions mean
//! * COUNT counts rows, or values that are not null. Every other function over no value that is not null
//!   gives NULL.
//! * SUM of integers and decimals is exact: it is kept in 128 bits and judged when the result is
//!   needed, so that an overflow never depends on the order of rows or on how they were combined before.
//! * AVG of integers is that exact sum divided in double precision; of decimals it is exact, rounded half
//!   up (away from zero) at the scale max(s, 6).
//! * SUM and AVG of FLOAT and DOUBLE add in double precision, in the order of rows.
//! * MIN and MAX of floats order NaN above every number, so MAX gives NaN where there is one; −0 is 0.
//!   Texts are ordered by their UTF-8 bytes.
//! * Variances of integers and decimals are exact until the last division; of floats they are kept as count, mean and
//!   sum of squared distances, which adds up in any order but for the last digits (`moments.rs`).
//! * BOOL_AND and BOOL_OR are MIN and MAX of Booleans.
//! * FIRST_VALUE, LAST_VALUE and ARRAY_AGG order rows by event time, then by partition and offset of their record, so
//!   that ties don't depend on how records are read (`ordered.rs`).
//! * APPROX_COUNT_DISTINCT and HISTOGRAM are sketches of bounded size whose result does not depend on the order of
//!   values, nor on how they were divided (`estimate.rs`, [`freshet_functions::Histogram`]).
//! * ARRAY_AGG keeps every value, as DISTINCT does, up to [`MAX_COLLECTED`] values or [`MAX_COLLECTED_BYTES`] a group.
//! * DISTINCT feeds each value of a group to the function once (`distinct.rs`). MIN, MAX and others for which that
//!   makes no difference ignore it.
//! * FILTER leaves out rows for which its column is not true.
//!
//! # Encodings
//! One group's accumulators are encoded aggregate after aggregate (see `cells.rs` for each). The same
//! bytes are a value of stored state and a partial aggregate between two stages, except that the values
//! of a DISTINCT aggregate are listed in a partial and are rows of their own in the state.

mod absorb;
mod cells;
mod distinct;
mod each;
mod estimate;
mod finish;
mod linked;
mod moments;
mod more;
mod number;
mod ordered;
mod slots;
mod spec;
mod states;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int64Array, RecordBatch};
use arrow::buffer::BooleanBuffer;

pub use distinct::Members;
pub(crate) use number::{put_signed, take_signed};
pub(crate) use ordered::Order;
pub use ordered::{MAX_COLLECTED, MAX_COLLECTED_BYTES};
pub use spec::AggregateSpec;

use crate::column::ColumnView;
use crate::group::key::{self, KeyValue};
use cells::Cells;

/// What can go wrong in an aggregate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccumulateError {
    /// A result does not fit its type.
    #[error("{aggregate}: the result exceeds {data_type}; cast the argument to a type with more digits or to DOUBLE")]
    Overflow {
        /// The aggregate, by its output column.
        aggregate: String,
        /// The type of its result.
        data_type: String,
    },
    /// A column is not what the plan said.
    #[error("{aggregate}: {detail}")]
    Column {
        /// The aggregate, by its output column.
        aggregate: String,
        /// What was found.
        detail: String,
    },
    /// Encoded accumulators are cut short or of another shape.
    #[error("{aggregate}: its accumulator is damaged")]
    Damaged {
        /// The aggregate, by its output column.
        aggregate: String,
    },
    /// A group has more values than one is allowed to keep.
    #[error(
        "{aggregate}: a group has more than {MAX_COLLECTED} values or {MAX_COLLECTED_BYTES} bytes of them; take a shorter window, leave rows out with FILTER, or use an aggregate that keeps no values, like APPROX_PERCENTILE"
    )]
    TooMany {
        /// The aggregate, by its output column.
        aggregate: String,
    },
    /// Encoded accumulators go on after the last aggregate.
    #[error("{0} bytes are left over after the last aggregate")]
    TooLong(usize),
}

/// Pairs of a row and the id of its group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selected<'a> {
    /// Positions in the batch.
    pub rows: &'a [u32],
    /// The group of each.
    pub ids: &'a [u32],
}

/// The accumulators of all groups of one pane.
#[derive(Debug, Clone)]
pub struct Accumulators {
    columns: Vec<Accumulator>,
    groups: usize,
}

#[derive(Debug, Clone)]
struct Accumulator {
    spec: AggregateSpec,
    cells: Cells,
    members: Option<Members>,
}

impl Accumulators {
    /// No groups yet.
    #[must_use]
    pub fn new(specs: &[AggregateSpec]) -> Self {
        let column = |spec: &AggregateSpec| Accumulator {
            spec: spec.clone(),
            cells: Cells::new(spec.kind),
            members: spec.has_members().then(Members::default),
        };
        Self { columns: specs.iter().map(column).collect(), groups: 0 }
    }

    /// Makes room for ids below `groups`; new ones have seen nothing.
    pub fn grow(&mut self, groups: usize) {
        if groups > self.groups {
            self.groups = groups;
            for column in &mut self.columns {
                column.cells.resize(groups);
            }
        }
    }

    /// Forgets all groups and keeps the memory.
    pub fn clear(&mut self) {
        self.groups = 0;
        for column in &mut self.columns {
            column.cells.resize(0);
            if let Some(members) = &mut column.members {
                members.clear();
            }
        }
    }

    /// Accumulates rows of `batch`. Every id must be below what [`Accumulators::grow`] was told.
    ///
    /// # Errors
    /// A column of a type that the plan did not say; a decimal sum beyond 128 bits; an aggregate that goes by the order of
    /// rows, which is not known here.
    pub(crate) fn update(&mut self, batch: &RecordBatch, selected: Selected<'_>) -> Result<(), AccumulateError> {
        self.columns.iter_mut().try_for_each(|column| column.update(batch, selected, None))
    }

    /// As [`Accumulators::update`], of rows whose places are known: aggregates that go by the order of rows need them.
    ///
    /// # Errors
    /// Those of [`Accumulators::update`]; more values in a group than may be kept.
    pub(crate) fn update_in_order(
        &mut self,
        batch: &RecordBatch,
        selected: Selected<'_>,
        order: &Order<'_>,
    ) -> Result<(), AccumulateError> {
        self.columns.iter_mut().try_for_each(|column| column.update(batch, selected, Some(order)))
    }

    /// Appends the accumulators of group `id` as stored state holds them.
    pub fn encode_state(&self, id: u32, out: &mut Vec<u8>) {
        for column in &self.columns {
            if column.members.is_none() {
                column.cells.encode(id as usize, out);
            }
        }
    }

    /// Replaces the accumulators of group `id` by stored ones.
    ///
    /// # Errors
    /// Bytes that [`Accumulators::encode_state`] did not write.
    pub fn decode_state(&mut self, id: u32, bytes: &[u8]) -> Result<(), AccumulateError> {
        let mut at = 0;
        for column in &mut self.columns {
            if column.members.is_none() {
                column.cells.reset(id as usize);
                column.merge_cell(id, bytes, &mut at)?;
            }
        }
        at_end(bytes, at)
    }

    /// All groups' accumulators as partial aggregates.
    #[must_use]
    pub fn partials(&self) -> Partials<'_> {
        let lists = self.columns.iter().map(|column| column.members.as_ref().map(|m| m.by_group(self.groups)));
        Partials { accumulators: self, lists: lists.collect() }
    }

    /// Adds a partial aggregate to group `id`.
    ///
    /// # Errors
    /// Bytes that [`Partials::of`] did not write.
    pub fn merge(&mut self, id: u32, bytes: &[u8]) -> Result<(), AccumulateError> {
        let mut at = 0;
        for column in &mut self.columns {
            if column.members.is_some() {
                column.merge_members(id, bytes, &mut at)?;
            } else {
                column.merge_cell(id, bytes, &mut at)?;
            }
        }
        at_end(bytes, at)
    }

    /// The DISTINCT aggregates' positions and their values.
    pub(crate) fn members(&mut self) -> impl Iterator<Item = (usize, &mut Members)> {
        self.columns.iter_mut().enumerate().filter_map(|(at, column)| Some((at, column.members.as_mut()?)))
    }

    /// Adds a stored value of the DISTINCT aggregate at `position` to group `id`.
    ///
    /// # Errors
    /// No such aggregate, or no such value.
    pub(crate) fn restore_member(&mut self, position: usize, id: u32, value: &[u8]) -> Result<(), AccumulateError> {
        match self.columns.get_mut(position) {
            Some(column) if column.members.is_some() => column.add_member(id, value),
            _ => Err(AccumulateError::Damaged { aggregate: format!("aggregate {position}") }),
        }
    }

    /// The results of the groups `ids`, one array an aggregate.
    ///
    /// # Errors
    /// A result that does not fit its type.
    pub fn finish(&self, ids: &[u32]) -> Result<Vec<ArrayRef>, AccumulateError> {
        let one = |column: &Accumulator| match &column.members {
            Some(members) if column.spec.kind == spec::Kind::Collected => {
                ordered::arrays(&members.by_group(self.groups), ids, &column.spec)
            }
            _ => column.cells.finish(ids, &column.spec),
        };
        self.columns.iter().map(one).collect()
    }

    /// The counts of the last aggregate, which is a COUNT.
    fn last_count(&self, id: u32) -> u64 {
        self.columns.last().map_or(0, |column| column.cells.count(id as usize))
    }

    /// Bytes of the texts and arrays that group `id` keeps.
    pub(crate) fn text_bytes(&self, id: u32) -> usize {
        self.columns.iter().map(|column| column.cells.text_bytes(id as usize)).sum()
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.columns.iter().map(|c| c.cells.memory_bytes() + c.members.as_ref().map_or(0, Members::memory_bytes)).sum()
    }

    /// Bytes of the values that DISTINCT aggregates keep.
    #[must_use]
    pub fn member_bytes(&self) -> usize {
        self.columns.iter().filter_map(|column| column.members.as_ref()).map(Members::value_bytes).sum()
    }
}

fn at_end(bytes: &[u8], at: usize) -> Result<(), AccumulateError> {
    if at == bytes.len() { Ok(()) } else { Err(AccumulateError::TooLong(bytes.len() - at)) }
}

/// Accumulators ready to be sent to another stage.
#[derive(Debug)]
pub struct Partials<'a> {
    accumulators: &'a Accumulators,
    lists: Vec<Option<distinct::ByGroup<'a>>>,
}

impl Partials<'_> {
    /// How many records each of the groups `ids` stands for, which the last accumulator counts, and its first `aggregates`
    /// accumulators.
    pub fn of(&self, ids: &[u32], aggregates: usize) -> (Int64Array, BinaryArray) {
        let mut values = BinaryBuilder::with_capacity(ids.len(), ids.len() * 16);
        let mut encoded = Vec::new();
        for id in ids {
            encoded.clear();
            self.encode(*id, aggregates, &mut encoded);
            values.append_value(&encoded);
        }
        (ids.iter().map(|id| self.accumulators.last_count(*id) as i64).collect(), values.finish())
    }

    /// Appends the first `aggregates` accumulators of group `id`.
    fn encode(&self, id: u32, aggregates: usize, out: &mut Vec<u8>) {
        for (column, list) in self.accumulators.columns.iter().zip(&self.lists).take(aggregates) {
            match list {
                Some(list) => list.encode(id, out),
                None => column.cells.encode(id as usize, out),
            }
        }
    }
}

impl Accumulator {
    fn update(
        &mut self,
        batch: &RecordBatch,
        selected: Selected<'_>,
        order: Option<&Order<'_>>,
    ) -> Result<(), AccumulateError> {
        let filter = match self.spec.filter {
            None => None,
            Some(at) => Some(self.truth(batch.column(at))?),
        };
        let Some(argument) = self.spec.argument else {
            self.cells.count_rows(selected, filter.as_ref());
            return Ok(());
        };
        let column = batch.column(argument);
        if self.spec.kind == spec::Kind::Collected {
            // Nulls are values of an array.
            return self.update_by_place(column, selected, filter.as_ref(), order);
        }
        let mask = match (filter, column.nulls()) {
            (None, None) => None,
            (Some(filter), None) => Some(filter),
            (None, Some(nulls)) => Some(nulls.inner().clone()),
            (Some(filter), Some(nulls)) => Some(&filter & nulls.inner()),
        };
        // Counting looks at no value, so it takes values of any type.
        if self.spec.kind == spec::Kind::Count && self.members.is_none() {
            self.cells.count_rows(selected, mask.as_ref());
            return Ok(());
        }
        if matches!(self.spec.kind, spec::Kind::Ordered(_)) {
            return self.update_by_place(column, selected, mask.as_ref(), order);
        }
        let view = ColumnView::of(column).map_err(|found| self.wrong_column(format!("it can't aggregate {found}")))?;
        let updated = if let Some(members) = &mut self.members {
            let (rows, ids) = members.insert_rows(&view, selected, mask.as_ref());
            self.cells.update(&view, Selected { rows: &rows, ids: &ids }, None)
        } else {
            self.cells.update(&view, selected, mask.as_ref())
        };
        updated.map_err(|error| self.failed(error))
    }

    fn truth(&self, column: &ArrayRef) -> Result<BooleanBuffer, AccumulateError> {
        let Some(truth) = column.as_boolean_opt() else {
            return Err(self.wrong_column(format!("its FILTER is {}, not BOOLEAN", column.data_type())));
        };
        Ok(match truth.nulls() {
            None => truth.values().clone(),
            Some(nulls) => truth.values() & nulls.inner(),
        })
    }

    fn merge_cell(&mut self, id: u32, bytes: &[u8], at: &mut usize) -> Result<(), AccumulateError> {
        self.cells.merge(id as usize, bytes, at).map_err(|error| self.failed(error))
    }

    fn merge_members(&mut self, id: u32, bytes: &[u8], at: &mut usize) -> Result<(), AccumulateError> {
        let mut values = distinct::Listed::new(bytes, at).ok_or_else(|| self.failed(cells::CellError::Damaged))?;
        while let Some(value) = values.next(bytes, at).map_err(|()| self.failed(cells::CellError::Damaged))? {
            self.add_member(id, value)?;
        }
        Ok(())
    }

    fn add_member(&mut self, id: u32, value: &[u8]) -> Result<(), AccumulateError> {
        if self.spec.kind == spec::Kind::Collected {
            return self.collect(id, value);
        }
        let mut at = 0;
        let decoded = key::take_value(value, &mut at).filter(|v| at == value.len() && *v != KeyValue::Null);
        let decoded = decoded.ok_or_else(|| self.failed(cells::CellError::Damaged))?;
        if self.members.as_mut().is_some_and(|members| members.insert(id, value)) {
            self.cells.add(id as usize, decoded).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    fn wrong_column(&self, detail: String) -> AccumulateError {
        AccumulateError::Column { aggregate: self.spec.name.clone(), detail }
    }

    fn failed(&self, error: cells::CellError) -> AccumulateError {
        match error {
            cells::CellError::Overflow => self.spec.overflow(),
            cells::CellError::Damaged => AccumulateError::Damaged { aggregate: self.spec.name.clone() },
            cells::CellError::TooMany => AccumulateError::TooMany { aggregate: self.spec.name.clone() },
            cells::CellError::Type => self.wrong_column("its argument is not of the planned type".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
