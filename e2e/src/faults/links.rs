//! Links: cut by the packet filter, or slowed by a token bucket, always inside a network namespace that is not the
//! machine's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Container, Step, Undo};
use crate::LabError;
use crate::install::command::run;

/// A network namespace, named by a process in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespace {
    process: u32,
}

/// Which packets are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// All of them.
    Both,
    /// Those that leave the namespace: requests are lost.
    Out,
    /// Those that come into it: answers are lost, and the other side acts on what it got.
    In,
}

impl Namespace {
    /// The network namespace of process `process`.
    ///
    /// # Errors
    /// When there is no such process, or it is in the machine's own namespace: a fault there would hit everybody.
    pub fn of_process(process: u32) -> Result<Self, LabError> {
        let link = |of: &str| {
            let path = PathBuf::from(format!("/proc/{of}/ns/net"));
            fs::read_link(&path).map_err(LabError::file("looking at", path))
        };
        if link(&process.to_string())? == link("self")? {
            return Err(LabError::Wrong(format!(
                "process {process} is in this process's own network namespace: faults are for namespaces of the lab"
            )));
        }
        Ok(Self { process })
    }

    /// The network namespace of a pod, by one of its containers.
    ///
    /// # Errors
    /// As [`Namespace::of_process`].
    pub fn of_container(container: &Container) -> Result<Self, LabError> {
        Self::of_process(container.process)
    }

    /// The words of a command in it.
    fn command(self, words: &[String]) -> Vec<String> {
        let enter = ["nsenter", "-t", &self.process.to_string(), "-n", "--"].map(str::to_owned);
        enter.into_iter().chain(words.iter().cloned()).collect()
    }

    fn run(self, words: &[String]) -> Result<(), LabError> {
        let words = self.command(words);
        run(Command::new(&words[0]).args(&words[1..])).map(drop)
    }
}

/// Loses the packets between the namespace and TCP port `port`, wherever that is. Connections stay open and hear
/// nothing, as after a failure of the network.
///
/// # Errors
/// When the packet filter refuses, or is not installed.
pub fn cut(namespace: Namespace, port: u16, direction: Direction) -> Result<Undo, LabError> {
    let rules = rules(port, direction);
    let rule = |what: &str, rule: &[String]| -> Vec<String> {
        ["iptables", "-w", "10", what].iter().map(|word| (*word).to_owned()).chain(rule.iter().cloned()).collect()
    };
    // The namespace goes with its pod, and its rules with it.
    let steps: Vec<Step> = rules.iter().map(|there| Step::lenient(namespace.command(&rule("-D", there)))).collect();
    let undo = Undo::prepare(format!("port {port} is cut off for process {}", namespace.process), &steps)?;
    let (undo, ()) = undo.around(|| rules.iter().try_for_each(|new| namespace.run(&rule("-I", new))))?;
    Ok(undo)
}

/// The rules that cut `port`.
fn rules(port: u16, direction: Direction) -> Vec<Vec<String>> {
    let rule = |chain: &str, side: &str| {
        let words = [chain, "-p", "tcp", side, &port.to_string(), "-j", "DROP"];
        words.map(str::to_owned).to_vec()
    };
    let (out, back) = (rule("OUTPUT", "--dport"), rule("INPUT", "--sport"));
    match direction {
        Direction::Both => vec![out, back],
        Direction::Out => vec![out],
        Direction::In => vec![back],
    }
}

/// Lets no more than `kbit_per_second` leave the namespace by its `device` (a pod's is `eth0`).
///
/// # Errors
/// When the device has a queue of its own already, or there is none of that name.
pub fn slow(namespace: Namespace, device: &str, kbit_per_second: u32) -> Result<Undo, LabError> {
    let words = |line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let undoing = Step::lenient(namespace.command(&words(format!("tc qdisc del dev {device} root"))));
    let undo = Undo::prepare(format!("process {} sends slowly", namespace.process), &[undoing])?;
    // The bucket holds one full packet and a little more; what waits longer than half a second is lost.
    let line = format!("tc qdisc add dev {device} root tbf rate {kbit_per_second}kbit burst 4kb latency 500ms");
    let (undo, ()) = undo.around(|| namespace.run(&words(line)))?;
    Ok(undo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_decides_which_packets_are_lost() {
        let joined = |direction| rules(9092, direction).iter().map(|rule| rule.join(" ")).collect::<Vec<_>>();
        let (out, back) = ("OUTPUT -p tcp --dport 9092 -j DROP", "INPUT -p tcp --sport 9092 -j DROP");
        assert_eq!(joined(Direction::Both), [out, back]);
        assert_eq!(joined(Direction::Out), [out]);
        assert_eq!(joined(Direction::In), [back]);
    }

    #[test]
    fn the_machines_own_namespace_is_refused() {
        let error = Namespace::of_process(std::process::id()).expect_err("it is the machine's").to_string();
        assert!(error.contains("own network namespace"), "{error}");
    }
}
