//! What the scenarios on an API server, and on a whole cluster, have in common.
//!
//! ```text
//! kubernetes.rs    a client for plain functions; every wait has a deadline
//! definitions.rs   Freshet's own kinds on it, and manifests sent as files have them
//! surroundings.rs  which cluster: the one that KUBECONFIG names, else the lab's; where its Kafka and S3 are
//! scene.rs         one test's place on it: a namespace, topics and a bucket prefix of its own
//! pods.rs          pods of a scene, watched, asked and deleted
//! pilot.rs         the pilot's manifests, input and recount
//! operator.rs      the operator, installed by Helm; kubectl
//! jobs.rs          StreamJobs and Topics of a scene: changed, watched, and what they say
//! demo.rs          `make cluster-demo`: all of it in one command
//! bucket.rs        its objects, which go with it
//! report.rs        what a failed test leaves behind
//! ```

mod bucket;
mod definitions;
pub mod demo;
mod jobs;
mod kubernetes;
mod operator;
mod pilot;
mod pods;
mod report;
mod scene;
mod surroundings;

pub use bucket::objects;
pub use definitions::{Manifest, Verdict};
pub use jobs::{condition, told};
pub use kubernetes::{Kubernetes, MANAGER, refusal};
pub use operator::{DEPLOYMENT, Kubectl, NAMESPACE, Operator, STORE_SECRET};
pub use pilot::{Exact, Pilot, PilotFeed};
pub use pods::PlainPod;
pub use scene::{Scene, from_json};
pub use surroundings::Surroundings;
