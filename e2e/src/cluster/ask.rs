//! One question to a server over plain HTTP, for readiness.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// How long one question to a server may take.
pub const ANSWER: Duration = Duration::from_secs(2);

/// Asks the server behind loopback port `port` for `path`; an answer of 200 is what is wanted.
///
/// # Errors
/// What it said instead, or why it did not answer.
pub fn is_served(port: u16, path: &str) -> Result<(), String> {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        std::io::Result::Ok(answer.lines().next().unwrap_or_default().to_owned())
    };
    match ask() {
        Ok(line) if line.contains(" 200 ") => Ok(()),
        Ok(line) => Err(format!("{path} says `{line}`")),
        Err(error) => Err(format!("{path}: {error}")),
    }
}
