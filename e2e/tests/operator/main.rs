//! Level: real API server, pods faked. The operator runs in the test's process against etcd and kube-apiserver; what a
//! cluster's other parts would do (making pods of StatefulSets and Jobs, running them) a test does by writing pods'
//! status, and workers are small servers that speak the control protocol. What is tried is what the operator writes,
//! in which order, and what it says.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod crashes;
mod fakes;
mod faults;
mod gate;
mod leaders;
mod life;
mod world;
mod wounds;
