//! Everything that is not a function of its input: clock, timers, chance, labelled crash points
//! and planted bugs.
//!
//! Freshet's decisions are pure; what surrounds them takes an [`Env`]. The real one reads the
//! machine's clock and sleeps on tokio's timers. The simulation's one has a virtual clock, a seeded
//! random source and crash points that end a slot in the middle of whatever it was doing, so that a
//! whole run is a function of its seed.
//!
//! All futures of the runtime are local to one thread (`?Send`): a slot is one thread, and the
//! simulation runs every slot on one executor.
#![warn(clippy::disallowed_methods)]

mod faults;
mod real;
pub mod sim;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

pub use faults::{PlantedBug, planted};
#[cfg(feature = "faults")]
pub use faults::{plant, plant_from_environment};
pub use real::{RealEnv, wall_clock_ms};

/// A future that stays on its thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Clock, timers and chance, handed to all code that acts.
pub trait Env {
    /// Wall-clock time in milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;

    /// Time since some fixed point, for durations; never goes back.
    fn monotonic(&self) -> Duration;

    /// Completes once `duration` has passed on this environment's clock.
    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()>;

    /// 64 random bits: for names that must be unique and for jitter, never for decisions about data.
    fn random_u64(&self) -> u64;

    /// A labelled step at which a test may end this slot. Completes at once unless a fault is armed
    /// for `label`; when one is, it never completes (simulation) or ends the process (`kill -9`).
    fn crash_point(&self, label: &'static str) -> LocalFuture<'static, ()>;

    /// Runs CPU-heavy or blocking work off the slot's thread where there is such a place, and in
    /// place where there is none (simulation).
    fn offload(&self, work: Box<dyn FnOnce() + Send + 'static>) -> LocalFuture<'static, ()>;

    /// Reports an event that a run must repeat exactly when its seed is repeated: it goes into the
    /// simulation's trace hash. Outside of the simulation it does nothing.
    fn trace(&self, _event: std::fmt::Arguments<'_>) {}
}

/// An environment shared by the parts of one slot.
pub type SharedEnv = Rc<dyn Env>;

/// The future `work`, or `None` when `limit` passes first.
pub async fn deadline<T>(env: &SharedEnv, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    use futures::future::{Either, select};
    let work = std::pin::pin!(work);
    match select(work, env.sleep(limit)).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(((), _)) => None,
    }
}

/// Every labelled step of the epoch commit and the take-over, in the order in which they are passed.
pub const CRASH_POINTS: &[&str] = &[
    "takeover.generation-written",
    "takeover.fenced",
    "takeover.fence-marked",
    "takeover.own-id-initialised",
    "takeover.looked-again",
    "takeover.offsets-read",
    "takeover.state-loaded",
    "begin.positions-committed",
    "begin.marked",
    "epoch.snapshot-taken",
    "epoch.object-written",
    "epoch.outputs-acknowledged",
    "epoch.offsets-sent",
    "epoch.committed",
    "stop.pointer-written",
];
