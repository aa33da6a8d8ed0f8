//! Level: a real API server and a real Kafka broker; the operator runs in the test's own process. Topics, one
//! behaviour a test.
//!
//! Each test has a namespace, and an operator that looks after it alone; those that kill a broker start one for
//! themselves.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod behind_our_back;
mod deletion;
mod keeping;
mod policies;
mod stage;
