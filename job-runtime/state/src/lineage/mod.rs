//! Lineages: which one a job has, who owns it, and the facts that hold as long as it lives.
//!
//! A lineage is one state history with one exclusive set of writers. A job's lineages are numbered by
//! create-only records; the one with the highest number is the job's own, until its folder says that it has
//! ended. A job that lost everything else finds its lineage here and goes on with it.
//!
//! ```text
//! <job>/lineages/00000001 ─▶ r1-8k3f9q/birth, …, r1-8k3f9q/ended
//! <job>/lineages/00000002 ─▶ r2-77ab01/birth, …                      ◀── the job's lineage
//! ```
//!
//! A record names the owner: a cluster, a namespace and a name. Another owner is refused until a person
//! names the lineage for a take-over, which writes one more record for the same lineage ([`take`]). Which lineage a spec
//! asks for, and whether that was answered before, is decided in [`answer`].

mod records;
mod restore;

use std::collections::BTreeSet;
use std::rc::Rc;

use self::records::{Begun, Birth};
pub use self::records::{Ended, FixedFacts, LineageRecord, Owner, StartPositions};
pub use self::restore::{Answer, Asked, RestoreFrom, answer};
use crate::generation::GenerationLog;
use crate::object::ObjectSource;
use crate::paths::{self, BEGUN, LINEAGES, LineagePath};
use crate::sealed;
use crate::store::{Created, Store};
use crate::{StateError, TaskId};

/// How often a race for the next number is run again before something else must be wrong.
const RACES: u32 = 16;

/// A lineage can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineageError {
    /// The store or a record failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is somebody else's.
    #[error(
        "lineage {lineage} belongs to {owner}, not to {ours}. Use another checkpoint.url, or take it over by \
         spec.restoreFrom {{type: Lineage, lineageId: {lineage}}} (a job that has asked before asks once more by another \
         spec.restoreNonce), once the other job is stopped for good"
    )]
    OwnedElsewhere {
        /// The lineage.
        lineage: String,
        /// Whose it is.
        owner: Box<Owner>,
        /// Who asked.
        ours: Box<Owner>,
    },
    /// A fact that is fixed for a lineage was asked to be another.
    #[error(
        "lineage {lineage} has {field} {fixed}, asked for {asked}: it is fixed for a lineage. Set {fixed} again, or \
         start a new lineage"
    )]
    FixedFactChanged {
        /// The lineage.
        lineage: String,
        /// Which fact.
        field: &'static str,
        /// What it is.
        fixed: String,
        /// What was asked for.
        asked: String,
    },
    /// The lineage to be taken over is not the job's newest.
    #[error("lineage {wanted} can't be taken over: the newest one here is {newest}")]
    NotNewest {
        /// What was named.
        wanted: String,
        /// The newest, or `none`.
        newest: String,
    },
    /// Somebody asked later.
    #[error(
        "nothing was done: {by} has asked later where state comes from, and was answered with lineage {lineage}. If this \
         job is the one that counts, delete it and apply it again"
    )]
    Overtaken {
        /// The lineage that is there now.
        lineage: String,
        /// Who asked later: a resource's UID.
        by: String,
    },
    /// An id that can't be a folder and part of topics' names.
    #[error("{0:?} can't be a lineage's id: use 1 to 32 characters of a-z, 0-9 and -, and none of the reserved names")]
    BadId(String),
    /// Many others were always faster.
    #[error("the next number of a lineage could not be taken: {0} others were faster, one after the other")]
    Contended(u32),
}

impl From<crate::store::StoreError> for LineageError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::State(error.into())
    }
}

/// A job's lineage, open.
#[derive(Clone)]
pub struct Lineage {
    store: Rc<dyn Store>,
    prefix: String,
    record: LineageRecord,
    number: u64,
    facts: FixedFacts,
    born_at_ms: i64,
    created: bool,
}

impl std::fmt::Debug for Lineage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lineage").field("record", &self.record).field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// The newest record of the job in the folder `job_root`, and its number.
///
/// # Errors
/// [`StateError`].
pub async fn newest_record(store: &dyn Store, job_root: &str) -> Result<Option<(u64, LineageRecord)>, StateError> {
    let folder = format!("{job_root}{LINEAGES}");
    let listed = store.list(&folder).await?;
    let Some(number) = listed.iter().filter_map(|path| path[folder.len()..].parse::<u64>().ok()).max() else {
        return Ok(None);
    };
    let path = format!("{job_root}{}", paths::lineage_record(number));
    let record = sealed::read(store, &path).await?;
    let record = record.ok_or_else(|| StateError::Missing { path, named_by: "the listing of lineages".to_owned() })?;
    Ok(Some((number, record)))
}

