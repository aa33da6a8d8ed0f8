//! Topics: the Kafka topic that each names, made and kept as the resource says.

use tokio::sync::watch;

use crate::context::Context;
use crate::run::{Watches, asked};

/// Reconciles Topics until `stopping` is true.
pub async fn control(_context: Context, _watches: Watches, stopping: watch::Receiver<bool>) {
    asked(stopping).await;
}
