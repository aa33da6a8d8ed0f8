//! Level: a whole cluster, with the operator installed from the chart by Helm. What users do with a StreamJob
//! while it is fed, to the pilot's exact result; and what the operator says when something is wrong. What is in `anywhere` runs on any cluster; the rest needs the lab's.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod anywhere;
mod faults;
mod moves;
mod secured;

use std::time::{Duration, Instant};

use freshet_crds::StreamJob;
use freshet_e2e::images::ImageName;
use freshet_e2e::scenario::cluster::{Kubectl, Operator, Pilot, PilotFeed, Scene};

/// No step of a job lasts longer, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// Records a second: enough that windows close every few seconds.
const RATE: u64 = 1_500;

/// The pilot under the operator, fed.
struct Running {
    scene: Scene,
    pilot: Pilot,
    kubectl: Kubectl,
    feed: Option<PilotFeed>,
}

/// A scene on a cluster with the operator.
fn scene(name: &str) -> Scene {
    let scene = Scene::new(name).unwrap();
    Operator::new(&scene.around, ImageName::FreshetUnderTest).install().unwrap();
    scene
}

impl Running {
    /// Applies the pilot's manifests, waits until all is as they say, and begins to feed it.
    fn new(name: &str, seed: u64) -> Self {
        Self::on(scene(name), seed)
    }

    /// The same on a scene whose operator is there.
    fn on(scene: Scene, seed: u64) -> Self {
        let pilot = Pilot::for_operator(&scene).unwrap();
        scene.kubernetes.apply(&scene.namespace, &pilot.yaml()).unwrap();
        let job = scene.wait_settled(&pilot.job, PATIENCE).unwrap();
        assert_eq!(job.status.unwrap().workers.as_deref(), Some("1/1"));
        for topic in ["alerts", "country-totals", "transactions", "transactions-dlq"] {
            let status = scene.topic_resource(topic).unwrap().unwrap().status.unwrap();
            let ready = freshet_e2e::scenario::cluster::condition(&status.conditions, "Ready").unwrap();
            assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "InSync"), "{topic}");
        }
        let kubectl = scene.kubectl().unwrap();
        let feed = Some(pilot.feed(seed, RATE, 0).unwrap());
        Self { scene, pilot, kubectl, feed }
    }

    fn name(&self) -> &str {
        &self.pilot.job
    }

    fn resource(&self) -> String {
        format!("streamjob/{}", self.pilot.job)
    }

    /// Waits until it runs as its spec says.
    fn settled(&self) -> StreamJob {
        self.scene.wait_settled(self.name(), PATIENCE).unwrap()
    }

    /// Waits until it has written more rows than it has now.
    fn progress(&self, after: &str) {
        let before = self.pilot.rows().unwrap();
        let began = Instant::now();
        while self.pilot.rows().unwrap() <= before {
            let state = || self.scene.state_of_job(self.name());
            assert!(began.elapsed() < PATIENCE, "no output within {PATIENCE:?} after {after}: {}", state());
            std::thread::sleep(Duration::from_millis(200));
        }
        println!("{after}: output goes on after {:.1} s", began.elapsed().as_secs_f64());
    }

    /// UIDs of its workers' pods, by name, with how often their containers were started again.
    fn pods(&self) -> Vec<(String, String, i32)> {
        let pods = self.scene.workers(self.name()).unwrap();
        let one = |pod: k8s_openapi::api::core::v1::Pod| {
            let containers = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
            let restarts = containers.iter().map(|container| container.restart_count).sum();
            (pod.metadata.name.unwrap_or_default(), pod.metadata.uid.unwrap_or_default(), restarts)
        };
        pods.into_iter().map(one).collect()
    }

    /// Ends the feed, and compares all output with the recount of all input.
    fn exact(mut self) {
        let fed = self.feed.take().expect("it is fed").finish().unwrap();
        let exact = self.pilot.settle_exactly(|| self.scene.state_of_job(self.name())).unwrap();
        println!("{fed} records fed; {exact:?}");
        assert!(exact.alerts >= 5 && exact.totals >= 50, "{exact:?}");
        assert!(exact.late > 0 && exact.bad > 0, "{exact:?}");
    }
}
