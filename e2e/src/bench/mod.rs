//! The figures of `docs/performance.md`, each measured on a broker of its own and never asserted: a busy machine
//! is no bug. The table names cores and load beside them.
//!
//! ```text
//! throughput.rs   processor time of records: pass-through, windows; the bare loop beside it
//! latency.rs      from a record's writing to its result's reading; from a kill to the next output
//! rest.rs         memory, an idle job, epochs while state grows
//! operator.rs     the operator on a real API server, as a process of its own
//! topics.rs       Topics, until they are Ready
//! streamjobs.rs   StreamJobs, with the workers of fake_workers.rs
//! bare.rs         the yardstick, run as a process of its own
//! process.rs      what processes use
//! peers/          the same work by other engines
//! ```

pub mod bare;
mod fake_workers;
mod latency;
mod operator;
pub mod peers;
mod process;
mod rest;
mod streamjobs;
mod throughput;
mod topics;

use std::path::Path;

use clap::ValueEnum;

use self::peers::PeerOptions;
use crate::LabError;
use crate::servers::{KafkaOptions, KafkaServer};

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Pass-through of JSON, against the bare loop.
    PassThrough,
    /// Count and sum by key in windows.
    Window,
    /// End to end, one stage and two.
    Latency,
    /// Resident memory, idle and with a million keys.
    Memory,
    /// From kill -9 to the next committed output.
    Recovery,
    /// What an idle job uses.
    Idle,
    /// How long epochs take while the number of keys grows.
    Epoch,
    /// How fast a thousand Topics converge on an API server, and what the operator costs then.
    Topics,
    /// How soon a thousand StreamJobs with faked workers run, and what the operator costs then.
    Streamjobs,
    /// Other engines on queries of Nexmark. Only when it is named; needs `install flink`.
    Peers,
}

/// A line of the table.
struct Line {
    what: &'static str,
    wanted: &'static str,
    found: String,
}

/// Where a measurement is made.
struct Place<'a> {
    bootstrap: String,
    binary: &'a Path,
}

/// Measures `figures`, all when there are none, of the program `binary`, and prints a table.
///
/// # Errors
/// When a measurement could not be made; the figures before it are printed.
pub fn bench(binary: &Path, figures: &[Figure], peers: &PeerOptions) -> Result<(), LabError> {
    let own = |figure: &&Figure| **figure != Figure::Peers;
    if figures == [Figure::Peers] {
        return peers::compare(binary, peers);
    }
    if figures.contains(&Figure::Peers) {
        return Err(LabError::Wrong("`peers` is measured alone: it has a table of its own".to_owned()));
    }
    let all = if figures.is_empty() { Figure::value_variants() } else { figures };
    let mut lines = Vec::new();
    let mut result = Ok(());
    let before = process::load();
    for figure in all.iter().filter(own) {
        match measure(binary, *figure) {
            Ok(found) => {
                for line in &found {
                    eprintln!("{}: {} (wanted: {})", line.what, line.found, line.wanted);
                }
                lines.extend(found);
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    println!(
        "\n{} cores; load average {before:.1} before, {:.1} after\n\n| what | found | to reach |\n| --- | --- | --- |",
        process::cores(),
        process::load()
    );
    for Line { what, wanted, found } in &lines {
        println!("| {what} | {found} | {wanted} |");
    }
    result
}

fn measure(binary: &Path, figure: Figure) -> Result<Vec<Line>, LabError> {
    // A fresh broker each time: what one measurement left behind must not slow the next.
    let server = KafkaServer::start_temporary(&KafkaOptions { heap_mb: 512, ..KafkaOptions::default() })?;
    let place = Place { bootstrap: server.bootstrap(), binary };
    match figure {
        Figure::PassThrough => throughput::pass_through(&place),
        Figure::Window => throughput::windows(&place),
        Figure::Latency => {
            let mut lines = latency::one_stage(&place)?;
            lines.extend(latency::two_stages(&place)?);
            Ok(lines)
        }
        Figure::Memory => rest::memory(&place),
        Figure::Recovery => latency::recovery(&place),
        Figure::Idle => rest::idle(&place),
        Figure::Epoch => rest::epochs(&place),
        Figure::Topics => topics::topics(&place),
        Figure::Streamjobs => streamjobs::streamjobs(&place),
        Figure::Peers => Ok(Vec::new()),
    }
}
