//! A layer under the API client: it counts writes, cuts the operator off at one of them, and makes weather.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::{Body, DynBody};
use serde_json::json;
use tokio::sync::Notify;
use tower::{BoxError, Layer, Service};

/// What happens to the operator's requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    #[default]
    Calm,
    /// Just before this write leaves, everything ends.
    Before(Spot),
    /// Just after this write was answered, and before the answer is seen, everything ends.
    After(Spot),
    /// Of all requests but watches every fifth goes wrong so.
    Fails(Failure),
    /// Watches go wrong so.
    Watches(Gap),
    /// Nothing is answered any more.
    Silent,
}

/// A write, as it can be found again in another life: what is written, and the how many-th of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// As `PATCH statefulsets/fraud`.
    pub name: String,
    /// From 0.
    pub nth: usize,
}

/// How a request goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Somebody else was quicker: 409. Only writes.
    Conflict,
    /// The API server has too much to do: 429.
    TooMany,
    /// The API server fails: 500.
    Internal,
    /// It is carried out, and the answer is lost.
    LostReply,
    /// The connection ends before it is carried out.
    Unsent,
}

/// How a watch goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// It ends after a while, again and again.
    Ends,
    /// Every other one is told at once that what it asks for is too old, so that everything is listed anew.
    TooOld,
}

/// The digits of a revision.
const REVISION_DIGITS: usize = 6;

/// How long a watch of [`Gap::Ends`] lives.
const SHORT_LIFE: Duration = Duration::from_millis(700);

/// Counts the operator's writes and makes its weather. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    weather: Mutex<Weather>,
    writes: Mutex<Vec<String>>,
    attempts: Mutex<HashMap<String, usize>>,
    failed: Mutex<usize>,
    reached: Notify,
}

impl Gate {
    pub fn new(weather: Weather) -> Self {
        let gate = Self::default();
        gate.turns(weather);
        gate
    }

    /// Changes the weather.
    pub fn turns(&self, weather: Weather) {
        *self.state.weather.lock().unwrap() = weather;
    }

    /// Completes once the cut is reached: nothing goes through after it.
    pub async fn reached(&self) {
        self.state.reached.notified().await;
    }

    /// The writes so far, as `PATCH statefulsets/fraud`.
    pub fn writes(&self) -> Vec<String> {
        self.state.writes.lock().unwrap().clone()
    }

    /// The writes so far, as they can be found again.
    pub fn spots(&self) -> Vec<Spot> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let spot = |name: String| {
            let nth = seen.entry(name.clone()).or_default();
            *nth += 1;
            Spot { name, nth: *nth - 1 }
        };
        self.writes().into_iter().map(spot).collect()
    }

    /// How many requests went wrong.
    pub fn failed(&self) -> usize {
        *self.state.failed.lock().unwrap()
    }

    fn weather(&self) -> Weather {
        self.state.weather.lock().unwrap().clone()
    }

    /// Takes note of a write: which of its name it is.
    fn note(&self, name: String) -> Spot {
        let mut writes = self.state.writes.lock().unwrap();
        let nth = writes.iter().filter(|written| **written == name).count();
        writes.push(name.clone());
        Spot { name, nth }
    }

    fn every_fifth(&self) -> bool {
        let mut attempts = self.state.attempts.lock().unwrap();
        let attempt = attempts.entry(String::new()).or_default();
        *attempt += 1;
        let fails = (*attempt).is_multiple_of(5);
        *self.state.failed.lock().unwrap() += usize::from(fails);
        fails
    }

    /// Whether this watch goes wrong, of which every other one does.
    fn fails(&self, name: &str) -> bool {
        let mut attempts = self.state.attempts.lock().unwrap();
        let attempt = attempts.entry(name.to_owned()).or_default();
        *attempt += 1;
        let fails = *attempt % 2 == 1;
        *self.state.failed.lock().unwrap() += usize::from(fails);
        fails
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner: Arc::new(tokio::sync::Mutex::new(inner)) }
    }
}

/// A client behind a [`Gate`].
#[derive(Debug)]
pub struct Gated<S> {
    gate: Gate,
    inner: Arc<tokio::sync::Mutex<S>>,
}

