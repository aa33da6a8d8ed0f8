//! A root file system to be: paths, modes, and where bytes come from. Everything belongs to root and has no
//! time, so that the same input gives the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use crate::LabError;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    /// A folder.
    Folder { mode: u32 },
    /// A file with this text.
    Text(String),
    /// A copy of a file of this machine.
    Copy { from: PathBuf, mode: u32 },
    /// A symbolic link.
    Link(String),
}

/// A root file system to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Root {
    /// By path without the leading `/`; sorted, so that a folder comes before what is in it.
    entries: BTreeMap<PathBuf, Entry>,
}

impl Root {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty folder at the absolute `path`, for instance with mode `0o1777`.
    #[must_use]
    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.with(path, Entry::Folder { mode })
    }

    /// A file that everybody may read, with this text.
    #[must_use]
    pub fn text(self, path: &str, text: impl Into<String>) -> Self {
        self.with(path, Entry::Text(text.into()))
    }

    /// A copy of the file `from`, which everybody may read.
    #[must_use]
    pub fn file(self, path: &str, from: &Path) -> Self {
        self.with(path, Entry::Copy { from: from.to_owned(), mode: 0o644 })
    }

    /// A copy of the program `from`, which everybody may run.
    #[must_use]
    pub fn program(self, path: &str, from: &Path) -> Self {
        self.with(path, Entry::Copy { from: from.to_owned(), mode: 0o755 })
    }

    /// A symbolic link to `target`.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.with(path, Entry::Link(target.to_owned()))
    }

    fn with(mut self, path: &str, entry: Entry) -> Self {
        let path = Path::new(path.trim_start_matches('/'));
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            self.entries.entry(parent.to_owned()).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.entries.insert(path.to_owned(), entry);
        self
    }

    /// Its paths, with the leading `/`, in order.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        self.entries.keys().map(|path| format!("/{}", path.display()))
    }

    /// Writes it as a tar archive.
    ///
    /// # Errors
    /// When a file can't be read, or `out` not be written.
    pub fn write_tar(&self, out: impl Write) -> Result<(), LabError> {
        let mut builder = Builder::new(out);
        for (path, entry) in &self.entries {
            entry.append(path, &mut builder)?;
        }
        builder.into_inner().and_then(|mut out| out.flush()).map_err(LabError::file("ending", "a layer"))
    }
}

impl Entry {
    fn append(&self, path: &Path, builder: &mut Builder<impl Write>) -> Result<(), LabError> {
        let failed = LabError::file("adding to a layer", path);
        let done = match self {
            // A trailing slash: readers tell folders by it.
            Self::Folder { mode } => {
                builder.append_data(&mut header(EntryType::Directory, *mode, 0), path.join(""), io::empty())
            }
            Self::Text(text) => {
                builder.append_data(&mut header(EntryType::Regular, 0o644, text.len() as u64), path, text.as_bytes())
            }
            Self::Copy { from, mode } => {
                let file = File::open(from).map_err(LabError::file("opening", from))?;
                let size = file.metadata().map_err(LabError::file("looking at", from))?.len();
                builder.append_data(&mut header(EntryType::Regular, *mode, size), path, file)
            }
            Self::Link(target) => builder.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target),
        };
        done.map_err(failed)
    }
}

/// The header of an entry that belongs to root and has no time.
pub(super) fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(root: &Root) -> Vec<u8> {
        let mut bytes = Vec::new();
        root.write_tar(&mut bytes).expect("memory takes everything");
        bytes
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_the_order_of_making_does_not_matter() {
        let one = Root::new().text("/etc/passwd", "x").folder("/tmp", 0o1777).link("/bin/sh", "busybox");
        let other = Root::new().link("/bin/sh", "busybox").folder("/tmp", 0o1777).text("/etc/passwd", "x");
        assert_eq!(one.paths().collect::<Vec<_>>(), ["/bin", "/bin/sh", "/etc", "/etc/passwd", "/tmp"]);
        assert_eq!(tar_of(&one), tar_of(&other));
    }

    #[test]
    fn entries_are_roots_and_have_no_time() {
        let scratch = crate::servers::Scratch::new("image-root").expect("a scratch folder");
        let program = scratch.path().join("program");
        std::fs::write(&program, "bytes").expect("it can be written");
        let root = Root::new().program("/usr/bin/it", &program).folder("/tmp", 0o1777).link("/it", "usr/bin/it");
        let bytes = tar_of(&root);
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().expect("an archive") {
            let entry = entry.expect("an entry");
            let header = entry.header();
            let numbers = (header.uid().expect("uid"), header.gid().expect("gid"), header.mtime().expect("mtime"));
            assert_eq!(numbers, (0, 0, 0));
            let path = entry.path().expect("a path").display().to_string();
            seen.push((path, header.mode().expect("a mode"), header.entry_type()));
        }
        let wanted = [
            ("it", 0o777, EntryType::Symlink),
            ("tmp/", 0o1777, EntryType::Directory),
            ("usr/", 0o755, EntryType::Directory),
            ("usr/bin/", 0o755, EntryType::Directory),
            ("usr/bin/it", 0o755, EntryType::Regular),
        ];
        assert_eq!(seen, wanted.map(|(path, mode, kind)| (path.to_owned(), mode, kind)));
    }

    #[test]
    fn a_file_that_is_gone_is_named() {
        let root = Root::new().file("/etc/ssl/certs/ca-certificates.crt", Path::new("/nowhere/certificates"));
        let error = root.write_tar(io::sink()).expect_err("it is not there").to_string();
        assert!(error.contains("/nowhere/certificates"), "{error}");
    }
}
