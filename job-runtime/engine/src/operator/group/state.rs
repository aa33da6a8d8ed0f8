//! Groups as rows of state.
//!
//! ```text
//! 01 · group key                                                   →  version · touched at (8 bytes) · accumulators
//! 02 · length (varint) · group key · aggregate (varint) · value    →  nothing
//! ```
//! The first is a group: when it was touched last on the stream's clock (8 bytes whose order is that of time), and what
//! [`Accumulators::encode_state`] writes. The second is one value that a DISTINCT aggregate (by its position) has seen in
//! it. Keys and values are those of [`crate::group::key`].
//!
//! A snapshot writes the groups that were touched since the last one, the values that are new, and a deletion for every
//! stored row of a group that was forgotten. A group that was forgotten and came again has its deletions first.

use std::collections::HashSet;

use freshet_env::{PlantedBug, planted};
use freshet_plan::changelog::GROUP_STATE_VERSION;
use freshet_state::rows::{RowBuffer, put_varint, take_bytes, take_varint};

use super::Groups;
use crate::EngineError;
use crate::accumulate::{Accumulators, Members};
use crate::group::key::{from_ordered_int, ordered_int};
use crate::group::table::GroupTable;
use crate::operator::windows::Bits;
use crate::watermark::NONE;

const GROUP: u8 = 1;
const MEMBER: u8 = 2;
const VERSION: u8 = GROUP_STATE_VERSION as u8;

/// Ids are given out anew once so many of them, and more than half, stand for forgotten groups.
const SPENT_IDS: usize = 1024;

/// What is known about rows in the state.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// Groups to be written, as a set and in order.
    dirty: Bits,
    dirty_ids: Vec<u32>,
    /// Groups that have a row.
    held: Bits,
    /// Groups that are no more, and those of them whose rows are to be deleted.
    forgotten: Bits,
    forgotten_ids: Vec<u32>,
    forgotten_count: usize,
    /// For each DISTINCT aggregate, its values by group; kept where groups are forgotten.
    chains: Vec<Chain>,
    /// While state is being restored: rows of values.
    members: HashSet<Vec<u8>>,
}

/// The members of each group, as a list from the newest to the oldest.
#[derive(Debug, Default)]
struct Chain {
    newest: Vec<u32>,
    older: Vec<u32>,
}

const END: u32 = u32::MAX;

impl Chain {
    /// Takes in members that are new.
    fn extend(&mut self, members: &Members, groups: usize) {
        self.newest.resize(groups.max(self.newest.len()), END);
        for member in self.older.len()..members.len() {
            let (group, _) = members.member(member as u32);
            self.older.push(std::mem::replace(&mut self.newest[group as usize], member as u32));
        }
    }

    fn of(&self, group: u32) -> impl Iterator<Item = u32> {
        let next = |member: u32| (member != END).then_some(member);
        let first = self.newest.get(group as usize).copied().and_then(next);
        std::iter::successors(first, move |member| next(self.older[*member as usize]))
    }
}

impl Stored {
    /// Group `id` is no more.
    pub fn forget(&mut self, id: u32) {
        self.forgotten.grow(id as usize + 1);
        if self.forgotten.insert(id) {
            self.forgotten_ids.push(id);
            self.forgotten_count += 1;
        }
    }

    /// Groups `ids`, of `groups` in all, are to be written.
    pub fn touch(&mut self, ids: &[u32], groups: usize) {
        self.dirty.grow(groups);
        for id in ids {
            if self.dirty.insert(*id) {
                self.dirty_ids.push(*id);
            }
        }
    }

    /// Whether the state holds a row of group `id`.
    pub fn holds(&self, id: u32) -> bool {
        self.held.contains(id)
    }

    pub const fn forgotten_count(&self) -> usize {
        self.forgotten_count
    }

    pub fn memory_bytes(&self) -> usize {
        let bits = [&self.dirty, &self.held, &self.forgotten];
        let chains = self.chains.iter().map(|chain| chain.newest.capacity() + chain.older.capacity()).sum::<usize>();
        bits.into_iter().map(Bits::memory_bytes).sum::<usize>()
            + (self.dirty_ids.capacity() + self.forgotten_ids.capacity() + chains) * size_of::<u32>()
    }
}

