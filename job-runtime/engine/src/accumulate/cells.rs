//! One aggregate's values, a cell a group.
//!
//! Encodings of a cell (varint: LEB128; signed: varint of the zigzag form, up to 128 bits):
//!
//! ```text
//! COUNT                      varint
//! SUM of exact numbers       00 | 01 signed
//! SUM of floats              00 | 01 8 bytes, little-endian
//! AVG of exact numbers       varint count, signed sum
//! AVG of floats              varint count, 8 bytes sum, little-endian
//! MIN, MAX of ints, decimals 00 | 01 signed
//! MIN, MAX of floats         00 | 01 8 bytes, little-endian
//! MIN, MAX of texts, bytes   00 | 01 varint length, bytes
//! BIT_AND, BIT_OR, BIT_XOR   00 | 01 signed
//! FIRST_VALUE, LAST_VALUE    00 | 01 varint length, the row's place and the value (`ordered.rs`)
//! others                     see `states.rs`
//! ```

use arrow::buffer::BooleanBuffer;
use freshet_state::rows::{put_varint, take_bytes, take_varint};

use super::Selected;
use super::each::{each_bytes, each_exact, each_float, each_int};
use super::number::{put_signed, take_signed};
use super::slots::{Counted, Optional, Texts};
use super::spec::{BitOp, Kind, Side};
use super::states::States;
use crate::column::ColumnView;
use crate::group::key::{KeyValue, canonical};

/// What a cell can't do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellError {
    /// A sum leaves 128 bits.
    Overflow,
    /// The bytes are no cell of this kind.
    Damaged,
    /// The values are not what this kind takes.
    Type,
    /// A group has more values than it may keep.
    TooMany,
}

/// The cells of all groups, by kind.
#[derive(Debug, Clone)]
pub(super) enum Cells {
    Count(Vec<u64>),
    ExactSum(Optional<i128>),
    FloatSum(Optional<f64>),
    ExactMean(Counted<i128>),
    FloatMean(Counted<f64>),
    Int(Side, Optional<i64>),
    Decimal(Side, Optional<i128>),
    Float(Side, Optional<f64>),
    Bytes(Side, Texts),
    Bits(BitOp, Optional<i64>),
    States(States),
}

impl Side {
    /// Whether `old` stays where `new` is offered, by an order.
    #[inline]
    pub(super) const fn keeps(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Least => order.is_le(),
            Self::Greatest => order.is_ge(),
        }
    }
}

pub(super) fn float_order(a: f64, b: f64) -> std::cmp::Ordering {
    canonical(a).total_cmp(&canonical(b))
}

