//! A folder for one server or one test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::LabError;

/// A new folder under the system's temporary folder, removed at the end, but kept (and named) when the test that
/// holds it fails.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new, empty folder; `name` is for people who look.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(name: &str) -> Result<Self, LabError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("freshet-{name}-{}-{count}", std::process::id()));
        if path.exists() {
            // A process with our number lived before us.
            std::fs::remove_dir_all(&path).map_err(LabError::file("removing", &path))?;
        }
        std::fs::create_dir_all(&path).map_err(LabError::file("making", &path))?;
        Ok(Self { path })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Scratch {
    /// Leaves the folder for a look.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        std::mem::ManuallyDrop::new(self).path.clone()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.path.display());
        } else {
            std::fs::remove_dir_all(&self.path).ok();
        }
    }
}
