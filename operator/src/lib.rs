//! The operator: it makes what Topics and StreamJobs say true, and says truly how they are.
//!
//! ```text
//!              ┌ observe ┐   ┌ validate ┐   ┌ decide ┐   ┌ build ┐   ┌ apply ┐   ┌ status ┐
//!  API server ─▶   IO    ├──▶│   pure   ├──▶│  pure  ├──▶│ pure  ├──▶│  IO   ├──▶│ pure,  │─▶ one patch
//!  workers ────▶         │   └──────────┘   └────────┘   └───────┘   └───────┘   │ then IO│   and events
//!              └─────────┘                                                       └────────┘
//! ```
//!
//! Each kind is a room ([`streamjob`], [`topic`]) with these steps, and each step's module says whether it does
//! IO. Facts are gathered once; a decision is an enum; what is built are whole objects; what is applied has a
//! deterministic name, so that a pass which is cut off anywhere is simply made again.
//!
//! # What holds it together
//! * [`config`]: the settings, from arguments alone.
//! * [`context`]: what every room needs; small.
//! * [`client`]: the API client, with a place for a layer under it (tests put faults there).
//! * [`watch`]: one watch a kind, shared by all rooms: a store, and a stream of changes. [`held`]: how objects are kept of
//!   which little is read.
//! * [`controller`]: runs passes: one after another for each resource, many side by side.
//! * [`conditions`]: how conditions are merged, so that transition times move only on change.
//! * [`lead`]: one replica leads by Lease, others stand by. The lease keeps work from being done twice; what keeps
//!   two workers apart is the generation log, never the lease.
//! * [`serve`], [`metrics`]: health and metrics. [`run`]: the process as a whole.
//!
//! # What it may do
//! `rbac.md` beside this file lists the API verbs that each step uses. It reads no Secret: tokens of workers are
//! computed from the operator's own key, and credentials of jobs are mounted by the jobs' own pods.

pub mod client;
pub mod clock;
pub mod conditions;
pub mod config;
pub mod context;
pub mod controller;
pub mod events;
pub mod held;
pub mod lead;
pub mod metrics;
pub mod run;
pub mod serve;
pub mod streamjob;
pub mod topic;
pub mod watch;

use std::process::ExitCode;

use clap::Parser;
use freshet::observe::logs;

/// Runs the operator that the process's arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    let config = config::Config::parse();
    let logged = logs::Settings::from_environment("info").and_then(|settings| logs::init(&settings, None));
    if let Err(error) = logged {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime can't be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the operator ends");
            ExitCode::FAILURE
        }
    }
}
