//! Freshet's runtime: see the README.

pub mod demo;
pub mod job;
pub mod metrics;
pub mod observe;
pub mod slot;
