//! A proxy in front of an S3 server that answers badly when it is told to: with 503, slowly, or by losing the answer
//! to what was done.
//!
//! It is a process of its own (`freshet-lab faulty-s3`), so that it can stand in the network namespace where pods
//! reach it. It is told what to do by lines on its standard input, and ends when that closes: whatever becomes of
//! the test, it does not stay.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;

use crate::LabError;
use crate::scenario::sibling_binary;

/// How the store answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weather {
    /// As it is.
    #[default]
    Fair,
    /// Nothing is done, and the answer is 503 SlowDown.
    Unavailable,
    /// Writes (PUT, POST, DELETE) get 503 SlowDown, reads are answered.
    ReadOnly,
    /// Every answer comes so many milliseconds late.
    Slow(u64),
    /// What is asked for is done, and the answer is 500 all the same: the caller can't know.
    Unheard,
    /// What is asked for is done, and the connection closes instead of an answer.
    CutOff,
}

impl Weather {
    /// As a line of the process's input.
    fn line(self) -> String {
        match self {
            Self::Fair => "fair".to_owned(),
            Self::Unavailable => "unavailable".to_owned(),
            Self::ReadOnly => "read-only".to_owned(),
            Self::Slow(ms) => format!("slow {ms}"),
            Self::Unheard => "unheard".to_owned(),
            Self::CutOff => "cut-off".to_owned(),
        }
    }

    fn read(line: &str) -> Option<Self> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["fair"] => Some(Self::Fair),
            ["unavailable"] => Some(Self::Unavailable),
            ["read-only"] => Some(Self::ReadOnly),
            ["slow", ms] => ms.parse().ok().map(Self::Slow),
            ["unheard"] => Some(Self::Unheard),
            ["cut-off"] => Some(Self::CutOff),
            _ => None,
        }
    }

    /// What is done with a request.
    fn decide(self, method: &Method) -> Course {
        let writes = !matches!(*method, Method::GET | Method::HEAD);
        match self {
            Self::Fair => Course::Forward { wait: Duration::ZERO },
            Self::Unavailable => Course::Refuse,
            Self::ReadOnly if writes => Course::Refuse,
            Self::ReadOnly => Course::Forward { wait: Duration::ZERO },
            Self::Slow(ms) => Course::Forward { wait: Duration::from_millis(ms) },
            Self::Unheard if writes => Course::ForwardAndLose,
            Self::CutOff => Course::ForwardAndBreakOff,
            Self::Unheard => Course::Forward { wait: Duration::ZERO },
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// The store gets it after a while, and its answer goes back.
    Forward { wait: Duration },
    /// The store gets it, and its answer is lost.
    ForwardAndLose,
    /// The store gets it, and the caller's connection closes.
    ForwardAndBreakOff,
    /// The store never hears of it.
    Refuse,
}

/// The proxy, as a process. It ends with this value.
#[derive(Debug)]
pub struct FaultyS3 {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<std::process::ChildStdout>,
    address: SocketAddr,
}

impl FaultyS3 {
    /// Starts the proxy on `listen` (port 0: a free one) before the store at `upstream` (`http://HOST:PORT`).
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(listen: SocketAddr, upstream: &str) -> Result<Self, LabError> {
        Self::start_within(&[], listen, upstream)
    }

    /// As [`FaultyS3::start`], by a command that begins with the words `enter`, which enter a namespace.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_within(enter: &[String], listen: SocketAddr, upstream: &str) -> Result<Self, LabError> {
        let lab = sibling_binary("freshet-lab").display().to_string();
        let own = [lab, "faulty-s3".to_owned(), "--listen".to_owned(), listen.to_string()];
        let words: Vec<&String> = enter.iter().chain(&own).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["--to", upstream]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|source| LabError::MissingProgram {
            program: words[0].clone(),
            remedy: format!("The proxy before S3 could not be started: {source}."),
        })?;
        let orders = process.stdin.take();
        let Some(output) = process.stdout.take() else {
            return Err(LabError::Wrong("the proxy before S3 has no output".to_owned()));
        };
        let mut proxy = Self { process, orders, answers: BufReader::new(output), address: listen };
        let line = proxy.answer()?;
        let said = || LabError::Wrong(format!("the proxy before S3 said `{line}` and no address"));
        proxy.address = line.parse().map_err(|_| said())?;
        Ok(proxy)
    }

    /// Its endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on the store answers so; on return the proxy has heard of it.
    ///
    /// # Errors
    /// When the proxy has ended.
    pub fn set(&mut self, weather: Weather) -> Result<(), LabError> {
        let line = weather.line();
        let failed = || LabError::file("telling the proxy before S3", line.clone());
        let Some(orders) = &mut self.orders else { return Ok(()) };
        orders.write_all(format!("{line}\n").as_bytes()).and_then(|()| orders.flush()).map_err(failed())?;
        let heard = self.answer()?;
        if heard == line { Ok(()) } else { Err(LabError::Wrong(format!("told {line}, the proxy heard `{heard}`"))) }
    }

    /// Lets the store answer so while `work` runs, and fairly afterwards.
    ///
    /// # Errors
    /// Those of `work`, or when the proxy has ended.
    pub fn during<T>(&mut self, weather: Weather, work: impl FnOnce() -> Result<T, LabError>) -> Result<T, LabError> {
        self.set(weather)?;
        let done = work();
        self.set(Weather::Fair)?;
        done
    }

    fn answer(&mut self) -> Result<String, LabError> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).map_err(LabError::file("hearing", "the proxy before S3"))?;
        if read == 0 {
            let status = self.process.wait().map(|status| status.to_string()).unwrap_or_default();
            return Err(LabError::Wrong(format!("the proxy before S3 has ended ({status})")));
        }
        Ok(line.trim().to_owned())
    }
}

