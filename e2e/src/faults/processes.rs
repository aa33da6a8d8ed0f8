//! The processes of a pod's container, found from outside: the machine sees the processes of every namespace, and
//! each names its container in its control group.

use std::fs;
use std::process::Command;

use super::{Step, Undo};
use crate::LabError;
use crate::install::command::run;
use crate::servers::stopped::wait_until_stopped;

/// A signal that tests send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends it at once; it can't refuse.
    Kill,
    /// Asks it to end.
    Term,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "-KILL",
            Self::Term => "-TERM",
        }
    }
}

/// A running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id, as the pod's status has it behind `containerd://`.
    pub id: String,
    /// The process that it was started with, as this machine numbers it.
    pub process: u32,
}

impl Container {
    /// Finds the container with this id; `containerd://` in front of it may stay.
    ///
    /// # Errors
    /// When no process of this machine is its first one: it has ended, or runs on another machine.
    pub fn find(id: &str) -> Result<Self, LabError> {
        let id = id.rsplit('/').next().unwrap_or(id).to_owned();
        let first = numbers("/proc").find(|process| {
            let in_it = fs::read_to_string(format!("/proc/{process}/cgroup")).is_ok_and(|groups| names(&groups, &id));
            in_it && fs::read_to_string(format!("/proc/{process}/status")).is_ok_and(|status| is_first(&status))
        });
        let process = first.ok_or_else(|| {
            LabError::Wrong(format!("no process of this machine is the first one of container {id}: has it ended?"))
        })?;
        Ok(Self { id, process })
    }

    /// Sends a signal to its first process.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        run(Command::new("kill").arg(signal.name()).arg(self.process.to_string())).map(drop)
    }

    /// Whether its first process is still there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state().is_some_and(|state| state != 'Z' && state != 'X')
    }

    /// Stops every process of it in its tracks (SIGSTOP): sockets stay open and nothing answers. Undone by SIGCONT.
    ///
    /// # Errors
    /// When it is gone already, or does not stop.
    pub fn freeze(&self) -> Result<Undo, LabError> {
        let all: Vec<String> = self.processes().iter().map(u32::to_string).collect();
        let words = |signal: &str| ["kill".to_owned(), signal.to_owned()].into_iter().chain(all.iter().cloned());
        let undo = Undo::prepare(format!("container {} is frozen", self.id), &[Step::lenient(words("-CONT"))])?;
        let (undo, ()) = undo.around(|| {
            run(Command::new("kill").arg("-STOP").args(&all))?;
            wait_until_stopped(self.process)
        })?;
        Ok(undo)
    }

    /// All its processes, as this machine numbers them.
    fn processes(&self) -> Vec<u32> {
        let in_it = |process: &u32| {
            fs::read_to_string(format!("/proc/{process}/cgroup")).is_ok_and(|groups| names(&groups, &self.id))
        };
        numbers("/proc").filter(in_it).collect()
    }

    /// The state letter of its first process.
    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process)).ok()?;
        stat.rsplit(')').next()?.trim().chars().next()
    }
}

/// The numbers among the names in a folder.
fn numbers(folder: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether the control groups of a process are those of container `id`.
fn names(groups: &str, id: &str) -> bool {
    groups.lines().any(|line| line.rsplit('/').next().is_some_and(|last| last.contains(id)))
}

/// Whether a process is the first one of its process namespace, and that is not the machine's own.
fn is_first(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1b2c";

    #[test]
    fn a_process_is_of_the_container_that_its_group_ends_with() {
        assert!(names(&format!("11:memory:/node-1/kubepods/burstable/pod77/{ID}\n"), ID));
        assert!(names(&format!("0::/kubepods.slice/cri-containerd-{ID}.scope\n"), ID));
        assert!(!names(&format!("11:memory:/kubepods/pod{ID}/another\n"), ID));
    }

    #[test]
    fn the_first_process_is_number_one_of_an_inner_namespace() {
        assert!(is_first("Name:\tfreshet\nNSpid:\t4711\t212\t1\n"));
        assert!(!is_first("Name:\tsh\nNSpid:\t4712\t213\t7\n"), "a child");
        assert!(!is_first("Name:\tinit\nNSpid:\t1\n"), "the machine's own");
    }

    #[test]
    fn a_container_that_is_not_here_is_named() {
        let error = Container::find("containerd://no-such-container").expect_err("there is none").to_string();
        assert!(error.contains("container no-such-container"), "{error}");
    }
}
