//! On the lab's own cluster, into whose processes a test may reach.

use freshet_e2e::cluster::address::{S3, S3_PORT, SWITCH};
use freshet_e2e::faults::{Direction, FaultyS3, Namespace, Signal, Weather, cut};
use freshet_e2e::scenario::cluster::Surroundings;

use crate::*;

/// How long something is wrong, where nothing else says when it has been wrong for long enough: several epochs and
/// several retries.
const OUTAGE: Duration = Duration::from_secs(4);

#[test]
fn killed_with_9() {
    let scene = Scene::new("cluster_pods::killed_with_9").unwrap();
    let pilot = pilot(&scene, &scene.around.store_from_pods, 2);
    let feed = pilot.feed(37, 5_000, 60_000).unwrap();
    for slot in 0..2 {
        scene.start(&worker(&scene, slot)).unwrap();
    }
    for (kills, slot) in [(1, 0), (1, 1), (2, 0)] {
        progress(&scene, &pilot, 2, "the last kill");
        let name = format!("worker-{slot}");
        let container = scene.wait_running(&name, kills - 1).unwrap();
        container.signal(Signal::Kill).unwrap();
        let again = scene.wait_running(&name, kills).unwrap();
        assert_ne!(again.id, container.id);
    }
    progress(&scene, &pilot, 2, "the last kill");
    feed.finish().unwrap();
    let exact = pilot.settle_exactly(|| said(&scene, 2)).unwrap();
    println!("{exact:?}");
}

#[test]
fn frozen_and_cut_off_from_kafka() {
    let scene = Scene::new("cluster_pods::frozen_and_cut_off").unwrap();
    let pilot = pilot(&scene, &scene.around.store_from_pods, 1);
    let feed = pilot.feed(43, 5_000, 40_000).unwrap();
    scene.start(&worker(&scene, 0)).unwrap();
    progress(&scene, &pilot, 1, "the start");
    let container = scene.wait_running("worker-0", 0).unwrap();
    let frozen = container.freeze().unwrap();
    std::thread::sleep(OUTAGE);
    frozen.now().unwrap();
    progress(&scene, &pilot, 1, "the thaw");
    for direction in [Direction::Both, Direction::In] {
        let container = scene.wait_running("worker-0", 0).unwrap();
        let lost = cut(Namespace::of_container(&container).unwrap(), 9092, direction).unwrap();
        std::thread::sleep(OUTAGE);
        lost.now().unwrap();
        progress(&scene, &pilot, 1, "the link healed");
    }
    feed.finish().unwrap();
    pilot.settle_exactly(|| said(&scene, 1)).unwrap();
}

#[test]
fn the_store_answers_badly() {
    let scene = Scene::new("cluster_pods::the_store_answers_badly").unwrap();
    let mut proxy = proxy(&scene.around);
    let pilot = pilot(&scene, &proxy.endpoint(), 1);
    let feed = pilot.feed(47, 5_000, 40_000).unwrap();
    scene.start(&worker(&scene, 0)).unwrap();
    progress(&scene, &pilot, 1, "the start");
    for weather in [Weather::Unavailable, Weather::Slow(300), Weather::Unheard] {
        proxy.set(weather).unwrap();
        std::thread::sleep(OUTAGE);
        proxy.set(Weather::Fair).unwrap();
        progress(&scene, &pilot, 1, "the store was fair again");
    }
    feed.finish().unwrap();
    pilot.settle_exactly(|| said(&scene, 1)).unwrap();
}

/// A faulty proxy before the cluster's store, where pods reach it: in the network of the switch.
fn proxy(around: &Surroundings) -> FaultyS3 {
    let switch = around.lab().unwrap().site().host_process("lan").unwrap().to_string();
    let enter = ["nsenter", "-t", &switch, "-n", "--"].map(str::to_owned);
    let at = std::net::SocketAddr::from((SWITCH, 0));
    let store = format!("http://{S3}:{S3_PORT}");
    FaultyS3::start_within(&enter, at, &store).unwrap()
}
