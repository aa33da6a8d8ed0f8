//! Level: real servers. The harness itself: servers serve, die, come back with their data, and leave nothing.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use freshet_e2e::servers::{KafkaOptions, KafkaServer, S3Options, S3Server};

/// The status line of `GET path`.
fn get(endpoint: &str, path: &str) -> String {
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn the_s3_server_serves_survives_a_kill_and_leaves_nothing() {
    let options = S3Options { port: None, buckets: vec!["state".to_owned()] };
    let mut server = S3Server::start_temporary(&options).unwrap();
    let folder = server.folder().to_owned();
    assert!(get(&server.endpoint(), "/health").contains("200"));
    assert!(get(&server.endpoint(), "/state").contains("403"), "a stranger may list the bucket");

    let endpoint = server.endpoint();
    server.kill9();
    assert!(TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).is_err(), "a killed server answers");
    server.restart().unwrap();
    assert_eq!(server.endpoint(), endpoint);
    assert!(get(&endpoint, "/health").contains("200"));
    server.stop().unwrap();
    drop(server);
    assert!(!folder.exists(), "{} is left", folder.display());
}

#[test]
fn a_broker_that_can_not_start_says_why() {
    let options = KafkaOptions::default().property("log.segment.bytes", "not a number");
    let error = KafkaServer::start_temporary(&options).expect_err("a segment of `not a number` bytes");
    assert!(error.to_string().contains("log.segment.bytes"), "{error}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = KafkaOptions { port: Some(port), ..KafkaOptions::default() };
    let error = KafkaServer::start_temporary(&options).expect_err("somebody listens there");
    assert!(error.to_string().contains(&format!("port {port} of 127.0.0.1 is taken")), "{error}");
}

#[test]
fn a_broker_stops_in_order_and_leaves_nothing() {
    let mut server = KafkaServer::start_temporary(&KafkaOptions::default()).unwrap();
    let folder = server.folder().to_owned();
    assert!(TcpStream::connect(server.bootstrap()).is_ok());
    server.stop().unwrap();
    assert!(server.log_tail().contains("shut down"), "{}", server.log_tail());
    assert!(TcpStream::connect(server.bootstrap()).is_err(), "a stopped broker answers");
    drop(server);
    assert!(!folder.exists(), "{} is left", folder.display());
}