fn group_key(group: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(GROUP);
    out.extend_from_slice(group);
}

fn member_key(group: &[u8], aggregate: usize, value: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(MEMBER);
    put_varint(out, group.len() as u64);
    out.extend_from_slice(group);
    put_varint(out, aggregate as u64);
    out.extend_from_slice(value);
}

/// The group, the aggregate and the value of a member's row.
fn read_member(key: &[u8]) -> Option<(&[u8], usize, &[u8])> {
    let mut at = 1;
    let group = take_varint(key, &mut at).and_then(|len| take_bytes(key, &mut at, len))?;
    let aggregate = take_varint(key, &mut at).and_then(|position| usize::try_from(position).ok())?;
    Some((group, aggregate, &key[at..]))
}

impl Groups {
    /// Forgets the groups that have expired. What they gave has gone out.
    pub fn sweep(&mut self) {
        let Some(expiry) = &mut self.expiry else { return };
        for id in expiry.take_over(self.watermark, |id| Some(self.touched_at[*id as usize])) {
            if !self.stored.forgotten.contains(id) {
                self.table.forget(id);
                self.stored.forget(id);
                self.expired += 1;
            }
        }
    }

    /// Whether a flush and a snapshot would hand over anything.
    pub fn is_dirty(&self) -> bool {
        !self.touched_ids.is_empty() || !self.stored.dirty_ids.is_empty() || !self.stored.forgotten_ids.is_empty()
    }

    /// Hands over the rows that changed, and marks them clean.
    pub fn snapshot(&mut self, rows: &mut RowBuffer) {
        let operator = rows.operator(&self.spec.id);
        let Self { table, accumulators, touched_at, stored, .. } = self;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        if self.expiry.is_some() {
            stored.chains.resize_with(accumulators.members().count(), Chain::default);
            for (chain, (_, members)) in stored.chains.iter_mut().zip(accumulators.members()) {
                chain.extend(members, table.len());
            }
        }
        for id in stored.forgotten_ids.drain(..).filter(|id| stored.held.contains(*id)) {
            for (chain, (aggregate, members)) in stored.chains.iter().zip(accumulators.members()) {
                for member in chain.of(id).filter(|member| members.is_saved(*member)) {
                    member_key(table.key(id), aggregate, members.member(member).1, &mut key);
                    rows.delete(operator, &key);
                }
            }
            group_key(table.key(id), &mut key);
            rows.delete(operator, &key);
        }
        stored.held.grow(table.len());
        for id in stored.dirty_ids.drain(..) {
            stored.dirty.remove(id);
            let is_stale = stored.held.contains(id) && planted(PlantedBug::StaleGroup);
            if stored.forgotten.contains(id) || is_stale {
                continue;
            }
            group_key(table.key(id), &mut key);
            value.clear();
            value.push(VERSION);
            value.extend_from_slice(&ordered_int(touched_at[id as usize]));
            accumulators.encode_state(id, &mut value);
            rows.put(operator, &key, &value);
            stored.held.insert(id);
        }
        for (aggregate, members) in accumulators.members() {
            for (id, member) in members.unsaved().filter(|(id, _)| !stored.forgotten.contains(*id)) {
                member_key(table.key(id), aggregate, member, &mut key);
                rows.put(operator, &key, b"");
            }
            members.mark_saved();
        }
        self.give_out_ids();
    }

