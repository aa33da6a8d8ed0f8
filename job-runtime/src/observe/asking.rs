//! What tests ask the process's servers with: one request over a connection of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Status code and body of the answer; `token` stands in the header `Authorization` as it is.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out can be set");
    let authorised = token.map_or(String::new(), |token| format!("Authorization: {token}\r\n"));
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{authorised}Content-Length: {length}\r\n\r\n{body}"
    )
    .expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers within 5 s");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
    (code, body.to_owned())
}
