//! Hosts: sets of namespaces that look like machines to what runs in them, joined by a switch.
//!
//! Each host has a process 1 of its own ([`host.sh`](../../assets/cluster/host.sh)); with it ends everything in it.
//! The switch is a host with a bridge in it; every other host has one cable, a pair of virtual interfaces, to it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::LabError;
use crate::install::command::run;

use super::address::{PREFIX, SWITCH};
use super::marks::{born, mark};
use super::site::{Presence, Site};

const SCRIPT: &str = include_str!("../../assets/cluster/host.sh");

/// The name of the switch among the hosts.
pub const SWITCH_HOST: &str = "lan";
const BRIDGE: &str = "lan0";

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name, at most ten letters: `cp`, `n1`, `kafka-1`.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The network of the pods on it, which the switch sends to it.
    pub pods: Option<String>,
}

impl Host {
    /// A host without pods.
    #[must_use]
    pub fn new(name: impl Into<String>, address: Ipv4Addr) -> Self {
        Self { name: name.into(), address, pods: None }
    }

    /// The place of its process 1.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}/host", self.name)
    }

    /// Starts it and plugs it in, as far as that is not so. It may still be setting itself up when this ends.
    ///
    /// # Errors
    /// When its namespaces or its network can't be made.
    pub fn start(&self, site: &Site) -> Result<(), LabError> {
        if site.presence(&self.place()) == Presence::Absent {
            let disk = site.disk(&self.name);
            fs::create_dir_all(&disk).map_err(LabError::file("making", &disk))?;
            // What an earlier life said of itself: its namespaces' numbers may come again.
            for said in [disk.join("ready"), self.plugged(site)] {
                fs::remove_file(said).ok();
            }
            let mut command = Command::new("setsid");
            command.args(["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL"]);
            command.args(["--mount-proc", "--propagation", "private", "sh", "-c", SCRIPT, "host", &self.name]);
            command.arg(site.folder()).arg(&disk);
            launch(site, command, &self.place())?;
        }
        super::part::wait_until(site, &[self.place()], "it to have set itself up", || match self.is_set_up(site) {
            true => Ok(()),
            false => Err("it is setting itself up".to_owned()),
        })?;
        if self.is_plugged_in(site) { Ok(()) } else { self.plug_in(site) }
    }

    /// Whether it runs, set itself up and is plugged in.
    #[must_use]
    pub fn is_up(&self, site: &Site) -> bool {
        self.is_set_up(site) && self.is_plugged_in(site)
    }

    fn is_set_up(&self, site: &Site) -> bool {
        let Ok(process) = site.host_process(&self.name) else { return false };
        let own = fs::read_link(format!("/proc/{process}/ns/mnt")).unwrap_or_default();
        fs::read_to_string(site.disk(&self.name).join("ready")).is_ok_and(|ready| own.as_os_str() == ready.trim_end())
    }

    /// The hosts' lives between which its cable is, when both are there: the number of a namespace, which is given to
    /// another one after its end, and the moment at which its process 1 was started.
    fn ends(&self, site: &Site) -> Option<String> {
        let end = |host: &str| {
            let process = site.host_process(host).ok()?;
            let namespace = fs::read_link(format!("/proc/{process}/ns/net")).ok()?;
            Some(format!("{}@{}", namespace.display(), born(process)?))
        };
        Some(format!("{} {}\n", end(&self.name)?, end(SWITCH_HOST)?))
    }

    fn plugged(&self, site: &Site) -> PathBuf {
        site.disk(&self.name).join("plugged")
    }

    fn is_plugged_in(&self, site: &Site) -> bool {
        self.ends(site).is_some_and(|ends| fs::read_to_string(self.plugged(site)).is_ok_and(|there| there == ends))
    }

    /// Makes the cable anew; what is left of an older one goes with its end at the switch.
    fn plug_in(&self, site: &Site) -> Result<(), LabError> {
        let (own, switch) = (site.host_process(&self.name)?, site.host_process(SWITCH_HOST)?);
        let address = format!("{}/{PREFIX}", self.address);
        if self.name == SWITCH_HOST {
            ip(own, &["link", "del", BRIDGE]).ok();
            ip(own, &["link", "add", BRIDGE, "type", "bridge"])?;
            ip(own, &["addr", "add", &address, "dev", BRIDGE])?;
            ip(own, &["link", "set", BRIDGE, "up"])?;
        } else {
            let port = self.port();
            ip(switch, &["link", "del", &port]).ok();
            ip(switch, &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &own.to_string()])?;
            ip(switch, &["link", "set", &port, "master", BRIDGE, "up"])?;
            ip(own, &["link", "set", "eth0", "address", &hardware_address(self.address)])?;
            ip(own, &["addr", "add", &address, "dev", "eth0"])?;
            ip(own, &["link", "set", "eth0", "up"])?;
            ip(own, &["route", "add", "default", "via", &SWITCH.to_string()])?;
            if let Some(pods) = &self.pods {
                ip(switch, &["route", "replace", pods, "via", &self.address.to_string()])?;
            }
        }
        let ends = self.ends(site).unwrap_or_default();
        super::pki::write(&self.plugged(site), &ends)
    }

    /// The name of its cable's end at the switch.
    fn port(&self) -> String {
        format!("to-{}", self.name)
    }

    /// Pulls its cable out, or puts it in again: interfaces stay, and nothing passes.
    ///
    /// # Errors
    /// When the switch does not run.
    pub fn set_cable(&self, site: &Site, connected: bool) -> Result<(), LabError> {
        let state = if connected { "up" } else { "down" };
        ip(site.host_process(SWITCH_HOST)?, &["link", "set", &self.port(), state])
    }
}

