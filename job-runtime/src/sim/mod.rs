//! The simulation: a whole cluster from one seed, the runtime's real code in it, and an oracle that counts
//! again.
//!
//! ```text
//!  seed ─▶ scenario: job, input, weather, misfortunes
//!             │
//!             ▼                       ┌ slot 0 ┐ slot::run, the code of a worker,
//!   kubelet ──starts, restarts──────▶ │ slot 1 │ with its own client, store and clock
//!   dealer  ──hands out generations─▶ └ slot … ┘
//!             │                          │   │
//!   misfortunes: kills at labelled   model broker, store behind faults
//!   steps, zombies, rescales, …          │
//!             ▼                          ▼
//!   the sky clears ───────────▶ committed output == recount ?
//! ```
//!
//! [`simulate`] runs one seed. It ends with a list of violations, which is empty when every record of the
//! input has come to what the recount says exactly once, in the order of its key, within a deadline after the
//! last fault. Some scenarios must end in a refusal instead, and by its right name: offsets that expired, a
//! state object in which a bit has changed.
//!
//! The same seed gives the same [`Outcome::trace_hash`], whatever the machine.

mod cluster;
mod input;
mod oracle;
mod plans;
mod run;
mod scenario;
mod strikes;
mod updates;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use freshet_env::{PlantedBug, plant};

pub use plans::{Frame, Grouping, Shape};
pub use scenario::{Dance, Kind, Misfortune, Scenario, StoreWeather, Strike};

/// How a seed is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A mistake that is switched on meanwhile.
    pub bug: Option<PlantedBug>,
    /// Only scenarios of this kind.
    pub kind: Option<Kind>,
    /// How many of the last events are kept for reading.
    pub keep_trace: usize,
}

/// What one seed came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The kind of its scenario.
    pub kind: Kind,
    /// The hash of everything that happened.
    pub trace_hash: u64,
    /// What should not have happened.
    pub violations: Vec<String>,
    /// How much happened.
    pub figures: Figures,
    /// The last events, if they were to be kept.
    pub trace: Vec<String>,
}

/// How much happened in a simulation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// How long it took on its own clock.
    pub virtual_time: Duration,
    /// Epochs that workers knew to be committed.
    pub epochs: u64,
    /// Processes that were started.
    pub processes: u32,
    /// Records of the input.
    pub records: usize,
    /// The labelled steps at which a process was struck, and whether it was killed there (or stood still).
    pub struck: Vec<(&'static str, bool)>,
}

/// Runs the scenario of `seed`. A panic of the code in it is a violation too.
#[must_use]
pub fn simulate(seed: u64, options: &Options) -> Outcome {
    plant(options.bug);
    let ran = catch_unwind(AssertUnwindSafe(|| run::run(seed, options.kind, options.keep_trace)));
    plant(None);
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome {
            seed,
            kind: options.kind.unwrap_or(Kind::Chaos),
            trace_hash: 0,
            violations: vec![format!("panic: {}", text.unwrap_or_default())],
            figures: Figures::default(),
            trace: Vec::new(),
        }
    })
}
