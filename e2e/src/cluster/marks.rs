//! Which processes are a cluster's own.
//!
//! A process that the cluster starts carries a mark in its environment: the cluster's folder and the process's place
//! in the cluster. So the cluster has no list of processes that could be wrong: whoever was killed with -9 between
//! starting a process and writing that down, or finds an old list after a restart of the machine, sees what runs by
//! looking at what runs. Nothing is ever found by a program's name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The variable of the mark.
const MARK: &str = "FRESHET_CLUSTER_MARK";
/// Between the folder and the place.
const SEPARATOR: &str = "\u{1f}";

/// The variable and value that mark a process of the cluster in `folder` as `place`, for instance `cp/etcd`.
#[must_use]
pub fn mark(folder: &Path, place: &str) -> (&'static str, OsString) {
    let mut value = folder.as_os_str().to_owned();
    value.push(SEPARATOR);
    value.push(place);
    (MARK, value)
}

/// A process that carries a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Its id, as this process's namespace counts.
    pub id: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its place in the cluster.
    pub place: String,
    /// The name of its program.
    pub program: String,
}

/// All processes that carry the mark of the cluster in `folder`, those that have ended left out. Their descendants
/// may have lost it: a container's environment is its own.
#[must_use]
pub fn marked(folder: &Path) -> Vec<Marked> {
    processes().filter_map(|id| look_at(id, folder)).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether some process is just becoming another program: until the new one's environment is in place there is none to
/// read, for a moment that is long on a busy machine, and the process seems to carry no mark.
#[must_use]
pub fn somebody_is_becoming_another() -> bool {
    processes().any(|id| {
        // A thread of the kernel has no program, and who has ended has none any more.
        fs::read_link(format!("/proc/{id}/exe")).is_ok()
            && fs::read(format!("/proc/{id}/environ")).is_ok_and(|environment| environment.is_empty())
    })
}

fn look_at(id: u32, folder: &Path) -> Option<Marked> {
    // Of a process that has ended, or belongs to another user, there is nothing to read.
    let environment = fs::read(format!("/proc/{id}/environ")).ok()?;
    let place = place_in(&environment, folder)?;
    let (parent, program) = parse_stat(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?;
    Some(Marked { id, parent, place, program })
}

/// The place that an environment's mark names, if it is one of the cluster in `folder`.
fn place_in(environment: &[u8], folder: &Path) -> Option<String> {
    let mut wanted = format!("{MARK}=").into_bytes();
    wanted.extend_from_slice(folder.as_os_str().as_bytes());
    wanted.extend_from_slice(SEPARATOR.as_bytes());
    let place = environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(&wanted[..]))?;
    Some(String::from_utf8_lossy(place).into_owned())
}

/// Parent and program in a line of `/proc/…/stat`; nothing of a process that has ended.
fn parse_stat(line: &str) -> Option<(u32, String)> {
    // The program's name may hold spaces and brackets.
    let (head, rest) = line.rsplit_once(')')?;
    let program = head.split_once('(')?.1;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then(|| (parent, program.to_owned()))
}

/// When a process was started, in hundredths of a second since the machine was: with its number, what tells it from any
/// other.
#[must_use]
pub fn born(process: u32) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The 22nd field; the program's name is the second.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// When a process was started, in seconds since 1970.
#[must_use]
pub fn started_at(process: u32) -> Option<i64> {
    let booted = fs::read_to_string("/proc/stat").ok()?;
    let booted: i64 = booted.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + born(process)? / 100)
}

/// What stands at a place: who was started first there, and its child where that one only waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The process that was started.
    pub first: u32,
    /// The process that does the work: the child of a starter (`nsenter`, `unshare`), or `first` itself.
    pub worker: u32,
}

