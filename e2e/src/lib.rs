//! The lab: real servers on one machine, and what tests them.
//!
//! Freshet is checked against the servers that it will meet, not against imitations: a real Kafka
//! broker and a real S3 server, started in a folder of their own, killed with -9 when a test says so,
//! and gone when the test process is gone, however it ended.
//!
//! ```text
//! install/   puts pinned tools and servers into the cache folder, each verified by checksum
//! servers/   starts, kills, restarts and stops them; free ports; log tails in every error
//! cluster/   a real Kubernetes, with its Kafka and S3, and an API server alone
//! scenario/  a job on a real Kafka, what is done to it, and the recount of what it must write
//! images/    container images of the project's binaries, without a registry
//! faults/    what goes wrong in the cluster, done and undone
//! nexmark/   records of Nexmark, and what its queries must give
//! fakes.rs   what controllers, kubelet and workers write, where there are none
//! bench/     the figures of docs/performance.md
//! bin/freshet-lab   all of these for people: `freshet-lab install`, `kafka`, `soak`, `bench`
//! ```
//!
//! Nothing here is part of what users run: the lab may read the machine's clock and environment.
#![allow(
    clippy::disallowed_methods,
    reason = "the lab starts real servers, on the machine's own clock and environment"
)]

pub mod bench;
pub mod cluster;
mod error;
pub mod fakes;
pub mod faults;
pub mod images;
pub mod install;
pub mod nexmark;
pub mod scenario;
pub mod servers;

pub use error::LabError;
