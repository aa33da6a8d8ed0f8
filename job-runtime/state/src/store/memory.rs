//! A store in memory: for `memory://`, for tests, and for the simulation.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Created, Store, StoreError};

/// Objects in memory. Clones share them; they are gone with the last clone.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    objects: Rc<RefCell<BTreeMap<String, Bytes>>>,
}

impl MemoryStore {
    /// A store without objects.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.borrow().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.borrow().is_empty()
    }

    /// Puts `bytes` in the place of an object, as damage from outside would.
    #[cfg(any(test, feature = "faults"))]
    pub fn damage(&self, path: &str, bytes: Bytes) {
        self.objects.borrow_mut().insert(path.to_owned(), bytes);
    }
}

#[async_trait(?Send)]
impl Store for MemoryStore {
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let mut objects = self.objects.borrow_mut();
        if objects.contains_key(path) {
            return Ok(Created::Existed);
        }
        objects.insert(path.to_owned(), bytes);
        Ok(Created::New)
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.objects.borrow().get(path).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let objects = self.objects.borrow();
        let from = objects.range(prefix.to_owned()..);
        Ok(from.map(|(path, _)| path).take_while(|path| path.starts_with(prefix)).cloned().collect())
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        self.objects.borrow_mut().remove(path);
        Ok(())
    }

    #[cfg(feature = "faults")]
    async fn overwrite(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.objects.borrow_mut().insert(path.to_owned(), bytes);
        Ok(())
    }
}