/// What stands at each place; nothing where a starter has no child yet, or no longer.
///
/// Whoever was started by this program has a parent without a mark. A daemon's own children that outlive it (the
/// shims of a container runtime) have process 1 of their host for a parent, and stand at no place.
#[must_use]
pub fn by_place(marked: &[Marked]) -> BTreeMap<String, Option<Standing>> {
    let first = marked.iter().filter(|process| marked.iter().all(|other| other.id != process.parent));
    let standing = first.map(|process| {
        let waits = matches!(process.program.as_str(), "nsenter" | "unshare" | "setsid");
        let child = marked.iter().find(|other| other.parent == process.id).map(|child| child.id);
        let worker = if waits { child } else { Some(process.id) };
        (process.place.clone(), worker.map(|worker| Standing { first: process.id, worker }))
    });
    standing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn process(id: u32, parent: u32, place: &str, program: &str) -> Marked {
        Marked { id, parent, place: place.to_owned(), program: program.to_owned() }
    }

    #[test]
    fn a_place_is_its_first_process_and_the_one_that_works() {
        let found = by_place(&[
            process(10, 1, "cp/host", "unshare"),
            process(11, 10, "cp/host", "sh"),
            process(12, 11, "cp/host", "sleep"),
            process(20, 1, "n1/containerd", "nsenter"),
            process(21, 20, "n1/containerd", "containerd"),
            process(22, 11, "n1/containerd", "containerd-shim"),
            process(23, 11, "n2/containerd", "containerd-shim"),
            process(30, 1, "lan/relay", "freshet-lab"),
            process(40, 1, "n1/kubelet", "nsenter"),
        ]);
        assert_eq!(found["cp/host"], Some(Standing { first: 10, worker: 11 }));
        assert_eq!(found["n1/containerd"], Some(Standing { first: 20, worker: 21 }));
        assert_eq!(found["lan/relay"], Some(Standing { first: 30, worker: 30 }));
        assert_eq!(found["n1/kubelet"], None, "a starter without a child is no server");
        assert!(!found.contains_key("n2/containerd"), "what a server left behind is no server");
    }

    #[test]
    fn marks_of_other_folders_are_not_ours() {
        let environment = |folder: &str| {
            let (name, value) = mark(Path::new(folder), "cp/etcd");
            let text = format!("PATH=/bin\0{name}={}\0HOME=/", value.display());
            place_in(text.as_bytes(), Path::new("/a/b"))
        };
        assert_eq!(environment("/a/b").as_deref(), Some("cp/etcd"));
        assert_eq!(environment("/a/b/c"), None);
        assert_eq!(environment("/a"), None);
        assert_eq!(place_in(b"PATH=/bin", Path::new("/a/b")), None);
    }

    #[test]
    fn a_line_of_stat_may_hold_anything_in_the_program_s_name() {
        assert_eq!(parse_stat("7 (a) b (c) S 3 7 7 0"), Some((3, "a) b (c".to_owned())));
        assert_eq!(parse_stat("7 (gone) Z 3 7 7 0"), None);
    }

    #[test]
    fn a_running_process_is_found_by_its_mark_and_an_ended_one_is_not() {
        let folder = std::env::temp_dir().join(format!("freshet-marks-{}", std::process::id()));
        let (name, value) = mark(&folder, "test/sleep");
        let mut child = Command::new("sleep").arg("60").env(name, value).spawn().expect("sleep starts");
        // It is told that it has started before the kernel shows its environment.
        let began = std::time::Instant::now();
        let found = loop {
            let found = marked(&folder);
            if !found.is_empty() || began.elapsed() > std::time::Duration::from_secs(10) {
                break found;
            }
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let age = i64::try_from(now).expect("a near future") - started_at(child.id()).expect("it runs");
        assert!((-2..20).contains(&age), "it is {age} s old");
        child.kill().expect("it can be killed");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].id, found[0].place.as_str()), (child.id(), "test/sleep"));
        child.wait().expect("it ends");
        assert_eq!(marked(&folder), []);
    }
}
