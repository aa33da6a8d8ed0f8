//! Windows as rows of state.
//!
//! ```text
//! 01 · window start · group key                                          →  version · accumulators
//! 02 · window start · length (varint) · group key · aggregate (varint) · value  →  nothing
//! ```
//! The first is a group; its value is a version byte and what [`Accumulators::encode_state`] writes. The
//! second is one value that a DISTINCT aggregate (by its position) has seen in a group. Window starts are
//! 8 bytes whose order is that of time; keys and values are those of [`crate::group::key`].
//!
//! A snapshot writes the groups that were touched since the last one, the values that are new, and a
//! deletion for every stored row of a window that has fired. Rows that no snapshot ever held need none.

use freshet_env::{PlantedBug, planted};
use freshet_state::rows::{RowBuffer, put_varint, take_bytes, take_varint};

use super::bits::Bits;
use super::spec::STATE_VERSION;
use super::{OpenWindow, Windows, open_window};
use crate::EngineError;
use crate::accumulate::AccumulateError;
use crate::group::key::{from_ordered_int, ordered_int};

#[cfg(doc)]
use crate::accumulate::Accumulators;

const GROUP: u8 = 1;
const MEMBER: u8 = 2;

/// What a window knows about its rows in the state.
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
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    fn take_each(&mut self, mut each: impl FnMut(&[u8])) {
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

fn put_group_key(out: &mut Vec<u8>, start: i64, group: &[u8]) {
    out.push(GROUP);
    out.extend_from_slice(&ordered_int(start));
    out.extend_from_slice(group);
}

fn put_member_key(out: &mut Vec<u8>, start: i64, group: &[u8], aggregate: usize, value: &[u8]) {
    out.push(MEMBER);
    out.extend_from_slice(&ordered_int(start));
    put_varint(out, group.len() as u64);
    out.extend_from_slice(group);
    put_varint(out, aggregate as u64);
    out.extend_from_slice(value);
}

impl Windows {
    /// A window has fired: its stored rows must go.
    pub fn forget(&mut self, start: i64, window: &mut OpenWindow) {
        if planted(PlantedBug::FireTwiceAfterRecovery) {
            return;
        }
        let OpenWindow { groups, accumulators, tracked } = window;
        for (aggregate, members) in accumulators.members() {
            for (id, value) in members.saved() {
                self.deleted.push(|out| put_member_key(out, start, groups.key(id), aggregate, value));
            }
        }
        for id in 0..groups.len() as u32 {
            if tracked.saved.contains(id) {
                self.deleted.push(|out| put_group_key(out, start, groups.key(id)));
            }
        }
    }

    /// Whether a snapshot would hand over anything.
    pub fn is_dirty(&self) -> bool {
        !self.deleted.ends.is_empty() || self.open.values().any(|window| !window.tracked.changed_ids.is_empty())
    }

    /// Hands over the rows that changed, and marks them clean.
    pub fn snapshot(&mut self, rows: &mut RowBuffer) {
        let operator = rows.operator(&self.spec.id);
        self.deleted.take_each(|key| rows.delete(operator, key));
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for (start, OpenWindow { groups, accumulators, tracked }) in &mut self.open {
            if tracked.changed_ids.is_empty() {
                continue;
            }
            tracked.saved.grow(groups.len());
            for id in tracked.changed_ids.drain(..) {
                key.clear();
                put_group_key(&mut key, *start, groups.key(id));
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
                    put_member_key(&mut key, *start, groups.key(id), aggregate, member);
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
        let start = take_bytes(key, &mut at, 8).and_then(|bytes| bytes.try_into().ok()).map(from_ordered_int);
        let Some(start) = start else { return Err(self.damaged("a row's key is cut short")) };
        match (kind, value) {
            (Some(GROUP), value) => self.restore_group(start, &key[at..], value),
            (Some(MEMBER), Some(_)) => self.restore_member(start, key, at),
            // A window's values go together with its groups, whose deletions say all.
            (Some(MEMBER), None) => Ok(()),
            _ => Err(self.damaged("a row is neither a group nor a value")),
        }
    }

    fn restore_group(&mut self, start: i64, group: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        let window = open_window(&mut self.open, &mut self.spare, &self.accumulated, start);
        let id = window.groups.id_of(group);
        window.accumulators.grow(window.groups.len());
        window.tracked.deleted.grow(window.groups.len());
        let Some(value) = value else {
            window.tracked.deleted.insert(id);
            return Ok(());
        };
        window.tracked.deleted.remove(id);
        match value.split_first() {
            Some((version, value)) if u32::from(*version) == STATE_VERSION => {
                window.accumulators.decode_state(id, value).map_err(|error| self.unreadable(&error))
            }
            Some((version, _)) => Err(self.damaged(format!("a group has format {version}, not {STATE_VERSION}"))),
            None => Err(self.damaged("a group's value is empty")),
        }
    }

    fn restore_member(&mut self, start: i64, key: &[u8], mut at: usize) -> Result<(), EngineError> {
        let group = take_varint(key, &mut at).and_then(|len| take_bytes(key, &mut at, len));
        let aggregate = take_varint(key, &mut at).and_then(|position| usize::try_from(position).ok());
        let (Some(group), Some(aggregate)) = (group, aggregate) else {
            return Err(self.damaged("a value's key is cut short"));
        };
        let window = open_window(&mut self.open, &mut self.spare, &self.accumulated, start);
        let id = window.groups.id_of(group);
        window.accumulators.grow(window.groups.len());
        window.accumulators.restore_member(aggregate, id, &key[at..]).map_err(|error| self.unreadable(&error))
    }

    /// All rows are in; `watermark` is the last one that fired windows.
    ///
    /// # Errors
    /// [`EngineError::State`] when groups can't be copied out of a window that was partly deleted.
    pub fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.fired = watermark;
        for (start, mut window) in std::mem::take(&mut self.open) {
            let deleted = window.tracked.deleted.count();
            if deleted == window.groups.len() {
                continue;
            }
            if deleted > 0 {
                window = window
                    .without_deleted(OpenWindow::new(&self.accumulated))
                    .map_err(|error| self.unreadable(&error))?;
            }
            let groups = window.groups.len();
            window.tracked.clear();
            window.tracked.saved.grow(groups);
            for id in 0..groups as u32 {
                window.tracked.saved.insert(id);
            }
            for (_, members) in window.accumulators.members() {
                members.mark_saved();
            }
            self.open.insert(start, window);
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

impl OpenWindow {
    /// Copies the groups that were not deleted into an empty window.
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
