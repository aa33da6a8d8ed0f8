//! Container images without a registry: made from the project's own binaries, byte for byte the same from
//! the same input, and imported into the nodes of the lab's cluster.
//!
//! ```text
//! root.rs       what stands in an image's root file system, and where its bytes come from
//! libraries.rs  the shared libraries that a program needs, as the dynamic loader names them
//! archive.rs    the docker-archive: one layer, its configuration, its manifest
//! catalogue.rs  the images of the lab: which programs, which user, which entry point
//! ```
//!
//! An image holds the program, the dynamic loader and the libraries that the program is linked with, the
//! certificates of public authorities, and an `/etc/passwd` with the user that it runs as: no shell, no
//! package manager, nothing that is not needed. It runs as [`USER`], with a read-only root, under the restricted
//! Pod Security level.
//!
//! Its id is the digest of its configuration, which names the digest of its layer, which holds nothing but paths,
//! modes and bytes: no time and no user of the machine that made it. So an id that is there already means that
//! nothing is to be done, in the folder of archives as on a node.

mod archive;
mod catalogue;
mod libraries;
mod root;

pub use archive::Image;
pub use catalogue::{ImageName, USER, build, build_program};
pub use libraries::{Libraries, libraries_of};
pub use root::Root;

use std::path::PathBuf;

use crate::scenario::sibling_binary;

/// Where archives are kept: beside the programs that they are made from.
#[must_use]
pub fn folder() -> PathBuf {
    sibling_binary("images")
}
