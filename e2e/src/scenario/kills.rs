//! Slots that are killed again and again, at random moments, while records flow.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Feed, FeedOptions, Job, JobOptions, Role, Watch, Worker};
use crate::LabError;

/// How often, and how much.
#[derive(Debug, Clone, Copy)]
pub struct KillOptions {
    /// Decides moments and slots.
    pub seed: u64,
    /// How many kills.
    pub kills: u32,
    /// How many records at least.
    pub records: u64,
    /// Slots, each a process.
    pub slots: u32,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub struct KillReport {
    /// Kills.
    pub kills: u32,
    /// Records of the input.
    pub records: u64,
    /// Of them, late ones.
    pub late: u64,
    /// How long it took in all.
    pub took: Duration,
}

/// Runs the scenario; the output is exactly the recount, or it is an error.
///
/// # Errors
/// What differs, or what was waited for in vain.
pub fn kill_again_and_again(job: &Job, options: KillOptions) -> Result<KillReport, LabError> {
    let began = Instant::now();
    let mut random = SmallRng::seed_from_u64(options.seed);
    job.assign(options.slots)?;
    let mut watch = Watch::new(job, &Role::OUTPUTS)?;
    let mut workers = (0..options.slots).map(|slot| job.worker(slot)).collect::<Result<Vec<Worker>, _>>()?;
    let feed = Feed::start(
        job,
        FeedOptions { seed: options.seed, per_second: 12_000, at_least: options.records, ..FeedOptions::default() },
    )?;
    for kill in 0..options.kills {
        let slot = random.random_range(0..options.slots) as usize;
        // Mostly while it works; now and then on its way up.
        let moment = Duration::from_millis(random.random_range(50..2500));
        watch.follow(moment);
        // Kills that nothing is committed between would test the start alone.
        if kill % 4 == 3 {
            let before = watch.count(Role::Copies);
            let running: Vec<&Worker> = workers.iter().collect();
            job.wait_until(&mut watch, &running, "output between kills", |watch| watch.count(Role::Copies) > before)?;
            watch.follow(Duration::from_millis(random.random_range(0..400)));
        }
        workers[slot].kill9();
        workers[slot] = job.worker(slot as u32)?;
    }
    feed.finish()?;
    let recount = job.settle_exactly(&mut watch, &mut workers)?;
    Ok(KillReport { kills: options.kills, records: recount.records, late: recount.late, took: began.elapsed() })
}

/// The scenario of the soak: rounds of kills on a broker of its own, each round a job with another seed.
///
/// # Errors
/// As [`kill_again_and_again`]; the folder of the round is kept and named.
pub fn soak(bootstrap: &str, binary: &Path, kills: u32, first_seed: u64) -> Result<(), LabError> {
    const KILLS_OF_A_ROUND: u32 = 50;
    let mut done = 0;
    let mut seed = first_seed;
    while done < kills {
        let round = KILLS_OF_A_ROUND.min(kills - done);
        let job = Job::new(bootstrap, binary, "soak", &JobOptions::default())?;
        let options = KillOptions { seed, kills: round, records: 1_000_000, slots: 2 };
        match kill_again_and_again(&job, options) {
            Ok(report) => {
                done += round;
                println!(
                    "seed {seed}: {} kills, {} records ({} late), 0 lost, 0 doubled, in {:.0} s; {done} of {kills} kills",
                    report.kills,
                    report.records,
                    report.late,
                    report.took.as_secs_f64()
                );
            }
            Err(error) => {
                let kept = job.keep();
                return Err(LabError::Wrong(format!("seed {seed}: {error}\nkept for a look: {}", kept.display())));
            }
        }
        seed += 1;
    }
    Ok(())
}
