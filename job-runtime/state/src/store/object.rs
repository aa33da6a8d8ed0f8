//! Buckets and folders, through `object_store`. The only room that reads credentials.
//!
//! # What is relied on
//! * `s3://`: `PUT` with `If-None-Match: *`. A refusal is looked at once more, because some servers answer
//!   409 while two requests are under way, though there is no object.
//! * `file://`: an object is written beside its place as `name#1` and then hard-linked into it, which
//!   fails when the name is taken. So a process that is killed leaves whole objects or none; a staged file
//!   that it leaves behind is not listed. The folder is made with its first object. Written data is left to the
//!   operating system to bring to the disk: it outlives a killed process, but not always a power failure,
//!   after which checksums tell.
//!
//! # Deadlines
//! An operation takes at most [`PATIENCE`] plus a second for each MiB; retries of single requests included.
#![allow(clippy::disallowed_methods, reason = "deadlines of real requests, and credentials from the environment")]

use std::error::Error as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig,
};

use super::{Created, MemoryStore, Store, StoreError};

/// How long an operation may take, or stand still, before the store counts as not available.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a create is tried again when it was refused though there is no such object.
const CREATE_ATTEMPTS: u32 = 4;

/// Where a bucket is, besides its name. Credentials come from the environment alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Options {
    /// For instance `http://s3:7070`; `None` for AWS itself.
    pub endpoint: Option<String>,
    /// For instance `us-east-1`; `None`: what the environment says.
    pub region: Option<String>,
    /// Whether plain HTTP is allowed; it is implied by an endpoint that begins with `http://`.
    pub allow_http: bool,
}

/// The store at `url`: `s3://bucket/folder`, `file:///folder` (or a path), or `memory://`.
///
/// For `s3://`, credentials are read from the usual `AWS_…` variables of the environment; options given
/// here win over them.
///
/// # Errors
/// [`StoreError::Unusable`] when the URL or the options can't be used. Nothing is contacted yet.
pub fn open(url: &str, s3: Option<S3Options>) -> Result<Rc<dyn Store>, StoreError> {
    if url.starts_with("s3://") {
        return Ok(Rc::new(open_bucket(url, s3.unwrap_or_default())?));
    }
    if let Some(options) = s3 {
        return Err(StoreError::Unusable(format!("{url} is not s3://, but S3 options are given: {options:?}")));
    }
    match url.split_once("://") {
        Some(("memory", _)) => Ok(Rc::new(MemoryStore::new())),
        Some(("file", path)) => Ok(Rc::new(open_folder(url, path)?)),
        None if !url.is_empty() => Ok(Rc::new(open_folder(url, url)?)),
        _ => Err(StoreError::Unusable(format!(
            "{url:?} is not understood: use s3://bucket/folder, file:///folder or memory://"
        ))),
    }
}

fn open_bucket(url: &str, options: S3Options) -> Result<ObjectStoreAdapter, StoreError> {
    let unusable = |e: Error| StoreError::Unusable(format!("{url}: {}", plain_text(&e)));
    let (bucket, folder) = url["s3://".len()..].split_once('/').unwrap_or((&url["s3://".len()..], ""));
    if bucket.is_empty() {
        return Err(StoreError::Unusable(format!("{url} names no bucket: use s3://bucket/folder")));
    }
    let allow_http =
        options.allow_http || options.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
        },
        max_retries: 3,
        retry_timeout: PATIENCE,
    };
    let client = ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(Duration::from_secs(3))
        .with_timeout(Duration::from_secs(300));
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry)
        .with_client_options(client);
    if let Some(endpoint) = options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = options.region {
        builder = builder.with_region(region);
    }
    let inner = builder.build().map_err(unusable)?;
    let root = Path::parse(folder).map_err(|e| unusable(e.into()))?;
    Ok(ObjectStoreAdapter { inner: Arc::new(inner), root })
}

fn open_folder(url: &str, path: &str) -> Result<ObjectStoreAdapter, StoreError> {
    let unusable = |what: String| StoreError::Unusable(format!("{url}: {what}"));
    if path.is_empty() {
        return Err(unusable("names no folder: use file:///folder".to_owned()));
    }
    let absolute = std::path::absolute(path).map_err(|e| unusable(e.to_string()))?;
    let root = Path::from_absolute_path(absolute).map_err(|e| unusable(e.to_string()))?;
    Ok(ObjectStoreAdapter { inner: Arc::new(LocalFileSystem::new()), root })
}

