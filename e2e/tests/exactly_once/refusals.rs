//! What a slot must not guess.

use crate::*;

#[test]
fn lost_offsets_are_refused() {
    let job = job("offsets");
    job.assign(2).unwrap();
    let mut watch = watch(&job);
    let mut workers = [job.worker(0).unwrap(), job.worker(1).unwrap()];
    let feed = feed(&job, 29);
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the start");
    for worker in &mut workers {
        worker.kill9();
    }
    feed.finish().unwrap();
    let groups = job.delete_offsets().unwrap();
    assert_eq!(groups.len(), 2, "a group for each stage: {groups:?}");
    let before: Vec<u64> = Role::OUTPUTS.iter().map(|role| watch.count(*role)).collect();
    for slot in 0..2 {
        let mut worker = job.worker(slot).unwrap();
        let ended = worker.wait_for_end(&mut watch).unwrap();
        assert!(!ended.status.success(), "it went on:\n{}", ended.log);
        assert!(ended.log.contains("OffsetsLost"), "{}", ended.log);
        assert!(ended.log.contains("Where to go on is not guessed"), "{}", ended.log);
    }
    // What the killed workers had committed may have come to light since; a new start from nothing would show
    // as the whole input once more.
    let recount = freshet_e2e::scenario::Recount::of(&job).unwrap();
    assert!(watch.count(Role::Copies) <= recount.expected(Role::Copies), "{before:?}, then {watch:?}");
}

/// A topic of the same name that has come to hold more than the job has read: no position tells.
#[test]
fn an_input_that_was_made_again_is_refused() {
    let job = job("again");
    job.assign(1).unwrap();
    let mut watch = watch(&job);
    let mut workers = [job.worker(0).unwrap()];
    let options = FeedOptions { seed: 37, at_least: 5_000, ..FeedOptions::default() };
    Feed::start(&job, options).unwrap().finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
    let before = watch.count(Role::Copies);
    workers[0].stop().unwrap();

    job.make_input_again().unwrap();
    Feed::start(&job, FeedOptions { at_least: 20_000, ..options }).unwrap().finish().unwrap();
    let mut worker = job.worker(0).unwrap();
    let ended = worker.wait_for_end(&mut watch).unwrap();
    for text in ["TopicRecreated", &job.topic(Role::Events), "deleted and made again"] {
        assert!(ended.log.contains(text), "no {text} in\n{}", ended.log);
    }
    let (code, report) = job.preflight(1, &[]).unwrap();
    assert_eq!((code, &*report.reason), (2, "TopicRecreated"), "{}", report.message);
    assert_eq!(watch.count(Role::Copies), before, "it read of the new topic");
}
