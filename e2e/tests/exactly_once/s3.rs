//! State on a real S3 server that is killed, frozen, slow, that refuses, and that forgets.

use std::process::Command;
use std::time::Duration;

use freshet_e2e::faults::{FaultyS3, SmallDisk, Weather, fill};
use freshet_e2e::scenario::{Bucket, KillOptions, kill_again_and_again};
use freshet_e2e::servers::{S3Options, S3Server, Scratch};

use crate::*;

const BUCKET: &str = "pipelines";

fn server() -> S3Server {
    S3Server::start_temporary(&S3Options { port: None, buckets: vec![BUCKET.to_owned()] }).unwrap()
}

/// A job with its state in `bucket`.
fn job_in(bucket: Bucket, name: &str) -> Job {
    let options = JobOptions { bucket: Some(bucket), ..JobOptions::default() };
    Job::new(SharedKafka::get().bootstrap(), binary(), name, &options).unwrap()
}

/// `freshet state URL`, as its user.
fn state(bucket: &Bucket, url: &str) -> (bool, String) {
    let output = Command::new(binary()).args(["state", url]).envs(bucket.variables()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn slots_killed_again_and_again() {
    let server = server();
    let job = job_in(Bucket::of(&server, BUCKET), "s3-kills");
    let options = KillOptions { seed: 43, kills: 8, records: 150_000, slots: 2 };
    let report = kill_again_and_again(&job, options).unwrap();
    println!("{report:?}");
}

#[test]
fn the_server_killed_and_frozen() {
    let mut server = server();
    let bucket = Bucket::of(&server, BUCKET);
    let job = job_in(bucket.clone(), "s3-server");
    job.assign(2).unwrap();
    let mut watch = watch(&job);
    let mut workers = vec![job.worker(0).unwrap(), job.worker(1).unwrap()];
    let feed = feed(&job, 47);
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the start");
    for away in [Duration::ZERO, Duration::from_secs(3)] {
        server.kill9();
        watch.follow(away);
        server.restart().unwrap();
        progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "a kill of the server");
    }
    server.kill9();
    workers[0].kill9();
    workers[0] = job.worker(0).unwrap();
    watch.follow(Duration::from_secs(2));
    server.restart().unwrap();
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "a kill of the server and of a slot");
    // First within what a request may take, then past it: writes that were cut off may still arrive.
    for frozen in [Duration::from_secs(4), Duration::from_secs(13)] {
        server.freeze();
        watch.follow(frozen);
        server.thaw();
        progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the server stood still");
    }
    for worker in &mut workers {
        assert!(worker.is_running(), "the worker of slot {} gave up:\n{}", worker.slot, worker.said());
    }
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();

    // What is there can be looked at.
    let (ok, listed) = state(&bucket, &bucket.url());
    assert!(ok, "{listed}");
    let objects: Vec<&str> = listed.lines().filter(|line| line.contains("/e0")).collect();
    let object = objects.last().unwrap_or_else(|| panic!("no state object in\n{listed}"));
    let (ok, shown) = state(&bucket, &format!("{}/{object}", bucket.url()));
    assert!(ok && shown.contains("lineage r-") && shown.contains("task "), "{shown}");
    let generation = listed.lines().find(|line| line.contains("/generations/")).unwrap();
    let (ok, shown) = state(&bucket, &format!("{}/{generation}", bucket.url()));
    assert!(ok && shown.contains("\"freshet\":\"generation\""), "{shown}");
    let (ok, whole) = state(&bucket, &format!("s3://{BUCKET}"));
    assert!(ok && whole.contains("/generations/"), "{whole}");
    let (ok, nothing) = state(&bucket, &format!("s3://{BUCKET}/nowhere"));
    assert!(!ok && nothing.contains("there is nothing at"), "{nothing}");
}

