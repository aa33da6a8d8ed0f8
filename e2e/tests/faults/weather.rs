//! The faulty proxy before a real S3 server, and before one that counts.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use freshet_e2e::faults::{FaultyS3, Weather};
use freshet_e2e::servers::{S3Options, S3Server};

const BUCKET: &str = "weather";

fn local() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// The status line of an unsigned request.
fn ask(endpoint: &str, method: &str, path: &str) -> u16 {
    let address = endpoint.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_store_is_unavailable_slow_and_fair_again() {
    let server = S3Server::start_temporary(&S3Options { port: None, buckets: vec![BUCKET.to_owned()] }).unwrap();
    let mut proxy = FaultyS3::start(local(), &server.endpoint()).unwrap();
    let get = |proxy: &FaultyS3| ask(&proxy.endpoint(), "GET", "/health");
    assert_eq!(get(&proxy), 200);
    proxy.set(Weather::Unavailable).unwrap();
    assert_eq!(get(&proxy), 503);
    proxy.set(Weather::ReadOnly).unwrap();
    assert_eq!((get(&proxy), ask(&proxy.endpoint(), "PUT", "/weather/x")), (200, 503));
    let began = Instant::now();
    proxy
        .during(Weather::Slow(700), || {
            assert_eq!(ask(&server.endpoint(), "GET", "/health"), 200, "the server itself is as fast as ever");
            Ok(())
        })
        .unwrap();
    proxy.set(Weather::Slow(700)).unwrap();
    let asked = Instant::now();
    assert_eq!(get(&proxy), 200);
    assert!(asked.elapsed() >= Duration::from_millis(700), "{:?}", asked.elapsed());
    proxy.set(Weather::Fair).unwrap();
    assert_eq!(get(&proxy), 200);
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn signed_requests_pass() {
    let server = S3Server::start_temporary(&S3Options { port: None, buckets: vec![BUCKET.to_owned()] }).unwrap();
    let mut proxy = FaultyS3::start(local(), &server.endpoint()).unwrap();
    let state = server.folder().join("objects").join(BUCKET).join("state");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("hello"), "x").unwrap();
    let look = |secret: &str, endpoint: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshet-under-test"));
        command.args(["state", &format!("s3://{BUCKET}/state"), "--endpoint", endpoint, "--region", S3Server::REGION]);
        command.env("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", secret);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (found, said) = look(S3Server::SECRET_KEY, &proxy.endpoint());
    assert!(found && said.contains("hello"), "{said}");
    let (found, said) = look("wrong", &proxy.endpoint());
    assert!(!found, "the signature is not looked at: {said}");
    proxy.set(Weather::Unavailable).unwrap();
    let (found, said) = look(S3Server::SECRET_KEY, &proxy.endpoint());
    assert!(!found, "{said}");
    proxy.set(Weather::Fair).unwrap();
}

#[test]
fn an_unheard_write_is_done() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let puts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&puts);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).unwrap();
            counted.fetch_add(u32::from(bytes[..read].starts_with(b"PUT ")), Ordering::SeqCst);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
        }
    });
    let mut proxy = FaultyS3::start(local(), &upstream).unwrap();
    proxy.set(Weather::Unheard).unwrap();
    assert_eq!(ask(&proxy.endpoint(), "PUT", "/b/x"), 500);
    assert_eq!(puts.load(Ordering::SeqCst), 1, "the store did not hear of it");
    assert_eq!(ask(&proxy.endpoint(), "GET", "/b/x"), 200);
    proxy.set(Weather::Unavailable).unwrap();
    assert_eq!(ask(&proxy.endpoint(), "PUT", "/b/x"), 503);
    assert_eq!(puts.load(Ordering::SeqCst), 1, "the store heard of what was refused");
}

#[test]
fn the_proxy_ends_with_its_test() {
    let proxy = FaultyS3::start(local(), "http://127.0.0.1:1").unwrap();
    let endpoint = proxy.endpoint();
    assert_eq!(ask(&endpoint, "GET", "/"), 502, "nobody is behind it");
    drop(proxy);
    assert!(std::net::TcpStream::connect(endpoint.trim_start_matches("http://")).is_err(), "it is still there");
}