/// Events are a story and not the state: they are neither counted nor cut.
fn is_write(request: &Request<Body>) -> bool {
    request.method() != Method::GET && !request.uri().path().ends_with("/events")
}

fn is_watch(request: &Request<Body>) -> bool {
    request.uri().query().is_some_and(|query| query.contains("watch=true"))
}

/// Without what is another one in each namespace, the revision too: `PATCH statefulsets/fraud`.
fn name(request: &Request<Body>) -> String {
    let path = request.uri().path();
    let after = path.split_once("/namespaces/").and_then(|(_, rest)| rest.split_once('/'));
    let name = after.map_or(path, |(_, rest)| rest);
    let name = name.split_once("-preflight-").map_or_else(
        || name.to_owned(),
        |(job, rest)| format!("{job}-preflight-REVISION{}", rest.get(REVISION_DIGITS..).unwrap_or_default()),
    );
    format!("{} {name}", request.method())
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Box<DynBody>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (gate, inner) = (self.gate.clone(), Arc::clone(&self.inner));
        Box::pin(async move {
            let (name, is_write, is_watch) = (name(&request), is_write(&request), is_watch(&request));
            let spot = is_write.then(|| gate.note(name.clone()));
            let weather = gate.weather();
            let forward = async {
                let sent = {
                    let mut inner = inner.lock().await;
                    std::future::poll_fn(|context| inner.poll_ready(context)).await?;
                    inner.call(request)
                };
                sent.await
            };
            match weather {
                Weather::Silent => std::future::pending().await,
                Weather::Before(cut) if spot.as_ref() == Some(&cut) => gate.end().await,
                Weather::After(cut) if spot.as_ref() == Some(&cut) => {
                    let _ = forward.await;
                    gate.end().await
                }
                Weather::Fails(failure)
                    if !is_watch && (is_write || failure != Failure::Conflict) && gate.every_fifth() =>
                {
                    match failure {
                        Failure::Conflict => Ok(refusal(409, "Conflict", "the object has been modified")),
                        Failure::TooMany => Ok(refusal(429, "TooManyRequests", "please try again later")),
                        Failure::Internal => Ok(refusal(500, "InternalError", "etcdserver: request timed out")),
                        Failure::Unsent => Err("connection refused".into()),
                        Failure::LostReply => {
                            forward.await?;
                            Err("connection reset by peer".into())
                        }
                    }
                }
                Weather::Watches(Gap::Ends) if is_watch => {
                    gate.fails(&name);
                    forward.await.map(short)
                }
                Weather::Watches(Gap::TooOld) if is_watch && gate.fails(&name) => {
                    let status = status(410, "Expired", "too old resource version: 1 (2)");
                    Ok(answer(200, format!("{}\n", json!({ "type": "ERROR", "object": status }))))
                }
                // It ends, so that there is a next one.
                Weather::Watches(Gap::TooOld) if is_watch => forward.await.map(short),
                _ => forward.await,
            }
        })
    }
}

impl Gate {
    /// Nothing goes through from here on.
    async fn end<T>(&self) -> T {
        self.turns(Weather::Silent);
        self.state.reached.notify_one();
        std::future::pending().await
    }
}

fn status(code: u16, reason: &str, message: &str) -> serde_json::Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code,
    })
}

fn refusal(code: u16, reason: &str, message: &str) -> Response<Box<DynBody>> {
    answer(code, status(code, reason, message).to_string())
}

fn answer(code: u16, text: String) -> Response<Box<DynBody>> {
    let body = Full::new(Bytes::from(text)).map_err(|never| -> BoxError { match never {} });
    let answer = Response::builder().status(code).header("content-type", "application/json");
    answer.body(Box::new(body) as Box<DynBody>).unwrap()
}

/// The same answer, whose body ends early.
fn short(whole: Response<Box<DynBody>>) -> Response<Box<DynBody>> {
    whole.map(|body| {
        let begins = body.into_data_stream().take_until(Box::pin(tokio::time::sleep(SHORT_LIFE)));
        Box::new(axum::body::Body::from_stream(begins).map_err(BoxError::from)) as Box<DynBody>
    })
}
