//! Level: real cluster. The cluster itself: it comes up from wherever it was interrupted, behaves as any cluster
//! does, and leaves nothing.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod behaviour;
mod extras;
mod kubectl;
mod life;