/// The hardware address of the host at `address`: the same one in each of its lives, since its neighbours remember it for
/// half a minute.
fn hardware_address(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    // The first two say that it is nobody's but given here.
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Runs `ip` in the network namespace of `process`.
fn ip(process: u32, arguments: &[&str]) -> Result<(), LabError> {
    run(Command::new("nsenter").args(["-t", &process.to_string(), "-n", "--", "ip"]).args(arguments)).map(drop)
}

/// A server that runs on a host and outlives this program.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// Its host's name.
    pub host: String,
    /// Its own name.
    pub name: String,
    /// What is run.
    pub program: PathBuf,
    /// With which arguments.
    pub arguments: Vec<String>,
    /// In which environment besides this program's own.
    pub environment: Vec<(String, String)>,
}

impl Daemon {
    /// Its place in the cluster.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}/{}", self.host, self.name)
    }

    /// Starts it, if nothing is at its place.
    ///
    /// # Errors
    /// When its host does not run.
    pub fn start(&self, site: &Site) -> Result<(), LabError> {
        if site.presence(&self.place()) != Presence::Absent {
            return Ok(());
        }
        let mut command = enter(site.host_process(&self.host)?, "setsid");
        command.arg(&self.program).args(&self.arguments).envs(self.environment.iter().cloned());
        launch(site, command, &self.place())
    }
}

/// A command that runs what is added to it within all namespaces of process 1 of a host; `first` starts it.
fn enter(process: u32, first: &str) -> Command {
    let mut command = Command::new(first);
    if first != "nsenter" {
        command.arg("nsenter");
    }
    command.args(["-t", &process.to_string(), "-m", "-n", "-p", "-u", "-i", "--"]);
    command
}

/// Runs a program on a host to its end, and gives its standard output.
///
/// # Errors
/// When the host does not run, or the program fails.
pub fn run_on(site: &Site, host: &str, program: &str, arguments: &[&str]) -> Result<String, LabError> {
    run(enter(site.host_process(host)?, "nsenter").arg(program).args(arguments))
}

/// Starts a process that outlives this program, in a session of its own, marked as being at `place`.
fn launch(site: &Site, command: Command, place: &str) -> Result<(), LabError> {
    launch_with_input(site, command, Stdio::null(), place)
}

/// As [`launch`], with `input` for its standard input.
pub(super) fn launch_with_input(site: &Site, mut command: Command, input: Stdio, place: &str) -> Result<(), LabError> {
    let log = site.log(place);
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).map_err(LabError::file("making", folder))?;
    }
    let open = || fs::OpenOptions::new().create(true).append(true).open(&log).map_err(LabError::file("opening", &log));
    let (name, value) = mark(site.folder(), place);
    command.env(name, value).stdin(input).stdout(open()?).stderr(open()?).current_dir("/");
    let program = command.get_program().to_string_lossy().into_owned();
    // Whether it stays is seen by its mark; nobody waits for it here.
    command.spawn().map(drop).map_err(|source| LabError::MissingProgram {
        program,
        remedy: format!("{place} could not be started: {source}."),
    })
}
