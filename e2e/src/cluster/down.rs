//! Ends what runs, and removes what is left of it.
//!
//! What is to end is found by its mark, and ending process 1 of a host ends the host: so this needs no list, and works
//! wherever a start was interrupted.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::LabError;

use super::marks::{Marked, marked};
use super::site::Site;

/// How long the kernel may take to end a host with many pods on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Ends all processes whose place `doomed` accepts, and waits until they are gone.
///
/// # Errors
/// When some are still there at the deadline.
pub fn end(site: &Site, doomed: &dyn Fn(&str) -> bool) -> Result<(), LabError> {
    let began = Instant::now();
    let mut warned: BTreeSet<u32> = BTreeSet::new();
    loop {
        let left: Vec<Marked> = marked(site.folder()).into_iter().filter(|process| doomed(&process.place)).collect();
        if left.is_empty() {
            return Ok(());
        }
        // A starter that was stopped would never collect its child, and the child's namespace never end. The child
        // goes first: a starter that ends sees to its child by itself.
        let fresh: Vec<u32> = left.iter().map(|process| process.id).filter(|id| warned.insert(*id)).collect();
        signal("CONT", &fresh);
        signal("KILL", &fresh);
        if began.elapsed() > DEADLINE {
            let names = left.iter().map(|process| format!("{} ({}, {})", process.id, process.place, process.program));
            return Err(LabError::Wrong(format!(
                "waited {} s for these processes to end after SIGKILL, in vain: {}",
                DEADLINE.as_secs(),
                names.collect::<Vec<_>>().join(", ")
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Sends a signal to processes; those that are gone by now are what was wanted.
pub(super) fn signal(name: &str, processes: &[u32]) {
    if processes.is_empty() {
        return;
    }
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}")).arg("--").args(processes.iter().map(u32::to_string));
    kill.stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
}

/// What of a cluster's folder goes with it.
const REMOVED: [&str; 9] =
    ["kubeconfig", "addresses.json", "spec.json", "ports.json", "pki", "credentials", "config", "disks", "images"];

/// Ends the whole cluster, and removes what it left: its control groups and its data. The logs stay.
///
/// # Errors
/// When a process does not end, or a folder can't be removed.
pub fn take_down(site: &Site) -> Result<(), LabError> {
    end(site, &|_| true)?;
    for group in control_groups(site) {
        remove_groups(&group)?;
    }
    for name in REMOVED {
        let path = site.folder().join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(LabError::File { action: "removing", path, source: error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The cluster's control groups: one a node and a hierarchy.
pub(super) fn control_groups(site: &Site) -> Vec<PathBuf> {
    let wanted = format!("{}-", site.id());
    let inside = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let root = Path::new(super::node::CONTROL_GROUPS);
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&wanted));
    // The hierarchies are folders of the root, or the root itself.
    inside(root)
        .filter(|path| path.is_dir())
        .flat_map(|path| inside(&path).collect::<Vec<_>>())
        .chain(inside(root))
        .filter(ours)
        .collect()
}

/// Removes a control group with those in it, leaves first.
fn remove_groups(group: &Path) -> Result<(), LabError> {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path())?;
        }
    }
    let began = Instant::now();
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // The last process is gone from /proc a moment before it is gone from its group.
            Err(_) if began.elapsed() < DEADLINE => std::thread::sleep(LOOK_EVERY),
            Err(error) => return Err(LabError::File { action: "removing", path: group.into(), source: error }),
        }
    }
}
