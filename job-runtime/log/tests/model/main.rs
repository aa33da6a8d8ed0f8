//! The model broker, in a simulation and embedded.

mod cluster;
mod embedded;
mod exactly_once;
mod log;
mod transactions;
