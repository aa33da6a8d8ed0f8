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

mod errors;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetResultPayload, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload,
    RetryConfig,
};

use self::errors::{classify, none_or_unusable, plain_text};
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
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    let hint = credentials_hint(&builder);
    if let Some(endpoint) = options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = options.region {
        builder = builder.with_region(region);
    }
    // A plain endpoint says itself that plain HTTP is meant, wherever it was given.
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let allow_http = options.allow_http || endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let inner = with_patience(builder, allow_http).build().map_err(unusable)?;
    let root = Path::parse(folder).map_err(|e| unusable(e.into()))?;
    Ok(ObjectStoreAdapter { inner: Arc::new(inner), root, hint })
}

/// `builder` with small retries, so that a caller hears within seconds that a store is away.
fn with_patience(builder: AmazonS3Builder, allow_http: bool) -> AmazonS3Builder {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(50), max_backoff: Duration::from_secs(1), base: 2.0 };
    let client = ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(Duration::from_secs(3))
        .with_timeout(Duration::from_secs(300));
    builder
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig { backoff, max_retries: 3, retry_timeout: PATIENCE })
        .with_client_options(client)
}

/// What to say of a store that does not answer when no credentials were given: then it is the metadata
/// service of a cloud's machine that was asked first, and most likely there is none.
fn credentials_hint(builder: &AmazonS3Builder) -> &'static str {
    use AmazonS3ConfigKey::{AccessKeyId, ContainerCredentialsFullUri, ContainerCredentialsRelativeUri};
    let given = [
        AccessKeyId,
        AmazonS3ConfigKey::WebIdentityTokenFile,
        ContainerCredentialsRelativeUri,
        ContainerCredentialsFullUri,
    ];
    if given.iter().any(|key| builder.get_config_value(key).is_some()) {
        return "";
    }
    " (no credentials are set, so the machine's metadata service was asked for some: set AWS_ACCESS_KEY_ID and \
     AWS_SECRET_ACCESS_KEY, or a web identity)"
}

fn open_folder(url: &str, path: &str) -> Result<ObjectStoreAdapter, StoreError> {
    let unusable = |what: String| StoreError::Unusable(format!("{url}: {what}"));
    if path.is_empty() {
        return Err(unusable("names no folder: use file:///folder".to_owned()));
    }
    let absolute = std::path::absolute(path).map_err(|e| unusable(e.to_string()))?;
    let root = Path::from_absolute_path(absolute).map_err(|e| unusable(e.to_string()))?;
    Ok(ObjectStoreAdapter::new(Arc::new(LocalFileSystem::new()), root))
}

/// A folder of an object store of the `object_store` crate.
#[derive(Debug, Clone)]
pub struct ObjectStoreAdapter {
    inner: Arc<dyn ObjectStore>,
    root: Path,
    hint: &'static str,
}

impl ObjectStoreAdapter {
    /// The objects below `root` in `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { inner, root, hint: "" }
    }

    fn path(&self, relative: &str) -> Path {
        // Our own names hold no character that a store would escape.
        relative.split('/').filter(|part| !part.is_empty()).fold(self.root.clone(), Path::join)
    }

    async fn within<T>(&self, limit: Duration, what: &str, work: impl Future<Output = T>) -> Result<T, StoreError> {
        let late = |_| StoreError::Unavailable(format!("{what}: no answer within {} s{}", limit.as_secs(), self.hint));
        tokio::time::timeout(limit, work).await.map_err(late)
    }

    async fn put(&self, path: &Path, bytes: Bytes, mode: PutMode) -> Result<(), Error> {
        self.inner.put_opts(path, PutPayload::from_bytes(bytes), mode.into()).await.map(|_| ())
    }
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
            let written = self.within(limit, path, self.put(&full, bytes.clone(), PutMode::Create)).await?;
            match written {
                Ok(()) => return Ok(Created::New),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => return Err(StoreError::NoCreateOnly),
                Err(error) => return Err(classify(path, &error)),
            }
            match self.within(PATIENCE, path, self.inner.head(&full)).await? {
                Ok(_) => return Ok(Created::Existed),
                Err(Error::NotFound { .. }) => tokio::time::sleep(backoff).await,
                Err(error) => return Err(classify(path, &error)),
            }
            backoff *= 2;
        }
        Err(StoreError::Unavailable(format!("{path}: the store refuses to create it, yet there is no such object")))
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let found = match self.within(PATIENCE, path, self.inner.get(&self.path(path))).await? {
            Ok(found) => found,
            Err(error @ Error::NotFound { .. }) => return none_or_unusable(path, &error),
            Err(error) => return Err(classify(path, &error)),
        };
        let size = (found.range.end - found.range.start) as usize;
        if matches!(found.payload, GetResultPayload::File(..)) {
            let whole = self.within(patience_for(size), path, found.bytes()).await?;
            return whole.map(Some).map_err(|error| classify(path, &error));
        }
        let mut whole = BytesMut::with_capacity(size);
        let mut chunks = found.into_stream();
        while let Some(chunk) = self.within(PATIENCE, path, chunks.next()).await? {
            whole.extend_from_slice(&chunk.map_err(|error| classify(path, &error))?);
        }
        if whole.len() != size {
            return Err(StoreError::Unavailable(format!("{path}: {} of {size} bytes came", whole.len())));
        }
        Ok(Some(whole.freeze()))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let (folder, root) = (self.path(prefix), self.root.clone());
        let mut paths = Vec::new();
        let mut listing = self.inner.list(Some(&folder));
        while let Some(found) = self.within(PATIENCE, prefix, listing.next()).await? {
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
        match self.within(PATIENCE, path, self.inner.delete(&self.path(path))).await? {
            Ok(()) => Ok(()),
            Err(error @ Error::NotFound { .. }) => none_or_unusable::<()>(path, &error).map(|_| ()),
            Err(error) => Err(classify(path, &error)),
        }
    }

    #[cfg(feature = "faults")]
    async fn overwrite(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let (full, limit) = (self.path(path), patience_for(bytes.len()));
        let written = self.within(limit, path, self.put(&full, bytes, PutMode::Overwrite)).await?;
        written.map_err(|error| classify(path, &error))
    }
}

#[cfg(test)]
mod tests;
