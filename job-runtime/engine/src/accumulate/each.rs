//! The loops over selected rows: one a representation of values.

use arrow::buffer::BooleanBuffer;

use super::Selected;
use super::cells::CellError;
use crate::column::Values;

impl Selected<'_> {
    #[inline]
    pub(super) fn each(self, mask: Option<&BooleanBuffer>, mut f: impl FnMut(usize, usize)) {
        let pairs = self.rows.iter().zip(self.ids).map(|(row, id)| (*id as usize, *row as usize));
        match mask {
            None => pairs.for_each(|(id, row)| f(id, row)),
            Some(mask) => pairs.filter(|(_, row)| mask.value(*row)).for_each(|(id, row)| f(id, row)),
        }
    }
}

pub(super) fn each_exact(
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

pub(super) fn each_int(
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

pub(super) fn each_float(
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

pub(super) fn each_bytes(
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
