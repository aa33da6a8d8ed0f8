//! Loading: from the object that a commit names to the task's rows.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::fetch::{Fetcher, walk};
use super::{Manifest, ObjectSource, StateObject};
use crate::rows::Row;
use crate::{StateError, TaskId};

/// State could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError<E> {
    /// The objects could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A row was refused by who was to take it.
    #[error("task {task}: {error}")]
    Row {
        /// The task.
        task: TaskId,
        /// Why.
        error: E,
    },
}

/// The state of one task, of which a commit names `object`: its rows in order go to `each`, its manifest
/// comes back. See [`load_tasks`].
///
/// # Errors
/// As [`load_tasks`].
pub async fn load_task<E>(
    source: ObjectSource<'_>,
    object: &str,
    task: &TaskId,
    each: &mut dyn FnMut(Row<'_>) -> Result<(), E>,
) -> Result<Manifest, LoadError<E>> {
    let wanted = [(task.clone(), object.to_owned())];
    let mut manifests = load_tasks(source, &wanted, &mut |_, row| each(row)).await?;
    Ok(manifests.remove(task).unwrap_or_default())
}

/// The state of several tasks, each with the object that its commit names. A task's rows go to `each` in
/// the order in which they count: base, then deltas, oldest first. Each object is fetched once, several at
/// a time, and let go once its last row was handed over. Back come the manifests.
///
/// # Errors
/// [`LoadError::State`] when an object is missing, corrupt, or another one; [`LoadError::Row`] when `each`
/// refuses a row. Rows that were handed over before are then worth nothing.
pub async fn load_tasks<E>(
    source: ObjectSource<'_>,
    wanted: &[(TaskId, String)],
    each: &mut dyn FnMut(&TaskId, Row<'_>) -> Result<(), E>,
) -> Result<BTreeMap<TaskId, Manifest>, LoadError<E>> {
    let (named, manifests) = named_objects(source, wanted).await?;
    let needs = wanted.iter().flat_map(|(task, object)| {
        manifests[task].parts().map(move |part| (part.object.clone(), format!("object {object} (for task {task})")))
    });
    let mut fetcher = Fetcher::new(source, needs.collect(), named);
    for (task, _) in wanted {
        for part in manifests[task].parts() {
            let object = fetcher.take(&part.object).await?;
            let section = section_of(source, &part.object, &object, task)?;
            let mut refused = None;
            let walked = walk(source.prefix, &part.object, section, |row| {
                each(task, row).map_err(|error| {
                    refused = Some(error);
                    StateError::Interrupted("loading state")
                })
            });
            if let Some(error) = refused {
                return Err(LoadError::Row { task: task.clone(), error });
            }
            walked?;
        }
    }
    Ok(manifests)
}

/// The manifests of tasks, each with the object that its commit names: all that the collector, or a look at
/// the state from outside, needs to know. No rows are read.
///
/// # Errors
/// [`StateError`] when a named object is missing, corrupt, or another one.
pub async fn read_manifests(
    source: ObjectSource<'_>,
    wanted: &[(TaskId, String)],
) -> Result<BTreeMap<TaskId, Manifest>, StateError> {
    named_objects(source, wanted).await.map(|(_, manifests)| manifests)
}

type Named = (HashMap<String, Rc<StateObject>>, BTreeMap<TaskId, Manifest>);

async fn named_objects(source: ObjectSource<'_>, wanted: &[(TaskId, String)]) -> Result<Named, StateError> {
    let by = |task: &TaskId| format!("the committed offset of task {task}");
    let needs = wanted.iter().map(|(task, object)| (object.clone(), by(task))).collect();
    let mut fetcher = Fetcher::new(source, needs, HashMap::new());
    let mut named = HashMap::new();
    let mut manifests = BTreeMap::new();
    for (task, object) in wanted {
        let found = fetcher.take(object).await?;
        manifests.insert(task.clone(), section_of(source, object, &found, task)?.manifest.clone());
        named.insert(object.clone(), found);
    }
    Ok((named, manifests))
}

pub(super) fn section_of<'o>(
    source: ObjectSource<'_>,
    relative: &str,
    object: &'o StateObject,
    task: &TaskId,
) -> Result<&'o super::StoredSection, StateError> {
    let no_task = || StateError::NoTask { path: source.full_path(relative), task: task.clone() };
    object.section(task).ok_or_else(no_task)
}
