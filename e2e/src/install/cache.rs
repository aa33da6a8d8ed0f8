//! The cache folder: final names, temporary folders, the lock, and the line that each step prints.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::LabError;

/// The folder that installed tools and servers live in.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache folder of this machine's user: `FRESHET_CACHE`, else `$XDG_CACHE_HOME/freshet`, else
    /// `~/.cache/freshet`.
    #[must_use]
    pub fn from_environment() -> Self {
        let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = named("FRESHET_CACHE")
            .or_else(|| named("XDG_CACHE_HOME").map(|base| base.join("freshet")))
            .or_else(|| named("HOME").map(|home| home.join(".cache/freshet")))
            .unwrap_or_else(|| std::env::temp_dir().join("freshet-cache"));
        Self { root }
    }

    /// A cache in `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that programs are installed into, for `PATH`.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// Waits until no other installer works on this cache, and holds it until the guard is dropped (the
    /// system lets it go when a process dies).
    pub(super) fn lock(&self) -> Result<File, LabError> {
        fs::create_dir_all(&self.root).map_err(LabError::file("making", &self.root))?;
        let path = self.root.join("install.lock");
        let file = File::create(&path).map_err(LabError::file("opening", &path))?;
        if file.try_lock().is_err() {
            println!("another installer is at work; waiting for it");
            file.lock().map_err(LabError::file("locking", &path))?;
        }
        Ok(file)
    }

    /// Makes the folder `name` of the cache by `fill`, which gets an empty temporary folder. Skipped when it is
    /// there already.
    pub(super) fn folder(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<(), LabError>,
    ) -> Result<PathBuf, LabError> {
        let done = self.root.join(name);
        step(name, done.exists(), || {
            let work = Work::new(self, name)?;
            let filled = work.path.join("filled");
            fs::create_dir(&filled).map_err(LabError::file("making", &filled))?;
            fill(&filled)?;
            rename(&filled, &done)
        })?;
        Ok(done)
    }

    /// Makes the program `file_name` in `bin` by `make`, which gets an empty temporary folder and returns the
    /// program's path in it. Skipped when it is there already.
    pub(super) fn program(
        &self,
        file_name: &str,
        make: impl FnOnce(&Path) -> Result<PathBuf, LabError>,
    ) -> Result<PathBuf, LabError> {
        let done = self.bin().join(file_name);
        step(file_name, done.exists(), || {
            let work = Work::new(self, file_name)?;
            let made = make(&work.path)?;
            set_executable(&made)?;
            rename(&made, &done)
        })?;
        Ok(done)
    }

    /// Points `bin/<name>` at the program `file_name` beside it.
    pub(super) fn link(&self, name: &str, file_name: &str) -> Result<(), LabError> {
        let link = self.bin().join(name);
        if fs::read_link(&link).is_ok_and(|target| target == Path::new(file_name)) {
            return Ok(());
        }
        let fresh = self.bin().join(format!(".{name}.{}", std::process::id()));
        fs::remove_file(&fresh).ok();
        std::os::unix::fs::symlink(file_name, &fresh).map_err(LabError::file("linking", &fresh))?;
        rename(&fresh, &link)
    }
}

/// A temporary folder inside the cache, on the same file system as the final names; removed at the end.
struct Work {
    path: PathBuf,
}

impl Work {
    fn new(cache: &Cache, name: &str) -> Result<Self, LabError> {
        // Only the holder of the lock gets here: what an interrupted installer left can go.
        let path = cache.root.join("tmp").join(name);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(LabError::file("removing", &path))?;
        }
        fs::create_dir_all(&path).map_err(LabError::file("making", &path))?;
        Ok(Self { path })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Go writes its caches read-only; what can't be removed now is removed by the next run or by hand.
        fs::remove_dir_all(&self.path).ok();
    }
}

/// Runs one step and prints how long it took.
fn step(name: &str, done: bool, run: impl FnOnce() -> Result<(), LabError>) -> Result<(), LabError> {
    if done {
        println!("{name}: there");
        return Ok(());
    }
    println!("{name}: installing …");
    let started = Instant::now();
    run()?;
    println!("{name}: installed in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), LabError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(LabError::file("making", parent))?;
    }
    fs::rename(from, to).map_err(LabError::file("moving into place", to))
}

fn set_executable(path: &Path) -> Result<(), LabError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(LabError::file("making executable", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> Cache {
        let root = std::env::temp_dir().join(format!("freshet-cache-{}-{name}", std::process::id()));
        fs::remove_dir_all(&root).ok();
        Cache::new(root)
    }

    #[test]
    fn a_failed_step_leaves_nothing_under_the_final_name_and_the_next_run_does_it_again() {
        let cache = scratch("failed");
        let failed = cache.folder("thing-1", |folder| {
            fs::write(folder.join("half"), "x").expect("a temporary folder can be written");
            Err(LabError::MissingProgram { program: "x".into(), remedy: "none".into() })
        });
        assert!(failed.is_err());
        assert!(!cache.root().join("thing-1").exists(), "a half-made folder stands under its final name");

        let made = cache
            .folder("thing-1", |folder| {
                assert!(!folder.join("half").exists(), "the failed run's file is still there");
                fs::write(folder.join("whole"), "x").map_err(LabError::file("writing", folder))
            })
            .expect("the second run succeeds");
        assert!(made.join("whole").exists());

        cache.folder("thing-1", |_| panic!("a step that is done ran again")).expect("skipped");
        fs::remove_dir_all(cache.root()).expect("the scratch cache can be removed");
    }

    #[test]
    fn a_second_installer_finds_the_cache_locked() {
        let cache = scratch("locked");
        let held = cache.lock().expect("nobody else holds it");
        let other = File::create(cache.root().join("install.lock")).expect("the lock file can be opened");
        assert!(other.try_lock().is_err(), "two installers hold the lock at once");
        drop(held);
        assert!(other.try_lock().is_ok(), "the lock stayed after its holder let it go");
        fs::remove_dir_all(cache.root()).expect("the scratch cache can be removed");
    }
}
