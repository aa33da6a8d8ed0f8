//! Does IO: asks workers how they are, and one of them to hand out the next generation.

use std::time::Duration;

use freshet_crds::control::{
    ASSIGNMENT_PATH, Assignment, AssignmentRequest, CONTROL_PORT, LAG_HEADER, Refusal, STATUS_PATH, WorkerStatus,
};
use http::StatusCode;
use http::header::IF_NONE_MATCH;
use serde::de::DeserializeOwned;

use crate::metrics::Metrics;

/// A worker that works answers in milliseconds; handing out a generation asks the store.
const STATUS_LIMIT: Duration = Duration::from_secs(2);
const ASSIGNMENT_LIMIT: Duration = Duration::from_secs(10);

/// Why a worker did not do what it was asked to. Its text never holds the token.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No answer, or none that can be read.
    #[error("its control server does not answer: {0}")]
    Silent(String),
    /// It does not take our token: the Secret is not the operator's.
    #[error(
        "its control server does not take the operator's token: delete the Secret `{0}` and the pods, they are made again"
    )]
    Token(String),
    /// It refuses.
    #[error("{}: {}", .0.reason, .0.message)]
    Refused(Refusal),
}

/// What a worker answers that was heard of before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing that is acted on has changed.
    Same {
        /// Age of the oldest record that waits, ms.
        lag_ms: u64,
    },
    /// How it is.
    Status(Box<WorkerStatus>),
}

/// Talks to workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Workers {
    http: reqwest::Client,
    metrics: Metrics,
}

impl Workers {
    /// Counts its requests in `metrics`.
    ///
    /// # Errors
    /// The HTTP client can't be made.
    pub fn new(metrics: Metrics) -> Result<Self, reqwest::Error> {
        // Pods are reached directly: a proxy of the machine knows nothing of them.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(1).build()?;
        Ok(Self { http, metrics })
    }

    /// How the worker at `ip` is.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn status(&self, ip: &str, token: &str, secret: &str) -> Result<WorkerStatus, WorkerError> {
        let request = self.http.get(url(ip, STATUS_PATH)).bearer_auth(token).timeout(STATUS_LIMIT);
        let answer = answer(request, secret).await;
        self.metrics.worker_asked("status", answer.is_ok());
        answer
    }

    /// Whether the worker at `ip` is as it was when it said what has this `tag`; and how it is, if not.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn glance(&self, ip: &str, token: &str, secret: &str, tag: &str) -> Result<Answer, WorkerError> {
        let request = self.http.get(url(ip, STATUS_PATH)).bearer_auth(token).timeout(STATUS_LIMIT);
        let answered = async {
            let answered = request.header(IF_NONE_MATCH, tag).send().await.map_err(silent)?;
            if answered.status() != StatusCode::NOT_MODIFIED {
                return read(answered, secret).await.map(|status| Answer::Status(Box::new(status)));
            }
            let lag = answered.headers().get(LAG_HEADER).and_then(|lag| lag.to_str().ok()?.parse().ok());
            let unreadable = || WorkerError::Silent(format!("its answer has no {LAG_HEADER}"));
            lag.map(|lag_ms| Answer::Same { lag_ms }).ok_or_else(unreadable)
        };
        let answer = answered.await;
        self.metrics.worker_asked("status", answer.is_ok());
        answer
    }

    /// Has the worker at `ip` hand out the next generation, unless the latest has `slots` slots already.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn hand_out(&self, ip: &str, token: &str, secret: &str, slots: u32) -> Result<Assignment, WorkerError> {
        let body = AssignmentRequest { slots };
        let request = self.http.post(url(ip, ASSIGNMENT_PATH)).bearer_auth(token).timeout(ASSIGNMENT_LIMIT).json(&body);
        let answer = answer(request, secret).await;
        self.metrics.worker_asked("assignment", answer.is_ok());
        answer
    }
}

fn url(ip: &str, path: &str) -> String {
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    format!("http://{host}:{CONTROL_PORT}{path}")
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder, secret: &str) -> Result<T, WorkerError> {
    read(request.send().await.map_err(silent)?, secret).await
}

async fn read<T: DeserializeOwned>(answer: reqwest::Response, secret: &str) -> Result<T, WorkerError> {
    if answer.status() == StatusCode::UNAUTHORIZED {
        return Err(WorkerError::Token(secret.to_owned()));
    }
    if answer.status().is_success() {
        return answer.json().await.map_err(silent);
    }
    let code = answer.status();
    match answer.json::<Refusal>().await {
        Ok(refusal) => Err(WorkerError::Refused(refusal)),
        Err(_) => Err(WorkerError::Silent(format!("it answers {code}"))),
    }
}

fn silent(error: reqwest::Error) -> WorkerError {
    // The address is told by whoever knows the pod's name.
    WorkerError::Silent(sources(&error.without_url()))
}

/// An error with what lies behind it: the first alone says only that a request failed.
fn sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = source.to_string();
        next = source.source();
    }
    text
}
