//! Level: a whole cluster. The worker's image as plain pods, under the restricted Pod Security level, against the
//! cluster's Kafka and S3: to the pilot's exact result, whatever happens to the pods. What is in `anywhere` runs on any
//! cluster; what is in `lab` reaches into the processes of the lab's own.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod anywhere;
mod lab;

use std::time::{Duration, Instant};

use freshet_e2e::scenario::cluster::{Pilot, PlainPod, Scene};

/// A pod of the runtime that runs `arguments` on the manifests in the ConfigMap `job`.
fn runtime(scene: &Scene, name: &str, command: &str, arguments: &[&str]) -> PlainPod {
    let mut pod = PlainPod::new(name, &scene.around.image);
    pod.args = [command, "/etc/freshet/job"].iter().chain(arguments).map(|&word| word.to_owned()).collect();
    pod.manifests = Some("job".to_owned());
    pod.store = true;
    pod
}

/// The worker of a slot.
fn worker(scene: &Scene, slot: u32) -> PlainPod {
    let arguments = ["--slot", &slot.to_string(), "--listen", "0.0.0.0:8080"];
    PlainPod { port: Some(8080), ..runtime(scene, &format!("worker-{slot}"), "worker", &arguments) }
}

/// The pilot with its manifests on the cluster, its tasks handed out to `slots` slots.
fn pilot(scene: &Scene, store: &str, slots: u32) -> Pilot {
    let pilot = Pilot::new(scene, store).unwrap();
    scene.config_map("job", &pilot.manifests).unwrap();
    scene.run_once(&runtime(scene, "assign", "assign", &["--slots", &slots.to_string()])).unwrap();
    pilot
}

/// The ends of the logs of workers, for messages.
fn said(scene: &Scene, slots: u32) -> String {
    let logs = (0..slots).map(|slot| scene.logs(&format!("worker-{slot}")).unwrap_or_else(|error| error.to_string()));
    logs.map(|log| log.lines().rev().take(15).collect::<Vec<_>>().join("\n")).collect::<Vec<_>>().join("\n---\n")
}

/// Waits until the job has written more rows than `before`.
fn progress(scene: &Scene, pilot: &Pilot, slots: u32, after: &str) {
    const DEADLINE: Duration = Duration::from_secs(120);
    let before = pilot.rows().unwrap();
    let began = Instant::now();
    while pilot.rows().unwrap() <= before {
        assert!(began.elapsed() < DEADLINE, "no output within {DEADLINE:?} after {after}:\n{}", said(scene, slots));
        std::thread::sleep(Duration::from_millis(200));
    }
}
