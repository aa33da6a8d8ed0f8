//! What the job wrote, as a `read_committed` reader sees it, against the recount.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use freshet_kafka::bulk::{read_committed, wait_until_settled};
use serde::Deserialize;
use serde_json::Value;

use super::Role;
use super::job::{Job, PATIENCE};
use super::recount::{Recount, Windows, number};
use crate::LabError;

/// How many examples of each topic are named.
const EXAMPLES: usize = 5;

/// How output differs from the recount.
#[derive(Debug, Default, Clone)]
pub struct Difference {
    /// Rows that must be there and are not.
    pub lost: u64,
    /// Rows that are there more than once.
    pub doubled: u64,
    /// Rows with other figures than the recount's.
    pub changed: u64,
    /// Rows that the recount does not have at all.
    pub invented: u64,
    /// Copies before an earlier record of their key.
    pub disordered: u64,
    /// Some of them, in words.
    pub examples: Vec<String>,
}

impl Difference {
    /// Whether output is exactly the recount.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.lost + self.doubled + self.changed + self.invented + self.disordered == 0
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < 3 * EXAMPLES {
            self.examples.push(text());
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, doubled, changed, invented, disordered, examples } = self;
        write!(f, "{lost} lost, {doubled} doubled, {changed} changed, {invented} invented, {disordered} out of order")?;
        examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}

#[derive(Deserialize)]
struct Copy<'a> {
    k: &'a str,
    seq: u64,
    v: i64,
}

#[derive(Deserialize)]
struct Row<'a> {
    name: &'a str,
    window_start: Value,
    records: u64,
    total: i64,
}

/// Waits until nothing of the job's output is pending, reads it all, and compares it with `recount`.
///
/// # Errors
/// When it can't be read, or something stays pending.
pub fn compare(job: &Job, recount: &Recount) -> Result<Difference, LabError> {
    let mut difference = Difference::default();
    copies(job, recount, &mut difference)?;
    windows(job, Role::ByKey, &recount.by_key, &mut difference)?;
    windows(job, Role::ByGroup, &recount.by_group, &mut difference)?;
    Ok(difference)
}

fn read(job: &Job, role: Role, mut visit: impl FnMut(&[u8])) -> Result<(), LabError> {
    let topic = job.topic(role);
    let failed = |doing: &str| LabError::kafka(format!("{doing} {topic}"));
    wait_until_settled(job.kafka(), &topic, PATIENCE.max(Duration::from_secs(60))).map_err(failed("settling"))?;
    let visited = read_committed(job.kafka(), &topic, |batch| {
        for record in &batch.records {
            visit(batch.value(record).unwrap_or_default());
        }
    });
    visited.map(drop).map_err(failed("reading"))
}

fn copies(job: &Job, recount: &Recount, difference: &mut Difference) -> Result<(), LabError> {
    let mut found: HashMap<u32, Vec<(u64, i64)>> = HashMap::new();
    read(job, Role::Copies, |value| {
        let copy: Copy<'_> = serde_json::from_slice(value)
            .unwrap_or_else(|error| panic!("{} is no copy: {error}", String::from_utf8_lossy(value)));
        found.entry(number(copy.k)).or_default().push((copy.seq, copy.v));
    })?;
    for (key, expected) in &recount.copies {
        let written = found.remove(key).unwrap_or_default();
        if written == *expected {
            continue;
        }
        // The place of each record in the input is the measure of order, and of being there once.
        let places: HashMap<(u64, i64), usize> = expected.iter().enumerate().map(|(at, copy)| (*copy, at)).collect();
        let mut seen = vec![false; expected.len()];
        let mut furthest = None;
        for copy in &written {
            let Some(&at) = places.get(copy) else {
                difference.invented += 1;
                difference.example(|| format!("copies: k{key} has {copy:?}, which nobody wrote"));
                continue;
            };
            if std::mem::replace(&mut seen[at], true) {
                difference.doubled += 1;
                difference.example(|| format!("copies: k{key} seq {} is there twice", copy.0));
            } else if furthest.is_some_and(|furthest| at < furthest) {
                difference.disordered += 1;
                difference.example(|| format!("copies: k{key} seq {} comes after a later one", copy.0));
            }
            furthest = furthest.max(Some(at));
        }
        for (at, _) in seen.iter().enumerate().filter(|(_, seen)| !**seen) {
            difference.lost += 1;
            difference.example(|| format!("copies: k{key} seq {} is lost", expected[at].0));
        }
    }
    difference.invented += found.values().map(|copies| copies.len() as u64).sum::<u64>();
    Ok(())
}

fn windows(job: &Job, role: Role, expected: &Windows, difference: &mut Difference) -> Result<(), LabError> {
    let mut found = Windows::new();
    read(job, role, |value| {
        let row: Row<'_> = serde_json::from_slice(value)
            .unwrap_or_else(|error| panic!("{} is no row: {error}", String::from_utf8_lossy(value)));
        let start = freshet::demo::rows::time_ms(&row.window_start).unwrap_or(i64::MIN);
        let window = (number(row.name), start);
        let figures = (row.records, row.total);
        let said = || format!("{}: {} at {}", role.name(), row.name, row.window_start);
        if found.insert(window, figures).is_some() {
            difference.doubled += 1;
            difference.example(|| format!("{} is there twice, now with {figures:?}", said()));
        } else {
            match expected.get(&window) {
                None => {
                    difference.invented += 1;
                    difference.example(|| format!("{} has {figures:?}, and should not be there", said()));
                }
                Some(right) if *right != figures => {
                    difference.changed += 1;
                    difference.example(|| format!("{} has {figures:?}, and should have {right:?}", said()));
                }
                Some(_) => {}
            }
        }
    })?;
    for (window, figures) in expected.iter().filter(|(window, _)| !found.contains_key(window)) {
        difference.lost += 1;
        difference.example(|| format!("{}: {window:?} with {figures:?} is lost", role.name()));
    }
    Ok(())
}
