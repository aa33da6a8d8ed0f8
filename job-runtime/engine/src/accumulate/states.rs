//! Cells that are more than a number or a text: a small value of its own a group.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array};
use arrow::buffer::BooleanBuffer;
use freshet_functions::Histogram;

use super::cells::CellError;
use super::each::{each_exact, each_float};
use super::estimate::{self, Estimate};
use super::moments::{FloatMoments, Moments};
use super::ordered::{MAX_COLLECTED, MAX_COLLECTED_BYTES};
use super::spec::{AggregateSpec, Kind, Spread};
use super::{AccumulateError, Selected};
use crate::column::ColumnView;
use crate::group::key::{KeyValue, put_value};

/// What a group has of an aggregate.
pub(super) trait State: Clone + Default {
    /// Appends its encoding.
    fn encode(&self, out: &mut Vec<u8>);
    /// Adds an encoded one; whether a sum overflows, `None` when the bytes are damaged.
    fn merge(&mut self, bytes: &[u8], at: &mut usize) -> Option<bool>;
    /// Adds another; whether a sum overflows.
    fn absorb(&mut self, other: &Self) -> bool;
    /// Bytes of memory behind it.
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl State for Histogram {
    fn encode(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn merge(&mut self, bytes: &[u8], at: &mut usize) -> Option<bool> {
        self.absorb(&Self::decode(bytes, at)?);
        Some(false)
    }

    fn absorb(&mut self, other: &Self) -> bool {
        self.absorb(other);
        false
    }

    fn heap_bytes(&self) -> usize {
        self.heap_bytes()
    }
}

/// How many values a group has kept elsewhere, and their bytes. Nothing is encoded: whoever adds them counts again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    values: usize,
    bytes: usize,
}

impl State for Kept {
    fn encode(&self, _out: &mut Vec<u8>) {}

    fn merge(&mut self, _bytes: &[u8], _at: &mut usize) -> Option<bool> {
        Some(false)
    }

