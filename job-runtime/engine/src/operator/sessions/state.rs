//! Sessions as rows of state.
//!
//! ```text
//! 05 · anchor · group key  →  version · from the first row to the anchor (varint) · from there to the last (varint) ·
//!                             accumulators
//! 06 · anchor · length (varint) · group key · aggregate (varint) · value  →  nothing
//! ```
//! The first is a session; its accumulators are what [`Accumulators::encode_state`] writes. The second is one value that a
//! DISTINCT aggregate (by its position) has seen in a session. The *anchor* is the time of the row that the session began
//! with when it was first seen (8 bytes whose order is that of time): rows before it move the session's start, and would
//! otherwise move all its rows of state. Open sessions of one group have nothing in common, so that no two have one anchor.
//!
//! A snapshot deletes the rows of sessions that went out or were joined to others, and then writes those that were touched
//! and the values that are new: a session may begin where one has just gone. Which sessions have gone out is not written:
//! the watermark says it.

use freshet_state::rows::{RowBuffer, put_varint, take_bytes, take_varint};

use super::Sessions;
use crate::EngineError;
use crate::accumulate::AccumulateError;
use crate::group::key::{from_ordered_int, ordered_int};
use crate::operator::windows::STATE_VERSION;

#[cfg(doc)]
use crate::accumulate::Accumulators;

const SESSION: u8 = 5;
const MEMBER: u8 = 6;

fn put_session(anchor: i64, group: &[u8], out: &mut Vec<u8>) {
    out.push(SESSION);
    out.extend_from_slice(&ordered_int(anchor));
    out.extend_from_slice(group);
}

fn put_member(anchor: i64, group: &[u8], aggregate: usize, value: &[u8], out: &mut Vec<u8>) {
    out.push(MEMBER);
    out.extend_from_slice(&ordered_int(anchor));
    put_varint(out, group.len() as u64);
    out.extend_from_slice(group);
    put_varint(out, aggregate as u64);
    out.extend_from_slice(value);
}

impl Sessions {
    /// A session goes: its stored rows must go.
    pub(super) fn delete_rows(&mut self, id: u32) {
        let Self { table, accumulators, deleted, .. } = self;
        let (session, group) = (table.get(id), table.key(id));
        for (aggregate, value) in accumulators.saved_members(id) {
            deleted.push(|out| put_member(session.anchor, group, aggregate, value, out));
        }
        if session.saved {
            deleted.push(|out| put_session(session.anchor, group, out));
        }
    }

    /// Whether a snapshot would hand over anything.
    pub fn is_dirty(&self) -> bool {
        !self.deleted.is_empty() || !self.changed.is_empty()
    }

    /// Hands over the rows that changed, and marks them clean.
    pub fn snapshot(&mut self, rows: &mut RowBuffer) {
        let operator = rows.operator(&self.spec.id);
        self.deleted.take_each(|key| rows.delete(operator, key));
        let Self { table, accumulators, changed, .. } = self;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for id in changed.drain(..) {
            if !table.is_live(id) {
                continue;
            }
            let session = table.get_mut(id);
            session.changed = false;
            session.saved = true;
            value.clear();
            value.push(STATE_VERSION as u8);
            put_varint(&mut value, session.first.abs_diff(session.anchor));
            put_varint(&mut value, session.last.abs_diff(session.anchor));
            accumulators.encode_state(id, &mut value);
            key.clear();
            put_session(table.get(id).anchor, table.key(id), &mut key);
            rows.put(operator, &key, &value);
        }
        for (aggregate, members) in accumulators.members() {
            for (id, member) in members.unsaved().filter(|(id, _)| table.is_live(*id)) {
                key.clear();
                put_member(table.get(id).anchor, table.key(id), aggregate, member, &mut key);
                rows.put(operator, &key, b"");
            }
            members.mark_saved();
        }
    }

    /// Takes back one row.
    ///
    /// # Errors
    /// [`EngineError::State`] for a row that [`Sessions::snapshot`] does not write.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        let mut at = 1;
        let kind = key.first().copied();
        let anchor = take_bytes(key, &mut at, 8).and_then(|bytes| bytes.try_into().ok()).map(from_ordered_int);
        let Some(anchor) = anchor else { return Err(self.damaged("a row's key is cut short")) };
        match (kind, value) {
            (Some(SESSION), Some(value)) => self.restore_session(anchor, &key[at..], value),
            (Some(SESSION), None) => {
                if let Some(id) = self.anchored(anchor, &key[at..]) {
                    self.table.remove(id);
                }
                Ok(())
            }
            (Some(MEMBER), Some(_)) => self.restore_member(anchor, key, at),
            // A session's values go together with it.
            (Some(MEMBER), None) => Ok(()),
            _ => Err(self.damaged("a row is neither a session nor a value")),
        }
    }

    /// The session of `group` that is known by `anchor`.
    fn anchored(&self, anchor: i64, group: &[u8]) -> Option<u32> {
        self.table.of_key(group).find(|id| self.table.get(*id).anchor == anchor)
    }

    fn anchored_or_new(&mut self, anchor: i64, group: &[u8]) -> u32 {
        let id = match self.anchored(anchor, group) {
            Some(id) => id,
            // Not saved: nothing has said yet from when to when it is.
            None => self.table.add(group, anchor, (anchor, anchor)),
        };
        self.accumulators.grow(self.table.len());
        id
    }

    fn restore_session(&mut self, anchor: i64, group: &[u8], value: &[u8]) -> Result<(), EngineError> {
        let value = match value.split_first() {
            Some((version, value)) if u32::from(*version) == STATE_VERSION => value,
            Some((version, _)) => {
                return Err(self.damaged(format!("a session has format {version}, not {STATE_VERSION}")));
            }
            None => return Err(self.damaged("a session's value is empty")),
        };
        let mut at = 0;
        let first = take_varint(value, &mut at).and_then(|before| anchor.checked_sub_unsigned(before));
        let last = take_varint(value, &mut at).and_then(|after| anchor.checked_add_unsigned(after));
        let (Some(first), Some(last)) = (first, last) else {
            return Err(self.damaged("a session's times are cut short or out of range"));
        };
        let id = self.anchored_or_new(anchor, group);
        let session = self.table.get_mut(id);
        (session.first, session.last, session.saved) = (first, last, true);
        self.accumulators.decode_state(id, &value[at..]).map_err(|error| self.unreadable(&error))
    }

    fn restore_member(&mut self, anchor: i64, key: &[u8], mut at: usize) -> Result<(), EngineError> {
        let group = take_varint(key, &mut at).and_then(|len| take_bytes(key, &mut at, len));
        let aggregate = take_varint(key, &mut at).and_then(|position| usize::try_from(position).ok());
        let (Some(group), Some(aggregate)) = (group, aggregate) else {
            return Err(self.damaged("a value's key is cut short"));
        };
        let id = self.anchored_or_new(anchor, group);
        self.accumulators.restore_member(aggregate, id, &key[at..]).map_err(|error| self.unreadable(&error))
    }

    /// All rows are in; `watermark` is the last one that fired sessions.
    ///
    /// # Errors
    /// [`EngineError::State`] for values of sessions that are not there.
    pub fn restored(&mut self, watermark: i64) -> Result<(), EngineError> {
        self.fired = watermark;
        if self.table.live_ids().iter().any(|id| !self.table.get(*id).saved) {
            return Err(self.damaged("there are values of a session that is not there"));
        }
        self.copy_living().map_err(|error| self.unreadable(&error))?;
        for (_, members) in self.accumulators.members() {
            members.mark_saved();
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
