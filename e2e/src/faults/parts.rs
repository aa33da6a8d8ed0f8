//! Parts of the lab's cluster: brokers, the store, the API server, kubelets, whole nodes. Killed, frozen, unplugged;
//! brought up again by what brings up a cluster.

use std::fs;

use super::{Step, Undo};
use crate::LabError;
use crate::cluster::Cluster;
use crate::scenario::sibling_binary;

/// The host whose interfaces are the ends of all cables.
const SWITCH: &str = "lan";

/// What starts whatever does not run of the cluster.
fn mend(cluster: &Cluster) -> Step {
    let variable = format!("FRESHET_CLUSTER={}", cluster.site().folder().display());
    Step::new(["env", &variable, &sibling_binary("freshet-lab").display().to_string(), "cluster", "up"])
}

/// Ends what is at a place of the cluster, as a power cut would: `kafka-1/kafka`, `s3/versitygw`, `cp/kube-apiserver`,
/// `n1/kubelet`; a whole node with all its pods as `n1/host`. Undone by bringing the cluster up.
///
/// # Errors
/// When nothing is there, or it does not end.
pub fn kill(cluster: &Cluster, place: &str) -> Result<Undo, LabError> {
    cluster.process(place)?;
    let undo = Undo::prepare(format!("{place} is killed"), &[mend(cluster)])?;
    let (undo, ()) = undo.around(|| cluster.kill9(place))?;
    Ok(undo)
}

/// Stops what is at a place of the cluster in its tracks (SIGSTOP): connections stay open and nothing answers. Undone
/// by SIGCONT.
///
/// # Errors
/// When nothing is there.
pub fn freeze(cluster: &Cluster, place: &str) -> Result<Undo, LabError> {
    let worker = cluster.process(place)?;
    // Who waits for it stops with it, and must go on with it: else its host could never end.
    let both = [Some(worker), parent(worker)].into_iter().flatten().map(|process| process.to_string());
    let words: Vec<String> = ["kill".to_owned(), "-CONT".to_owned()].into_iter().chain(both).collect();
    let undo = Undo::prepare(format!("{place} is frozen"), &[Step::lenient(words)])?;
    let (undo, ()) = undo.around(|| cluster.freeze(place))?;
    Ok(undo)
}

/// Pulls a host's cable out: what runs on it goes on, and nobody hears of it. Undone by plugging it in.
///
/// # Errors
/// When there is no such host.
pub fn unplug(cluster: &Cluster, host: &str) -> Result<Undo, LabError> {
    let switch = cluster.site().host_process(SWITCH)?.to_string();
    let plug = ["nsenter", "-t", &switch, "-n", "--", "ip", "link", "set", &format!("to-{host}"), "up"];
    let undo = Undo::prepare(format!("{host} is unplugged"), &[Step::new(plug)])?;
    let (undo, ()) = undo.around(|| cluster.set_cable(host, false))?;
    Ok(undo)
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
