//! `freshet-simulate`: runs seeds of the simulation and says which fail.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use freshet::sim::{Kind, Options, Outcome, simulate};
use freshet_env::PlantedBug;

/// Runs a whole cluster from each seed, with faults, and counts its output again.
#[derive(Debug, Parser)]
#[command(name = "freshet-simulate")]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Switch on a planted bug, for instance SkipFence
    #[arg(long, value_parser = bug)]
    bug: Option<PlantedBug>,
    /// Only scenarios of this kind, for instance TakeOver
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Print the last events of each failing seed (of every seed, when only one is run)
    #[arg(long)]
    trace: bool,
    /// Go on after a failing seed
    #[arg(long)]
    keep_going: bool,
}

fn bug(text: &str) -> Result<PlantedBug, String> {
    let found = PlantedBug::ALL.iter().copied().find(|bug| format!("{bug:?}") == text);
    found.ok_or_else(|| format!("there are {:?}", PlantedBug::ALL))
}

fn kind(text: &str) -> Result<Kind, String> {
    let found = Kind::ALL.iter().copied().find(|kind| format!("{kind:?}") == text);
    found.ok_or_else(|| format!("there are {:?}", Kind::ALL))
}

/// What all threads share: a simulation stays on one.
struct Progress<'a> {
    arguments: &'a Arguments,
    options: Options,
    next: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Progress<'_> {
    fn work(&self) {
        let Arguments { seeds, first_seed, keep_going, .. } = *self.arguments;
        loop {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if n >= seeds || (!keep_going && self.failed.load(Ordering::Relaxed) > 0) {
                return;
            }
            let outcome = simulate(first_seed + n, &self.options);
            if !outcome.violations.is_empty() {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            self.print(&outcome);
            let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of(500) {
                println!("{done} seeds, {} failed", self.failed.load(Ordering::Relaxed));
            }
        }
    }

    fn print(&self, outcome: &Outcome) {
        let Outcome { seed, kind, trace_hash, violations, figures, trace } = outcome;
        let only = self.arguments.seeds == 1;
        if only || !violations.is_empty() {
            trace.iter().for_each(|line| println!("{line}"));
        }
        if !violations.is_empty() {
            println!("seed {seed} ({kind:?}) fails: {}", violations.join("; "));
            println!("  again: make simulate SEEDS=1 FIRST_SEED={seed}{}", self.arguments.others());
        }
        if only {
            println!("seed {seed} ({kind:?}): {figures:?}, trace hash {trace_hash:016x}");
        }
    }
}

impl Arguments {
    /// What else must be said to repeat a seed.
    fn others(&self) -> String {
        let mut said = Vec::new();
        if let Some(bug) = self.bug {
            said.push(format!("--bug {bug:?}"));
        }
        if let Some(kind) = self.kind {
            said.push(format!("--kind {kind:?}"));
        }
        if said.is_empty() { String::new() } else { format!(" ARGS=\"{}\"", said.join(" ")) }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let keep_trace = if arguments.trace { 100_000 } else { 0 };
    let options = Options { bug: arguments.bug, kind: arguments.kind, keep_trace };
    let zero = || AtomicU64::new(0);
    let progress = Progress { arguments: &arguments, options, next: zero(), done: zero(), failed: zero() };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| progress.work());
        }
    });
    let (done, failed) = (progress.done.into_inner(), progress.failed.into_inner());
    println!("{done} seeds from {}: {failed} failed", arguments.first_seed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
