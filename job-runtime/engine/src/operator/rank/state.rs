//! Keys and their rows as rows of state.
//!
//! ```text
//! 01 · key  →  version · touched at (8 bytes) · the kept rows, first to last
//! 02 · key  →  version · touched at (8 bytes)                    a key whose first row has come out
//! 03 · key  →  version · touched at (8 bytes) · time (8 bytes) · the row that is the first one so far
//! ```
//! A kept row is how many bytes it is ordered by (varint), its length (varint), and its bytes; times are 8 bytes whose
//! order is that of time. The second and third are those of [`super::RankFirstOperator`].

use std::sync::Arc;

use freshet_env::{PlantedBug, planted};
use freshet_plan::rank::RANK_STATE_VERSION;
use freshet_state::rows::RowBuffer;

use super::spec::Entry;
use super::{Key, Part, Parts, RankSpec};
use crate::EngineError;
use crate::group::key::{from_ordered_int, ordered_int};

pub(super) const ROWS: u8 = 1;
pub(super) const DONE: u8 = 2;
pub(super) const WAITING: u8 = 3;
const VERSION: u8 = RANK_STATE_VERSION as u8;

pub(super) fn put_key(kind: u8, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(kind);
    out.extend_from_slice(key);
}

/// Begins a value.
pub(super) fn begin_value(touched_at: i64, out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
    out.extend_from_slice(&ordered_int(touched_at));
}

/// When the key was touched last, and what is behind.
pub(super) fn read_value<'v>(spec: &RankSpec, value: &'v [u8]) -> Result<(i64, &'v [u8]), EngineError> {
    let (version, rest) = value.split_first().ok_or_else(|| spec.damaged("a key's value is empty"))?;
    if *version != VERSION {
        return Err(spec.damaged(format!("a key has format {version}, not {VERSION}")));
    }
    take_time(spec, rest)
}

/// A time, and what is behind.
pub(super) fn take_time<'v>(spec: &RankSpec, value: &'v [u8]) -> Result<(i64, &'v [u8]), EngineError> {
    let (time, rest) = value.split_first_chunk().ok_or_else(|| spec.damaged("a key's value is cut short"))?;
    Ok((from_ordered_int(*time), rest))
}

impl Parts {
    pub(super) fn is_dirty(&self) -> bool {
        !(self.before.is_empty() && self.past.is_empty() && self.dirty.is_empty() && self.forgotten.is_empty())
    }

    pub(super) fn snapshot(&mut self, rows: &mut RowBuffer) {
        let operator = rows.operator(&self.spec.id);
        let (mut bytes, mut value) = (Vec::new(), Vec::new());
        for key in std::mem::take(&mut self.forgotten) {
            put_key(ROWS, &key, &mut bytes);
            rows.delete(operator, &bytes);
        }
        for key in std::mem::take(&mut self.dirty) {
            let Some(part) = self.parts.get(&key) else { continue };
            put_key(ROWS, &key, &mut bytes);
            begin_value(part.touched_at, &mut value);
            let last = usize::from(planted(PlantedBug::ForgetRank));
            let kept = part.rows.len().saturating_sub(last).max(1).min(part.rows.len());
            part.rows[..kept].iter().for_each(|row| row.encode(&mut value));
            rows.put(operator, &bytes, &value);
        }
    }

    pub(super) fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        let Some((&ROWS, key)) = key.split_first() else {
            return Err(self.spec.damaged("a row is no key with its rows"));
        };
        let Some(value) = value else {
            self.take(key);
            return Ok(());
        };
        let (touched_at, bytes) = read_value(&self.spec, value)?;
        let (mut rows, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            rows.push(Entry::decode(bytes, &mut at).ok_or_else(|| self.spec.damaged("a kept row is damaged"))?);
        }
        self.put(Key::from(key), Part { rows, touched_at });
        Ok(())
    }

    pub(super) fn restored(&mut self, watermark: i64) {
        self.watermark = watermark;
        if let Some(expiry) = &mut self.expiry {
            for (key, part) in &self.parts {
                expiry.touch(&Arc::clone(key), None, part.touched_at);
            }
        }
    }
}
