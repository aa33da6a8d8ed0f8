//! Faults of all sorts: each is survived exactly, or named.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freshet_e2e::servers::process::{ServerProcess, Undertaking};
use freshet_e2e::servers::{KafkaOptions, KafkaServer};

use crate::*;

fn job_with(name: &str, options: &JobOptions) -> Job {
    Job::new(SharedKafka::get().bootstrap(), binary(), name, options).unwrap()
}

/// The newest file below `folder` whose path has `part` in it.
fn newest(folder: &Path, part: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().contains(part) {
                found.push((path.metadata().unwrap().modified().unwrap(), path));
            }
        }
    }
    found.into_iter().max().unwrap_or_else(|| panic!("nothing with {part} in {}", folder.display())).1
}

#[test]
fn workers_of_one_slot_started_at_once() {
    let job = job("rivals");
    job.assign(2).unwrap();
    let mut watch = watch(&job);
    let mut rivals: Vec<Worker> = (0..4).map(|_| job.worker(0).unwrap()).collect();
    let mut other = job.worker(1).unwrap();
    let feed = feed(&job, 61);
    // All but one end for good: they do not fence one another in turns.
    let began = Instant::now();
    while rivals.iter_mut().map(Worker::is_running).filter(|runs| *runs).count() > 1 {
        let logs = || rivals.iter().map(Worker::said).collect::<Vec<_>>().join("\n---\n");
        assert!(began.elapsed() < Duration::from_secs(60), "they still fence one another:\n{}", logs());
        watch.follow(Duration::from_millis(50));
    }
    for rival in rivals.iter_mut().filter_map(|rival| (!rival.is_running()).then_some(rival)) {
        assert!(rival.log().contains("Replaced"), "{}", rival.log());
    }
    let mut workers: Vec<Worker> = rivals.into_iter().filter_map(|mut r| r.is_running().then_some(r)).collect();
    progress(&job, &mut watch, &workers.iter().chain([&other]).collect::<Vec<_>>(), "rivals have ended");
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
    other.stop().unwrap();
}

#[test]
fn asked_to_stop_again_and_again() {
    let job = job("storm");
    job.assign(2).unwrap();
    let mut watch = watch(&job);
    let other = job.worker(1).unwrap();
    let feed = feed(&job, 67);
    for round in 0..12_u64 {
        let mut worker = job.worker(0).unwrap();
        // On its way up, while it works, while it stops; once, and many times.
        watch.follow(Duration::from_millis(40 * round * round));
        for _ in 0..=(round % 4) * 5 {
            worker.signal("TERM");
            watch.follow(Duration::from_millis(7));
        }
        let ended = worker.wait_for_end(&mut watch).unwrap();
        // Before it listens, a signal ends it as it ends any program.
        assert!(ended.status.success() || round < 4, "round {round}: {}\n{}", ended.status, ended.log);
    }
    let mut workers = vec![job.worker(0).unwrap(), other];
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the last stop");
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}

#[test]
fn broker_killed_while_slots_take_over() {
    let mut server = KafkaServer::start_temporary(&KafkaOptions::default()).unwrap();
    let job = Job::new(&server.bootstrap(), binary(), "takeover", &JobOptions::default()).unwrap();
    job.assign(2).unwrap();
    let mut watch = watch(&job);
    let mut workers = vec![job.worker(0).unwrap(), job.worker(1).unwrap()];
    let options = FeedOptions { seed: 71, per_second: 5_000, at_least: 40_000, ..FeedOptions::default() };
    let feed = Feed::start(&job, options).unwrap();
    for moment_ms in [150, 500] {
        progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the last kill");
        job.assign(2).unwrap();
        for worker in &mut workers {
            worker.kill9();
            *worker = job.worker(worker.slot).unwrap();
        }
        watch.follow(Duration::from_millis(moment_ms));
        server.kill9();
        server.restart().unwrap();
    }
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the last kill");
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}

#[test]
fn batches_fit_what_the_outputs_take() {
    let options = JobOptions { output_limit: Some(20_000), ..JobOptions::default() };
    let job = job_with("small-batches", &options);
    job.assign(1).unwrap();
    let mut watch = watch(&job);
    let mut workers = vec![job.worker(0).unwrap()];
    let feed = feed(&job, 73);
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}

#[test]
fn a_record_that_the_output_does_not_take_is_named() {
    let options =
        JobOptions { statements: vec![Role::Copies], whole: true, output_limit: Some(20_000), ..JobOptions::default() };
    let job = job_with("too-large", &options);
    job.assign(1).unwrap();
    let mut watch = watch(&job);
    let mut worker = job.worker(0).unwrap();
    let options = FeedOptions { seed: 79, pad: 30_000, per_second: 50, at_least: 50, ..FeedOptions::default() };
    Feed::start(&job, options).unwrap().finish().unwrap();
    let ended = worker.wait_for_end(&mut watch).unwrap();
    assert!(!ended.status.success(), "{}", ended.log);
    for text in ["KafkaRefused", "max.message.bytes", &job.topic(Role::Copies), "20000 bytes"] {
        assert!(ended.log.contains(text), "no {text} in\n{}", ended.log);
    }
    assert_eq!(watch.count(Role::Copies), 0);
}

#[test]
fn damaged_records_of_the_job_are_named() {
    let job = job("damaged");
    job.assign(1).unwrap();
    let mut watch = watch(&job);
    let mut worker = job.worker(0).unwrap();
    let feed = feed(&job, 83);
    progress(&job, &mut watch, &[&worker], "the start");
    worker.kill9();
    feed.finish().unwrap();
    // What the last commit names: at least the newest whole object but one is named, or it is garbage.
    for part in ["/generations/", "/s0000/e0"] {
        let path = newest(&job.state(), part);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let mut damaged = job.worker(0).unwrap();
        let named = ["StateDamaged", &*path.file_name().unwrap().to_string_lossy()];
        // The newest object may be one that no commit names: then nobody is concerned.
        let began = Instant::now();
        while damaged.is_running() && !(part == "/s0000/e0" && damaged.log().contains("took over")) {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", damaged.said());
            watch.follow(Duration::from_millis(50));
        }
        if !damaged.is_running() {
            assert!(named.iter().all(|text| damaged.log().contains(text)), "{named:?}:\n{}", damaged.log());
        }
        damaged.kill9();
        std::fs::write(&path, &whole).unwrap();
    }
    let mut workers = vec![job.worker(0).unwrap()];
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let server = KafkaServer::start_temporary(&KafkaOptions::default()).unwrap();
    let job = Job::new(&server.bootstrap(), binary(), "interrupts", &JobOptions::default()).unwrap();
    let log = job.folder().join("run.log");
    let command = job.command("run", &["--plain".to_owned()]);
    let mut run = ServerProcess::spawn("freshet run", command, &log, &Undertaking::default()).unwrap();
    run.wait_for_line("took over", Duration::from_secs(60)).unwrap();
    // With its broker standing still it can't stop cleanly.
    let feed = feed(&job, 89);
    let mut watch = watch(&job);
    job.wait_until(&mut watch, &[], "output", |watch| watch.count(Role::Copies) > 0).unwrap();
    server.freeze();
    run.signal("INT");
    std::thread::sleep(Duration::from_secs(2));
    assert!(run.exit_status().is_none(), "it stopped without its broker:\n{}", run.log_tail());
    run.signal("INT");
    let began = Instant::now();
    let status = loop {
        if let Some(status) = run.exit_status() {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it does not end:\n{}", run.log_tail());
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(130), "{}", run.log_tail());
    server.thaw();
    drop(feed);
}
