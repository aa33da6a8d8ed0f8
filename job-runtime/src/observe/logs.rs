//! Logs: JSON in pods, readable on a terminal, and out of the way of the live view.
//!
//! Two variables of the environment, both optional: `FRESHET_LOG` is a filter
//! (`info,freshet_kafka=debug`), `FRESHET_LOG_FORMAT` is `json` or `text`. Logs go to standard error,
//! since standard output belongs to results.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// How a line of log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people, with colours on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// An unknown format was asked for.
    #[error("FRESHET_LOG_FORMAT is `{0}`; it can be `json` or `text`")]
    Format(String),
    /// The filter can't be read.
    #[error("FRESHET_LOG is `{filter}`: {reason}; write for instance `info` or `warn,freshet=debug`")]
    Filter {
        /// What was asked for.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logging was set up before.
    #[error("logging is set up already")]
    Twice,
}

/// What the logs shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How a line looks.
    pub format: Format,
    /// Which lines there are, in `tracing`'s filter language.
    pub filter: String,
}

impl Settings {
    /// What the environment asks for; else `filter`, as text on a terminal and JSON elsewhere.
    ///
    /// # Errors
    /// The environment asks for a format that there is not.
    #[allow(clippy::disallowed_methods, reason = "the room where the environment is asked about logs")]
    pub fn from_environment(filter: &str) -> Result<Self, LogsError> {
        let asked = std::env::var("FRESHET_LOG_FORMAT").ok();
        let filter = std::env::var("FRESHET_LOG").unwrap_or_else(|_| filter.to_owned());
        Ok(Self { format: choose(asked.as_deref(), io::stderr().is_terminal())?, filter })
    }
}

/// The format: what was asked for, else by what standard error is.
///
/// # Errors
/// What was asked for is no format.
pub fn choose(asked: Option<&str>, terminal: bool) -> Result<Format, LogsError> {
    match asked {
        Some("json") => Ok(Format::Json),
        Some("text") => Ok(Format::Text),
        None | Some("") if terminal => Ok(Format::Text),
        None | Some("") => Ok(Format::Json),
        Some(other) => Err(LogsError::Format(other.to_owned())),
    }
}

/// Sets up logging for this process: to standard error, or into `tail` while a live view has the screen.
///
/// # Errors
/// The filter can't be read, or logging was set up before.
pub fn init(settings: &Settings, tail: Option<Tail>) -> Result<(), LogsError> {
    let subscriber = subscriber(settings, tail)?;
    tracing::dispatcher::set_global_default(subscriber).map_err(|_| LogsError::Twice)
}

fn subscriber(settings: &Settings, tail: Option<Tail>) -> Result<tracing::Dispatch, LogsError> {
    let filter = EnvFilter::builder()
        .parse(&settings.filter)
        .map_err(|error| LogsError::Filter { filter: settings.filter.clone(), reason: error.to_string() })?;
    let colours = tail.is_none() && io::stderr().is_terminal();
    let writer = tail.map_or_else(|| BoxMakeWriter::new(io::stderr), BoxMakeWriter::new);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours);
    Ok(match settings.format {
        Format::Text => builder.with_target(false).into(),
        Format::Json => builder.json().flatten_event(true).into(),
    })
}

/// The last lines of log, kept in memory for a live view. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    capacity: usize,
}

impl Tail {
    /// Keeps the last `capacity` lines.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { lines: Arc::default(), capacity }
    }

    /// The lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Write for Tail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend(String::from_utf8_lossy(bytes).lines().map(str::to_owned));
        let over = lines.len().saturating_sub(self.capacity);
        lines.drain(..over);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Tail {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(format: Format, filter: &str) -> Vec<String> {
        let tail = Tail::new(2);
        let settings = Settings { format, filter: filter.to_owned() };
        let dispatch = subscriber(&settings, Some(tail.clone())).expect("a filter");
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::info!(epoch = 1, "first");
            tracing::debug!("hidden");
            tracing::info!(epoch = 2, "second");
            tracing::info_span!("task", stage = "s1").in_scope(|| tracing::warn!(epoch = 3, "third"));
        });
        tail.lines()
    }

    #[test]
    fn pods_log_json_and_terminals_text() {
        assert_eq!(choose(None, true).expect("known"), Format::Text);
        assert_eq!(choose(None, false).expect("known"), Format::Json);
        assert_eq!(choose(Some("json"), true).expect("known"), Format::Json);
        assert_eq!(choose(Some("text"), false).expect("known"), Format::Text);
        assert!(choose(Some("xml"), true).expect_err("unknown").to_string().contains("`xml`"));
    }

    #[test]
    fn json_lines_carry_fields_and_spans() {
        let lines = logged(Format::Json, "info");
        let last: serde_json::Value = serde_json::from_str(&lines[1]).expect("JSON");
        assert_eq!(last["message"], "third");
        assert_eq!(last["epoch"], 3);
        assert_eq!(last["level"], "WARN");
        assert_eq!(last["span"]["stage"], "s1");
    }

    #[test]
    fn the_tail_keeps_the_last_lines_and_no_more() {
        let lines = logged(Format::Text, "info");
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("second") && lines[1].contains("third"), "{lines:?}");
        assert!(!lines.concat().contains('\u{1b}'), "colours in {lines:?}");
    }

    #[test]
    fn a_wrong_filter_is_refused_with_an_example() {
        let settings = Settings { format: Format::Text, filter: "freshet=loud".into() };
        let error = subscriber(&settings, None).expect_err("no such level").to_string();
        assert!(error.contains("freshet=loud") && error.contains("warn,freshet=debug"), "{error}");
    }
}
