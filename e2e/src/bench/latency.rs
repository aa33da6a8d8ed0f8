//! From a record's writing to its result's reading.

use std::time::{Duration, Instant};

use rdkafka::Message as _;
use serde::Deserialize;
use serde_json::Value;

use super::process::{percentile, seconds};
use super::{Line, Place};
use crate::LabError;
use crate::scenario::{DISORDER_MS, Feed, FeedOptions, Job, JobOptions, PATIENCE, Role, Watch, now_ms};

const PER_SECOND: u64 = 20_000;
/// Before that, the job warms up.
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);
const WINDOW_SECONDS: u32 = 1;

#[derive(Deserialize)]
struct Copied {
    ts: Value,
}

#[derive(Deserialize)]
struct Window {
    window_start: Value,
}

fn live() -> FeedOptions {
    FeedOptions { per_second: PER_SECOND, live: true, groups: 200, pad: 100, closing: false, ..FeedOptions::default() }
}

/// Runs one slot under load, and gives the sorted latencies of what it writes to `role`, ms.
fn latencies(
    place: &Place<'_>,
    name: &str,
    role: Role,
    due_ms: impl Fn(&[u8]) -> Option<i64>,
) -> Result<Vec<i64>, LabError> {
    let options = JobOptions {
        statements: vec![role],
        epoch_interval: "100ms",
        whole: true,
        window_seconds: WINDOW_SECONDS,
        log: "info",
        ..JobOptions::default()
    };
    let job = Job::new(&place.bootstrap, place.binary, name, &options)?;
    job.assign(1)?;
    let worker = job.worker(0)?;
    let mut watch = Watch::new(&job, &[role])?;
    let feed = Feed::start(&job, live())?;
    job.wait_until(&mut watch, &[&worker], "the first output", |watch| watch.count(role) > 0)?;
    watch.follow(WARM_UP);
    let mut found = Vec::new();
    watch.each_for(MEASURED, |message| {
        let now = now_ms();
        found.extend(message.payload().and_then(&due_ms).map(|due| now - due));
    });
    feed.finish()?;
    found.sort_unstable();
    Ok(found)
}

fn line(what: &'static str, wanted: &'static str, found: &[i64]) -> Line {
    let (half, most) = (percentile(found, 0.5), percentile(found, 0.99));
    Line { what, wanted, found: format!("p50 {half:.0} ms, p99 {most:.0} ms (of {} records)", found.len()) }
}

/// Pass-through: from the moment a record was made.
pub(super) fn one_stage(place: &Place<'_>) -> Result<Vec<Line>, LabError> {
    let made = |value: &[u8]| {
        let copied: Copied = serde_json::from_slice(value).ok()?;
        freshet::demo::rows::time_ms(&copied.ts)
    };
    let found = latencies(place, "latency-one", Role::Copies, made)?;
    Ok(vec![line("end-to-end latency at 20 k records/s, one stage, epochs of 100 ms", "p99 < 250 ms", &found)])
}

/// Windows by another column: from the moment at which a record was made that closes the window. Event time is
/// the wall clock, so that moment is the window's end and the allowed disorder.
pub(super) fn two_stages(place: &Place<'_>) -> Result<Vec<Line>, LabError> {
    let closed = |value: &[u8]| {
        let window: Window = serde_json::from_slice(value).ok()?;
        let start = freshet::demo::rows::time_ms(&window.window_start)?;
        Some(start + i64::from(WINDOW_SECONDS) * 1000 + DISORDER_MS)
    };
    let found = latencies(place, "latency-two", Role::ByGroup, closed)?;
    Ok(vec![line("end-to-end latency at 20 k records/s, two stages, epochs of 100 ms", "p99 < 450 ms", &found)])
}

/// A slot is killed and started again; until a record that was made after the kill is read from its output.
pub(super) fn recovery(place: &Place<'_>) -> Result<Vec<Line>, LabError> {
    const KILLS: u32 = 5;
    let options = JobOptions { whole: true, log: "info", ..JobOptions::default() };
    let job = Job::new(&place.bootstrap, place.binary, "recovery", &options)?;
    job.assign(1)?;
    let mut worker = job.worker(0)?;
    let mut watch = Watch::new(&job, &[Role::Copies])?;
    let feed = Feed::start(&job, FeedOptions { per_second: 5_000, ..live() })?;
    job.wait_until(&mut watch, &[&worker], "the first output", |watch| watch.count(Role::Copies) > 0)?;
    let mut took = Vec::new();
    for _ in 0..KILLS {
        watch.follow(Duration::from_millis(2345));
        worker.kill9();
        let (killed, killed_ms) = (Instant::now(), now_ms());
        worker = job.worker(0)?;
        let mut back = false;
        while !back {
            if killed.elapsed() > PATIENCE {
                return Err(LabError::Wrong(format!("no output after a kill; it says:\n{}", worker.said())));
            }
            watch.each_for(Duration::from_millis(5), |message| {
                back |= message.timestamp().to_millis().is_some_and(|made| made > killed_ms)
                    && message.payload().is_some_and(|value| {
                        serde_json::from_slice::<Copied>(value)
                            .ok()
                            .and_then(|copied| freshet::demo::rows::time_ms(&copied.ts))
                            .is_some_and(|made| made > killed_ms)
                    });
            });
        }
        took.push(killed.elapsed());
    }
    feed.finish()?;
    let most = took.iter().max().copied().unwrap_or_default();
    Ok(vec![Line {
        what: "kill -9 until the next committed output (start of the process included)",
        wanted: "< 3 s",
        found: format!("{} at most, of {KILLS} kills", seconds(most)),
    }])
}
