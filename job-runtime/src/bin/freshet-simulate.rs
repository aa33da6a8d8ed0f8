//! `freshet-simulate`: runs seeds of the simulation and says which fail.

use std::process::ExitCode;

use clap::Parser;
use freshet::sim::{Kind, Options, simulate};
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

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let keep_trace = if arguments.trace { 100_000 } else { 0 };
    let options = Options { bug: arguments.bug, kind: arguments.kind, keep_trace };
    let mut failed = 0_u64;
    for n in 0..arguments.seeds {
        let seed = arguments.first_seed + n;
        let outcome = simulate(seed, &options);
        if arguments.trace && (arguments.seeds == 1 || !outcome.violations.is_empty()) {
            outcome.trace.iter().for_each(|line| println!("{line}"));
        }
        if !outcome.violations.is_empty() {
            failed += 1;
            println!("seed {seed} ({:?}) fails: {}", outcome.kind, outcome.violations.join("; "));
            println!("  again: make simulate SEEDS=1 FIRST_SEED={seed}");
            if !arguments.keep_going {
                return ExitCode::FAILURE;
            }
        } else if arguments.seeds == 1 {
            println!("seed {seed} ({:?}): {:?}, trace hash {:016x}", outcome.kind, outcome.figures, outcome.trace_hash);
        }
        if (n + 1) % 500 == 0 {
            println!("{} seeds, {failed} failed", n + 1);
        }
    }
    println!("{} seeds from {}: {failed} failed", arguments.seeds, arguments.first_seed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
