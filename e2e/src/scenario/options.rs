//! How a job differs from the usual one, and where it keeps its state.

use std::path::PathBuf;

use super::{PARTITIONS, Role};
use crate::servers::S3Server;

/// How a job differs from the usual one.
#[derive(Debug, Clone)]
pub struct JobOptions {
    /// Time between epochs, as manifests write it.
    pub epoch_interval: &'static str,
    /// The job's statements.
    pub statements: Vec<Role>,
    /// Whether copies have all columns of the input.
    pub whole: bool,
    /// The length of windows, s of event time. The recount is for the default.
    pub window_seconds: u32,
    /// What log lines are written, as `FRESHET_LOG` takes it.
    pub log: &'static str,
    /// Where its state is, if not in a folder.
    pub bucket: Option<Bucket>,
    /// Whether statements are written in another way that gives the same rows: another plan, the same output.
    pub altered: bool,
    /// Partitions of internal topics.
    pub max_parallelism: u32,
    /// The `max.message.bytes` of its outputs, if not the broker's.
    pub output_limit: Option<u32>,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            epoch_interval: "200ms",
            statements: Role::OUTPUTS.to_vec(),
            whole: false,
            window_seconds: 10,
            log: "info,freshet=debug",
            bucket: None,
            altered: false,
            max_parallelism: PARTITIONS,
            output_limit: None,
        }
    }
}

/// A bucket of an S3 server that keeps objects as files.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Where the job finds the server: `http://127.0.0.1:port`.
    pub endpoint: String,
    /// The bucket's name.
    pub name: String,
    /// Where the server keeps the bucket's objects.
    pub objects: PathBuf,
}

impl Bucket {
    /// The bucket `name` of `server`.
    #[must_use]
    pub fn of(server: &S3Server, name: &str) -> Self {
        Self { endpoint: server.endpoint(), name: name.to_owned(), objects: server.bucket(name) }
    }

    /// The checkpoint's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("s3://{}/state", self.name)
    }

    /// What a process needs in its environment to be let in.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT", &self.endpoint),
            ("AWS_REGION", S3Server::REGION),
            ("AWS_ACCESS_KEY_ID", S3Server::ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", S3Server::SECRET_KEY),
        ]
    }
}
