#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests with a real socket and real time")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::*;

#[test]
fn urls_that_make_no_sense_are_refused() {
    for url in ["", "http://bucket", "s3://", "file://"] {
        assert!(matches!(open(url, None), Err(StoreError::Unusable(_))), "{url}");
    }
    assert!(matches!(open("memory://", Some(S3Options::default())), Err(StoreError::Unusable(_))));
}

type Request = (String, String);

/// A server that answers each request by `answer(method, path)` with a status and a body. Gives its URL and
/// the requests that came.
fn server(answer: impl Fn(&str, &str, usize) -> (u16, String) + Send + 'static) -> (String, Arc<Mutex<Vec<Request>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    // Ends with the test's process; each connection serves one request.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0; 1];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            stream.read_exact(&mut vec![0; length.unwrap_or(0)]).unwrap();
            let mut words = head.split(' ');
            let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
            let (status, body) = answer(&method, &path, requests.lock().unwrap().len());
            requests.lock().unwrap().push((method.clone(), path));
            let length = body.len();
            let sent = if method == "HEAD" { "" } else { body.as_str() };
            let date = "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nETag: \"1\"\r\n";
            let whole =
                format!("HTTP/1.1 {status} X\r\n{date}Content-Length: {length}\r\nConnection: close\r\n\r\n{sent}");
            stream.write_all(whole.as_bytes()).unwrap();
        }
    });
    (url, seen)
}

fn bucket(endpoint: &str) -> ObjectStoreAdapter {
    let builder = AmazonS3Builder::new()
        .with_bucket_name("b")
        .with_region("us-east-1")
        .with_endpoint(endpoint)
        .with_access_key_id("AKIAEXAMPLE")
        .with_secret_access_key("hunter2");
    ObjectStoreAdapter::new(Arc::new(with_patience(builder, true).build().unwrap()), Path::from("state"))
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn error_xml(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>It is so.</Message><Key>AKIAEXAMPLE</Key></Error>"
    )
}

fn create(store: &ObjectStoreAdapter) -> Result<Created, StoreError> {
    run(store.create("x", Bytes::from_static(b"1")))
}

#[test]
fn a_create_says_new_or_existed() {
    let (url, seen) = server(|_, _, n| if n == 0 { (200, String::new()) } else { (412, String::new()) });
    assert_eq!(create(&bucket(&url)), Ok(Created::New));
    assert_eq!(*seen.lock().unwrap(), [("PUT".to_owned(), "/b/state/x".to_owned())]);
    let (url, _) = server(|method, _, _| if method == "PUT" { (412, String::new()) } else { (200, "1".into()) });
    assert_eq!(create(&bucket(&url)), Ok(Created::Existed));
}

#[test]
fn a_conflict_without_an_object_is_tried_again_and_never_taken_for_an_object() {
    let conflict = || (409, error_xml("ConditionalRequestConflict"));
    let (url, _) = server(move |method, _, n| match (method, n) {
        ("PUT", 0) => conflict(),
        ("PUT", _) => (200, String::new()),
        _ => (404, String::new()),
    });
    assert_eq!(create(&bucket(&url)), Ok(Created::New));
    let (url, _) = server(move |method, _, _| if method == "PUT" { conflict() } else { (404, String::new()) });
    assert!(matches!(create(&bucket(&url)), Err(StoreError::Unavailable(_))));
}

#[test]
fn refusals_missing_buckets_and_outages_are_told_apart_without_secrets() {
    let outcome = |status: u16, code: &'static str| {
        let (url, _) = server(move |_, _, _| (status, error_xml(code)));
        let store = bucket(&url);
        let error = run(store.get("x")).expect_err(code);
        assert!(!error.to_string().contains("AKIAEXAMPLE") && !error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().contains(code), "{error}");
        // A worker's first request is a listing.
        let listed = run(store.list("")).expect_err(code);
        assert_eq!(std::mem::discriminant(&listed), std::mem::discriminant(&error), "{listed}");
        error
    };
    assert!(matches!(outcome(403, "SignatureDoesNotMatch"), StoreError::Unauthorised(_)));
    assert!(matches!(outcome(404, "NoSuchBucket"), StoreError::Unusable(_)));
    assert!(matches!(outcome(400, "InvalidBucketName"), StoreError::Unusable(_)));
    assert!(matches!(outcome(503, "SlowDown"), StoreError::Unavailable(_)));
    let (url, _) = server(|_, _, _| (404, error_xml("NoSuchKey")));
    assert_eq!(run(bucket(&url).get("x")), Ok(None));
}

#[test]
fn a_store_that_is_away_is_unavailable_within_seconds() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = bucket(&format!("http://{address}"));
    let begun = std::time::Instant::now();
    assert!(matches!(create(&store), Err(StoreError::Unavailable(_))));
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[test]
fn an_answer_that_is_cut_short_is_no_object() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let store = bucket(&format!("http://{}", listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let head =
                "HTTP/1.1 200 OK\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: 100\r\n\r\nhalf";
            stream.write_all(head.as_bytes()).unwrap();
        }
    });
    let error = run(store.get("x")).expect_err("4 of 100 bytes");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
}
