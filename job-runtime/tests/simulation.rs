//! Seeds of the simulation, and the proof that its oracle can fail. The levels: whole cluster, simulated.
//!
//! `make simulate SEEDS=n FIRST_SEED=k` runs any number of seeds, one by one.
#![cfg(feature = "faults")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use freshet::sim::{Kind, Options, Outcome, simulate};
use freshet_env::{CRASH_POINTS, PlantedBug};

/// A seed that no other test uses as its first.
const FIRST_SEED: u64 = 1;
const SEEDS: u64 = 2_000;
/// Within how many seeds each planted bug must be found.
const WITHIN: u64 = 500;

/// Runs `work` on numbers from 0 to `count`, on every core; a simulation stays on one thread.
fn side_by_side(count: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        break;
                    }
                    work(n);
                }
            });
        }
    });
}

fn describe(outcome: &Outcome) -> String {
    let seed = outcome.seed;
    let what = outcome.violations.join("; ");
    format!("seed {seed} ({:?}): {what}\n  again: make simulate SEEDS=1 FIRST_SEED={seed}", outcome.kind)
}

#[test]
fn two_thousand_seeds() {
    let failed = Mutex::new(Vec::new());
    let epochs = AtomicU64::new(0);
    let kinds = Mutex::new(BTreeMap::<String, u64>::new());
    let killed = Mutex::new(BTreeMap::<&str, u64>::new());
    side_by_side(SEEDS, |n| {
        let outcome = simulate(FIRST_SEED + n, &Options::default());
        epochs.fetch_add(outcome.figures.epochs, Ordering::Relaxed);
        *kinds.lock().unwrap_or_else(PoisonError::into_inner).entry(format!("{:?}", outcome.kind)).or_default() += 1;
        for (label, kill) in &outcome.figures.struck {
            if *kill {
                *killed.lock().unwrap_or_else(PoisonError::into_inner).entry(label).or_default() += 1;
            }
        }
        if !outcome.violations.is_empty() {
            failed.lock().unwrap_or_else(PoisonError::into_inner).push(describe(&outcome));
        }
    });
    let (failed, kinds) = (failed.into_inner().expect("no panic"), kinds.into_inner().expect("no panic"));
    let killed = killed.into_inner().expect("no panic");
    println!("{SEEDS} seeds, {} epochs, {kinds:?}, killed at {killed:?}", epochs.load(Ordering::Relaxed));
    assert!(failed.is_empty(), "{} of {SEEDS} seeds fail:\n{}", failed.len(), failed.join("\n"));
    // A simulation in which nothing happens proves nothing.
    assert!(epochs.into_inner() > SEEDS * 20);
    assert_eq!(kinds.len(), Kind::ALL.len(), "every kind of scenario comes up");
    assert_eq!(killed.len(), CRASH_POINTS.len(), "workers are killed at every labelled step: {killed:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for kind in Kind::ALL {
        let options = Options { kind: Some(*kind), ..Options::default() };
        for seed in 1..=4 {
            let runs = [simulate(seed, &options), simulate(seed, &options)];
            assert_ne!(runs[0].trace_hash, 0);
            assert_eq!(runs[0].trace_hash, runs[1].trace_hash, "seed {seed}, {kind:?}");
            assert_eq!(runs[0].figures, runs[1].figures, "seed {seed}, {kind:?}");
        }
    }
    let other = |seed| simulate(seed, &Options::default()).trace_hash;
    assert_ne!(other(1), other(2));
}

#[test]
fn every_planted_bug_is_caught() {
    let table = Mutex::new(vec![None; PlantedBug::ALL.len()]);
    side_by_side(PlantedBug::ALL.len() as u64, |at| {
        let bug = PlantedBug::ALL[at as usize];
        let options = Options { bug: Some(bug), ..Options::default() };
        let caught = (0..WITHIN).find_map(|n| {
            let outcome = simulate(FIRST_SEED + n, &options);
            outcome.violations.first().map(|what| (n + 1, outcome.kind, what.chars().take(160).collect::<String>()))
        });
        table.lock().unwrap_or_else(PoisonError::into_inner)[at as usize] = caught;
    });
    let table = table.into_inner().expect("no panic");
    let mut missed = Vec::new();
    for (bug, caught) in PlantedBug::ALL.iter().zip(&table) {
        match caught {
            Some((seeds, kind, what)) => println!("| {bug:?} | {seeds} | {kind:?} | {what} |"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not caught within {WITHIN} seeds: {missed:?}");
}
