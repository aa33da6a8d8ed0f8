//! The operator is killed before and after each of its writes, and another one started: the end is always the same.
//!
//! A life without a kill gives the writes of a step, by name and by the how many-th of that name. Then each is a spot
//! in a life of its own. How often the job itself is written depends on what was seen at once, and on whether its
//! version was still the one seen: a life may come to its end without the second or third such write of another life,
//! but never without the first.

use std::time::Duration;

use freshet_crds::StreamJob;
use futures::StreamExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::gate::{Spot, Weather};
use crate::world::{SQL, World, runs, says, workers};

/// A step of a life, from what is there before to what is there after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Make,
    Add,
    Remove,
    Change,
    Suspend,
    Delete,
}

impl Step {
    /// What is asked for before the step.
    fn before(self) -> Option<Value> {
        match self {
            Self::Make => None,
            Self::Add | Self::Change => Some(json!({ "replicas": 1 })),
            Self::Remove | Self::Suspend | Self::Delete => Some(json!({ "replicas": 2 })),
        }
    }

    async fn begin(self, world: &World) {
        match self {
            Self::Make | Self::Add => world.apply(json!({ "replicas": 2 })).await,
            Self::Remove => world.apply(json!({ "replicas": 1 })).await,
            Self::Change => world.apply(json!({ "replicas": 1, "sql": format!("{SQL} HAVING COUNT(*) > 3") })).await,
            Self::Suspend => world.apply(json!({ "replicas": 2, "state": "Suspended" })).await,
            Self::Delete => drop(world.api::<StreamJob>().delete("fraud", &DeleteParams::default()).await.unwrap()),
        }
    }

    async fn ended(self, world: &World) {
        // Pods are seen to be ready before their StatefulSet's status counts them.
        let count = |wanted: i32| {
            move |job: &StreamJob| {
                let counted = job.status.as_ref().is_some_and(|status| status.replicas == Some(wanted));
                runs(job) && workers(job) == format!("{wanted}/{wanted}") && counted
            }
        };
        match self {
            Self::Make | Self::Add => drop(world.until("two workers", count(2)).await),
            Self::Remove => drop(world.until("one worker", count(1)).await),
            Self::Change => {
                let is_new = |job: &StreamJob| {
                    let revision = job.status.as_ref().and_then(|status| status.revision.clone()).unwrap_or_default();
                    revision.current.is_some() && revision.current == revision.target
                };
                drop(world.until("the new plan", |job| runs(job) && is_new(job)).await);
            }
            Self::Suspend => drop(world.until("suspension", |job| says(job, "Ready", "True", "Suspended")).await),
            Self::Delete => world.until_gone().await,
        }
    }
}

/// How long an operator may take to come to its write.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a life went.
struct Life {
    end: Vec<String>,
    /// The writes of the step.
    spots: Vec<Spot>,
    /// Whether the operator came to the spot where it was to be killed.
    killed: bool,
}

/// A job is brought to `step`, which is cut off by `weather`, and then ended by another operator.
async fn life(name: &str, net: [u8; 2], step: Step, weather: Weather) -> Life {
    let world = World::new(name, net).await;
    if let Some(before) = step.before() {
        let operator = world.operator(Weather::Calm).await;
        let wanted = format!("{0}/{0}", before["replicas"]);
        world.apply(before).await;
        world.until("it runs", |job| runs(job) && workers(job) == wanted).await;
        operator.quiet().await;
        operator.kill().await;
    }
    let operator = world.operator(weather.clone()).await;
    step.begin(&world).await;
    let killed = if weather == Weather::Calm {
        step.ended(&world).await;
        operator.quiet().await;
        false
    } else {
        let either = async {
            tokio::select! {
                () = operator.gate.reached() => true,
                () = step.ended(&world) => false,
            }
        };
        let either = tokio::time::timeout(DEADLINE, either).await;
        either
            .unwrap_or_else(|_| panic!("{step:?} neither ends nor comes to {weather:?}: {:?}", operator.gate.writes()))
    };
    let spots = operator.gate.spots();
    operator.kill().await;
    let operator = world.operator(Weather::Calm).await;
    step.ended(&world).await;
    operator.quiet().await;
    operator.kill().await;
    let orphaned = world.fakes.said.lock().unwrap().orphaned.clone();
    assert!(orphaned.is_empty(), "a slot with tasks lost its pod: {orphaned:?}");
    Life { end: world.end_state().await, spots, killed }
}

/// How many lives are led side by side.
const LANES: usize = 24;

async fn every_write_of(step: Step, net: u8) {
    let whole = life(&format!("whole-{net}"), [net, 0], step, Weather::Calm).await;
    assert!(!whole.spots.is_empty(), "{step:?} writes nothing");
    let cuts = whole.spots.iter().flat_map(|spot| [Weather::Before(spot.clone()), Weather::After(spot.clone())]);
    let wanted = &whole.end;
    let lives = cuts.enumerate().map(|(lane, cut)| async move {
        let net = [net, u8::try_from(lane + 1).unwrap()];
        let life = life(&format!("cut-{}-{lane}", net[0]), net, step, cut.clone()).await;
        assert_eq!(&life.end, wanted, "killed at {cut:?} of {step:?}");
        let (Weather::Before(spot) | Weather::After(spot)) = cut else { return 0 };
        let by_chance = spot.name.contains(" streamjobs/") && spot.nth > 0;
        assert!(life.killed || by_chance, "{step:?} has no write {spot:?}");
        usize::from(life.killed)
    });
    let killed: Vec<usize> = futures::stream::iter(lives).buffer_unordered(LANES).collect().await;
    let (killed, spots) = (killed.iter().sum::<usize>(), whole.spots.len());
    eprintln!("{step:?}: killed {killed} times, before and after {spots} writes: {:?}", whole.spots);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_makes_a_job() {
    every_write_of(Step::Make, 21).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_adds_workers() {
    every_write_of(Step::Add, 22).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_removes_workers() {
    every_write_of(Step::Remove, 23).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_changes_the_plan() {
    every_write_of(Step::Change, 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_suspends() {
    every_write_of(Step::Suspend, 25).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_deletes() {
    every_write_of(Step::Delete, 26).await;
}
