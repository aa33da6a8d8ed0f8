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
//! ```

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::buffer::BooleanBuffer;
use freshet_plan::DataType;
use freshet_state::rows::{put_varint, take_bytes, take_varint};

use super::number::{put_signed, take_signed};
use super::spec::{AggregateSpec, Kind, Side};
use super::{AccumulateError, Selected};
use crate::column::{ColumnView, Values};
use crate::group::key::{KeyValue, canonical};
use crate::types::UTC;

/// What a cell can't do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellError {
    /// A sum leaves 128 bits.
    Overflow,
    /// The bytes are no cell of this kind.
    Damaged,
    /// The values are not what this kind takes.
    Type,
}

/// Values of which some groups have seen none.
#[derive(Debug, Clone)]
pub(super) struct Optional<T> {
    values: Vec<T>,
    seen: Vec<bool>,
}

/// Sums with the number of what was summed.
#[derive(Debug, Clone)]
pub(super) struct Counted<T> {
    sums: Vec<T>,
    counts: Vec<u64>,
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
    Bytes(Side, Vec<Option<Box<[u8]>>>),
}

impl<T: Copy + Default> Optional<T> {
    const fn new() -> Self {
        Self { values: Vec::new(), seen: Vec::new() }
    }

    fn resize(&mut self, groups: usize) {
        self.values.resize(groups, T::default());
        self.seen.resize(groups, false);
    }

    fn reset(&mut self, id: usize) {
        self.values[id] = T::default();
        self.seen[id] = false;
    }

    /// Replaces the value unless `keep(old)` says that it stays.
    #[inline]
    fn offer(&mut self, id: usize, value: T, keep: impl Fn(T) -> bool) {
        if !self.seen[id] || !keep(self.values[id]) {
            self.values[id] = value;
            self.seen[id] = true;
        }
    }

    fn get(&self, id: u32) -> Option<T> {
        self.seen[id as usize].then(|| self.values[id as usize])
    }

    fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T>() + self.seen.capacity()
    }

    fn encode(&self, id: usize, out: &mut Vec<u8>, put: impl Fn(&mut Vec<u8>, T)) {
        out.push(u8::from(self.seen[id]));
        if self.seen[id] {
            put(out, self.values[id]);
        }
    }
}

impl<T: Copy + Default> Counted<T> {
    const fn new() -> Self {
        Self { sums: Vec::new(), counts: Vec::new() }
    }

    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, T::default());
        self.counts.resize(groups, 0);
    }

    fn reset(&mut self, id: usize) {
        self.sums[id] = T::default();
        self.counts[id] = 0;
    }

    fn get(&self, id: u32) -> Option<(T, u64)> {
        let count = self.counts[id as usize];
        (count > 0).then(|| (self.sums[id as usize], count))
    }

    fn memory_bytes(&self) -> usize {
        self.sums.capacity() * size_of::<T>() + self.counts.capacity() * size_of::<u64>()
    }
}

impl Optional<i128> {
    #[inline]
    fn add(&mut self, id: usize, value: i128) -> bool {
        let (sum, overflow) = self.values[id].overflowing_add(value);
        self.values[id] = sum;
        self.seen[id] = true;
        overflow
    }
}

impl Counted<i128> {
    #[inline]
    fn add(&mut self, id: usize, value: i128, count: u64) -> bool {
        let (sum, overflow) = self.sums[id].overflowing_add(value);
        self.sums[id] = sum;
        self.counts[id] += count;
        overflow
    }
}

impl Optional<f64> {
    #[inline]
    fn add(&mut self, id: usize, value: f64) {
        self.values[id] += value;
        self.seen[id] = true;
    }
}

impl Counted<f64> {
    #[inline]
    fn add(&mut self, id: usize, value: f64, count: u64) {
        self.sums[id] += value;
        self.counts[id] += count;
    }
}

impl Side {
    /// Whether `old` stays where `new` is offered, by an order.
    #[inline]
    const fn keeps(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Least => order.is_le(),
            Self::Greatest => order.is_ge(),
        }
    }
}

