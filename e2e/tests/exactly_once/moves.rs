//! Tasks that move between slots, and who says where.

use std::process::{Output, Stdio};

use crate::*;

#[test]
fn moved_one_three_two() {
    let job = job("moves");
    job.assign(1).unwrap();
    let mut watch = watch(&job);
    let mut workers: Vec<Worker> = (0..3).map(|slot| job.worker(slot).unwrap()).collect();
    let feed = feed(&job, 19);
    for (generation, slots) in [(2, 3), (3, 2), (4, 1), (5, 3), (6, 2)] {
        progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the last move");
        let said = job.assign(slots).unwrap();
        assert!(said.starts_with(&format!("generation {generation} ")), "{said}");
        for worker in &mut workers[..slots as usize] {
            worker.wait_for(&format!("\"generation\":{generation},\"incarnation\"")).unwrap();
        }
    }
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the last move");
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}

#[test]
fn two_claims_one_number() {
    const AT_ONCE: u32 = 4;
    const ROUNDS: u32 = 20;
    let job = job("claims");
    job.assign(1).unwrap();
    let mut watch = watch(&job);
    let mut workers: Vec<Worker> = (0..AT_ONCE).map(|slot| job.worker(slot).unwrap()).collect();
    let feed = feed(&job, 23);
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the start");
    let mut told = 0;
    let mut newest = (1, 1);
    for _ in 0..ROUNDS {
        let started: Vec<_> = (1..=AT_ONCE)
            .map(|slots| {
                let mut command = job.assign_command(slots);
                (slots, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
            })
            .collect();
        let mut stored: Vec<(u64, u32)> = Vec::new();
        for (slots, child) in started {
            let output = child.wait_with_output().unwrap();
            let (generation, stored_slots) = handed_out(&output);
            if output.status.success() {
                assert_eq!(slots, stored_slots, "it says that its own claim was stored");
                assert!(!stored.iter().any(|(number, _)| *number == generation), "{generation} was handed out twice");
                stored.push((generation, slots));
            } else {
                let errors = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(errors.contains("somebody else handed out generation"), "{errors}");
                assert_ne!(slots, stored_slots);
                told += 1;
            }
        }
        newest = stored.iter().copied().max().unwrap_or(newest).max(newest);
        if told > 0 {
            break;
        }
    }
    assert!(told > 0, "in {ROUNDS} rounds of {AT_ONCE} no two claims met");
    let (generation, slots) = newest;
    for worker in &mut workers[..slots as usize] {
        worker.wait_for(&format!("\"generation\":{generation},\"incarnation\"")).unwrap();
    }
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the claims");
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}

/// The generation and the slots of `generation 3 of lineage r-…: 8 tasks on 2 slots`.
fn handed_out(output: &Output) -> (u64, u32) {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<&str> = said.split_whitespace().collect();
    let after = |word: &str, back: bool| {
        let at = words.iter().position(|found| *found == word)?;
        words.get(if back { at.checked_sub(1)? } else { at + 1 }).copied()
    };
    let generation = after("generation", false).and_then(|number| number.parse().ok());
    let slots = after("slots", true).and_then(|number| number.parse().ok());
    match (generation, slots) {
        (Some(generation), Some(slots)) => (generation, slots),
        _ => panic!("`assign` said {output:?}"),
    }
}
