//! The values that a DISTINCT aggregate has seen.
//!
//! One table holds the values of all groups: its keys are `group id (4 bytes) · encoded value`. Values
//! are only ever added while a window lives, so what changed since the last snapshot is simply the end
//! of the table, and a snapshot costs as much as there are new values.

use arrow::buffer::BooleanBuffer;
use freshet_state::rows::{put_varint, take_bytes, take_varint};

use super::Selected;
use crate::column::ColumnView;
use crate::group::key;
use crate::group::table::GroupTable;

const GROUP_BYTES: usize = 4;

/// Values by group.
#[derive(Debug, Clone, Default)]
pub struct Members {
    table: GroupTable,
    /// Members below it were in a snapshot.
    clean: u32,
    scratch: Vec<u8>,
    /// Where groups come and go one by one: the members of each.
    links: Option<Links>,
}

/// Members linked by group, from the newest to the oldest.
#[derive(Debug, Clone, Default)]
struct Links {
    /// The newest member of each group.
    newest: Vec<u32>,
    /// The one before each member in its group.
    before: Vec<u32>,
}

/// No member.
const NO_MEMBER: u32 = u32::MAX;

impl Links {
    /// A new member of group `id`.
    fn add(&mut self, id: u32) {
        let id = id as usize;
        if self.newest.len() <= id {
            self.newest.resize(id + 1, NO_MEMBER);
        }
        self.before.push(std::mem::replace(&mut self.newest[id], self.before.len() as u32));
    }

    fn memory_bytes(&self) -> usize {
        (self.newest.capacity() + self.before.capacity()) * size_of::<u32>()
    }
}

impl Members {
    /// From now on, with nothing in it yet, the members of one group can be asked for.
    pub(super) fn link(&mut self) {
        self.links = Some(Links::default());
    }

    /// The members of group `id`, from the newest to the oldest: whether a snapshot holds it, and its value. Nothing
    /// without [`Members::link`].
    pub(super) fn of_group(&self, id: u32) -> impl Iterator<Item = (bool, &[u8])> {
        let links = self.links.as_ref();
        let newest = links.and_then(|links| links.newest.get(id as usize).copied());
        let after = move |member: &u32| links.and_then(|links| links.before.get(*member as usize).copied());
        let found = |member: Option<u32>| member.filter(|member| *member != NO_MEMBER);
        std::iter::successors(found(newest), move |member| found(after(member)))
            .map(|member| (member < self.clean, self.member(member).1))
    }

    /// Every member, of groups that have gone too.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Adds an encoded value to group `id`; whether it was new there.
    pub fn insert(&mut self, id: u32, value: &[u8]) -> bool {
        self.scratch.clear();
        self.scratch.extend_from_slice(&id.to_le_bytes());
        self.scratch.extend_from_slice(value);
        let known = self.table.len();
        let new = self.table.id_of(&self.scratch) as usize == known;
        if new && let Some(links) = &mut self.links {
            links.add(id);
        }
        new
    }

    /// Adds the values of the selected rows for which `mask` holds; gives those (rows and ids) that were new.
    pub(super) fn insert_rows(
        &mut self,
        view: &ColumnView<'_>,
        selected: Selected<'_>,
        mask: Option<&BooleanBuffer>,
    ) -> (Vec<u32>, Vec<u32>) {
        let (mut rows, mut ids) = (Vec::new(), Vec::new());
        for (&row, &id) in selected.rows.iter().zip(selected.ids) {
            if mask.is_some_and(|mask| !mask.value(row as usize)) {
                continue;
            }
            self.scratch.clear();
            self.scratch.extend_from_slice(&id.to_le_bytes());
            key::put_value(view, row as usize, &mut self.scratch);
            let known = self.table.len();
            if self.table.id_of(&self.scratch) as usize == known {
                if let Some(links) = &mut self.links {
                    links.add(id);
                }
                rows.push(row);
                ids.push(id);
            }
        }
        (rows, ids)
    }

    /// Whether a snapshot holds `member`.
    pub(crate) const fn is_saved(&self, member: u32) -> bool {
        member < self.clean
    }

    /// Group and value of `member`.
    pub(crate) fn member(&self, member: u32) -> (u32, &[u8]) {
        let (group, value) = self.table.key(member).split_at(GROUP_BYTES);
        (u32::from_le_bytes([group[0], group[1], group[2], group[3]]), value)
    }

    /// Group and value of every member that no snapshot holds yet.
    pub fn unsaved(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (self.clean..self.table.len() as u32).map(|member| self.member(member))
    }

    /// Group and value of every member that a snapshot holds.
    pub fn saved(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (0..self.clean).map(|member| self.member(member))
    }

    /// Group and value of every member.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (0..self.table.len() as u32).map(|member| self.member(member))
    }

    /// All members are in a snapshot now.
    pub fn mark_saved(&mut self) {
        self.clean = self.table.len() as u32;
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.table.clear();
        self.clean = 0;
        if let Some(links) = &mut self.links {
            links.newest.clear();
            links.before.clear();
        }
    }

    /// Members sorted by group, of which there are `groups`.
    pub(super) fn by_group(&self, groups: usize) -> ByGroup<'_> {
        // A counting sort: `starts[g]` ends up as the first position of group g.
        let mut starts = vec![0_u32; groups + 1];
        for member in 0..self.table.len() as u32 {
            starts[self.member(member).0 as usize + 1] += 1;
        }
        for group in 0..groups {
            starts[group + 1] += starts[group];
        }
        let mut next = starts.clone();
        let mut sorted = vec![0_u32; self.table.len()];
        for member in 0..self.table.len() as u32 {
            let place = &mut next[self.member(member).0 as usize];
            sorted[*place as usize] = member;
            *place += 1;
        }
        ByGroup { members: self, starts, sorted }
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.table.memory_bytes() + self.links.as_ref().map_or(0, Links::memory_bytes)
    }

    /// Bytes of the values.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.table.key_bytes()
    }
}

/// Members, listed by group.
#[derive(Debug)]
pub(super) struct ByGroup<'a> {
    members: &'a Members,
    starts: Vec<u32>,
    sorted: Vec<u32>,
}

impl ByGroup<'_> {
    /// The values of group `id`, in no order.
    pub fn values(&self, id: u32) -> impl Iterator<Item = &[u8]> {
        let members = &self.sorted[self.starts[id as usize] as usize..self.starts[id as usize + 1] as usize];
        members.iter().map(|member| self.members.member(*member).1)
    }

    /// Appends `count (varint) · (length (varint) · value)…` of group `id`.
    pub fn encode(&self, id: u32, out: &mut Vec<u8>) {
        let members = &self.sorted[self.starts[id as usize] as usize..self.starts[id as usize + 1] as usize];
        put_varint(out, members.len() as u64);
        for member in members {
            let (_, value) = self.members.member(*member);
            put_varint(out, value.len() as u64);
            out.extend_from_slice(value);
        }
    }
}

/// Reads what [`ByGroup::encode`] wrote.
#[derive(Debug)]
pub(super) struct Listed {
    left: u64,
}

impl Listed {
    pub fn new(bytes: &[u8], at: &mut usize) -> Option<Self> {
        Some(Self { left: take_varint(bytes, at)? })
    }

    pub fn next<'a>(&mut self, bytes: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, ()> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let len = take_varint(bytes, at).ok_or(())?;
        take_bytes(bytes, at, len).map(Some).ok_or(())
    }
}