impl Cells {
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Count => Self::Count(Vec::new()),
            Kind::ExactSum => Self::ExactSum(Optional::new()),
            Kind::FloatSum => Self::FloatSum(Optional::new()),
            Kind::ExactMean => Self::ExactMean(Counted::new()),
            Kind::FloatMean => Self::FloatMean(Counted::new()),
            Kind::Int(side) => Self::Int(side, Optional::new()),
            Kind::Decimal(side) => Self::Decimal(side, Optional::new()),
            Kind::Float(side) => Self::Float(side, Optional::new()),
            Kind::Bytes(side) | Kind::Ordered(side) => Self::Bytes(side, Texts::default()),
            Kind::Bits(op) => Self::Bits(op, Optional::new()),
            Kind::Moments(_) | Kind::FloatMoments(_) | Kind::Estimate | Kind::Histogram | Kind::Collected => {
                Self::States(States::new(kind))
            }
        }
    }

    pub fn resize(&mut self, groups: usize) {
        match self {
            Self::Count(counts) => counts.resize(groups, 0),
            Self::ExactSum(cells) | Self::Decimal(_, cells) => cells.resize(groups),
            Self::FloatSum(cells) | Self::Float(_, cells) => cells.resize(groups),
            Self::ExactMean(cells) => cells.resize(groups),
            Self::FloatMean(cells) => cells.resize(groups),
            Self::Int(_, cells) | Self::Bits(_, cells) => cells.resize(groups),
            Self::Bytes(_, texts) => texts.resize(groups),
            Self::States(states) => states.resize(groups),
        }
    }

    pub fn reset(&mut self, id: usize) {
        match self {
            Self::Count(counts) => counts[id] = 0,
            Self::ExactSum(cells) | Self::Decimal(_, cells) => cells.reset(id),
            Self::FloatSum(cells) | Self::Float(_, cells) => cells.reset(id),
            Self::ExactMean(cells) => cells.reset(id),
            Self::FloatMean(cells) => cells.reset(id),
            Self::Int(_, cells) | Self::Bits(_, cells) => cells.reset(id),
            Self::Bytes(_, texts) => texts.set(id, None),
            Self::States(states) => states.reset(id),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Count(counts) => counts.capacity() * size_of::<u64>(),
            Self::ExactSum(cells) | Self::Decimal(_, cells) => cells.memory_bytes(),
            Self::FloatSum(cells) | Self::Float(_, cells) => cells.memory_bytes(),
            Self::ExactMean(cells) => cells.memory_bytes(),
            Self::FloatMean(cells) => cells.memory_bytes(),
            Self::Int(_, cells) | Self::Bits(_, cells) => cells.memory_bytes(),
            Self::States(states) => states.memory_bytes(),
            Self::Bytes(_, texts) => texts.cells.capacity() * size_of::<Option<Box<[u8]>>>() + texts.bytes,
        }
    }

    /// Bytes of the texts of group `id`.
    pub fn text_bytes(&self, id: usize) -> usize {
        match self {
            Self::Bytes(_, texts) => texts.cells[id].as_deref().map_or(0, <[u8]>::len),
            Self::States(states) => states.result_bytes(id),
            _ => 0,
        }
    }

    pub fn count(&self, id: usize) -> u64 {
        if let Self::Count(counts) = self { counts[id] } else { 0 }
    }

    /// Counts the selected rows for which `mask` holds.
    pub fn count_rows(&mut self, selected: Selected<'_>, mask: Option<&BooleanBuffer>) {
        if let Self::Count(counts) = self {
            selected.each(mask, |id, _| counts[id] += 1);
        }
    }

    /// Accumulates the selected rows for which `mask` holds; none of them is null.
    pub fn update(
        &mut self,
        view: &ColumnView<'_>,
        selected: Selected<'_>,
        mask: Option<&BooleanBuffer>,
    ) -> Result<(), CellError> {
        let values = view.values;
        let mut overflow = false;
        match self {
            Self::Count(counts) => selected.each(mask, |id, _| counts[id] += 1),
            Self::ExactSum(cells) => each_exact(values, selected, mask, |id, v| overflow |= cells.add(id, v))?,
            Self::ExactMean(cells) => each_exact(values, selected, mask, |id, v| overflow |= cells.add(id, v, 1))?,
            Self::FloatSum(cells) => each_float(values, selected, mask, |id, v| cells.add(id, v))?,
            Self::FloatMean(cells) => each_float(values, selected, mask, |id, v| cells.add(id, v, 1))?,
            Self::Int(side, cells) => {
                let side = *side;
                each_int(values, selected, mask, |id, v| cells.offer(id, v, |old| side.keeps(old.cmp(&v))))?;
            }
            Self::Decimal(side, cells) => {
                let side = *side;
                each_exact(values, selected, mask, |id, v| cells.offer(id, v, |old| side.keeps(old.cmp(&v))))?;
            }
            Self::Float(side, cells) => {
                let side = *side;
                each_float(values, selected, mask, |id, v| {
                    cells.offer(id, canonical(v), |old| side.keeps(float_order(old, v)));
                })?;
            }
            Self::Bytes(side, texts) => {
                let side = *side;
                each_bytes(values, selected, mask, |id, v| texts.offer(id, v, side))?;
            }
            Self::Bits(op, cells) => {
                let op = *op;
                each_int(values, selected, mask, |id, v| cells.put(id, v, op))?;
            }
            Self::States(states) => return states.update(view, selected, mask),
        }
        if overflow { Err(CellError::Overflow) } else { Ok(()) }
    }

    /// Accumulates one value.
    pub fn add(&mut self, id: usize, value: KeyValue<'_>) -> Result<(), CellError> {
        let mut overflow = false;
        match (self, value) {
            (Self::Count(counts), _) => counts[id] += 1,
            (Self::ExactSum(cells), KeyValue::Int(v)) => overflow = cells.add(id, v.into()),
            (Self::ExactSum(cells), KeyValue::Decimal(v)) => overflow = cells.add(id, v),
            (Self::ExactMean(cells), KeyValue::Int(v)) => overflow = cells.add(id, v.into(), 1),
            (Self::ExactMean(cells), KeyValue::Decimal(v)) => overflow = cells.add(id, v, 1),
            (Self::FloatSum(cells), KeyValue::Float(v)) => cells.add(id, v),
            (Self::FloatMean(cells), KeyValue::Float(v)) => cells.add(id, v, 1),
            (Self::Bits(op, cells), KeyValue::Int(v)) => cells.put(id, v, *op),
            (Self::States(states), value) => return states.add(id, value),
            _ => return Err(CellError::Type),
        }
        if overflow { Err(CellError::Overflow) } else { Ok(()) }
    }

    pub fn encode(&self, id: usize, out: &mut Vec<u8>) {
        match self {
            Self::Count(counts) => put_varint(out, counts[id]),
            Self::ExactSum(cells) | Self::Decimal(_, cells) => cells.encode(id, out, put_signed),
            Self::FloatSum(cells) | Self::Float(_, cells) => cells.encode(id, out, put_float),
            Self::Int(_, cells) | Self::Bits(_, cells) => {
                cells.encode(id, out, |out, value| put_signed(out, value.into()));
            }
            Self::States(states) => states.encode(id, out),
            Self::ExactMean(cells) => {
                put_varint(out, cells.counts[id]);
                put_signed(out, cells.sums[id]);
            }
            Self::FloatMean(cells) => {
                put_varint(out, cells.counts[id]);
                put_float(out, cells.sums[id]);
            }
            Self::Bytes(_, texts) => {
                out.push(u8::from(texts.cells[id].is_some()));
                if let Some(value) = &texts.cells[id] {
                    put_varint(out, value.len() as u64);
                    out.extend_from_slice(value);
                }
            }
        }
    }

    /// Adds an encoded cell to that of group `id`.
    pub fn merge(&mut self, id: usize, bytes: &[u8], at: &mut usize) -> Result<(), CellError> {
        self.try_merge(id, bytes, at).unwrap_or(Err(CellError::Damaged))
    }

    /// `None` when the bytes are damaged.
    fn try_merge(&mut self, id: usize, bytes: &[u8], at: &mut usize) -> Option<Result<(), CellError>> {
        let mut overflow = false;
        match self {
            Self::Count(counts) => counts[id] = counts[id].checked_add(take_varint(bytes, at)?)?,
            Self::ExactMean(cells) => {
                let count = take_varint(bytes, at)?;
                overflow = cells.add(id, take_signed(bytes, at)?, count);
            }
            Self::FloatMean(cells) => {
                let count = take_varint(bytes, at)?;
                cells.add(id, take_float(bytes, at)?, count);
            }
            Self::States(states) => return states.merge(id, bytes, at),
            optional => {
                let seen = *bytes.get(*at)?;
                *at += 1;
                match seen {
                    0 => return Some(Ok(())),
                    1 => {}
                    _ => return None,
                }
                match optional {
                    Self::ExactSum(cells) => overflow = cells.add(id, take_signed(bytes, at)?),
                    Self::FloatSum(cells) => cells.add(id, take_float(bytes, at)?),
                    Self::Int(side, cells) => {
                        let value = i64::try_from(take_signed(bytes, at)?).ok()?;
                        cells.offer(id, value, |old| side.keeps(old.cmp(&value)));
                    }
                    Self::Decimal(side, cells) => {
                        let value = take_signed(bytes, at)?;
                        cells.offer(id, value, |old| side.keeps(old.cmp(&value)));
                    }
                    Self::Float(side, cells) => {
                        let value = take_float(bytes, at)?;
                        cells.offer(id, value, |old| side.keeps(float_order(old, value)));
                    }
                    Self::Bytes(side, texts) => {
                        let len = take_varint(bytes, at)?;
                        texts.offer(id, take_bytes(bytes, at, len)?, *side);
                    }
                    Self::Bits(op, cells) => cells.put(id, i64::try_from(take_signed(bytes, at)?).ok()?, *op),
                    Self::Count(_) | Self::ExactMean(_) | Self::FloatMean(_) | Self::States(_) => return None,
                }
            }
        }
        Some(if overflow { Err(CellError::Overflow) } else { Ok(()) })
    }
}

pub(super) fn put_float(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn take_float(bytes: &[u8], at: &mut usize) -> Option<f64> {
    take_bytes(bytes, at, 8)?.try_into().ok().map(f64::from_le_bytes)
}
