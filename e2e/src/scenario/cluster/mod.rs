//! What the scenarios on an API server, and on a whole cluster, have in common.
//!
//! ```text
//! kubernetes.rs    a client for plain functions; every wait has a deadline
//! definitions.rs   Freshet's own kinds on it, and manifests sent as files have them
//! ```

mod definitions;
mod kubernetes;

pub use definitions::{Manifest, Verdict};
pub use kubernetes::{Kubernetes, MANAGER, refusal};
