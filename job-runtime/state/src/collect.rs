//! Collecting garbage: deleting what nothing names, by facts and not by the clock.
//!
//! A state object is garbage when nothing reaches it and nothing ever can again:
//! * nothing reaches it: no commit, no pointer of a clean stop and no pin names it or an object whose
//!   manifests name it; and
//! * nothing can: its generation is fenced, so that none of its epochs can commit any more; or its epoch is
//!   not above its slot's committed epoch, since epochs of a slot only grow. (A merged object bears
//!   the last epoch that may name it first.)
//!
//! The second half is true only if the facts are gathered in this order: fence mark, then commits. Read the
//! other way round, an object may be committed after the commits were read and have its generation fenced
//! before the mark was. [`Collector::collect`] keeps that order: it calls for the commits once it has looked.
//!
//! A grace time comes on top: it spares readers from outside (a restore, a look with `freshet state`).
//!
//! Of the other objects only these are ever deleted: starts, marks and pointers of generations that are fenced and
//! from which no task's commit is any more (until then a pointer may still have to stand in for a commit), and
//! processes of a slot that has had a later one. Pointers go before the marks that make them worthless.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use freshet_env::{PlantedBug, planted};
use futures::StreamExt as _;

use crate::generation::{GenerationLog, Pointer};
use crate::metadata::CommitMetadata;
use crate::object::{Fetcher, ObjectSource};
use crate::paths::LineagePath;
use crate::{StateError, TaskId, sealed};

/// How many objects are deleted at a time.
const AT_A_TIME: usize = 8;

/// All that decides what is garbage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Objects that exist.
    pub existing: Vec<LineagePath>,
    /// Objects that something names, directly or through a manifest.
    pub reachable: BTreeSet<String>,
    /// All generations before this one are fenced.
    pub fenced_before: u64,
    /// By generation and slot, the epoch that is committed.
    pub committed: BTreeMap<(u64, u32), u64>,
}

impl Facts {
    /// Every task has committed in this generation or a later one.
    fn oldest_commit(&self) -> u64 {
        self.committed.keys().map(|(generation, _)| *generation).min().unwrap_or(0)
    }
}

/// The objects that nothing reaches, nor ever can again.
#[must_use]
pub fn garbage(facts: &Facts) -> Vec<String> {
    let fenced = |generation: u64| generation < facts.fenced_before;
    let left = facts.oldest_commit().min(facts.fenced_before);
    let mut latest: BTreeMap<u32, u64> = BTreeMap::new();
    for path in &facts.existing {
        if let LineagePath::Process { slot, rank } = path {
            let known = latest.entry(*slot).or_default();
            *known = (*known).max(*rank);
        }
    }
    let is_garbage = |path: &LineagePath| match path {
        LineagePath::Object(name) => {
            let committed = facts.committed.get(&(name.generation, name.slot));
            let reached = facts.reachable.contains(&name.to_string()) && !planted(PlantedBug::CollectNamedObject);
            !reached && (fenced(name.generation) || committed.is_some_and(|committed| name.epoch <= *committed))
        }
        LineagePath::Incarnation { generation, .. }
        | LineagePath::Pointer { generation, .. }
        | LineagePath::Resumed { generation, .. } => *generation < left,
        LineagePath::Process { slot, rank } => latest.get(slot).is_some_and(|latest| rank < latest),
        LineagePath::Birth
        | LineagePath::Ended
        | LineagePath::Start
        | LineagePath::Begun { .. }
        | LineagePath::Generation(_)
        | LineagePath::Fenced(_) => false,
    };
    facts.existing.iter().filter(|path| is_garbage(path)).map(ToString::to_string).collect()
}

/// What was there before the commits were read.
#[derive(Debug, Clone)]
pub struct Look {
    fenced_before: u64,
    existing: Vec<LineagePath>,
}

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swept {
    /// Nothing: this task has not committed yet, so that what it needs is not known.
    TooEarly(TaskId),
    /// It looked at everything.
    Done {
        /// Objects deleted.
        deleted: u64,
        /// Garbage whose grace time is not over.
        waiting: u64,
        /// State objects that stay.
        kept: u64,
    },
}

/// Collects the garbage of one lineage; one slot has one.
#[derive(Debug)]
pub struct Collector {
    grace_ms: i64,
    first_seen: BTreeMap<String, i64>,
}

impl Collector {
    /// One that deletes what has been garbage for at least `grace_ms`.
    #[must_use]
    pub const fn new(grace_ms: i64) -> Self {
        Self { grace_ms, first_seen: BTreeMap::new() }
    }

    /// Collects once. `read_commits` gives, for every task of the plan, the metadata of its committed offset
    /// (stable reads; `None` where there is none yet); `pins` are objects, relative to the lineage, that savepoints
    /// name.
    ///
    /// # Errors
    /// [`StateError`], and those of `read_commits`. Nothing is deleted when any named object is missing or
    /// corrupt.
    pub async fn collect<E: From<StateError>>(
        &mut self,
        source: ObjectSource<'_>,
        log: &GenerationLog,
        read_commits: impl AsyncFnOnce() -> Result<Vec<(TaskId, Option<CommitMetadata>)>, E>,
        pins: &[String],
        now_ms: i64,
    ) -> Result<Swept, E> {
        let look = Self::look(source, log).await?;
        let commits = read_commits().await?;
        Ok(self.sweep(source, look, &commits, pins, now_ms).await?)
    }

