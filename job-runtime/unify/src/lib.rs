//! Nothing to call. Every crate of the workspace depends on this one, and this one on every external
//! dependency, so that Cargo resolves the same features for them whichever packages are selected.
//! Without it, `cargo build -p freshet` and `cargo test --workspace` would each build Arrow and
//! DataFusion anew. Code that is not called is not linked.
