//! Slots and brokers that are killed, and slots that are frozen.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use freshet_e2e::faults::{SmallDisk, fill};
use freshet_e2e::scenario::{Feed, FeedOptions, Job, JobOptions, KillOptions, Worker, kill_again_and_again};
use freshet_e2e::servers::{KafkaOptions, KafkaServer, Scratch};

use crate::*;

#[test]
fn killed_again_and_again() {
    let job = job("kills");
    let options = KillOptions { seed: 7, kills: 20, records: 1_000_000, slots: 2 };
    let report = kill_again_and_again(&job, options).unwrap();
    assert!(report.records >= 1_000_000, "{report:?}");
    assert!(report.late > 0, "no record was late: {report:?}");
    println!("{report:?}");
}

/// Waits until `worker` has killed itself at `label`.
fn crashed(worker: &mut Worker, watch: &mut Watch, label: &str) {
    let ended = worker.wait_for_end(watch).unwrap();
    assert_eq!(ended.status.signal(), Some(9), "{label}: {}", ended.log);
    assert!(ended.log.contains(&format!("crash point {label} reached")), "{label}: {}", ended.log);
}

#[test]
fn killed_at_each_labelled_step() {
    let job = job("labels");
    job.assign(2).unwrap();
    let mut watch = watch(&job);
    // Tasks begin once, so that is where the first worker dies.
    const BEGINS: &str = "begin.positions-committed";
    let mut workers = vec![job.worker_with(0, &[("FRESHET_CRASH_AT", BEGINS)]).unwrap(), job.worker(1).unwrap()];
    crashed(&mut workers[0], &mut watch, BEGINS);
    workers[0] = job.worker(0).unwrap();
    let feed = feed(&job, 11);
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the start");
    let mut passed = vec![BEGINS];
    for label in freshet_env::CRASH_POINTS {
        if passed.contains(label) {
            continue;
        }
        let stopping = label.starts_with("stop.");
        let takes_over = label.starts_with("takeover.");
        let (slot, count) = if passed.len() % 2 == 0 { (0, 1) } else { (1, 2) };
        let armed = format!("{label}:{}", if label.starts_with("epoch.") { count } else { 1 });
        let arms = [("FRESHET_CRASH_AT", armed.as_str())];
        if *label == "takeover.generation-written" {
            // Whoever hands the generation out writes it, and dies before anybody hears of it.
            let output = job.assign_command(2).envs(arms).output().unwrap();
            assert_eq!(output.status.signal(), Some(9), "{label}: {output:?}");
            for worker in &mut workers {
                worker.wait_for("\"generation\":2,\"incarnation\"").unwrap();
            }
            progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), label);
            passed.push(*label);
            continue;
        }
        workers[slot].kill9();
        if takes_over {
            // Fences are set by whoever comes first in a generation: nobody else must be there.
            workers[1 - slot].kill9();
            job.assign(2).unwrap();
        }
        workers[slot] = job.worker_with(slot as u32, &arms).unwrap();
        if stopping {
            workers[slot].wait_for("took over").unwrap();
            workers[slot].stop().unwrap();
        }
        crashed(&mut workers[slot], &mut watch, label);
        workers[slot] = job.worker(slot as u32).unwrap();
        if takes_over {
            workers[1 - slot] = job.worker(1 - slot as u32).unwrap();
        }
        progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), label);
        passed.push(*label);
    }
    assert_eq!(passed.len(), freshet_env::CRASH_POINTS.len(), "{passed:?}");
    feed.finish().unwrap();
    let recount = job.settle_exactly(&mut watch, &mut workers).unwrap();
    println!("{} records over {} crashes", recount.records, passed.len());
}

#[test]
fn frozen_past_its_replacement() {
    let job = job("frozen");
    job.assign(2).unwrap();
    let mut watch = watch(&job);
    let mut workers = vec![job.worker(0).unwrap(), job.worker(1).unwrap()];
    let feed = feed(&job, 13);
    for slot in 0..2 {
        progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "all was well");
        workers[slot].freeze();
        let replacement = job.worker(slot as u32).unwrap();
        let mut old = std::mem::replace(&mut workers[slot], replacement);
        progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the replacement took over");
        old.thaw();
        let ended = old.wait_for_end(&mut watch).unwrap();
        assert!(!ended.status.success() && ended.log.contains("Replaced"), "{}: {}", ended.status, ended.log);
        progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the old worker had woken");
    }
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}

/// A broker halts when it can't write any more. What it had acknowledged is there when it has room again; what it had
/// half written is cut off.
#[test]
fn broker_whose_disk_is_full() {
    const BYTES: u64 = 512 << 20;
    let scratch = Scratch::new("kafka-full").unwrap();
    let disk = SmallDisk::mount(&scratch.path().join("disk"), BYTES).unwrap();
    let mut server = KafkaServer::start(&disk.path().join("kafka"), &KafkaOptions::default()).unwrap();
    let job = Job::new(&server.bootstrap(), binary(), "full", &JobOptions::default()).unwrap();
    job.assign(2).unwrap();
    let mut watch = watch(&job);
    let mut workers = vec![job.worker(0).unwrap(), job.worker(1).unwrap()];
    let options = FeedOptions { seed: 29, per_second: 5_000, at_least: 50_000, ..FeedOptions::default() };
    let feed = Feed::start(&job, options).unwrap();
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the start");
    for round in ["the disk had room again", "the disk had room again a second time"] {
        let full = fill(disk.path(), BYTES).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let halted = server.wait(|| Instant::now() > deadline).expect_err("the broker went on with a full disk");
        println!("the broker halted: {halted}");
        watch.follow(Duration::from_secs(1));
        full.now().unwrap();
        server.restart().unwrap();
        progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), round);
    }
    for worker in &mut workers {
        assert!(worker.is_running(), "the worker of slot {} gave up:\n{}", worker.slot, worker.said());
    }
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}

#[test]
fn broker_killed() {
    let mut server = KafkaServer::start_temporary(&KafkaOptions::default()).unwrap();
    let job = Job::new(&server.bootstrap(), binary(), "broker", &JobOptions::default()).unwrap();
    job.assign(2).unwrap();
    let mut watch = watch(&job);
    let mut workers = vec![job.worker(0).unwrap(), job.worker(1).unwrap()];
    let options = FeedOptions { seed: 17, per_second: 5_000, at_least: 50_000, ..FeedOptions::default() };
    let feed = Feed::start(&job, options).unwrap();
    for round in ["the first start", "the first kill of the broker"] {
        progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), round);
        watch.follow(Duration::from_millis(137));
        server.kill9();
        server.restart().unwrap();
    }
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the second kill of the broker");
    for worker in &mut workers {
        assert!(worker.is_running(), "the worker of slot {} gave up:\n{}", worker.slot, worker.said());
    }
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}
