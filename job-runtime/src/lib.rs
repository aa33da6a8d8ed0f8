//! Freshet: see the README.

pub mod demo;
pub mod metrics;
pub mod observe;