/// The job's lineage: the newest, or a first one (or a next one, if the newest has ended) called what
/// `new_id` says. `job_root` is `<namespace>/<name>/` below the store's root. Safe to call from several
/// workers at once: all get the same lineage.
///
/// # Errors
/// [`LineageError`]; above all that the lineage is another owner's, or has other fixed facts.
pub async fn open_or_create(
    store: Rc<dyn Store>,
    job_root: &str,
    owner: &Owner,
    facts: &FixedFacts,
    new_id: impl FnOnce() -> String,
    now_ms: i64,
) -> Result<Lineage, LineageError> {
    let mut new_id = Some(new_id);
    let mut id = None;
    for _ in 0..RACES {
        let newest = newest_record(&*store, job_root).await?;
        let (number, previous) = match newest {
            None => (1, None),
            Some((number, record)) => {
                check_owner(&record, owner)?;
                if ended(&*store, job_root, &record).await?.is_none() {
                    return open(store, job_root, number, record, facts, false).await;
                }
                (number + 1, Some(record.lineage))
            }
        };
        let lineage = id.get_or_insert_with(|| new_id.take().map(|make| make()).unwrap_or_default()).clone();
        check_id(&lineage)?;
        let record = LineageRecord { lineage, owner: owner.clone(), created_at_ms: now_ms, previous, asked: None };
        let path = format!("{job_root}{}", paths::lineage_record(number));
        if store.create(&path, sealed::seal(&record)).await? == Created::New {
            return open(store, job_root, number, record, facts, true).await;
        }
    }
    Err(LineageError::Contended(RACES))
}

/// The job's lineage, if it has one that was born and has not ended. Starts none.
///
/// # Errors
/// [`LineageError`]; above all that the lineage is another owner's.
pub async fn open_existing(
    store: Rc<dyn Store>,
    job_root: &str,
    owner: &Owner,
) -> Result<Option<Lineage>, LineageError> {
    let Some((number, record)) = newest_record(&*store, job_root).await? else { return Ok(None) };
    check_owner(&record, owner)?;
    let prefix = paths::lineage_prefix(job_root, &record.lineage);
    let stored = |path: LineagePath| format!("{prefix}{path}");
    if ended(&*store, job_root, &record).await?.is_some() {
        return Ok(None);
    }
    let Some(birth) = sealed::read::<Birth>(&*store, &stored(LineagePath::Birth)).await? else { return Ok(None) };
    open(store, job_root, number, record, &birth.facts, false).await.map(Some)
}

/// Every lineage that the job ever had, newest record first, with its number.
///
/// # Errors
/// [`StateError`].
pub async fn all_records(store: &dyn Store, job_root: &str) -> Result<Vec<(u64, LineageRecord)>, StateError> {
    let folder = format!("{job_root}{LINEAGES}");
    let listed = store.list(&folder).await?;
    let mut numbers: Vec<u64> = listed.iter().filter_map(|path| path[folder.len()..].parse().ok()).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let mut records = Vec::new();
    for number in numbers {
        let path = format!("{job_root}{}", paths::lineage_record(number));
        // One that is gone was deleted since the listing.
        if let Some(record) = sealed::read(store, &path).await? {
            records.push((number, record));
        }
    }
    Ok(records)
}

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

/// Whether and why the lineage of a record has ended.
///
/// # Errors
/// [`StateError`].
pub async fn ended(store: &dyn Store, job_root: &str, record: &LineageRecord) -> Result<Option<Ended>, StateError> {
    let path = paths::lineage_prefix(job_root, &record.lineage) + &LineagePath::Ended.to_string();
    sealed::read(store, &path).await
}

fn check_owner(record: &LineageRecord, ours: &Owner) -> Result<(), LineageError> {
    if record.owner == *ours {
        return Ok(());
    }
    Err(LineageError::OwnedElsewhere {
        lineage: record.lineage.clone(),
        owner: Box::new(record.owner.clone()),
        ours: Box::new(ours.clone()),
    })
}

fn check_id(id: &str) -> Result<(), LineageError> {
    let plain = id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let reserved = [LINEAGES, paths::PROBE].iter().any(|folder| folder.trim_end_matches('/') == id);
    if plain && !reserved && (1..=32).contains(&id.len()) { Ok(()) } else { Err(LineageError::BadId(id.to_owned())) }
}

