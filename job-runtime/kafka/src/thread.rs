//! Runs blocking calls of librdkafka away from the slot's thread.
//!
//! Each gets a thread of its own, not one of an executor's pool: a call that hangs until its time-out must
//! not keep an executor from shutting down.

use freshet_log::LogError;
use tokio::sync::oneshot;

/// The result of `work`, run on a new thread. When the future is dropped, the work goes on and its result is lost.
pub(crate) async fn away<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    let (reply, answer) = oneshot::channel();
    spawn(name, move || {
        // Nobody may be waiting any more.
        let _ = reply.send(work());
    })?;
    answer.await.unwrap_or_else(|_| Err(LogError::Refused(format!("the thread `{name}` ended without an answer"))))
}

/// Starts a named thread.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), LogError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(|error| LogError::Unavailable(format!("the system gives no thread `{name}`: {error}")))
}