    fn absorb(&mut self, _other: &Self) -> bool {
        false
    }
}

/// The states of all groups, by kind.
#[derive(Debug, Clone)]
pub(super) enum States {
    Moments(Spread, Vec<Moments>),
    FloatMoments(Spread, Vec<FloatMoments>),
    Estimate(Vec<Estimate>),
    Histogram(Vec<Histogram>),
    Kept(Vec<Kept>),
}

/// The same code for states of any kind.
macro_rules! each_kind {
    ($states:expr, $s:ident => $code:expr) => {
        match $states {
            States::Moments(_, $s) => $code,
            States::FloatMoments(_, $s) => $code,
            States::Estimate($s) => $code,
            States::Histogram($s) => $code,
            States::Kept($s) => $code,
        }
    };
}

fn put_together<S: State>(states: &mut [S], others: &[S], ids: &[u32]) -> bool {
    let mut overflow = false;
    for (other, id) in others.iter().zip(ids) {
        overflow |= states[*id as usize].absorb(other);
    }
    overflow
}

fn memory_bytes<S: State>(states: &Vec<S>) -> usize {
    states.capacity() * size_of::<S>() + states.iter().map(State::heap_bytes).sum::<usize>()
}

impl States {
    /// No groups; kinds that are cells of another form have no values here.
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Moments(spread) => Self::Moments(spread, Vec::new()),
            Kind::FloatMoments(spread) => Self::FloatMoments(spread, Vec::new()),
            Kind::Estimate => Self::Estimate(Vec::new()),
            Kind::Histogram => Self::Histogram(Vec::new()),
            _ => Self::Kept(Vec::new()),
        }
    }

    pub fn resize(&mut self, groups: usize) {
        each_kind!(self, states => states.resize_with(groups, Default::default));
    }

    pub fn reset(&mut self, id: usize) {
        each_kind!(self, states => states[id] = Default::default());
    }

    pub fn memory_bytes(&self) -> usize {
        each_kind!(self, states => memory_bytes(states))
    }

    pub fn encode(&self, id: usize, out: &mut Vec<u8>) {
        each_kind!(self, states => State::encode(&states[id], out));
    }

    /// `None` when the bytes are damaged.
    pub fn merge(&mut self, id: usize, bytes: &[u8], at: &mut usize) -> Option<Result<(), CellError>> {
        let overflow = each_kind!(self, states => State::merge(&mut states[id], bytes, at))?;
        Some(if overflow { Err(CellError::Overflow) } else { Ok(()) })
    }

    pub fn absorb(&mut self, other: &Self, ids: &[u32]) -> Result<(), CellError> {
        let overflow = match (self, other) {
            (Self::Moments(_, own), Self::Moments(_, others)) => put_together(own, others, ids),
            (Self::FloatMoments(_, own), Self::FloatMoments(_, others)) => put_together(own, others, ids),
            (Self::Estimate(own), Self::Estimate(others)) => put_together(own, others, ids),
            (Self::Histogram(own), Self::Histogram(others)) => put_together(own, others, ids),
            _ => return Err(CellError::Type),
        };
        if overflow { Err(CellError::Overflow) } else { Ok(()) }
    }

    /// Accumulates the selected rows for which `mask` holds; none of them is null.
    pub fn update(
        &mut self,
        view: &ColumnView<'_>,
        selected: Selected<'_>,
        mask: Option<&BooleanBuffer>,
    ) -> Result<(), CellError> {
        let mut overflow = false;
        match self {
            Self::Moments(_, states) => {
                each_exact(view.values, selected, mask, |id, value| overflow |= states[id].add(value))?;
            }
            Self::FloatMoments(_, states) => {
                each_float(view.values, selected, mask, |id, value| states[id].add(value))?;
            }
            Self::Histogram(states) => each_float(view.values, selected, mask, |id, value| states[id].add(value))?,
            Self::Estimate(states) => {
                let mut value = Vec::new();
                selected.each(mask, |id, row| {
                    value.clear();
                    put_value(view, row, &mut value);
                    states[id].add(estimate::hash(&value));
                });
            }
            Self::Kept(_) => return Err(CellError::Type),
        }
        if overflow { Err(CellError::Overflow) } else { Ok(()) }
    }

    /// Accumulates one value that a DISTINCT aggregate has not seen before.
    pub fn add(&mut self, id: usize, value: KeyValue<'_>) -> Result<(), CellError> {
        let overflow = match (self, value) {
            (Self::Moments(_, states), KeyValue::Int(value)) => states[id].add(value.into()),
            (Self::Moments(_, states), KeyValue::Decimal(value)) => states[id].add(value),
            (Self::FloatMoments(_, states), KeyValue::Float(value)) => {
                states[id].add(value);
                false
            }
            (Self::Histogram(states), KeyValue::Float(value)) => {
                states[id].add(value);
                false
            }
            _ => return Err(CellError::Type),
        };
        if overflow { Err(CellError::Overflow) } else { Ok(()) }
    }

    /// Group `id` keeps one more value, of so many bytes.
    pub fn collected(&mut self, id: usize, bytes: usize) -> Result<(), CellError> {
        let Self::Kept(kept) = self else { return Err(CellError::Type) };
        kept[id].values += 1;
        kept[id].bytes += bytes;
        if kept[id].values > MAX_COLLECTED || kept[id].bytes > MAX_COLLECTED_BYTES {
            return Err(CellError::TooMany);
        }
        Ok(())
    }

    /// About how many bytes the result of group `id` has, where it has no fixed size.
    pub fn result_bytes(&self, id: usize) -> usize {
        match self {
            Self::Kept(kept) => kept[id].bytes,
            Self::Histogram(states) => Histogram::heap_bytes(&states[id]),
            Self::Moments(..) | Self::FloatMoments(..) | Self::Estimate(_) => 0,
        }
    }

    /// The results of groups `ids`.
    pub fn finish(&self, ids: &[u32], spec: &AggregateSpec) -> Result<ArrayRef, AccumulateError> {
        let ids = ids.iter().map(|id| *id as usize);
        Ok(match self {
            Self::Moments(spread, states) => {
                let one = |id: usize| states[id].finish(*spread, spec.scale).map_err(|()| spec.overflow());
                Arc::new(ids.map(one).collect::<Result<Float64Array, _>>()?)
            }
            Self::FloatMoments(spread, states) => {
                Arc::new(ids.map(|id| states[id].finish(*spread)).collect::<Float64Array>())
            }
            Self::Estimate(states) => Arc::new(Int64Array::from_iter_values(ids.map(|id| states[id].count()))),
            Self::Histogram(states) => {
                let encoded = |id: usize| {
                    let mut bytes = Vec::new();
                    states[id].encode(&mut bytes);
                    bytes
                };
                Arc::new(BinaryArray::from_iter_values(ids.map(encoded)))
            }
            Self::Kept(_) => return Err(AccumulateError::Damaged { aggregate: spec.name.clone() }),
        })
    }
}