    /// Takes back one row.
    ///
    /// # Errors
    /// [`EngineError::State`] for a row that [`Groups::snapshot`] does not write.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        match (key.split_first(), value) {
            (Some((&GROUP, group)), value) => self.restore_group(group, value),
            // Only when all is in is it known which of a group's lives a value belongs to.
            (Some((&MEMBER, _)), Some(_)) => {
                self.stored.members.insert(key.to_vec());
                Ok(())
            }
            (Some((&MEMBER, _)), None) => {
                self.stored.members.remove(key);
                Ok(())
            }
            _ => Err(self.spec.damaged("a row is neither a group nor a value")),
        }
    }

    fn restore_group(&mut self, group: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        let id = self.table.id_of(group);
        if id as usize == self.touched_at.len() {
            self.touched_at.push(NONE);
        }
        self.accumulators.grow(self.table.len());
        let Some(value) = value else {
            self.table.forget(id);
            self.stored.forget(id);
            return Ok(());
        };
        let (version, rest) = value.split_first().ok_or_else(|| self.spec.damaged("a group's value is empty"))?;
        if *version != VERSION {
            return Err(self.spec.damaged(format!("a group has format {version}, not {VERSION}")));
        }
        let (time, accumulators) =
            rest.split_first_chunk().ok_or_else(|| self.spec.damaged("a group's value is cut short"))?;
        self.touched_at[id as usize] = from_ordered_int(*time);
        self.accumulators.decode_state(id, accumulators).map_err(|error| self.spec.damaged(error.to_string()))
    }

    /// All rows are in; `watermark` is the last one that the operator was given.
    ///
    /// # Errors
    /// [`EngineError::State`] for a value of a group that is not there.
    pub fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.watermark = watermark;
        for row in std::mem::take(&mut self.stored.members) {
            let (group, aggregate, value) =
                read_member(&row).ok_or_else(|| self.spec.damaged("a value's key is cut short"))?;
            let known = self.table.len();
            let id = self.table.id_of(group);
            if self.table.len() > known {
                return Err(self.spec.damaged("a value's group is not there"));
            }
            self.accumulators
                .restore_member(aggregate, id, value)
                .map_err(|error| self.spec.damaged(error.to_string()))?;
        }
        for (_, members) in self.accumulators.members() {
            members.mark_saved();
        }
        self.stored.forgotten_ids.clear();
        self.stored.held.grow(self.table.len());
        for id in (0..self.table.len() as u32).filter(|id| !self.stored.forgotten.contains(*id)) {
            self.stored.held.insert(id);
            if let Some(expiry) = &mut self.expiry {
                expiry.touch(&id, None, self.touched_at[id as usize]);
            }
        }
        self.give_out_ids();
        Ok(())
    }

    /// Gives ids anew, to the groups that there are, once too many are spent. All of them are stored, and none is
    /// touched.
    fn give_out_ids(&mut self) {
        let spent = self.stored.forgotten_count;
        if spent < SPENT_IDS || spent * 2 < self.table.len() || !self.touched_ids.is_empty() {
            return;
        }
        let mut table = GroupTable::default();
        let mut accumulators = Accumulators::new(&self.spec.aggregates);
        let (mut touched_at, mut new_ids) = (Vec::new(), vec![END; self.table.len()]);
        let mut value = Vec::new();
        for id in (0..self.table.len() as u32).filter(|id| !self.stored.forgotten.contains(*id)) {
            let new = table.id_of(self.table.key(id));
            accumulators.grow(table.len());
            value.clear();
            self.accumulators.encode_state(id, &mut value);
            if accumulators.decode_state(new, &value).is_err() {
                // What was encoded a moment ago is what is decoded; were it not, the spent ids would be kept.
                return;
            }
            touched_at.push(self.touched_at[id as usize]);
            new_ids[id as usize] = new;
        }
        for (aggregate, members) in self.accumulators.members() {
            for (id, member) in members.saved().filter(|(id, _)| new_ids[*id as usize] != END) {
                if accumulators.restore_member(aggregate, new_ids[id as usize], member).is_err() {
                    return;
                }
            }
        }
        for (_, members) in accumulators.members() {
            members.mark_saved();
        }
        let mut held = Bits::default();
        held.grow(table.len());
        if let Some(expiry) = &mut self.expiry {
            expiry.clear();
        }
        for (id, time) in touched_at.iter().enumerate() {
            held.insert(id as u32);
            if let Some(expiry) = &mut self.expiry {
                expiry.touch(&(id as u32), None, *time);
            }
        }
        (self.table, self.accumulators, self.touched_at) = (table, accumulators, touched_at);
        self.touched = Bits::default();
        self.stored = Stored { held, ..Stored::default() };
    }
}
