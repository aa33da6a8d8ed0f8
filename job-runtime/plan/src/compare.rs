//! Comparing a plan with a state: see the crate essay.
