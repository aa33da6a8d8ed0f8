//! What the scenarios on an API server, and on a whole cluster, have in common.
//!
//! ```text
//! kubernetes.rs    a client for plain functions; every wait has a deadline
//! definitions.rs   Freshet's own kinds on it, and manifests sent as files have them
//! surroundings.rs  which cluster: the one that KUBECONFIG names, else the lab's; where its Kafka and S3 are
//! scene.rs         one test's place on it: a namespace, topics and a bucket prefix of its own
//! pods.rs          pods of a scene, watched, asked and deleted
//! pilot.rs         the pilot's manifests, input and recount
//! report.rs        what a failed test leaves behind
//! ```

mod definitions;
mod kubernetes;
mod pilot;
mod pods;
mod report;
mod scene;
mod surroundings;

pub use definitions::{Manifest, Verdict};
pub use kubernetes::{Kubernetes, MANAGER, refusal};
pub use pilot::{Exact, Pilot, PilotFeed};
pub use pods::PlainPod;
pub use scene::{Scene, from_json};
pub use surroundings::Surroundings;
