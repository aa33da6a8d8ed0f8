//! What librdkafka says between the calls: log lines, client errors, failed deliveries.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use freshet_log::LogError;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::{ClientContext, Message};

use crate::error::{Action, Failure, classify};

/// Receives the events of one client and keeps what its owner must know.
#[derive(Debug, Default)]
pub(crate) struct Events {
    denied: Mutex<Option<LogError>>,
    connection: Mutex<Option<String>>,
    undelivered: Mutex<Option<LogError>>,
    doubtful: AtomicBool,
    too_large: AtomicBool,
}

impl Events {
    /// The first error of this client that only a person can mend: wrong credentials, an untrusted certificate.
    pub(crate) fn denied(&self) -> Option<LogError> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets that error: the brokers have answered since.
    pub(crate) fn forgive(&self) {
        *self.denied.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The first delivery that failed since this was last asked.
    pub(crate) fn take_undelivered(&self) -> Option<LogError> {
        self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Notes that a topic refused something because it is too large.
    pub(crate) fn note_too_large(&self) {
        self.too_large.store(true, Ordering::Relaxed);
    }

    /// Whether a topic ever refused something because it is too large.
    pub(crate) fn too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }

    /// Whether something was logged since this was last asked that may mean that a topic is gone.
    pub(crate) fn take_doubt(&self) -> bool {
        self.doubtful.swap(false, Ordering::Relaxed)
    }

    /// `error`, or the denial that explains it: behind wrong credentials everything looks like a time-out. So it does where
    /// no connection comes about: how the last one failed is told with it.
    pub(crate) fn explain(&self, error: LogError) -> LogError {
        if !matches!(error, LogError::Unavailable(_) | LogError::Indefinite(_)) {
            return error;
        }
        if let Some(denied) = self.denied() {
            return denied;
        }
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (error, connection) {
            (LogError::Unavailable(text), Some(how)) => LogError::Unavailable(format!("{text}; {how}")),
            (LogError::Indefinite(text), Some(how)) => LogError::Indefinite(format!("{text}; {how}")),
            (error, _) => error,
        }
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Where records are taken in batches, librdkafka only logs that a topic does not exist. The line is
        // taken as a reason to ask, never as the answer.
        if facility == "ERROR" {
            self.doubtful.store(true, Ordering::Relaxed);
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if matches!(code, Some(Code::PartitionEOF | Code::AutoOffsetReset)) {
            return;
        }
        tracing::warn!(target: "librdkafka", "{error}: {reason}");
        let Some(code) = code else { return };
        if matches!(code, Code::BrokerTransportFailure | Code::Resolve) {
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
        let failure = Failure { code, fatal: false, text: reason.to_owned() };
        let classified = failure.classify(Action::Ask, "talking to the brokers");
        if matches!(classified, LogError::Unauthorised(_)) {
            self.denied.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(classified);
        }
    }
}

impl ConsumerContext for Events {}

impl ProducerContext for Events {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let Err((error, record)) = result {
            let doing = format!("writing to {}[{}]", record.topic(), record.partition());
            if error.rdkafka_error_code().is_some_and(|code| Failure::of(code).is_too_large()) {
                self.note_too_large();
            }
            let error = classify(error, Action::Transact, &doing);
            self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}
