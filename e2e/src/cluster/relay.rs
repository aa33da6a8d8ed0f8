//! From loopback into the cluster: the only way in from this machine, and nothing else of the cluster is to be seen
//! outside of its namespaces.
//!
//! A socket belongs to the network namespace that it was made in. So this program opens a listener on the machine's
//! loopback and starts itself again within the switch's network, with the listener for standard input: what is
//! accepted from the one is connected to the other.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use tokio::net::TcpStream;

use crate::LabError;
use crate::scenario::sibling_binary;

use super::host::{SWITCH_HOST, launch_with_input};
use super::site::{Presence, Site};

/// A relay from a loopback port of this machine to an address of the cluster.
#[derive(Debug, Clone, Copy)]
pub struct Relay {
    /// The name of the service that it leads to.
    pub service: &'static str,
    /// Where that is.
    pub target: SocketAddr,
}

impl Relay {
    /// Its place in the cluster.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{SWITCH_HOST}/relay-{}", self.service)
    }

    /// Starts it if it does not run, and gives the loopback port.
    ///
    /// # Errors
    /// When the port is taken, or the switch does not run.
    pub fn start(&self, site: &Site) -> Result<u16, LabError> {
        let port = site.port(self.service)?;
        if site.presence(&self.place()) != Presence::Absent {
            return Ok(port);
        }
        let taken = |_| LabError::PortTaken { server: "the relay into the cluster", port };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(taken)?;
        let switch = site.host_process(SWITCH_HOST)?.to_string();
        let mut command = Command::new("setsid");
        command.args(["nsenter", "-t", &switch, "-n", "--"]).arg(sibling_binary("freshet-lab"));
        command.args(["relay", &self.target.to_string()]);
        launch_with_input(site, command, Stdio::from(OwnedFd::from(listener)), &self.place())?;
        Ok(port)
    }
}

/// Relays every connection that standard input, a listener, accepts to `target`; ends only with the process.
///
/// # Errors
/// When standard input is no listener.
pub fn serve(target: SocketAddr) -> Result<(), LabError> {
    let failed = || LabError::file("relaying from", "standard input");
    let input = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed())?;
    let listener = TcpListener::from(input);
    listener.set_nonblocking(true).map_err(failed())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed())?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed())?;
        loop {
            let (mut outside, _) = listener.accept().await.map_err(failed())?;
            tokio::spawn(async move {
                // A target that is down refuses, and so does the relay: the connection closes.
                if let Ok(mut inside) = TcpStream::connect(target).await {
                    inside.set_nodelay(true).ok();
                    outside.set_nodelay(true).ok();
                    tokio::io::copy_bidirectional(&mut outside, &mut inside).await.ok();
                }
            });
        }
    })
}
