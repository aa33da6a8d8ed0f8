//! Does IO: the one room that asks the machine for the time and waits. Others take a [`Clock`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

/// Tells the time, ms since the Unix epoch.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Clock").finish()
    }
}

impl Clock {
    /// The machine's.
    #[must_use]
    pub fn machine() -> Self {
        Self(Arc::new(freshet_env::wall_clock_ms))
    }

    /// The time now, ms since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        (self.0)()
    }

    /// The time now, in whole seconds, as the API writes it.
    #[must_use]
    pub fn now(&self) -> Time {
        time(self.now_ms())
    }
}

/// A moment in ms since the Unix epoch as the API writes it: in whole seconds.
#[must_use]
pub fn time(ms: i64) -> Time {
    Time(Timestamp::from_second(ms.div_euclid(1_000)).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A moment of the API in ms since the Unix epoch.
#[must_use]
pub fn millis(time: &Time) -> i64 {
    time.0.as_millisecond()
}

/// Waits.
pub async fn sleep(duration: Duration) {
    #[allow(clippy::disallowed_methods, reason = "the room where the operator waits")]
    tokio::time::sleep(duration).await;
}

/// The outcome of `work`, or `None` when `limit` passes first.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    #[allow(clippy::disallowed_methods, reason = "the room where the operator waits")]
    tokio::time::timeout(limit, work).await.ok()
}
