//! StreamJobs: the workers that each names, made, resized, changed and stopped as the resource says.

mod key;
pub mod names;

use tokio::sync::watch;

pub use key::{ControlKey, KeyError};

use crate::context::Context;
use crate::run::{Watches, asked};

/// Reconciles StreamJobs until `stopping` is true.
pub async fn control(_context: Context, _watches: Watches, _key: ControlKey, stopping: watch::Receiver<bool>) {
    asked(stopping).await;
}
