//! An API server that refuses, fails, loses answers and ends watches: a job's life ends in the same states as on a
//! calm day, and nothing is written once all is well.

use freshet_crds::StreamJob;
use futures::future::join_all;
use kube::api::DeleteParams;
use serde_json::json;

use crate::gate::{Failure, Gap, Weather};
use crate::world::{SQL, World, runs, workers};

/// What is there after each step of a life.
async fn life(name: &str, net: [u8; 2], weather: Weather) -> Vec<Vec<String>> {
    let world = World::new(name, net).await;
    let operator = world.operator(weather.clone()).await;
    let count = |wanted: &'static str| move |job: &StreamJob| runs(job) && workers(job) == wanted;
    let mut states = Vec::new();
    world.apply(json!({ "replicas": 2 })).await;
    world.until(&format!("two workers in {weather:?}"), count("2/2")).await;
    operator.quiet().await;
    states.push(world.end_state().await);
    world.apply(json!({ "replicas": 3 })).await;
    world.until(&format!("three workers in {weather:?}"), count("3/3")).await;
    let changed = format!("{SQL} HAVING COUNT(*) > 3");
    world.apply(json!({ "replicas": 1, "sql": changed })).await;
    let is_new = |job: &StreamJob| {
        let status = job.status.as_ref().unwrap();
        status.revision.as_ref().is_some_and(|it| it.current == it.target) && status.replicas == Some(1)
    };
    world.until(&format!("a new plan on one worker in {weather:?}"), |job| count("1/1")(job) && is_new(job)).await;
    operator.writes_nothing().await;
    states.push(world.end_state().await);
    world.api::<StreamJob>().delete("fraud", &DeleteParams::default()).await.unwrap();
    world.until_gone().await;
    operator.quiet().await;
    states.push(world.end_state().await);
    if weather != Weather::Calm {
        assert!(operator.gate.failed() > 5, "{weather:?} disturbed {} requests", operator.gate.failed());
    }
    operator.kill().await;
    let said = world.fakes.said.lock().unwrap();
    assert!(said.orphaned.is_empty(), "{weather:?}: a slot with tasks lost its pod: {:?}", said.orphaned);
    states.push(said.generations.iter().map(ToString::to_string).collect());
    states
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_with_requests_the_end_is_the_same() {
    let weathers = [
        Weather::Calm,
        Weather::Fails(Failure::Conflict),
        Weather::Fails(Failure::TooMany),
        Weather::Fails(Failure::Internal),
        Weather::Fails(Failure::LostReply),
        Weather::Fails(Failure::Unsent),
        Weather::Watches(Gap::Ends),
        Weather::Watches(Gap::TooOld),
    ];
    let lives = weathers.into_iter().enumerate().map(|(number, weather)| async move {
        let net = [31, u8::try_from(number).unwrap()];
        (weather.clone(), life(&format!("weather-{number}"), net, weather).await)
    });
    let mut ends = join_all(lives).await.into_iter();
    let (_, wanted) = ends.next().unwrap();
    for (weather, end) in ends {
        assert_eq!(end, wanted, "{weather:?}");
    }
}
