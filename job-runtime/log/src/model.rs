//! The model broker: see the crate essay.
