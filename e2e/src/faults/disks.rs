//! Disks: a small one for a server's data, and one without room.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Step, Undo};
use crate::LabError;
use crate::install::command::run;

/// The name of the file that takes up what room there is.
const FILLER: &str = ".freshet-filler";

/// A small disk in memory, mounted on a folder. Unmounted at the end, with what was written.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    undo: Undo,
}

impl SmallDisk {
    /// Mounts a disk of `bytes` on the new folder `path`.
    ///
    /// # Errors
    /// When it can't be mounted: only root may.
    pub fn mount(path: &Path, bytes: u64) -> Result<Self, LabError> {
        fs::create_dir_all(path).map_err(LabError::file("making", path))?;
        let shown = path.display().to_string();
        // Lazily: a server that was not stopped must not keep it for ever.
        let undo =
            Undo::prepare(format!("a small disk is mounted on {shown}"), &[Step::new(["umount", "-l", &shown])])?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=755"), "freshet-small-disk", &shown]);
        match run(&mut mount) {
            Ok(_) => Ok(Self { path: path.to_owned(), undo }),
            Err(error) => {
                undo.forget();
                Err(error)
            }
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts it now.
    ///
    /// # Errors
    /// When that fails.
    pub fn unmount(self) -> Result<(), LabError> {
        self.undo.now()
    }
}

/// Fills the small disk that `folder` is on until nothing more can be written; undone by removing what fills it.
///
/// Give a disk that is small: one in memory ([`SmallDisk`], or a pod's `emptyDir` of `medium: Memory` as
/// `/proc/<process>/root/<path>`).
///
/// # Errors
/// When more than `at_most_bytes` would be needed: it is not the small disk that was meant.
pub fn fill(folder: &Path, at_most_bytes: u64) -> Result<Undo, LabError> {
    const BLOCK: usize = 1 << 16;
    let path = folder.join(FILLER);
    let shown = path.display().to_string();
    let undo = Undo::prepare(format!("{} is full", folder.display()), &[Step::new(["rm", "-f", &shown])])?;
    let (undo, ()) = undo.around(|| {
        let mut file = File::create(&path).map_err(LabError::file("making", &path))?;
        let mut written = 0;
        let mut block = BLOCK;
        // Smaller and smaller blocks, so that not a byte is left.
        while block > 0 {
            match file.write(&vec![0; block]) {
                Ok(taken) => written += taken as u64,
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => block /= 2,
                Err(error) => return Err(LabError::file("filling", &path)(error)),
            }
            if written > at_most_bytes {
                return Err(LabError::Wrong(format!(
                    "{} takes more than {at_most_bytes} bytes: it is not the small disk that was meant",
                    folder.display()
                )));
            }
        }
        Ok(())
    })?;
    Ok(undo)
}
