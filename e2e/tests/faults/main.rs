//! Level: this machine, as root, with real servers. Each fault tool does what it says, and undoes it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod disks;
mod leases;
mod links;
mod weather;
