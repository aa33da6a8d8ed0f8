//! The HTTP server of a slot: `/metrics`, `/livez`, `/readyz`, `/progressz`, `/status`.
//!
//! `/status` is the [`freshet_crds::control::WorkerStatus`] that the control server gives, too.
//!
//! Probes answer `200 ok`, or 503 with the reason as text. The server runs on a thread of its own and
//! ends when its handle is dropped.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use super::health::{self, Fault};
use super::{Observed, Status};
use crate::metrics::Metrics;

/// What the server shows.
#[derive(Clone)]
pub struct Shown {
    /// The slot's facts.
    pub observed: Observed,
    /// Its metrics.
    pub metrics: Metrics,
    /// The clock, ms since the Unix epoch; of the process, not of the slot, whose environment stays on its thread.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, or not of this machine.
    #[error("can't listen on {address}: {source}; choose another address")]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// No thread or no runtime could be made.
    #[error("can't start a server's thread: {0}")]
    Thread(std::io::Error),
}

/// A running server. Dropping it stops the server and waits for its thread.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Serves `shown` on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// The address can't be listened on, or no thread can be made.
    pub fn start(address: SocketAddr, shown: Shown) -> Result<Self, ServeError> {
        Self::serve(address, "observe", router(shown))
    }

    /// Serves `router` on `address`, on a thread called `name`.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub(crate) fn serve(address: SocketAddr, name: &'static str, router: Router) -> Result<Self, ServeError> {
        let listen = |source| ServeError::Listen { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let bound = listener.local_addr().map_err(listen)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(serve(name, listener, router, stopped)))
            .map_err(ServeError::Thread)?;
        Ok(Self { address: bound, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the server's thread was printed by it, and must not become a second one here.
            let _ = thread.join();
        }
    }
}

async fn serve(name: &'static str, listener: std::net::TcpListener, router: Router, stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the {name} server can't use its socket");
            return;
        }
    };
    // Open connections are cut, not awaited: a scraper that keeps one open must not hold up the stop.
    tokio::select! {
        served = axum::serve(listener, router) => {
            if let Err(error) = served {
                tracing::error!(%error, "the {name} server ended");
            }
        }
        _ = stopped => {}
    }
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/progressz", get(progress))
        .route("/status", get(status))
        .with_state(shown)
}

async fn metrics(State(shown): State<Shown>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shown.metrics.text()).into_response()
}

async fn live(State(shown): State<Shown>) -> Response {
    probe(&shown, |status, now_ms| health::live(&status.facts, now_ms, status.limits))
}

async fn ready(State(shown): State<Shown>) -> Response {
    probe(&shown, |status, now_ms| health::ready(&status.facts, now_ms))
}

async fn progress(State(shown): State<Shown>) -> Response {
    probe(&shown, |status, now_ms| health::progress(&status.facts, now_ms, status.limits))
}

async fn status(State(shown): State<Shown>) -> Response {
    axum::Json(shown.observed.status().judged((shown.now_ms)())).into_response()
}

fn probe(shown: &Shown, judge: impl FnOnce(&Status, i64) -> Result<(), Fault>) -> Response {
    match judge(&shown.observed.status(), (shown.now_ms)()) {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(fault) => (StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::observe::Phase;
    use crate::observe::asking::ask;
    use freshet_crds::control::WorkerTask;

    /// Status code and body of a GET.
    fn get(address: SocketAddr, path: &str) -> (u16, String) {
        ask(address, "GET", path, None, "")
    }

    #[test]
    fn answers_follow_the_facts() {
        let clock = Arc::new(AtomicI64::new(1_000));
        let observed = Observed::new("fraud", 0, 1_000);
        let metrics = Metrics::new("fraud", "0");
        let now_ms: Arc<dyn Fn() -> i64 + Send + Sync> = {
            let clock = Arc::clone(&clock);
            Arc::new(move || clock.load(Ordering::Relaxed))
        };
        let shown = Shown { observed: observed.clone(), metrics, now_ms };
        let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), shown).expect("a free port");

        assert_eq!(get(server.address(), "/livez"), (200, "ok\n".to_owned()));
        assert_eq!(get(server.address(), "/readyz"), (503, "the slot is starting\n".to_owned()));

        observed.facts(|facts| {
            facts.enter(Phase::Running, 1_000);
            facts.waiting(3, 1_000);
        });
        assert_eq!(get(server.address(), "/readyz").0, 200);
        assert_eq!(get(server.address(), "/progressz").0, 200);

        clock.store(12_000, Ordering::Relaxed);
        let (code, reason) = get(server.address(), "/progressz");
        assert_eq!(code, 503);
        assert_eq!(reason, "3 records wait and no epoch has committed for 11.0 s; none ever has\n");
        assert_eq!(get(server.address(), "/livez").0, 200);

        observed.update(|status| {
            status.tasks = vec![WorkerTask {
                stage: "s1".into(),
                partition: 2,
                position: 40,
                lag_records: 3,
                watermark_ms: Some(900),
                state_keys: 5,
            }];
        });
        let (code, body) = get(server.address(), "/status");
        let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(code, 200);
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["problem"]["reason"], "EpochsNotCommitting");
        assert_eq!(status["lagRecords"], 3);
        assert_eq!(status["tasks"][0]["lagRecords"], 3);

        let (code, text) = get(server.address(), "/metrics");
        assert_eq!(code, 200);
        assert!(text.contains("freshet_build_info"), "{text}");
        assert_eq!(get(server.address(), "/nothing").0, 404);

        let address = server.address();
        drop(server);
        assert!(TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err(), "it still listens");
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("its address");
        let shown =
            Shown { observed: Observed::new("j", 0, 0), metrics: Metrics::new("j", "0"), now_ms: Arc::new(|| 0) };
        let error = Server::start(address, shown).expect_err("taken").to_string();
        assert!(error.starts_with(&format!("can't listen on {address}")), "{error}");
    }
}