#[test]
fn a_slow_server_that_loses_answers() {
    let server = server();
    let mut proxy = FaultyS3::start(([127, 0, 0, 1], 0).into(), &server.endpoint()).unwrap();
    let bucket = Bucket { endpoint: proxy.endpoint(), ..Bucket::of(&server, BUCKET) };
    let job = job_in(bucket, "s3-slow");
    job.assign(2).unwrap();
    let mut watch = watch(&job);
    let mut workers = vec![job.worker(0).unwrap(), job.worker(1).unwrap()];
    let feed = feed(&job, 53);
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the start");
    proxy.set(Weather::Slow(300)).unwrap();
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "answers came late");
    workers[1].kill9();
    workers[1] = job.worker(1).unwrap();
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "a slot was killed meanwhile");
    for weather in [Weather::Unavailable, Weather::CutOff] {
        proxy.set(weather).unwrap();
        watch.follow(Duration::from_secs(3));
        proxy.set(Weather::Fair).unwrap();
        progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), &format!("{weather:?}"));
    }
    for worker in &mut workers {
        assert!(worker.is_running(), "the worker of slot {} gave up:\n{}", worker.slot, worker.said());
    }
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}

#[test]
fn a_server_whose_disk_is_full() {
    const MIB: u64 = 1 << 20;
    let scratch = Scratch::new("s3-full").unwrap();
    let disk = SmallDisk::mount(&scratch.path().join("objects"), 64 * MIB).unwrap();
    let options = S3Options { port: None, buckets: vec![BUCKET.to_owned()] };
    let server = S3Server::start(scratch.path(), &options).unwrap();
    let job = job_in(Bucket::of(&server, BUCKET), "s3-full");
    job.assign(2).unwrap();
    let mut watch = watch(&job);
    let mut workers = vec![job.worker(0).unwrap(), job.worker(1).unwrap()];
    let feed = feed(&job, 61);
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the start");
    for kill in [false, true] {
        let full = fill(disk.path(), 64 * MIB).unwrap();
        watch.follow(Duration::from_secs(3));
        if kill {
            workers[1].kill9();
            workers[1] = job.worker(1).unwrap();
            watch.follow(Duration::from_secs(2));
        }
        full.now().unwrap();
        progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the disk had room again");
    }
    for worker in &mut workers {
        assert!(worker.is_running(), "the worker of slot {} gave up:\n{}", worker.slot, worker.said());
    }
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}

#[test]
fn refusals_are_named() {
    let server = server();
    let bucket = Bucket::of(&server, BUCKET);
    let job = job_in(bucket.clone(), "s3-refuses");
    let refused = |slot: u32, variables: &[(&str, &str)], wanted: &[&str]| {
        let mut watch = watch(&job);
        let ended = job.worker_with(slot, variables).unwrap().wait_for_end(&mut watch).unwrap();
        assert!(!ended.status.success(), "{}", ended.log);
        for text in wanted {
            assert!(ended.log.contains(text), "no {text} in\n{}", ended.log);
        }
        assert!(!ended.log.contains("not-the-secret") && !ended.log.contains(S3Server::SECRET_KEY), "{}", ended.log);
    };
    refused(0, &[("AWS_SECRET_ACCESS_KEY", "not-the-secret")], &["Unauthorised", "SignatureDoesNotMatch"]);
    refused(0, &[("AWS_ACCESS_KEY_ID", "nobody")], &["Unauthorised", "access key"]);
    let elsewhere = job_in(Bucket { name: "nowhere".to_owned(), ..bucket.clone() }, "s3-nowhere");
    let mut watch = watch(&elsewhere);
    let ended = elsewhere.worker(0).unwrap().wait_for_end(&mut watch).unwrap();
    assert!(ended.log.contains("StoreUnusable") && ended.log.contains("NoSuchBucket"), "{}", ended.log);
}

#[test]
fn a_bucket_that_goes_away_is_named_and_the_job_goes_on_once_it_is_back() {
    let server = server();
    let bucket = Bucket::of(&server, BUCKET);
    let job = job_in(bucket.clone(), "s3-gone");
    job.assign(1).unwrap();
    let mut watch = watch(&job);
    let mut worker = job.worker(0).unwrap();
    let feed = feed(&job, 59);
    progress(&job, &mut watch, &[&worker], "the start");
    let aside = server.folder().join("aside");
    std::fs::rename(&bucket.objects, &aside).unwrap();
    let ended = worker.wait_for_end(&mut watch).unwrap();
    assert!(!ended.status.success() && ended.log.contains("StoreUnusable"), "{}", ended.log);
    assert!(ended.log.contains("NoSuchBucket"), "{}", ended.log);
    std::fs::rename(&aside, &bucket.objects).unwrap();
    let mut workers = vec![job.worker(0).unwrap()];
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}
