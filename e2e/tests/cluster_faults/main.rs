//! Level: a whole cluster, the lab's. Each fault tool does to pods and to parts of the cluster what it says, and
//! undoes it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod parts;
mod pods;