fn float_order(a: f64, b: f64) -> std::cmp::Ordering {
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
            Kind::Bytes(side) => Self::Bytes(side, Vec::new()),
        }
    }

    pub fn resize(&mut self, groups: usize) {
        match self {
            Self::Count(counts) => counts.resize(groups, 0),
            Self::ExactSum(cells) | Self::Decimal(_, cells) => cells.resize(groups),
            Self::FloatSum(cells) | Self::Float(_, cells) => cells.resize(groups),
            Self::ExactMean(cells) => cells.resize(groups),
            Self::FloatMean(cells) => cells.resize(groups),
            Self::Int(_, cells) => cells.resize(groups),
            Self::Bytes(_, cells) => cells.resize(groups, None),
        }
    }

    pub fn reset(&mut self, id: usize) {
        match self {
            Self::Count(counts) => counts[id] = 0,
            Self::ExactSum(cells) | Self::Decimal(_, cells) => cells.reset(id),
            Self::FloatSum(cells) | Self::Float(_, cells) => cells.reset(id),
            Self::ExactMean(cells) => cells.reset(id),
            Self::FloatMean(cells) => cells.reset(id),
            Self::Int(_, cells) => cells.reset(id),
            Self::Bytes(_, cells) => cells[id] = None,
        }
    }

    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Count(counts) => counts.capacity() * size_of::<u64>(),
            Self::ExactSum(cells) | Self::Decimal(_, cells) => cells.memory_bytes(),
            Self::FloatSum(cells) | Self::Float(_, cells) => cells.memory_bytes(),
            Self::ExactMean(cells) => cells.memory_bytes(),
            Self::FloatMean(cells) => cells.memory_bytes(),
            Self::Int(_, cells) => cells.memory_bytes(),
            Self::Bytes(_, cells) => {
                cells.capacity() * size_of::<Option<Box<[u8]>>>()
                    + cells.iter().flatten().map(|b| b.len()).sum::<usize>()
            }
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
            Self::Bytes(side, cells) => {
                let side = *side;
                each_bytes(values, selected, mask, |id, v| offer_bytes(&mut cells[id], v, side))?;
            }
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
            _ => return Err(CellError::Type),
        }
        if overflow { Err(CellError::Overflow) } else { Ok(()) }
    }

    pub fn encode(&self, id: usize, out: &mut Vec<u8>) {
        match self {
            Self::Count(counts) => put_varint(out, counts[id]),
            Self::ExactSum(cells) | Self::Decimal(_, cells) => cells.encode(id, out, put_signed),
            Self::FloatSum(cells) | Self::Float(_, cells) => cells.encode(id, out, put_float),
            Self::Int(_, cells) => cells.encode(id, out, |out, value| put_signed(out, value.into())),
            Self::ExactMean(cells) => {
                put_varint(out, cells.counts[id]);
                put_signed(out, cells.sums[id]);
            }
            Self::FloatMean(cells) => {
                put_varint(out, cells.counts[id]);
                put_float(out, cells.sums[id]);
            }
            Self::Bytes(_, cells) => {
                out.push(u8::from(cells[id].is_some()));
                if let Some(value) = &cells[id] {
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
                    Self::Bytes(side, cells) => {
                        let len = take_varint(bytes, at)?;
                        offer_bytes(&mut cells[id], take_bytes(bytes, at, len)?, *side);
                    }
                    Self::Count(_) | Self::ExactMean(_) | Self::FloatMean(_) => return None,
                }
            }
        }
        Some(if overflow { Err(CellError::Overflow) } else { Ok(()) })
    }

    /// The results of groups `ids`.
    pub fn finish(&self, ids: &[u32], spec: &AggregateSpec) -> Result<ArrayRef, AccumulateError> {
        Ok(match self {
            Self::Count(counts) => {
                Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| counts[*id as usize] as i64)))
            }
            Self::ExactSum(cells) => exact(ids.iter().map(|id| cells.get(*id)), spec)?,
            Self::FloatSum(cells) => Arc::new(ids.iter().map(|id| cells.get(*id)).collect::<Float64Array>()),
            Self::ExactMean(cells) if spec.output == DataType::Double => {
                let mean = |(sum, count)| sum as f64 / count as f64;
                Arc::new(ids.iter().map(|id| cells.get(*id).map(mean)).collect::<Float64Array>())
            }
            Self::ExactMean(cells) => {
                let DataType::Decimal(_, scale) = spec.output else { return Err(spec.overflow()) };
                let more_digits = u32::from(scale - spec.scale);
                let mean = |(sum, count)| decimal_mean(sum, count, more_digits).ok_or_else(|| spec.overflow());
                let means = ids.iter().map(|id| cells.get(*id).map(mean).transpose()).collect::<Result<Vec<_>, _>>()?;
                exact(means.into_iter(), spec)?
            }
            Self::FloatMean(cells) => {
                let mean = |(sum, count)| sum / count as f64;
                Arc::new(ids.iter().map(|id| cells.get(*id).map(mean)).collect::<Float64Array>())
            }
            Self::Int(_, cells) => {
                ints(ids.iter().map(|id| cells.get(*id)), &spec.output).ok_or_else(|| spec.overflow())?
            }
            Self::Decimal(_, cells) => exact(ids.iter().map(|id| cells.get(*id)), spec)?,
            Self::Float(_, cells) if spec.output == DataType::Float => {
                Arc::new(ids.iter().map(|id| cells.get(*id).map(|v| v as f32)).collect::<Float32Array>())
            }
            Self::Float(_, cells) => Arc::new(ids.iter().map(|id| cells.get(*id)).collect::<Float64Array>()),
            Self::Bytes(_, cells) => {
                let values = ids.iter().map(|id| cells[*id as usize].as_deref());
                if spec.output == DataType::String {
                    let texts =
                        values.map(|v| v.map(std::str::from_utf8).transpose()).collect::<Result<StringArray, _>>();
                    Arc::new(texts.map_err(|_| AccumulateError::Damaged { aggregate: spec.name.clone() })?)
                } else {
                    Arc::new(values.collect::<BinaryArray>())
                }
            }
        })
    }
}

