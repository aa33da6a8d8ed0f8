//! Level: real servers. A job of two stages on two slots, each a process, on a real Kafka: killed, frozen, moved,
//! robbed of its offsets. Every time what a `read_committed` reader sees is exactly the recount of the input.
//! And planted bugs, which must show.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod changes;
mod faults;
mod kills;
mod moves;
mod planted;
mod refusals;
mod s3;

use std::path::Path;

use freshet_e2e::scenario::{Feed, FeedOptions, Job, JobOptions, Role, Watch, Worker};
use freshet_e2e::servers::SharedKafka;

/// The runtime with crash points and planted bugs.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_freshet-under-test"))
}

/// A new job on the broker that tests share.
fn job(name: &str) -> Job {
    Job::new(SharedKafka::get().bootstrap(), binary(), name, &JobOptions::default()).unwrap()
}

fn feed(job: &Job, seed: u64) -> Feed {
    Feed::start(job, FeedOptions { seed, per_second: 5_000, at_least: 20_000, ..FeedOptions::default() }).unwrap()
}

fn watch(job: &Job) -> Watch {
    Watch::new(job, &Role::OUTPUTS).unwrap()
}

/// Waits until the job has committed some more output.
fn progress(job: &Job, watch: &mut Watch, workers: &[&Worker], after: &str) {
    let (copies, groups) = (watch.count(Role::Copies), watch.count(Role::ByGroup));
    job.wait_until(watch, workers, &format!("output of both stages after {after}"), |watch| {
        watch.count(Role::Copies) > copies + 1_000 && watch.count(Role::ByGroup) > groups
    })
    .unwrap();
}
