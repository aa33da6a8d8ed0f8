//! See the crate essay.
