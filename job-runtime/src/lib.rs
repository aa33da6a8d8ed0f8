//! Freshet's runtime: see the README.

pub mod job;
pub mod slot;
