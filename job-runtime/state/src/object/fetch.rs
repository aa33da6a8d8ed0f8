//! Fetching objects: each one once, several at a time, and let go as soon as nobody needs it any more.

use std::collections::HashMap;
use std::rc::Rc;

use futures::StreamExt as _;
use futures::stream::LocalBoxStream;

use super::{ObjectError, StateObject, StoredSection, decode};
use crate::StateError;
use crate::rows::Row;
use crate::store::Store;

/// How many objects are fetched at a time.
const AT_A_TIME: usize = 8;

/// Where the objects of a lineage are.
#[derive(Clone, Copy)]
pub struct ObjectSource<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The lineage's folder in it, ending in `/`. Its last part is the lineage's id.
    pub prefix: &'a str,
}

impl std::fmt::Debug for ObjectSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectSource").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl<'a> ObjectSource<'a> {
    /// The lineage's id.
    #[must_use]
    pub fn lineage(&self) -> &'a str {
        let folder = self.prefix.trim_end_matches('/');
        folder.rsplit('/').next().unwrap_or(folder)
    }

    /// Where the store has the object `relative`.
    #[must_use]
    pub fn full_path(&self, relative: &str) -> String {
        format!("{}{relative}", self.prefix)
    }

    /// The object `relative`, whole and in its own place. `named_by` says in an error who asks for it.
    ///
    /// # Errors
    /// [`StateError`]: the store's, or that the object is missing, corrupt, newer, or another one.
    pub async fn object(&self, relative: &str, named_by: &str) -> Result<StateObject, StateError> {
        let path = self.full_path(relative);
        let Some(bytes) = self.store.get(&path).await? else {
            return Err(StateError::Missing { path, named_by: named_by.to_owned() });
        };
        let object = decode(&bytes).map_err(|error| match error {
            ObjectError::Corrupt { at, what } => StateError::Corrupt { path: path.clone(), what, at: at as u64 },
            ObjectError::Newer { found } => StateError::Newer { path: path.clone(), found, known: super::VERSION },
        })?;
        let header = &object.header;
        if header.lineage != self.lineage() {
            let (found, wanted) = (header.lineage.clone(), self.lineage().to_owned());
            return Err(StateError::Foreign { path, field: "lineage", found, wanted });
        }
        if header.name.to_string() != relative {
            let (found, wanted) = (header.name.to_string(), relative.to_owned());
            return Err(StateError::Foreign { path, field: "name", found, wanted });
        }
        Ok(object)
    }
}

/// Hands every row of `section`, which was read from the object `relative` below `prefix`, to `each`.
pub(super) fn walk<'s>(
    prefix: &str,
    relative: &str,
    section: &'s StoredSection,
    mut each: impl FnMut(Row<'s>) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let corrupt = |what: String, at: u64| StateError::Corrupt { path: format!("{prefix}{relative}"), what, at };
    let mut count = 0;
    for row in section {
        each(row.map_err(|damage| corrupt(damage.to_string(), section.rows_at + damage.at as u64))?)?;
        count += 1;
    }
    if count == section.row_count {
        return Ok(());
    }
    let what = format!("task {} has {count} rows, {} were written", section.task, section.row_count);
    Err(corrupt(what, section.rows_at))
}

/// Objects in the order in which they are needed.
pub(crate) struct Fetcher<'a> {
    coming: LocalBoxStream<'a, Result<(String, StateObject), StateError>>,
    here: HashMap<String, Rc<StateObject>>,
    needed: HashMap<String, usize>,
}

impl<'a> Fetcher<'a> {
    /// Begins to fetch. `needs` are the objects in the order in which [`Self::take`] will be called for them,
    /// each with who names it; `here` are those that were fetched already.
    pub(crate) fn new(
        source: ObjectSource<'a>,
        needs: Vec<(String, String)>,
        mut here: HashMap<String, Rc<StateObject>>,
    ) -> Self {
        let mut needed = HashMap::new();
        let mut order = Vec::new();
        for (relative, named_by) in needs {
            let uses = needed.entry(relative.clone()).or_insert(0);
            *uses += 1;
            if *uses == 1 && !here.contains_key(&relative) {
                order.push((relative, named_by));
            }
        }
        here.retain(|relative, _| needed.contains_key(relative));
        let fetches = futures::stream::iter(order).map(move |(relative, named_by)| async move {
            let object = source.object(&relative, &named_by).await?;
            Ok((relative, object))
        });
        Self { coming: fetches.buffered(AT_A_TIME).boxed_local(), here, needed }
    }

    /// The next object; it stays here until it was taken as often as it is needed.
    pub(crate) async fn take(&mut self, relative: &str) -> Result<Rc<StateObject>, StateError> {
        while !self.here.contains_key(relative) {
            let Some(next) = self.coming.next().await else {
                return Err(StateError::Interrupted("fetching state objects"));
            };
            let (path, object) = next?;
            self.here.insert(path, Rc::new(object));
        }
        let object = Rc::clone(&self.here[relative]);
        let uses = self.needed.entry(relative.to_owned()).or_insert(1);
        *uses = uses.saturating_sub(1);
        if *uses == 0 {
            self.here.remove(relative);
        }
        Ok(object)
    }
}
