//! Level: a real Kafka broker. The log trait on Kafka, one behaviour a test.
//!
//! The tests of this binary share one broker and have topics, groups and transactional ids of their own;
//! those that kill a broker start one for themselves.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod admin;
mod consumer;
mod offsets;
mod outage;
mod producer;
mod shared;
mod topics;
