//! Panes as rows of state.
//!
//! ```text
//! 01 · pane start · group key                                          →  version · accumulators
//! 02 · pane start · length (varint) · group key · aggregate (varint) · value  →  nothing
//! 03 · pane start · first end · group key                              →  as 01
//! 04 · pane start · first end · length (varint) · group key · aggregate (varint) · value  →  nothing
//! ```
//! The first is a group; its value is a version byte and what [`Accumulators::encode_state`] writes. The
//! second is one value that a DISTINCT aggregate (by its position) has seen in a group. Both are of rows that
//! count in all windows that hold their pane; 03 and 04 are the same of rows that came when some of those had
//! closed, and count in those that end at `first end` or later. Where windows don't overlap, a pane is a
//! window, and there are only 01 and 02. Times are 8 bytes whose order is that of time; keys and values are
//! those of [`crate::group::key`].
//!
//! A snapshot writes the groups that were touched since the last one, the values that are new, and a
//! deletion for every stored row of a pane whose last window has fired. Rows that no snapshot ever held need
//! none. Which windows have fired is not written: the watermark says it.

use freshet_env::{PlantedBug, planted};
use freshet_state::rows::{RowBuffer, put_varint, take_bytes, take_varint};

use super::bits::Bits;
use super::panes::{Pane, Panes};
use super::spec::STATE_VERSION;
use super::{OpenPane, Windows, open_pane};
use crate::EngineError;
use crate::accumulate::AccumulateError;
use crate::group::key::{from_ordered_int, ordered_int};

#[cfg(doc)]
use crate::accumulate::Accumulators;

const GROUP: u8 = 1;
const MEMBER: u8 = 2;
const LATER_GROUP: u8 = 3;
const LATER_MEMBER: u8 = 4;

/// What a pane knows about its rows in the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tracked {
    /// Groups that changed since the last snapshot, as a set and in the order of their first change.
    changed: Bits,
    changed_ids: Vec<u32>,
    /// Groups that have a row.
    saved: Bits,
    /// Groups whose row was deleted; only while state is being restored.
    deleted: Bits,
}