async fn open(
    store: Rc<dyn Store>,
    job_root: &str,
    number: u64,
    record: LineageRecord,
    facts: &FixedFacts,
    created: bool,
) -> Result<Lineage, LineageError> {
    let prefix = paths::lineage_prefix(job_root, &record.lineage);
    // Written by whoever comes first: the creator may have died between its record and this.
    let asked = Birth {
        lineage: record.lineage.clone(),
        born_to: record.owner.clone(),
        born_at_ms: record.created_at_ms,
        facts: facts.clone(),
    };
    let path = format!("{prefix}{}", LineagePath::Birth);
    let birth = match sealed::read(&*store, &path).await? {
        Some(birth) => birth,
        None => sealed::create_or_read(&*store, &path, asked).await?,
    };
    if birth.lineage != record.lineage {
        let (found, wanted) = (birth.lineage, record.lineage);
        return Err(StateError::Foreign { path, field: "lineage", found, wanted }.into());
    }
    if birth.facts.max_parallelism != facts.max_parallelism {
        return Err(LineageError::FixedFactChanged {
            lineage: record.lineage,
            field: "maxParallelism",
            fixed: birth.facts.max_parallelism.to_string(),
            asked: facts.max_parallelism.to_string(),
        });
    }
    Ok(Lineage { store, prefix, record, number, facts: birth.facts, born_at_ms: birth.born_at_ms, created })
}

impl Lineage {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.record.lineage
    }

    /// Its folder in the store, ending in `/`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The store that it lives in.
    #[must_use]
    pub fn store(&self) -> &Rc<dyn Store> {
        &self.store
    }

    /// Its record.
    #[must_use]
    pub const fn record(&self) -> &LineageRecord {
        &self.record
    }

    /// The number of its record among the job's.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// What never changes in it.
    #[must_use]
    pub const fn facts(&self) -> &FixedFacts {
        &self.facts
    }

    /// When it was born, ms since the Unix epoch.
    #[must_use]
    pub const fn born_at_ms(&self) -> i64 {
        self.born_at_ms
    }

    /// Whether this call made it.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.created
    }

    /// Its state objects.
    #[must_use]
    pub fn objects(&self) -> ObjectSource<'_> {
        ObjectSource { store: &*self.store, prefix: &self.prefix }
    }

    /// Its generations.
    #[must_use]
    pub fn generations(&self) -> GenerationLog {
        GenerationLog::new(Rc::clone(&self.store), self.prefix.clone())
    }

    fn path(&self, path: LineagePath) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The start positions of a lineage whose first generation is of version 1. Later ones carry their own.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn start_positions(&self) -> Result<Option<StartPositions>, StateError> {
        sealed::read(&*self.store, &self.path(LineagePath::Start)).await
    }

    /// Records that these tasks' epoch 0 is committed: once for each incarnation of a slot, after its first
    /// commit. A task that has begun, but of which Kafka knows no offset, has lost it.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::Foreign`] when the incarnation has recorded other tasks.
    pub async fn mark_begun(
        &self,
        generation: u64,
        slot: u32,
        incarnation: u64,
        tasks: impl IntoIterator<Item = TaskId>,
    ) -> Result<(), StateError> {
        let path = self.path(LineagePath::Begun { generation, slot, incarnation });
        let tasks: BTreeSet<TaskId> = tasks.into_iter().collect();
        let stored = sealed::create_or_read(&*self.store, &path, Begun { tasks: tasks.clone() }).await?;
        match tasks.difference(&stored.tasks).next() {
            None => Ok(()),
            Some(task) => {
                let found = format!("{} other tasks", stored.tasks.len());
                Err(StateError::Foreign { path, field: "tasks", found, wanted: format!("{task} among them") })
            }
        }
    }

    /// All tasks whose epoch 0 was ever committed.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn begun_tasks(&self) -> Result<BTreeSet<TaskId>, StateError> {
        let mut all = BTreeSet::new();
        for path in self.store.list(&format!("{}{BEGUN}", self.prefix)).await? {
            if let Some(begun) = sealed::read::<Begun>(&*self.store, &path).await? {
                all.extend(begun.tasks);
            }
        }
        Ok(all)
    }

    /// Makes sure that it is still the job's own: neither followed by another nor taken over by another owner.
    ///
    /// # Errors
    /// [`LineageError::OwnedElsewhere`], [`LineageError::Overtaken`], or the store's.
    pub async fn check_still_ours(&self, job_root: &str) -> Result<(), LineageError> {
        let Some((_, newest)) = newest_record(&*self.store, job_root).await? else { return Ok(()) };
        check_owner(&newest, &self.record.owner)?;
        if newest.lineage == self.record.lineage {
            return Ok(());
        }
        let by = newest.asked.map_or_else(|| "somebody".to_owned(), |asked| asked.by);
        Err(LineageError::Overtaken { lineage: newest.lineage, by })
    }

    /// Ends the lineage: the next [`open_or_create`] starts another. Before any successor writes, a
    /// tombstone generation must have fenced all of its ids ([`crate::generation::Generation::tombstone`]).
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn end(&self, reason: &str, at_ms: i64) -> Result<Ended, StateError> {
        let ended = Ended { reason: reason.to_owned(), at_ms };
        sealed::create_or_read(&*self.store, &self.path(LineagePath::Ended), ended).await
    }

    /// Whether and why it has ended.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn ended(&self) -> Result<Option<Ended>, StateError> {
        sealed::read(&*self.store, &self.path(LineagePath::Ended)).await
    }
}
