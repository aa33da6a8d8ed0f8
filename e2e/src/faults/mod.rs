//! Faults, for tests: each is done by a function and undone by the value that it gives.
//!
//! ```text
//! undo.rs      the value: undoes when it is told to, dropped, or when its process is killed
//! processes.rs kill, freeze and thaw a process inside a pod, found from outside by its container's id
//! links.rs     cut a link between a pod and a port, or slow everything that leaves a pod
//! parts.rs     kill, freeze and unplug brokers, the store, the API server, nodes
//! quotas.rs    a quota of the brokers on what a client may read
//! disks.rs     a small disk, and a disk that is full
//! weather.rs   a proxy in front of S3 that answers 503, slowly, or not at all
//! leases.rs    a lease whose holder lives in another time
//! ```
//!
//! # How a fault is undone
//! A test that fails unwinds, and its guards undo what they did. A test that is killed does not unwind: so the
//! undoing stands ready *before* the fault is done, in a shell of its own that waits on a pipe. However the test
//! ends, the pipe closes, and the shell undoes. What a fault changes outside of the test's own namespace (packet
//! filters, mounts, stopped processes) is always undone by such a shell.
//!
//! These tools reach into namespaces of this machine, as root: they work on the lab's cluster, not on one elsewhere.

mod disks;
mod leases;
mod links;
pub mod parts;
mod processes;
mod quotas;
mod undo;
pub mod weather;

pub use disks::{SmallDisk, fill};
pub use leases::{LeaseSkew, Skew, skew_lease};
pub use links::{Direction, Namespace, cut, slow};
pub use processes::{Container, Signal};
pub use quotas::throttle_reads;
pub use undo::{Step, Undo};
pub use weather::{FaultyS3, Weather};
