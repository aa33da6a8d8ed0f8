//! Processor time of records.

use std::process::Command;
use std::time::{Duration, Instant};

use super::process::{cpu_seconds, seconds};
use super::{Line, Place};
use crate::LabError;
use crate::scenario::{Feed, FeedOptions, Job, JobOptions, PATIENCE, Role, Watch};
use crate::servers::process::{ServerProcess, Undertaking};

const RECORDS: u64 = 2_000_000;
/// Makes records of 200 B.
const PAD: usize = 128;

/// Writes the input before anything is measured.
fn load(job: &Job, options: FeedOptions) -> Result<u64, LabError> {
    Feed::start(job, FeedOptions { per_second: 1_000_000, at_least: RECORDS, ..options })?.finish()
}

/// Runs one worker until it has read all of `records`; gives its processor seconds and the time it took.
fn run(job: &Job, records: u64) -> Result<(f64, Duration), LabError> {
    job.assign(1)?;
    let began = Instant::now();
    let worker = job.worker(0)?;
    // Outputs are not followed: a reader would take processor time from the broker and the worker.
    while job.committed()? < records {
        if began.elapsed() > PATIENCE * 3 {
            let read = job.committed()?;
            return Err(LabError::Wrong(format!("{read} of {records} records are read; it says:\n{}", worker.said())));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok((cpu_seconds(worker.id()), began.elapsed()))
}

/// Pass-through, and the same by the bare loop.
pub(super) fn pass_through(place: &Place<'_>) -> Result<Vec<Line>, LabError> {
    let options = JobOptions { statements: vec![Role::Copies], whole: true, log: "info", ..JobOptions::default() };
    let job = Job::new(&place.bootstrap, place.binary, "pass-through", &options)?;
    let records = load(&job, FeedOptions { pad: PAD, ..FeedOptions::default() })?;
    let (ours, took) = run(&job, records)?;
    // The other outputs of the job are not used by this statement: one of them takes the bare loop's.
    let mut command = Command::new(std::env::current_exe().map_err(LabError::file("finding", "the lab"))?);
    command.args(["bare-copy", &place.bootstrap, &job.topic(Role::Events), &job.topic(Role::ByKey)]);
    // As often as the job commits.
    command.args([&records.to_string(), "200"]);
    let log = job.folder().join("bare.log");
    let began = Instant::now();
    let mut bare = ServerProcess::spawn("the bare loop", command, &log, &Undertaking::default())?;
    bare.wait_for_line("copied", PATIENCE * 3)?;
    let bare_took = began.elapsed();
    let yardstick = cpu_seconds(bare.id());
    bare.kill9();
    let millions = records as f64 / 1e6;
    Ok(vec![Line {
        what: "pass-through JSON→JSON, 2 M records of 200 B: CPU s per M records, against the bare loop",
        wanted: "≤ 1.3×",
        found: format!(
            "{:.2} against {:.2}: {:.2}× (in {} and {})",
            ours / millions,
            yardstick / millions,
            ours / yardstick,
            seconds(took),
            seconds(bare_took)
        ),
    }])
}

/// Count and sum by 100 k keys.
pub(super) fn windows(place: &Place<'_>) -> Result<Vec<Line>, LabError> {
    let options = JobOptions { statements: vec![Role::ByKey], log: "info", ..JobOptions::default() };
    let job = Job::new(&place.bootstrap, place.binary, "windows", &options)?;
    let feed = FeedOptions { keys: 100_000, per_event_second: 100_000, ..FeedOptions::default() };
    let records = load(&job, feed)?;
    let (cpu, took) = run(&job, records)?;
    let mut watch = Watch::new(&job, &[Role::ByKey])?;
    watch.follow(Duration::from_secs(3));
    Ok(vec![Line {
        what: "tumbling count and sum by key, 100 k keys: records per CPU-second",
        wanted: "≥ 500 k",
        found: format!("{:.0} k ({} rows, in {})", records as f64 / cpu / 1e3, watch.count(Role::ByKey), seconds(took)),
    }])
}
