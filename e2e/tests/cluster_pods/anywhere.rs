//! On any cluster that has the image.

use freshet_e2e::scenario::cluster::objects;

use crate::*;

#[test]
fn the_pilot_in_a_pod() {
    let scene = Scene::new("cluster_pods::the_pilot_in_a_pod").unwrap();
    let pilot = pilot(&scene, &scene.around.store_from_pods, 1);
    scene.start(&worker(&scene, 0)).unwrap();
    let feed = pilot.feed(31, 5_000, 80_000).unwrap();
    feed.finish().unwrap();
    let exact = pilot.settle_exactly(|| said(&scene, 1)).unwrap();
    assert!(exact.records > 80_000 && exact.alerts >= 5 && exact.totals >= 50, "{exact:?}");
    assert!(exact.late > 0 && exact.bad > 0, "{exact:?}");
    assert_eq!(scene.restarts("worker-0").unwrap(), 0, "{}", said(&scene, 1));
    println!("{exact:?}");

    // Its objects go with it.
    let (around, prefix) = (scene.around.clone(), scene.namespace.clone());
    assert!(!objects(&around, &prefix).unwrap().is_empty());
    drop(scene);
    if std::env::var_os("FRESHET_E2E_KEEP").is_none() {
        assert_eq!(objects(&around, &prefix).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn deleted_and_made_again() {
    let scene = Scene::new("cluster_pods::deleted_and_made_again").unwrap();
    let pilot = pilot(&scene, &scene.around.store_from_pods, 1);
    let feed = pilot.feed(41, 5_000, 40_000).unwrap();
    for _ in 0..2 {
        scene.start(&worker(&scene, 0)).unwrap();
        progress(&scene, &pilot, 1, "the start");
        let began = Instant::now();
        scene.delete_pod("worker-0").unwrap();
        // It stops at a commit when it is asked to, and does not wait to be killed after its grace period.
        assert!(began.elapsed() < Duration::from_secs(9), "it took {:?} to stop", began.elapsed());
    }
    scene.start(&worker(&scene, 0)).unwrap();
    feed.finish().unwrap();
    pilot.settle_exactly(|| said(&scene, 1)).unwrap();
}
