//! Real servers in folders of their own, on free ports of 127.0.0.1.
//!
//! A server's process group dies with the value that holds it, and, should the test process be killed
//! or end with the server in a static, by its undertaker (see [`process`]).

pub mod flink;
pub mod kafka;
pub mod process;
pub mod s3;
mod scratch;
pub(crate) mod shared;
pub(crate) mod stopped;

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;

pub use flink::FlinkCluster;
pub use kafka::{KafkaOptions, KafkaServer};
pub use s3::{S3Options, S3Server};
pub use scratch::Scratch;
pub use shared::SharedKafka;

use crate::LabError;

/// A port of 127.0.0.1 that nobody listens on now. The system gives ports out in turn, so that another process
/// does not get the same one soon.
///
/// # Panics
/// When the machine has no free port on its loopback.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}

/// The port that was asked for, if nobody listens on it, or a free one when none was asked for.
fn port_for(server: &'static str, asked: Option<u16>) -> Result<u16, LabError> {
    let Some(port) = asked else { return Ok(free_port()) };
    // A listener would be refused for a while after a server's end because of its old connections; a client is
    // not.
    match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Err(LabError::PortTaken { server, port }),
        Err(_) => Ok(port),
    }
}

/// Copies the files of `from` to the new folder `to`, with their subfolders.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<(), LabError> {
    fs::create_dir_all(to).map_err(LabError::file("making", to))?;
    for entry in fs::read_dir(from).map_err(LabError::file("listing", from))? {
        let path = entry.map_err(LabError::file("listing", from))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(LabError::file("copying", &path))?;
        }
    }
    Ok(())
}