impl Selected<'_> {
    #[inline]
    fn each(self, mask: Option<&BooleanBuffer>, mut f: impl FnMut(usize, usize)) {
        let pairs = self.rows.iter().zip(self.ids).map(|(row, id)| (*id as usize, *row as usize));
        match mask {
            None => pairs.for_each(|(id, row)| f(id, row)),
            Some(mask) => pairs.filter(|(_, row)| mask.value(*row)).for_each(|(id, row)| f(id, row)),
        }
    }
}

fn each_exact(
    values: Values<'_>,
    selected: Selected<'_>,
    mask: Option<&BooleanBuffer>,
    mut f: impl FnMut(usize, i128),
) -> Result<(), CellError> {
    match values {
        Values::Int8(v) => selected.each(mask, |id, row| f(id, v[row].into())),
        Values::Int16(v) => selected.each(mask, |id, row| f(id, v[row].into())),
        Values::Int32(v) => selected.each(mask, |id, row| f(id, v[row].into())),
        Values::Int64(v) => selected.each(mask, |id, row| f(id, v[row].into())),
        Values::Decimal(v) => selected.each(mask, |id, row| f(id, v[row])),
        _ => return Err(CellError::Type),
    }
    Ok(())
}

fn each_int(
    values: Values<'_>,
    selected: Selected<'_>,
    mask: Option<&BooleanBuffer>,
    mut f: impl FnMut(usize, i64),
) -> Result<(), CellError> {
    match values {
        Values::Boolean(v) => selected.each(mask, |id, row| f(id, v.value(row).into())),
        Values::Int8(v) => selected.each(mask, |id, row| f(id, v[row].into())),
        Values::Int16(v) => selected.each(mask, |id, row| f(id, v[row].into())),
        Values::Int32(v) => selected.each(mask, |id, row| f(id, v[row].into())),
        Values::Int64(v) => selected.each(mask, |id, row| f(id, v[row])),
        _ => return Err(CellError::Type),
    }
    Ok(())
}

fn each_float(
    values: Values<'_>,
    selected: Selected<'_>,
    mask: Option<&BooleanBuffer>,
    mut f: impl FnMut(usize, f64),
) -> Result<(), CellError> {
    match values {
        Values::Float32(v) => selected.each(mask, |id, row| f(id, v[row].into())),
        Values::Float64(v) => selected.each(mask, |id, row| f(id, v[row])),
        _ => return Err(CellError::Type),
    }
    Ok(())
}

