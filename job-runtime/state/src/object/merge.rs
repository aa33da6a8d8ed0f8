//! Merging: several objects' rows become one object's.
//!
//! It runs beside the epochs, off the slot's thread, and nothing waits for it. Its result is taken up by
//! [`after_merge`] when a later epoch writes its manifests; a result that comes too late, or whose task
//! was loaded anew meanwhile, is left alone and collected.

use std::collections::HashMap;

use freshet_env::{PlantedBug, SharedEnv, planted};

use super::fetch::{Fetcher, walk};
use super::load::section_of;
use super::{Manifest, MergeRange, ObjectHeader, ObjectSource, Part, StoredSection, TaskSection, encode};
use crate::paths::{ObjectKind, ObjectName};
use crate::rows::RowBuffer;
use crate::store::create_own;
use crate::{StateError, TaskId};

/// How many epochs after its start a merge may be taken up.
const ADOPTION_EPOCHS: u64 = 1000;
/// Tasks share a merged object up to about this size, so that neither many small objects are written nor
/// much is fetched for nothing once the tasks live in different slots.
const SHARED_BYTES: usize = 8 << 20;

/// Who merges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeHeader {
    /// The generation.
    pub generation: u64,
    /// The slot.
    pub slot: u32,
    /// The slot's newest epoch, committed or under way.
    pub epoch: u64,
    /// The fingerprint of the running plan.
    pub plan_fingerprint: String,
    /// The version of the runtime.
    pub runtime_version: String,
}

/// What became of one task's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The task.
    pub task: TaskId,
    /// The base that took part.
    base: Option<Part>,
    /// The deltas that took part.
    deltas: Vec<Part>,
    /// Whether the result is a base.
    into_base: bool,
    /// The result; `None` when no row is left.
    part: Option<Part>,
    generation: u64,
    slot: u32,
    adopt_by: u64,
}

/// Merges, for each task, the parts of its manifest that its range names. Tasks share the objects that are
/// written where those stay small. Later deltas are not touched.
///
/// # Errors
/// [`StateError`]: of the store, or that a part is missing or corrupt. What was written before is garbage.
pub async fn merge(
    source: ObjectSource<'_>,
    header: &MergeHeader,
    tasks: &[(TaskId, Manifest, MergeRange)],
    env: &SharedEnv,
) -> Result<Vec<Merged>, StateError> {
    let adopt_by = header.epoch.saturating_add(ADOPTION_EPOCHS);
    let mut done: Vec<Merged> = tasks
        .iter()
        .map(|(task, manifest, range)| Merged {
            task: task.clone(),
            base: manifest.base.clone().filter(|_| range.into_base),
            deltas: manifest.deltas[range.from..range.to].to_vec(),
            into_base: range.into_base,
            part: None,
            generation: header.generation,
            slot: header.slot,
            adopt_by,
        })
        .collect();
    let needs = done.iter().flat_map(|merged| {
        let by = format!("the manifest of task {}", merged.task);
        merged.parts().map(move |part| (part.object.clone(), by.clone()))
    });
    let mut fetcher = Fetcher::new(source, needs.collect(), HashMap::new());
    let mut waiting = Waiting { source, header, adopt_by, env, sections: Vec::new(), bytes: 0 };
    for at in 0..done.len() {
        let merged = &done[at];
        let mut inputs = Vec::new();
        for part in merged.parts() {
            let object = fetcher.take(&part.object).await?;
            let section = section_of(source, &part.object, &object, &merged.task)?.clone();
            inputs.push((part.object.clone(), section));
        }
        if planted(PlantedBug::ForgetDeltaInMerge) && inputs.len() > 1 {
            inputs.pop();
        }
        let work = Work { prefix: source.prefix.to_owned(), inputs, base: merged.base.is_some() };
        let rows = work.run(merged.into_base, env).await?;
        if rows.is_empty() {
            continue;
        }
        if waiting.bytes + rows.bytes().len() > SHARED_BYTES {
            waiting.write(&mut done).await?;
        }
        waiting.bytes += rows.bytes().len();
        waiting.sections.push((at, rows));
    }
    waiting.write(&mut done).await?;
    Ok(done)
}

impl Merged {
    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.base.iter().chain(&self.deltas)
    }
}

/// `current` with what was merged in the place of what it was merged from; deltas that came later stay.
/// `None` when the result can't be taken up: another generation or incarnation has gone on from something
/// else, or it came too late. It is then garbage.
///
/// `delta` is the very object that will carry the manifest: a result that is taken up earlier, and written
/// by an epoch that comes too late, may be collected in between.
#[must_use]
pub fn after_merge(current: &Manifest, merged: &Merged, delta: &ObjectName) -> Option<Manifest> {
    if (delta.generation, delta.slot) != (merged.generation, merged.slot) || delta.epoch > merged.adopt_by {
        return None;
    }
    let count = merged.deltas.len();
    let from = if merged.into_base {
        (current.base == merged.base && current.deltas.starts_with(&merged.deltas)).then_some(0)?
    } else {
        current.deltas.windows(count.max(1)).position(|window| window == merged.deltas)?
    };
    let mut after = current.clone();
    let kept = after.deltas.split_off(from + count);
    after.deltas.truncate(from);
    if merged.into_base {
        after.base.clone_from(&merged.part);
    } else {
        after.deltas.extend(merged.part.clone());
    }
    after.deltas.extend(kept);
    Some(after)
}

