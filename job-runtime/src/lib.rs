//! Freshet's runtime: see the README.

pub mod cli;
pub mod control;
pub mod demo;
pub mod job;
pub mod manifest;
pub mod metrics;
pub mod observe;
pub mod query;
pub mod reporter;
#[cfg(feature = "faults")]
pub mod sim;
pub mod slot;
