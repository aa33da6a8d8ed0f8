//! The machine's own clock, timers and random source. The only room that may touch them.
#![allow(clippy::disallowed_methods, reason = "this is the room that the other rooms get their clock and chance from")]

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Env, LocalFuture};

/// The environment of a real process: machine clock, tokio timers, random bits seeded by the
/// operating system.
#[derive(Debug)]
pub struct RealEnv {
    started: Instant,
    #[cfg(feature = "faults")]
    crash: crate::faults::CrashSwitch,
}

impl RealEnv {
    /// An environment whose monotonic clock starts now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            #[cfg(feature = "faults")]
            crash: crate::faults::CrashSwitch::from_environment(),
        }
    }
}

impl Default for RealEnv {
    fn default() -> Self {
        Self::new()
    }
}

/// The machine's wall clock in milliseconds since the Unix epoch, for threads that are no slot's: an
/// environment stays on its thread.
#[must_use]
pub fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Env for RealEnv {
    fn now_ms(&self) -> i64 {
        wall_clock_ms()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn random_u64(&self) -> u64 {
        // Each `RandomState` is keyed anew from the operating system's seed; hashing the time on top
        // keeps two calls apart even where that seed is only counted up.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u128(self.started.elapsed().as_nanos());
        hasher.write_u32(std::process::id());
        hasher.finish()
    }

    fn crash_point(&self, label: &'static str) -> LocalFuture<'static, ()> {
        #[cfg(feature = "faults")]
        self.crash.pass(label);
        #[cfg(not(feature = "faults"))]
        let _ = label;
        Box::pin(std::future::ready(()))
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send + 'static>) -> LocalFuture<'static, ()> {
        Box::pin(async move {
            // A panic in the work reaches the caller through its missing result.
            let _ = tokio::task::spawn_blocking(work).await;
        })
    }
}
