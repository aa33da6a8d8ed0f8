//! How rows leave an operator: so many at once, and no more once the output is full.

use super::{Context, Progress};
use crate::{EngineError, Rows};

/// Rows that leave at once.
pub(super) const CHUNK_ROWS: usize = 8192;
/// About how many bytes of texts they have: an array of texts holds at most 2 GiB.
const CHUNK_BYTES: usize = 16 << 20;

/// The first of `ids` that leave at once, by the bytes that each has: at least one, if there is any.
pub(super) fn chunk(ids: &[u32], bytes_of: impl Fn(u32) -> usize) -> &[u32] {
    let mut bytes = 0;
    let full = ids.iter().take(CHUNK_ROWS).position(|id| {
        let full = bytes >= CHUNK_BYTES;
        bytes += bytes_of(*id);
        full
    });
    &ids[..full.unwrap_or(ids.len().min(CHUNK_ROWS))]
}

/// Emits what `next` gives, until it gives nothing or the output is full.
pub(super) fn emit_all(
    context: &mut Context<'_>,
    mut next: impl FnMut() -> Result<Option<Rows>, EngineError>,
) -> Result<Progress, EngineError> {
    while let Some(rows) = next()? {
        context.emit(rows)?;
        if context.is_full() {
            return Ok(Progress::More);
        }
    }
    Ok(Progress::Done)
}