    /// First step: the fence mark and what exists. Read the committed offsets (stable) after it.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn look(source: ObjectSource<'_>, log: &GenerationLog) -> Result<Look, StateError> {
        let fenced_before = log.fenced_before().await?;
        let listed = source.store.list(source.prefix).await?;
        let skip = source.prefix.len();
        Ok(Look { fenced_before, existing: listed.iter().filter_map(|path| path[skip..].parse().ok()).collect() })
    }

    /// Second step: deletes what is garbage by `look` and by `commits`, the metadata of every task's
    /// committed offset, read after `look`. `pins` are objects (relative to the lineage) that savepoints name.
    ///
    /// # Errors
    /// [`StateError`]; nothing is deleted when any named object is missing or corrupt.
    pub async fn sweep(
        &mut self,
        source: ObjectSource<'_>,
        look: Look,
        commits: &[(TaskId, Option<CommitMetadata>)],
        pins: &[String],
        now_ms: i64,
    ) -> Result<Swept, StateError> {
        let mut committed = BTreeMap::new();
        let mut named = BTreeMap::new();
        for (task, metadata) in commits {
            let Some(metadata) = metadata else { return Ok(Swept::TooEarly(task.clone())) };
            // Two offsets of a slot may have been read before and after a commit: the earlier epoch counts.
            let epoch = committed.entry((metadata.generation, metadata.slot)).or_insert(metadata.epoch);
            *epoch = metadata.epoch.min(*epoch);
            if let Some(object) = &metadata.object {
                named.insert(object.clone(), format!("the committed offset of task {task}"));
            }
        }
        named.extend(pins.iter().map(|pin| (pin.clone(), "a savepoint".to_owned())));
        self.name_by_pointers(source, &look, &mut named).await?;
        let reachable = reachable(source, named).await?;
        let facts = Facts { existing: look.existing, reachable, fenced_before: look.fenced_before, committed };
        let mut candidates = garbage(&facts);
        candidates.sort_unstable();

        self.first_seen.retain(|path, _| candidates.binary_search(path).is_ok());
        let due = |path: &String| {
            let seen = *self.first_seen.entry(path.clone()).or_insert(now_ms);
            now_ms.saturating_sub(seen) >= self.grace_ms
        };
        let (due, waiting): (Vec<_>, Vec<_>) = candidates.into_iter().partition(due);
        let state_objects = facts.existing.iter().filter(|path| matches!(path, LineagePath::Object(_))).count();
        let collected = due.iter().chain(&waiting).filter(|path| path.parse::<crate::paths::ObjectName>().is_ok());
        let kept = (state_objects - collected.count()) as u64;
        let is_pointer = |relative: &&String| matches!(relative.parse(), Ok(LineagePath::Pointer { .. }));
        let (pointers, rest): (Vec<_>, Vec<_>) = due.iter().partition(is_pointer);
        for some in [pointers, rest] {
            let deletes = futures::stream::iter(some).map(|relative| async move {
                let path = source.full_path(relative);
                source.store.delete(&path).await
            });
            let results: Vec<_> = deletes.buffered(AT_A_TIME).collect().await;
            results.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(Swept::Done { deleted: due.len() as u64, waiting: waiting.len() as u64, kept })
    }

    async fn name_by_pointers(
        &self,
        source: ObjectSource<'_>,
        look: &Look,
        named: &mut BTreeMap<String, String>,
    ) -> Result<(), StateError> {
        for path in &look.existing {
            let LineagePath::Pointer { generation, .. } = path else { continue };
            if *generation < look.fenced_before {
                continue;
            }
            let full = source.full_path(&path.to_string());
            let Some(pointer) = sealed::read::<Pointer>(source.store, &full).await? else { continue };
            for offset in pointer.offsets {
                let metadata: CommitMetadata = offset.metadata.parse().map_err(|error| StateError::Corrupt {
                    path: full.clone(),
                    what: format!("{error}"),
                    at: 0,
                })?;
                if let Some(object) = metadata.object {
                    named.entry(object).or_insert_with(|| format!("pointer {path}"));
                }
            }
        }
        Ok(())
    }
}

/// The named objects, and all that their manifests name.
async fn reachable(source: ObjectSource<'_>, named: BTreeMap<String, String>) -> Result<BTreeSet<String>, StateError> {
    let mut reached: BTreeSet<String> = named.keys().cloned().collect();
    let objects: Vec<String> = named.keys().cloned().collect();
    let mut fetcher = Fetcher::new(source, named.into_iter().collect(), HashMap::new());
    for relative in objects {
        let object = fetcher.take(&relative).await?;
        let parts = object.sections.iter().flat_map(|section| section.manifest.parts());
        reached.extend(parts.map(|part| part.object.clone()));
    }
    Ok(reached)
}