impl Tracked {
    /// Groups `ids`, of `groups` in all, have changed.
    pub fn touch(&mut self, ids: &[u32], groups: usize) {
        self.changed.grow(groups);
        for id in ids {
            if self.changed.insert(*id) {
                self.changed_ids.push(*id);
            }
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn memory_bytes(&self) -> usize {
        self.changed.memory_bytes() + self.saved.memory_bytes() + self.changed_ids.capacity() * size_of::<u32>()
    }
}

/// Keys of stored rows that must go.
#[derive(Debug, Default)]
pub(crate) struct Deleted {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Deleted {
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Hands over all of them.
    pub fn take_each(&mut self, mut each: impl FnMut(&[u8])) {
        let mut start = 0;
        for end in &self.ends {
            each(&self.bytes[start..*end]);
            start = *end;
        }
        *self = Self::default();
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

/// How the keys of a pane's rows begin.
struct Prefix {
    group: u8,
    member: u8,
    start: i64,
    /// The first end, where it is not the pane's own.
    first_end: Option<i64>,
}

impl Prefix {
    fn of(panes: Panes, pane: Pane) -> Self {
        if pane == panes.whole(pane.start) {
            Self { group: GROUP, member: MEMBER, start: pane.start, first_end: None }
        } else {
            Self { group: LATER_GROUP, member: LATER_MEMBER, start: pane.start, first_end: Some(pane.first_end) }
        }
    }

    fn put_pane(&self, kind: u8, out: &mut Vec<u8>) {
        out.push(kind);
        out.extend_from_slice(&ordered_int(self.start));
        if let Some(first_end) = self.first_end {
            out.extend_from_slice(&ordered_int(first_end));
        }
    }

    fn put_group(&self, group: &[u8], out: &mut Vec<u8>) {
        self.put_pane(self.group, out);
        out.extend_from_slice(group);
    }

    fn put_member(&self, group: &[u8], aggregate: usize, value: &[u8], out: &mut Vec<u8>) {
        self.put_pane(self.member, out);
        put_varint(out, group.len() as u64);
        out.extend_from_slice(group);
        put_varint(out, aggregate as u64);
        out.extend_from_slice(value);
    }
}

fn take_time(key: &[u8], at: &mut usize) -> Option<i64> {
    take_bytes(key, at, 8)?.try_into().ok().map(from_ordered_int)
}

impl Windows {
    /// The last window that holds a pane has fired: its stored rows must go.
    pub fn forget(&mut self, pane: Pane, open: &mut OpenPane) {
        if planted(PlantedBug::FireTwiceAfterRecovery) {
            return;
        }
        let prefix = Prefix::of(self.spec.panes, pane);
        let OpenPane { groups, accumulators, tracked } = open;
        for (aggregate, members) in accumulators.members() {
            for (id, value) in members.saved() {
                self.deleted.push(|out| prefix.put_member(groups.key(id), aggregate, value, out));
            }
        }
        for id in 0..groups.len() as u32 {
            if tracked.saved.contains(id) {
                self.deleted.push(|out| prefix.put_group(groups.key(id), out));
            }
        }
    }

    /// Whether a snapshot would hand over anything.
    pub fn is_dirty(&self) -> bool {
        !self.deleted.is_empty() || self.open.values().any(|pane| !pane.tracked.changed_ids.is_empty())
    }

    /// Hands over the rows that changed, and marks them clean.
    pub fn snapshot(&mut self, rows: &mut RowBuffer) {
        let operator = rows.operator(&self.spec.id);
        self.deleted.take_each(|key| rows.delete(operator, key));
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for (pane, OpenPane { groups, accumulators, tracked }) in &mut self.open {
            if tracked.changed_ids.is_empty() {
                continue;
            }
            let prefix = Prefix::of(self.spec.panes, *pane);
            tracked.saved.grow(groups.len());
            for id in tracked.changed_ids.drain(..) {
                key.clear();
                prefix.put_group(groups.key(id), &mut key);
                value.clear();
                value.push(STATE_VERSION as u8);
                accumulators.encode_state(id, &mut value);
                rows.put(operator, &key, &value);
                tracked.changed.remove(id);
                tracked.saved.insert(id);
            }
            for (aggregate, members) in accumulators.members() {
                for (id, member) in members.unsaved() {
                    key.clear();
                    prefix.put_member(groups.key(id), aggregate, member, &mut key);
                    rows.put(operator, &key, b"");
                }
                members.mark_saved();
            }
        }
    }

    /// Takes back one row.
    ///
    /// # Errors
    /// [`EngineError::State`] for a row that [`Windows::snapshot`] does not write.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        let mut at = 1;
        let kind = key.first().copied();
        let start = take_time(key, &mut at);
        let pane = match kind {
            Some(LATER_GROUP | LATER_MEMBER) => {
                start.and_then(|start| Some(Pane { start, first_end: take_time(key, &mut at)? }))
            }
            _ => start.map(|start| self.spec.panes.whole(start)),
        };
        let Some(pane) = pane else { return Err(self.damaged("a row's key is cut short")) };
        if matches!(kind, Some(LATER_GROUP | LATER_MEMBER)) && !self.spec.panes.is_pane(pane) {
            return Err(self.damaged(format!("its windows have no pane from {} for {}", pane.start, pane.first_end)));
        }
        match (kind, value) {
            (Some(GROUP | LATER_GROUP), value) => self.restore_group(pane, &key[at..], value),
            (Some(MEMBER | LATER_MEMBER), Some(_)) => self.restore_member(pane, key, at),
            // A pane's values go together with its groups, whose deletions say all.
            (Some(MEMBER | LATER_MEMBER), None) => Ok(()),
            _ => Err(self.damaged("a row is neither a group nor a value")),
        }
    }

    fn restore_group(&mut self, pane: Pane, group: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        let open = open_pane(&mut self.open, &mut self.spare, &self.accumulated, pane);
        let id = open.groups.id_of(group);
        open.accumulators.grow(open.groups.len());
        open.tracked.deleted.grow(open.groups.len());
        let Some(value) = value else {
            open.tracked.deleted.insert(id);
            return Ok(());
        };
        open.tracked.deleted.remove(id);
        match value.split_first() {
            Some((version, value)) if u32::from(*version) == STATE_VERSION => {
                open.accumulators.decode_state(id, value).map_err(|error| self.unreadable(&error))
            }
            Some((version, _)) => Err(self.damaged(format!("a group has format {version}, not {STATE_VERSION}"))),
            None => Err(self.damaged("a group's value is empty")),
        }
    }

    fn restore_member(&mut self, pane: Pane, key: &[u8], mut at: usize) -> Result<(), EngineError> {
        let group = take_varint(key, &mut at).and_then(|len| take_bytes(key, &mut at, len));
        let aggregate = take_varint(key, &mut at).and_then(|position| usize::try_from(position).ok());
        let (Some(group), Some(aggregate)) = (group, aggregate) else {
            return Err(self.damaged("a value's key is cut short"));
        };
        let open = open_pane(&mut self.open, &mut self.spare, &self.accumulated, pane);
        let id = open.groups.id_of(group);
        open.accumulators.grow(open.groups.len());
        open.accumulators.restore_member(aggregate, id, &key[at..]).map_err(|error| self.unreadable(&error))
    }

    /// All rows are in; `watermark` is the last one that fired windows.
    ///
    /// # Errors
    /// [`EngineError::State`] when groups can't be copied out of a pane that was partly deleted.
    pub fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.fired = if planted(PlantedBug::FireTwiceAfterRecovery) { crate::watermark::NONE } else { watermark };
        for (pane, mut open) in std::mem::take(&mut self.open) {
            let deleted = open.tracked.deleted.count();
            if deleted == open.groups.len() {
                continue;
            }
            if deleted > 0 {
                open =
                    open.without_deleted(OpenPane::new(&self.accumulated)).map_err(|error| self.unreadable(&error))?;
            }
            let groups = open.groups.len();
            open.tracked.clear();
            open.tracked.saved.grow(groups);
            for id in 0..groups as u32 {
                open.tracked.saved.insert(id);
            }
            for (_, members) in open.accumulators.members() {
                members.mark_saved();
            }
            self.open.insert(pane, open);
        }
        Ok(())
    }

    fn damaged(&self, detail: impl Into<String>) -> EngineError {
        EngineError::State { operator: self.spec.id.clone(), detail: detail.into() }
    }

    fn unreadable(&self, error: &AccumulateError) -> EngineError {
        self.damaged(error.to_string())
    }
}

impl OpenPane {
    /// Copies the groups that were not deleted into an empty pane.
    fn without_deleted(mut self, mut live: Self) -> Result<Self, AccumulateError> {
        let Self { groups, accumulators, tracked } = &mut self;
        let kept = |id: &u32| !tracked.deleted.contains(*id);
        let mut value = Vec::new();
        for id in (0..groups.len() as u32).filter(kept) {
            let new = live.groups.id_of(groups.key(id));
            live.accumulators.grow(live.groups.len());
            value.clear();
            accumulators.encode_state(id, &mut value);
            live.accumulators.decode_state(new, &value)?;
        }
        for (aggregate, members) in accumulators.members() {
            for (id, member) in members.unsaved().filter(|(id, _)| kept(id)) {
                let new = live.groups.id_of(groups.key(id));
                live.accumulators.restore_member(aggregate, new, member)?;
            }
        }
        Ok(live)
    }
}
