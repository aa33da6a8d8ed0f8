//! The same tests must fail when the runtime is wrong: planted bugs, and what catches them.

use std::time::Duration;

use crate::*;

/// How a bug shows.
enum Shown {
    /// The output is not the recount.
    Difference(String),
    /// The job could not go on, and said why.
    Refused(String),
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Difference(what) => write!(f, "the output differs: {what}"),
            Self::Refused(said) => write!(f, "a worker gave up:\n{said}"),
        }
    }
}

/// Lets the job finish its input, and says how its output differs; a worker that gives up is a finding too.
fn verdict(job: &Job, watch: &mut Watch, mut workers: Vec<Worker>) -> Option<Shown> {
    let recount = freshet_e2e::scenario::Recount::of(job).unwrap();
    let mut refused = None;
    let reached = job.wait_until(watch, &[], "the end of the output", |watch| {
        refused = workers.iter_mut().find_map(|worker| (!worker.is_running()).then(|| worker.said()));
        refused.is_some() || Role::OUTPUTS.iter().all(|role| watch.count(*role) >= recount.expected(*role))
    });
    if let Some(said) = refused {
        return Some(Shown::Refused(said));
    }
    reached.unwrap();
    for worker in &mut workers {
        worker.stop().unwrap();
    }
    let difference = freshet_e2e::scenario::compare(job, &recount).unwrap();
    (!difference.is_none()).then(|| Shown::Difference(difference.to_string()))
}

/// A slot is frozen with an epoch under way, its successor in a later generation goes on, and it wakes.
fn zombie(name: &str, variables: &[(&str, &str)]) -> Option<Shown> {
    let job = job(name);
    job.assign(1).unwrap();
    let mut watch = watch(&job);
    let mut zombie = job.worker_with(0, variables).unwrap();
    let feed = feed(&job, 31);
    progress(&job, &mut watch, &[&zombie], "the start");
    zombie.freeze();
    let said = zombie.log().len();
    let assigned = job.assign(2).unwrap();
    assert!(assigned.starts_with("generation 2 "), "{assigned}");
    let mut workers: Vec<Worker> = (0..2).map(|slot| job.worker_with(slot, variables).unwrap()).collect();
    for worker in &mut workers {
        worker.wait_for("took over").unwrap();
    }
    watch.follow(Duration::from_millis(500));
    zombie.thaw();
    // Whether it commits, is fenced, or sees the new generation, it says so. It must not commit what the others
    // have taken over.
    job.wait_until(&mut watch, &[], "a word of the slot that was frozen", |_| {
        let log = zombie.log();
        let new = log.get(said..).unwrap_or_default();
        !zombie.is_running()
            || ["epoch committed", "taking over again", "took over"].iter().any(|word| new.contains(word))
    })
    .unwrap();
    zombie.kill9();
    // It may have joined the new generation, and replaced the process of its slot there.
    for worker in &mut workers {
        worker.kill9();
        *worker = job.worker_with(worker.slot, variables).unwrap();
    }
    feed.finish().unwrap();
    verdict(&job, &mut watch, workers)
}

/// A slot is killed in the midst of its work, and started again.
fn killed(name: &str, first: &[(&str, &str)], again: &[(&str, &str)]) -> Option<Shown> {
    let job = job(name);
    job.assign(1).unwrap();
    let mut watch = watch(&job);
    let mut worker = job.worker_with(0, first).unwrap();
    let feed = feed(&job, 37);
    if first.iter().any(|(name, _)| *name == "FRESHET_CRASH_AT") {
        worker.wait_for_end(&mut watch).unwrap();
    } else {
        progress(&job, &mut watch, &[&worker], "the start");
        worker.kill9();
    }
    let worker = job.worker_with(0, again).unwrap();
    feed.finish().unwrap();
    verdict(&job, &mut watch, vec![worker])
}

/// Tasks go to another slot and back.
fn moved(name: &str, variables: &[(&str, &str)]) -> Option<Shown> {
    let job = job(name);
    job.assign(1).unwrap();
    let mut watch = watch(&job);
    let workers: Vec<Worker> = (0..2).map(|slot| job.worker_with(slot, variables).unwrap()).collect();
    let feed = feed(&job, 41);
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the start");
    job.assign(2).unwrap();
    watch.follow(Duration::from_secs(3));
    feed.finish().unwrap();
    verdict(&job, &mut watch, workers)
}

/// Nothing shows without a bug, and something does with it.
fn caught(bug: &str, scenario: impl Fn(&str, &[(&str, &str)]) -> Option<Shown>) {
    if let Some(shown) = scenario("sound", &[]) {
        panic!("without any bug: {shown}");
    }
    let shown = scenario("bug", &[("FRESHET_PLANTED_BUG", bug)]);
    let shown = shown.unwrap_or_else(|| panic!("{bug} was not caught"));
    // A worker that gave up for any other reason has shown nothing.
    if let Shown::Refused(said) = &shown {
        assert!(said.contains("StateMissing"), "{bug}: {said}");
    }
    println!("{bug}: {shown}");
}

#[test]
fn a_zombie_that_is_not_fenced_is_caught() {
    if let Some(shown) = zombie("zombie", &[]) {
        panic!("without any bug: {shown}");
    }
    // Between two epochs a frozen slot has nothing to commit: then the bug has nothing to show.
    let shown = (0..5).find_map(|_| zombie("zombie-bug", &[("FRESHET_PLANTED_BUG", "SkipFence")]));
    match shown {
        Some(Shown::Difference(difference)) => println!("SkipFence: {difference}"),
        Some(Shown::Refused(said)) => panic!("SkipFence shows in the output, not as\n{said}"),
        None => panic!("SkipFence was not caught"),
    }
}

#[test]
fn a_moved_task_that_begins_again_is_caught() {
    caught("RestartMovedTask", moved);
}

#[test]
fn offsets_without_state_are_caught() {
    caught("OffsetsWithoutState", |name, variables| killed(name, variables, variables));
}

#[test]
fn a_commit_before_its_object_is_caught() {
    let crash = ("FRESHET_CRASH_AT", "epoch.committed:3");
    caught("CommitBeforeObject", |name, variables| {
        let first: Vec<_> = variables.iter().copied().chain([crash]).collect();
        killed(name, &first, variables)
    });
}
