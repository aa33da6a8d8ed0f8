//! The control server of a worker: what only the operator may ask.
//!
//! `GET /control/v1/status` and `POST /control/v1/assignment`, on a port of their own, every request with a bearer
//! token. The token is read from its file for each request, so that a new one counts as soon as the file has it; it is
//! compared by its digest, in a time that says nothing about it, and appears in no answer, error or log.
//!
//! The server has a thread of its own; handing out a generation is the business of the worker's thread, which takes
//! the question through a channel ([`Asked`]) and answers within a deadline.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use freshet_crds::control::{ASSIGNMENT_PATH, Assignment, AssignmentRequest, LAG_HEADER, Refusal, STATUS_PATH};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use crate::observe::Observed;
use crate::observe::server::{ServeError, Server};
use crate::slot::SlotError;

/// The most bytes of a request's body.
const BODY_BYTES: usize = 4096;
/// The most slots that a job can have.
const MOST_SLOTS: u32 = 1024;
/// How long handing out a generation may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// A question to the worker's thread.
pub struct Asked {
    /// Over how many slots the job is to be spread.
    pub slots: u32,
    /// Where the answer goes: the latest generation, or nothing when there is none.
    pub answer: oneshot::Sender<Result<Option<Assignment>, SlotError>>,
}

/// Why a worker can't be controlled.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The server can't be started.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The token can't be used. Its content is in no text.
    #[error("the control token in {path} can't be used: {what}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

#[derive(Clone)]
struct Control {
    token_file: Arc<Path>,
    observed: Observed,
    now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    ask: mpsc::UnboundedSender<Asked>,
}

/// Serves control on `address`; port 0 takes a free one. Questions come out of the receiver.
///
/// # Errors
/// The address can't be listened on, or there is no token yet.
pub fn serve(
    address: SocketAddr,
    token_file: &Path,
    observed: Observed,
    now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
) -> Result<(Server, mpsc::UnboundedReceiver<Asked>), ControlError> {
    token_digest(token_file)?;
    let (ask, asked) = mpsc::unbounded_channel();
    let control = Control { token_file: token_file.into(), observed, now_ms, ask };
    let router = Router::new()
        .route(STATUS_PATH, get(status))
        .route(ASSIGNMENT_PATH, post(assignment))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        // Before anything else, so that without the token not even the paths can be told apart.
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "NotFound", "there is no such path") })
        .layer(middleware::from_fn_with_state(control.clone(), authorise))
        .with_state(control);
    Ok((Server::serve(address, "control", router)?, asked))
}

/// The digest of the token in the file: what stands in it, without white space around it.
fn token_digest(path: &Path) -> Result<[u8; 32], ControlError> {
    let refuse = |what: String| ControlError::Token { path: path.to_owned(), what };
    let text = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let token = text.trim_ascii();
    if token.is_empty() {
        return Err(refuse("it is empty".to_owned()));
    }
    Ok(Sha256::digest(token).into())
}

/// Whether two digests are equal, in a time that does not depend on where they differ.
fn equal(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

async fn authorise(State(control): State<Control>, request: Request, next: Next) -> Response {
    let wanted = match token_digest(&control.token_file) {
        Ok(wanted) => wanted,
        Err(error) => {
            tracing::warn!("{error}; nobody can be let in");
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "CredentialsInvalid", "the worker has no token");
        }
    };
    let given = request.headers().get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
    let given = given.and_then(|value| {
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
    });
    if !given.is_some_and(|token| equal(&Sha256::digest(token).into(), &wanted)) {
        let mut response = refuse(StatusCode::UNAUTHORIZED, "Unauthorised", "give the job's control token");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        return response;
    }
    next.run(request).await
}

async fn status(State(control): State<Control>, headers: HeaderMap) -> Response {
    let status = control.observed.status().judged((control.now_ms)());
    let tag = status.tag();
    let same = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let about = [(header::ETAG, tag), (HeaderName::from_static(LAG_HEADER), status.lag_ms.to_string())];
    if same { (StatusCode::NOT_MODIFIED, about).into_response() } else { (about, Json(status)).into_response() }
}

