//! Adding up accumulators: all groups of one pane into those of another.
//!
//! As columns, like everything here: an aggregate at a time, without encoding anything. It comes to the same as
//! encoding each group of the one and merging it into the other; that sums of floats are added pane by pane, in the
//! order in which panes are given, is all that a caller must see to.

use super::cells::{CellError, Cells};
use super::slots::Optional;
use super::{AccumulateError, Accumulator, Accumulators};

impl Accumulators {
    /// Adds what the same aggregates have in `other`, whose n-th group is group `ids[n]` here. Every id must be below
    /// what [`Accumulators::grow`] was told.
    ///
    /// # Errors
    /// A decimal sum beyond 128 bits; accumulators of other aggregates.
    pub(crate) fn absorb(&mut self, other: &Self, ids: &[u32]) -> Result<(), AccumulateError> {
        for (column, other) in self.columns.iter_mut().zip(&other.columns) {
            column.absorb(other, ids)?;
        }
        Ok(())
    }
}

impl Accumulator {
    fn absorb(&mut self, other: &Self, ids: &[u32]) -> Result<(), AccumulateError> {
        let Some(members) = &other.members else {
            return self.cells.absorb(&other.cells, ids).map_err(|error| self.failed(error));
        };
        // What was seen once in several panes counts once.
        for (group, value) in members.all() {
            self.add_member(ids[group as usize], value)?;
        }
        Ok(())
    }
}

impl Cells {
    fn absorb(&mut self, other: &Self, ids: &[u32]) -> Result<(), CellError> {
        let mut overflow = false;
        match (self, other) {
            (Self::Count(cells), Self::Count(others)) => {
                ids.iter().zip(others).for_each(|(id, count)| cells[*id as usize] += count);
            }
            (Self::ExactSum(cells), Self::ExactSum(others)) => {
                each(others, ids, |id, value| overflow |= cells.add(id, value));
            }
            (Self::FloatSum(cells), Self::FloatSum(others)) => each(others, ids, |id, value| cells.add(id, value)),
            (Self::ExactMean(cells), Self::ExactMean(others)) => {
                for (group, id) in (0..).zip(ids) {
                    if let Some((sum, count)) = others.get(group) {
                        overflow |= cells.add(*id as usize, sum, count);
                    }
                }
            }
            (Self::FloatMean(cells), Self::FloatMean(others)) => {
                for (group, id) in (0..).zip(ids) {
                    if let Some((sum, count)) = others.get(group) {
                        cells.add(*id as usize, sum, count);
                    }
                }
            }
            (Self::Int(side, cells), Self::Int(_, others)) => {
                each(others, ids, |id, value| cells.offer(id, value, |old| side.keeps(old.cmp(&value))));
            }
            (Self::Decimal(side, cells), Self::Decimal(_, others)) => {
                each(others, ids, |id, value| cells.offer(id, value, |old| side.keeps(old.cmp(&value))));
            }
            (Self::Float(side, cells), Self::Float(_, others)) => each(others, ids, |id, value| {
                cells.offer(id, value, |old| side.keeps(super::cells::float_order(old, value)));
            }),
            (Self::Bytes(side, texts), Self::Bytes(_, others)) => {
                for (value, id) in others.cells.iter().zip(ids) {
                    if let Some(value) = value {
                        texts.offer(*id as usize, value, *side);
                    }
                }
            }
            (Self::Bits(op, cells), Self::Bits(_, others)) => {
                let op = *op;
                each(others, ids, |id, value| cells.put(id, value, op));
            }
            (Self::States(states), Self::States(others)) => return states.absorb(others, ids),
            _ => return Err(CellError::Type),
        }
        if overflow { Err(CellError::Overflow) } else { Ok(()) }
    }
}

/// Each value that a group has, with the group's id on the other side.
fn each<T: Copy + Default>(others: &Optional<T>, ids: &[u32], mut add: impl FnMut(usize, T)) {
    for (group, id) in (0..).zip(ids) {
        if let Some(value) = others.get(group) {
            add(*id as usize, value);
        }
    }
}