/// A folder of an object store of the `object_store` crate.
#[derive(Debug, Clone)]
pub struct ObjectStoreAdapter {
    inner: Arc<dyn ObjectStore>,
    root: Path,
}

impl ObjectStoreAdapter {
    /// The objects below `root` in `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { inner, root }
    }

    fn path(&self, relative: &str) -> Path {
        // Our own names hold no character that a store would escape.
        relative.split('/').filter(|part| !part.is_empty()).fold(self.root.clone(), |path, part| path.join(part))
    }

    async fn put(&self, path: &Path, bytes: Bytes, mode: PutMode) -> Result<(), Error> {
        self.inner.put_opts(path, PutPayload::from_bytes(bytes), mode.into()).await.map(|_| ())
    }
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> Result<T, StoreError> {
    let late = |_| StoreError::Unavailable(format!("{what}: no answer within {} s", limit.as_secs()));
    tokio::time::timeout(limit, work).await.map_err(late)
}

fn patience_for(bytes: usize) -> Duration {
    PATIENCE + Duration::from_secs((bytes >> 20) as u64)
}

#[async_trait(?Send)]
impl Store for ObjectStoreAdapter {
    async fn create(&self, path: &str, bytes: Bytes) -> Result<Created, StoreError> {
        let (full, limit) = (self.path(path), patience_for(bytes.len()));
        let mut backoff = Duration::from_millis(50);
        for _ in 0..CREATE_ATTEMPTS {
            let written = within(limit, path, self.put(&full, bytes.clone(), PutMode::Create)).await?;
            match written {
                Ok(()) => return Ok(Created::New),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => return Err(StoreError::NoCreateOnly),
                Err(error) => return Err(classify(path, &error)),
            }
            match within(PATIENCE, path, self.inner.head(&full)).await? {
                Ok(_) => return Ok(Created::Existed),
                Err(Error::NotFound { .. }) => tokio::time::sleep(backoff).await,
                Err(error) => return Err(classify(path, &error)),
            }
            backoff *= 2;
        }
        Err(StoreError::Unavailable(format!("{path}: the store refuses to create it, yet there is no such object")))
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let found = match within(PATIENCE, path, self.inner.get(&self.path(path))).await? {
            Ok(found) => found,
            Err(error @ Error::NotFound { .. }) => return none_or_unusable(path, &error),
            Err(error) => return Err(classify(path, &error)),
        };
        let size = found.range.end - found.range.start;
        let mut whole = BytesMut::new();
        let mut chunks = found.into_stream();
        while let Some(chunk) = within(PATIENCE, path, chunks.next()).await? {
            let chunk = chunk.map_err(|error| classify(path, &error))?;
            if whole.is_empty() && chunk.len() as u64 == size {
                return Ok(Some(chunk));
            }
            whole.extend_from_slice(&chunk);
        }
        if whole.len() as u64 != size {
            return Err(StoreError::Unavailable(format!("{path}: {} of {size} bytes came", whole.len())));
        }
        Ok(Some(whole.freeze()))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let (folder, root) = (self.path(prefix), self.root.clone());
        let mut paths = Vec::new();
        let mut listing = self.inner.list(Some(&folder));
        while let Some(found) = within(PATIENCE, prefix, listing.next()).await? {
            let location = match found {
                Ok(meta) => meta.location,
                // A file that was deleted while its folder was read.
                Err(error @ Error::NotFound { .. }) => {
                    none_or_unusable::<()>(prefix, &error)?;
                    continue;
                }
                Err(error) => return Err(classify(prefix, &error)),
            };
            let full = location.as_ref();
            let relative = full.strip_prefix(root.as_ref()).unwrap_or(full).trim_start_matches('/');
            paths.push(relative.to_owned());
        }
        paths.sort_unstable();
        Ok(paths)
    }

    async fn delete(&self, path: &str) -> Result<(), StoreError> {
        match within(PATIENCE, path, self.inner.delete(&self.path(path))).await? {
            Ok(()) => Ok(()),
            Err(error @ Error::NotFound { .. }) => none_or_unusable::<()>(path, &error).map(|_| ()),
            Err(error) => Err(classify(path, &error)),
        }
    }

    #[cfg(feature = "faults")]
    async fn overwrite(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let written = within(patience_for(bytes.len()), path, self.put(&self.path(path), bytes, PutMode::Overwrite));
        written.await?.map_err(|error| classify(path, &error))
    }
}

