//! Memory, an idle job, and epochs while state grows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::process::{cpu_seconds, resident_mib};
use super::{Line, Place};
use crate::LabError;
use crate::scenario::{Feed, FeedOptions, Job, JobOptions, PATIENCE, Role, Worker};

/// A job of one window aggregate, and its worker at work.
fn by_key(place: &Place<'_>, name: &str, log: &'static str) -> Result<(Job, Worker), LabError> {
    let options = JobOptions { statements: vec![Role::ByKey], log, ..JobOptions::default() };
    let job = Job::new(&place.bootstrap, place.binary, name, &options)?;
    job.assign(1)?;
    let mut worker = job.worker(0)?;
    worker.wait_for("took over")?;
    Ok((job, worker))
}

/// So many keys, each once, all in one window that stays open.
fn each_key_once(job: &Job, keys: u32) -> Result<u64, LabError> {
    let options = FeedOptions {
        per_second: 1_000_000,
        at_least: u64::from(keys),
        keys,
        sequential: true,
        live: false,
        per_event_second: 10_000_000,
        closing: false,
        ..FeedOptions::default()
    };
    Feed::start(job, options)?.finish()
}

fn until_read(job: &Job, worker: &Worker, records: u64) -> Result<(), LabError> {
    let began = Instant::now();
    while job.committed()? < records {
        if began.elapsed() > PATIENCE {
            return Err(LabError::Wrong(format!("{records} records are not read in time:\n{}", worker.said())));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Resident memory, idle and with a million keys of count and sum.
pub(super) fn memory(place: &Place<'_>) -> Result<Vec<Line>, LabError> {
    let (job, worker) = by_key(place, "memory", "info")?;
    std::thread::sleep(Duration::from_secs(2));
    let idle = resident_mib(worker.id());
    let records = each_key_once(&job, 1_000_000)?;
    until_read(&job, &worker, records)?;
    let loaded = resident_mib(worker.id());
    Ok(vec![
        Line { what: "resident memory, idle", wanted: "< 50 MB", found: format!("{idle:.0} MiB") },
        Line {
            what: "resident memory, 1 M keys of count and sum",
            wanted: "< 300 MB",
            found: format!("{loaded:.0} MiB"),
        },
    ])
}

/// What a job uses that has nothing to do.
pub(super) fn idle(place: &Place<'_>) -> Result<Vec<Line>, LabError> {
    const MEASURED: Duration = Duration::from_secs(20);
    let job = Job::new(&place.bootstrap, place.binary, "idle", &JobOptions { log: "info", ..JobOptions::default() })?;
    job.assign(1)?;
    let worker = job.worker(0)?;
    let feed = FeedOptions { per_second: 1_000_000, at_least: 10_000, ..FeedOptions::default() };
    let records = Feed::start(&job, feed)?.finish()?;
    until_read(&job, &worker, records)?;
    std::thread::sleep(Duration::from_secs(5));
    let (files, cpu) = (files(&job.state())?, cpu_seconds(worker.id()));
    std::thread::sleep(MEASURED);
    let share = (cpu_seconds(worker.id()) - cpu) / MEASURED.as_secs_f64() * 100.0;
    let written = self::files(&job.state())?.difference(&files).count();
    Ok(vec![Line {
        what: "idle job over 20 s: object writes, and CPU of a core",
        wanted: "none, < 0.5 %",
        found: format!("{written}, {share:.2} %"),
    }])
}

fn files(folder: &Path) -> Result<BTreeSet<PathBuf>, LabError> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(LabError::file("listing", &folder))? {
            let path = entry.map_err(LabError::file("listing", &folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

/// Mean duration of epochs that change the same keys, while there are 1× and 16× as many keys in all.
pub(super) fn epochs(place: &Place<'_>) -> Result<Vec<Line>, LabError> {
    const KEYS: u32 = 50_000;
    let few = epoch_ms(place, KEYS)?;
    let many = epoch_ms(place, 16 * KEYS)?;
    Ok(vec![Line {
        what: "epoch duration at 2,000 dirty keys, 50 k keys in all → 800 k",
        wanted: "≤ 1.2×",
        found: format!("{few:.1} ms → {many:.1} ms: {:.2}×", many / few),
    }])
}

fn epoch_ms(place: &Place<'_>, keys: u32) -> Result<f64, LabError> {
    let (job, worker) = by_key(place, "epochs", "info,freshet=debug")?;
    let records = each_key_once(&job, keys)?;
    until_read(&job, &worker, records)?;
    // Bases of the loaded state are merged meanwhile.
    std::thread::sleep(Duration::from_secs(3));
    let before = took_ms(&worker.log()).len();
    let hot = FeedOptions {
        per_second: 20_000,
        keys: 2_000,
        per_event_second: 10_000_000,
        live: false,
        closing: false,
        ..FeedOptions::default()
    };
    let feed = Feed::start(&job, hot)?;
    std::thread::sleep(Duration::from_secs(15));
    let took = took_ms(&worker.log()).split_off(before);
    feed.finish()?;
    if took.is_empty() {
        return Err(LabError::Wrong(format!("no epoch was committed:\n{}", worker.said())));
    }
    Ok(took.iter().sum::<f64>() / took.len() as f64)
}

/// The durations of epochs that a worker's log names.
fn took_ms(log: &str) -> Vec<f64> {
    let epochs = log.lines().filter(|line| line.contains("epoch committed"));
    let took = |line: &str| {
        let after = line.split_once("\"took_ms\":")?.1;
        after.split(|digit: char| !digit.is_ascii_digit()).next()?.parse().ok()
    };
    epochs.filter_map(took).collect()
}