impl Drop for FaultyS3 {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.process.wait().ok();
    }
}

/// The proxy's own life: `freshet-lab faulty-s3`.
///
/// # Errors
/// When it can't listen.
pub fn serve(listen: SocketAddr, upstream: String) -> Result<(), LabError> {
    let failed = || LabError::file("listening on", listen.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(failed())?.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await.map_err(failed())?;
        println!("{}", listener.local_addr().map_err(failed())?);
        let weather = Arc::new(Mutex::new(Weather::default()));
        let client = reqwest::Client::builder().no_proxy().build();
        let client = client.map_err(|error| LabError::Wrong(format!("an HTTP client: {error}")))?;
        let proxy = Proxy { weather: Arc::clone(&weather), upstream, client };
        let app = axum::Router::new().fallback(pass).with_state(proxy);
        let told = tokio::task::spawn_blocking(move || {
            // Standard input is read by a thread of its own; it ends with the test.
            for line in std::io::stdin().lines().map_while(Result::ok) {
                let known = Weather::read(&line);
                if let Some(known) = known {
                    *weather.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = known;
                }
                println!("{}", known.map_or_else(|| format!("not understood: {line}"), Weather::line));
            }
        });
        tokio::select! {
            served = axum::serve(listener, app) => served.map_err(failed()),
            _ = told => Ok(()),
        }
    })
}

#[derive(Clone)]
struct Proxy {
    weather: Arc<Mutex<Weather>>,
    upstream: String,
    client: reqwest::Client,
}

async fn pass(State(proxy): State<Proxy>, request: Request) -> Response {
    let weather = *proxy.weather.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let course = weather.decide(request.method());
    match course {
        Course::Refuse => error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate."),
        Course::Forward { wait } => {
            tokio::time::sleep(wait).await;
            proxy.forward(request).await
        }
        Course::ForwardAndLose => {
            proxy.forward(request).await;
            error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "The answer was lost.")
        }
        Course::ForwardAndBreakOff => {
            proxy.forward(request).await;
            // The one way for a handler to close its connection without an answer: the connection's own task ends.
            std::panic::resume_unwind(Box::new("the answer is lost"))
        }
    }
}

impl Proxy {
    async fn forward(&self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let unreachable = |why: String| error(StatusCode::BAD_GATEWAY, "InternalError", &why);
        let body = match axum::body::to_bytes(body, usize::MAX).await {
            Ok(body) => body,
            Err(why) => return unreachable(why.to_string()),
        };
        // The signature covers the headers, `Host` among them: they go on as they came.
        let sent = self.client.request(head.method, format!("{}{path}", self.upstream)).headers(head.headers);
        let answer = match sent.body(body).send().await {
            Ok(answer) => answer,
            Err(why) => return unreachable(why.to_string()),
        };
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            // The body is passed whole, by its length.
            if name != header::TRANSFER_ENCODING && name != header::CONNECTION {
                response = response.header(name, value);
            }
        }
        match answer.bytes().await {
            Ok(bytes) => response.body(Body::from(bytes)).unwrap_or_else(|why| unreachable(why.to_string())),
            Err(why) => unreachable(why.to_string()),
        }
    }
}

/// An error as S3 writes them.
fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/xml"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        use Weather::{CutOff, Fair, ReadOnly, Slow, Unavailable, Unheard};
        for weather in [Fair, Unavailable, ReadOnly, Slow(250), Unheard, CutOff] {
            assert_eq!(Weather::read(&weather.line()), Some(weather));
        }
        assert_eq!(Weather::read("slow"), None);
        assert_eq!(Weather::read("fine"), None);
    }

    #[test]
    fn weather_decides_by_the_method() {
        let forward = Course::Forward { wait: Duration::ZERO };
        let table = [
            (Weather::Fair, forward, forward),
            (Weather::Unavailable, Course::Refuse, Course::Refuse),
            (Weather::ReadOnly, forward, Course::Refuse),
            (Weather::Unheard, forward, Course::ForwardAndLose),
            (Weather::CutOff, Course::ForwardAndBreakOff, Course::ForwardAndBreakOff),
        ];
        for (weather, read, write) in table {
            assert_eq!(weather.decide(&Method::GET), read, "{weather:?}");
            assert_eq!(weather.decide(&Method::PUT), write, "{weather:?}");
        }
        let slow = Course::Forward { wait: Duration::from_millis(250) };
        assert_eq!(Weather::Slow(250).decide(&Method::HEAD), slow);
    }
}