/// Merged rows on their way into one object.
struct Waiting<'a> {
    source: ObjectSource<'a>,
    header: &'a MergeHeader,
    adopt_by: u64,
    env: &'a SharedEnv,
    sections: Vec<(usize, RowBuffer)>,
    bytes: usize,
}

impl Waiting<'_> {
    async fn write(&mut self, done: &mut [Merged]) -> Result<(), StateError> {
        self.bytes = 0;
        let waiting = std::mem::take(&mut self.sections);
        if waiting.is_empty() {
            return Ok(());
        }
        let name = ObjectName {
            generation: self.header.generation,
            slot: self.header.slot,
            kind: ObjectKind::Merged,
            epoch: self.adopt_by,
            random: self.env.random_u64(),
        };
        let object = name.to_string();
        let mut sections = Vec::with_capacity(waiting.len());
        for (at, rows) in waiting {
            done[at].part = Some(Part { object: object.clone(), bytes: rows.bytes().len() as u64 });
            sections.push(TaskSection { task: done[at].task.clone(), manifest: Manifest::default(), rows });
        }
        let header = ObjectHeader {
            lineage: self.source.lineage().to_owned(),
            name,
            plan_fingerprint: self.header.plan_fingerprint.clone(),
            runtime_version: self.header.runtime_version.clone(),
        };
        let bytes = offload(self.env, "encoding a merged object", move || encode(&header, &sections)).await?;
        create_own(self.source.store, &self.source.full_path(&object), bytes).await?;
        Ok(())
    }
}

/// What is to be merged for one task: sections in the order in which they count, with their objects' names.
struct Work {
    prefix: String,
    inputs: Vec<(String, StoredSection)>,
    /// Whether the first one is a base.
    base: bool,
}

impl Work {
    async fn run(self, into_base: bool, env: &SharedEnv) -> Result<RowBuffer, StateError> {
        offload(env, "merging state", move || self.merge(into_base)).await?
    }

    /// Rows in the order of operator and key, the last one of each; without tombstones in a base. The rows
    /// of a base come sorted, so only those of the deltas are sorted here.
    fn merge(&self, into_base: bool) -> Result<RowBuffer, StateError> {
        let (bases, deltas) = self.inputs.split_at(usize::from(self.base));
        let mut newer: Vec<(RowKey<'_>, Option<&[u8]>)> = Vec::new();
        for (path, section) in deltas {
            newer.reserve(usize::try_from(section.row_count).unwrap_or(0).min(section.rows.len()));
            self.walk(path, section, |key, value| {
                newer.push((key, value));
                Ok(())
            })?;
        }
        // Stable: rows of one key stay in the order in which they were written.
        newer.sort_by_key(|(key, _)| *key);
        let mut out = Writer { rows: RowBuffer::default(), keep_tombstones: !into_base, operator: None };
        let mut at = 0;
        for (path, section) in bases {
            let mut before = None;
            self.walk(path, section, |key, value| {
                if before.is_some_and(|before| before >= key) {
                    let (path, at) = (format!("{}{path}", self.prefix), section.rows_at);
                    return Err(StateError::Corrupt { path, what: "rows of a base are out of order".to_owned(), at });
                }
                before = Some(key);
                at += out.put_while(&newer[at..], |newer| newer < key);
                let replaced = out.put_while(&newer[at..], |newer| newer == key);
                at += replaced;
                if replaced == 0 {
                    out.put(key, value);
                }
                Ok(())
            })?;
        }
        out.put_while(&newer[at..], |_| true);
        Ok(out.rows)
    }

    fn walk<'s>(
        &self,
        path: &str,
        section: &'s StoredSection,
        mut each: impl FnMut(RowKey<'s>, Option<&'s [u8]>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        walk(&self.prefix, path, section, |row| each((row.operator, row.key), row.value))
    }
}

/// What identifies a row: its operator and its key.
type RowKey<'s> = (&'s str, &'s [u8]);

struct Writer<'s> {
    rows: RowBuffer,
    keep_tombstones: bool,
    operator: Option<(&'s str, crate::rows::OperatorTag)>,
}

impl<'s> Writer<'s> {
    /// Puts the last row of each key of `sorted`, up to the first key that is not `wanted`, and says how many
    /// rows those were.
    fn put_while(&mut self, sorted: &[(RowKey<'s>, Option<&[u8]>)], wanted: impl Fn(RowKey<'s>) -> bool) -> usize {
        let count = sorted.iter().take_while(|(key, _)| wanted(*key)).count();
        for (at, (key, value)) in sorted[..count].iter().enumerate() {
            if sorted[..count].get(at + 1).is_none_or(|(next, _)| next != key) {
                self.put(*key, *value);
            }
        }
        count
    }

    fn put(&mut self, (operator, key): RowKey<'s>, value: Option<&[u8]>) {
        if value.is_none() && !self.keep_tombstones {
            return;
        }
        let tag = match self.operator {
            Some((known, tag)) if known == operator => tag,
            _ => self.rows.operator(operator),
        };
        self.operator = Some((operator, tag));
        match value {
            Some(value) => self.rows.put(tag, key, value),
            None => self.rows.delete(tag, key),
        }
    }
}

async fn offload<T: Send + 'static>(
    env: &SharedEnv,
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StateError> {
    let (sender, receiver) = futures::channel::oneshot::channel();
    // The receiver waits here; a result that nobody takes any more is dropped.
    env.offload(Box::new(move || drop(sender.send(work())))).await;
    receiver.await.map_err(|_| StateError::Interrupted(what))
}
