//! Does IO: the next record of a job's lineages, as a request was answered. Create-only: of several one writes it.

use super::records::{LineageRecord, Owner};
use super::restore::Asked;
use super::{LineageError, check_id};
use crate::paths;
use crate::sealed;
use crate::store::{Created, Store};

/// Writes the record behind `number` for the lineage of `record`: it is `owner`'s now, as `asked`. Says whether it was
/// written: somebody else may have taken the number. A former owner's workers end when the next generation fences them.
///
/// # Errors
/// [`LineageError`]: the store's.
pub async fn take(
    store: &dyn Store,
    job_root: &str,
    (number, record): (u64, &LineageRecord),
    owner: &Owner,
    asked: &Asked,
    now_ms: i64,
) -> Result<Created, LineageError> {
    let next =
        LineageRecord { owner: owner.clone(), created_at_ms: now_ms, asked: Some(asked.clone()), ..record.clone() };
    write_record(store, job_root, number + 1, &next).await
}

/// Writes the record of a new lineage called `id`, behind `newest`, which must have ended. Says whether it was written:
/// somebody else may have taken the number.
///
/// # Errors
/// [`LineageError`]: the id can't be one, or the store's.
pub async fn begin(
    store: &dyn Store,
    job_root: &str,
    newest: Option<&(u64, LineageRecord)>,
    id: String,
    owner: &Owner,
    asked: &Asked,
    now_ms: i64,
) -> Result<Created, LineageError> {
    check_id(&id)?;
    let record = LineageRecord {
        lineage: id,
        owner: owner.clone(),
        created_at_ms: now_ms,
        previous: newest.map(|(_, record)| record.lineage.clone()),
        asked: Some(asked.clone()),
    };
    write_record(store, job_root, newest.map_or(0, |(number, _)| *number) + 1, &record).await
}

async fn write_record(
    store: &dyn Store,
    job_root: &str,
    number: u64,
    record: &LineageRecord,
) -> Result<Created, LineageError> {
    Ok(store.create(&format!("{job_root}{}", paths::lineage_record(number)), sealed::seal(record)).await?)
}