#[allow(clippy::disallowed_methods, reason = "the server's thread has no environment, and no simulation runs it")]
async fn assignment(State(control): State<Control>, body: Bytes) -> Response {
    let request: AssignmentRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "BadRequest", &format!("{{\"slots\":n}}: {error}")),
    };
    if !(1..=MOST_SLOTS).contains(&request.slots) {
        let message = format!("slots: {} is not within 1 to {MOST_SLOTS}", request.slots);
        return refuse(StatusCode::BAD_REQUEST, "BadRequest", &message);
    }
    let (answer, answered) = oneshot::channel();
    if control.ask.send(Asked { slots: request.slots, answer }).is_err() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "Starting", "the worker is ending");
    }
    match tokio::time::timeout(DEADLINE, answered).await {
        Ok(Ok(Ok(Some(assignment)))) => Json(assignment).into_response(),
        Ok(Ok(Ok(None))) => refuse(
            StatusCode::CONFLICT,
            "Starting",
            "no generation was handed out yet; `freshet preflight` hands out the first",
        ),
        Ok(Ok(Err(error))) => {
            let code = if error.is_transient() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CONFLICT };
            refuse(code, error.reason(), &error.to_string())
        }
        Ok(Err(_)) => refuse(StatusCode::SERVICE_UNAVAILABLE, "Starting", "the worker is ending"),
        Err(_) => {
            let message = format!("the object store did not answer within {DEADLINE:?}");
            refuse(StatusCode::SERVICE_UNAVAILABLE, "StoreUnavailable", &message)
        }
    }
}

fn refuse(code: StatusCode, reason: &str, message: &str) -> Response {
    (code, Json(Refusal { reason: reason.to_owned(), message: message.to_owned() })).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::asking::ask;

    #[test]
    fn only_who_has_the_token_is_let_in_and_a_new_token_counts_at_once() {
        let folder = std::env::temp_dir().join(format!("freshet-control-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("token");
        std::fs::write(&file, "first-secret\n").expect("a file");
        let observed = Observed::new("fraud", 3, 5);
        let now_ms: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(|| 5);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (server, mut asked) = serve(any, &file, observed, now_ms).expect("a free port");
        let get = |token: Option<&str>| ask(server.address(), "GET", STATUS_PATH, token, "");

        for wrong in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer first-secre"),
            Some("Bearer first-secret2"),
            Some("Basic first-secret"),
        ] {
            let (code, body) = get(wrong);
            assert_eq!(code, 401, "{wrong:?}: {body}");
            assert!(!body.contains("first"), "{body}");
        }
        assert_eq!(ask(server.address(), "GET", "/nothing", None, "").0, 401);
        assert_eq!(ask(server.address(), "GET", "/nothing", Some("Bearer first-secret"), "").0, 404);
        let (code, body) = get(Some("bearer first-secret"));
        assert_eq!(code, 200);
        let status: freshet_crds::control::WorkerStatus = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status.slot, status.phase), (3, freshet_crds::control::WorkerPhase::Starting));

        // The header goes along behind the token.
        let knows = |tag: &str| get(Some(&format!("Bearer first-secret\r\nIf-None-Match: {tag}")));
        assert_eq!(knows(&status.tag()), (304, String::new()), "nothing is said twice");
        assert_eq!(knows("W/\"0\"").0, 200);

        std::fs::write(&file, "second-secret").expect("a file");
        assert_eq!(get(Some("Bearer first-secret")).0, 401);
        assert_eq!(get(Some("Bearer second-secret")).0, 200);
        std::fs::write(&file, "").expect("a file");
        assert_eq!(get(Some("Bearer ")).0, 503, "without a token nobody is let in");
        std::fs::write(&file, "second-secret").expect("a file");

        let answering = std::thread::spawn(move || {
            let mut slots = Vec::new();
            while let Some(question) = asked.blocking_recv() {
                slots.push(question.slots);
                let answer = match question.slots {
                    1 => Ok(None),
                    2 => Err(SlotError::LineageEnded("over".into())),
                    slots => Ok(Some(Assignment { generation: 9, slots })),
                };
                question.answer.send(answer).expect("it waits for the answer");
            }
            slots
        });
        let assign = |body: &str| ask(server.address(), "POST", ASSIGNMENT_PATH, Some("Bearer second-secret"), body);
        assert_eq!(assign(r#"{"slots":4}"#), (200, r#"{"generation":9,"slots":4}"#.to_owned()));
        for (body, code, reason) in [
            ("", 400, "BadRequest"),
            (r#"{"slots":0}"#, 400, "BadRequest"),
            (r#"{"slots":4,"x":1}"#, 400, "BadRequest"),
            (r#"{"slots":1}"#, 409, "Starting"),
            (r#"{"slots":2}"#, 409, "LineageEnded"),
        ] {
            let (found, text) = assign(body);
            assert_eq!(found, code, "{body}: {text}");
            assert_eq!(serde_json::from_str::<Refusal>(&text).expect("JSON").reason, reason, "{body}");
        }
        assert_eq!(assign(&" ".repeat(BODY_BYTES + 1)).0, 413);
        assert_eq!(ask(server.address(), "GET", ASSIGNMENT_PATH, Some("Bearer second-secret"), "").0, 405);
        drop(server);
        assert_eq!(answering.join().expect("no panic"), [4, 1, 2]);
        std::fs::remove_dir_all(folder).expect("the folder can be removed");
    }
}