fn each_bytes(
    values: Values<'_>,
    selected: Selected<'_>,
    mask: Option<&BooleanBuffer>,
    mut f: impl FnMut(usize, &[u8]),
) -> Result<(), CellError> {
    match values {
        Values::String(v) => selected.each(mask, |id, row| f(id, v.value(row).as_bytes())),
        Values::Bytes(v) => selected.each(mask, |id, row| f(id, v.value(row))),
        _ => return Err(CellError::Type),
    }
    Ok(())
}

fn offer_bytes(cell: &mut Option<Box<[u8]>>, value: &[u8], side: Side) {
    if cell.as_deref().is_none_or(|old| !side.keeps(old.cmp(value))) {
        *cell = Some(value.into());
    }
}

fn put_float(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn take_float(bytes: &[u8], at: &mut usize) -> Option<f64> {
    take_bytes(bytes, at, 8)?.try_into().ok().map(f64::from_le_bytes)
}

/// `sum / count` with `more_digits` more digits after the point than the sum has, rounded half up.
fn decimal_mean(sum: i128, count: u64, more_digits: u32) -> Option<i128> {
    let count = i128::from(count);
    let power = 10_i128.checked_pow(more_digits)?;
    let whole = (sum / count).checked_mul(power)?;
    // The rest is below 2^64, so its digits fit.
    let rest = (sum % count) * power;
    let (digits, left) = (rest / count, rest % count);
    let up = if left.abs() * 2 >= count { sum.signum() } else { 0 };
    whole.checked_add(digits + up)
}

/// Exact results as BIGINT or DECIMAL.
fn exact(values: impl Iterator<Item = Option<i128>>, spec: &AggregateSpec) -> Result<ArrayRef, AccumulateError> {
    let overflow = || spec.overflow();
    if let DataType::Decimal(precision, scale) = spec.output {
        let limit = 10_i128.pow(u32::from(precision));
        let fits = |v: i128| if v > -limit && v < limit { Ok(v) } else { Err(overflow()) };
        let array = values.map(|v| v.map(fits).transpose()).collect::<Result<Decimal128Array, _>>()?;
        Ok(Arc::new(array.with_precision_and_scale(precision, scale as i8).map_err(|_| overflow())?))
    } else {
        let fits = |v: i128| i64::try_from(v).map_err(|_| overflow());
        Ok(Arc::new(values.map(|v| v.map(fits).transpose()).collect::<Result<Int64Array, _>>()?))
    }
}

/// Integers, Booleans, dates and timestamps as an array of their type; `None` when one does not fit.
fn ints(values: impl Iterator<Item = Option<i64>>, data_type: &DataType) -> Option<ArrayRef> {
    fn narrow<T: TryFrom<i64>, A: FromIterator<Option<T>>>(values: impl Iterator<Item = Option<i64>>) -> Option<A> {
        values.map(|v| v.map(T::try_from).transpose()).collect::<Result<A, _>>().ok()
    }
    Some(match data_type {
        DataType::Boolean => Arc::new(values.map(|v| v.map(|v| v != 0)).collect::<BooleanArray>()),
        DataType::TinyInt => Arc::new(narrow::<i8, Int8Array>(values)?),
        DataType::SmallInt => Arc::new(narrow::<i16, Int16Array>(values)?),
        DataType::Int => Arc::new(narrow::<i32, Int32Array>(values)?),
        DataType::BigInt => Arc::new(values.collect::<Int64Array>()),
        DataType::Date => Arc::new(narrow::<i32, Date32Array>(values)?),
        DataType::Timestamp(digits) | DataType::TimestampLtz(digits) => {
            let zone = matches!(data_type, DataType::TimestampLtz(_)).then_some(UTC);
            match digits {
                0 => Arc::new(values.collect::<TimestampSecondArray>().with_timezone_opt(zone)),
                3 => Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone_opt(zone)),
                6 => Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone_opt(zone)),
                _ => Arc::new(values.collect::<TimestampNanosecondArray>().with_timezone_opt(zone)),
            }
        }
        _ => return None,
    })
}