/// "Not found" means that there is no such object, unless it is the bucket that is not there.
fn none_or_unusable<T>(path: &str, error: &Error) -> Result<Option<T>, StoreError> {
    if full_text(error).contains("NoSuchBucket") { Err(classify(path, error)) } else { Ok(None) }
}

fn classify(path: &str, error: &Error) -> StoreError {
    let text = format!("{path}: {}", plain_text(error));
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreError::Unauthorised(text),
        Error::NotFound { .. }
        | Error::InvalidPath { .. }
        | Error::UnknownConfigurationKey { .. }
        | Error::NotImplemented { .. }
        | Error::NotSupported { .. } => StoreError::Unusable(text),
        _ => classify_cause(error, text),
    }
}

/// Goes by the operating system's error and by what S3 servers answer, where `object_store` has only a
/// generic error.
fn classify_cause(error: &Error, text: String) -> StoreError {
    use std::io::ErrorKind;
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(io) = source.downcast_ref::<std::io::Error>() {
            match io.kind() {
                ErrorKind::PermissionDenied => return StoreError::Unauthorised(text),
                ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::ReadOnlyFilesystem => {
                    return StoreError::Unusable(text);
                }
                _ => {}
            }
        }
        cause = source.source();
    }
    let full = full_text(error);
    let names = |codes: &[&str]| codes.iter().any(|code| full.contains(code));
    if names(&["CredentialsNotLoaded", "Error performing token request", "Missing credentials", "InvalidAccessKeyId"]) {
        StoreError::Unauthorised(text)
    } else if names(&["NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "without LOCATION", "400 Bad Request"]) {
        StoreError::Unusable(text)
    } else {
        StoreError::Unavailable(text)
    }
}

/// The error and all that caused it.
fn full_text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    text
}

/// The error for people: of a server's XML only its code and message (the rest may echo an access key's id
/// and the signed request), without credentials in URLs, on one line.
fn plain_text(error: &Error) -> String {
    let text = full_text(error);
    let short = match text.find("<?xml").or_else(|| text.find("<Error")) {
        None => text.clone(),
        Some(at) => {
            let tag = |name: &str| {
                let from = text.find(&format!("<{name}>"))? + name.len() + 2;
                Some(&text[from..from + text[from..].find("</")?])
            };
            let answer = [tag("Code"), tag("Message")].into_iter().flatten().collect::<Vec<_>>().join(": ");
            format!("{}{answer}", &text[..at])
        }
    };
    let short: String = short.split_whitespace().collect::<Vec<_>>().join(" ");
    without_user_info(&short).chars().take(600).collect()
}

fn without_user_info(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after.find(['/', ' ', '?', '"', ')']).unwrap_or(after.len());
        rest = after[..end].rfind('@').map_or(after, |at| &after[at + 1..]);
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_hold_no_secrets() {
        let body = "Error performing PUT http://me:hunter2@s3:7070/b/x in 1ms - Server returned non-2xx status code: \
                    403 Forbidden: <?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>The \
                    signature is wrong.</Message><AWSAccessKeyId>AKIAEXAMPLE</AWSAccessKeyId></Error>";
        let error = Error::PermissionDenied { path: "b/x".into(), source: body.into() };
        let StoreError::Unauthorised(text) = classify("x", &error) else { panic!("{error:?} is a refusal") };
        assert!(text.contains("SignatureDoesNotMatch: The signature is wrong."), "{text}");
        assert!(!text.contains("AKIAEXAMPLE") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_bucket_that_is_not_there_is_not_an_empty_one() {
        let missing = |code: &str| Error::NotFound { path: "x".into(), source: format!("<Error><Code>{code}</Code>").into() };
        assert_eq!(none_or_unusable::<()>("x", &missing("NoSuchKey")), Ok(None));
        assert!(matches!(none_or_unusable::<()>("x", &missing("NoSuchBucket")), Err(StoreError::Unusable(_))));
    }

    #[test]
    fn urls_that_make_no_sense_are_refused() {
        for url in ["", "http://bucket", "s3://", "file://"] {
            assert!(matches!(open(url, None), Err(StoreError::Unusable(_))), "{url}");
        }
        assert!(matches!(open("memory://", Some(S3Options::default())), Err(StoreError::Unusable(_))));
    }
}
