//! Sorts librdkafka's errors by what a caller can do about them.
//!
//! The same code means different things in different places: a time-out of a question means "ask again",
//! a time-out of a commit means that nobody knows what is committed. So each error is classified with the
//! [`Action`] that it came from.

use freshet_log::LogError;
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode as Code};

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A question, a creation, an initialisation: nothing is pending when it fails.
    Ask,
    /// Part of an open transaction: a failure leaves it in an unknown state.
    Transact,
}

/// An error of librdkafka, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its code.
    pub code: Code,
    /// Whether the client can't be used any more.
    pub fatal: bool,
    /// What librdkafka says about it.
    pub text: String,
}

impl Failure {
    /// A failure of which only the code is known.
    #[must_use]
    pub fn of(code: Code) -> Self {
        Self { code, fatal: code == Code::Fatal, text: code.to_string() }
    }

    /// From an error of the transactional API.
    #[must_use]
    pub fn of_transaction(error: &RDKafkaError) -> Self {
        Self { code: error.code(), fatal: error.is_fatal(), text: error.string() }
    }

    /// Whether what was written is larger than the topic takes.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self.code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge)
    }

    /// What the caller can do about it; `doing` says what was tried, for people.
    #[must_use]
    pub fn classify(&self, action: Action, doing: &str) -> LogError {
        let text = format!("{doing}: {} ({:?})", self.text, self.code);
        match self.code {
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => LogError::Fenced(text),
            code if is_about_rights(code) => LogError::Unauthorised(text),
            Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::OffsetMetadataTooLarge
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::InvalidTopic
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidConfig
            | Code::InvalidRequest
            | Code::InvalidArgument
            | Code::InvalidTransactionTimeout
            | Code::PolicyViolation
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::UnsupportedCompressionType
            | Code::NotImplemented => LogError::Refused(text),
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId => {
                LogError::UnknownTopic(text)
            }
            // The coordinator has forgotten the id: the transaction can't be committed any more.
            Code::InvalidProducerIdMapping => LogError::Indefinite(text),
            _ if action == Action::Transact || self.fatal => LogError::Indefinite(text),
            _ => LogError::Unavailable(text),
        }
    }
}

/// Whether credentials are wrong, or their rights are too few.
pub(crate) fn is_about_rights(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::DelegationTokenAuthorizationFailed
            | Code::DelegationTokenExpired
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::Authentication
            | Code::SSL
    )
}

/// Classifies an error of rdkafka's own functions. Values of settings are kept out of the text: they may be
/// secrets.
#[must_use]
pub fn classify(error: &KafkaError, action: Action, doing: &str) -> LogError {
    match error {
        KafkaError::ClientConfig(_, _, name, _) => {
            LogError::Refused(format!("{doing}: librdkafka does not accept the value of the setting `{name}`"))
        }
        KafkaError::ClientCreation(text) => LogError::Refused(format!("{doing}: {text}")),
        KafkaError::Transaction(error) => Failure::of_transaction(error).classify(action, doing),
        KafkaError::AdminOp(code) => Failure::of(*code).classify(action, doing),
        other => match other.rdkafka_error_code() {
            Some(code) => Failure::of(code).classify(action, doing),
            None => LogError::Refused(format!("{doing}: {other}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::types::RDKafkaConfRes;

    #[test]
    fn a_timeout_of_a_question_is_not_one_of_a_commit() {
        let failure = Failure::of(Code::OperationTimedOut);
        assert!(matches!(failure.classify(Action::Ask, "asking"), LogError::Unavailable(_)));
        assert!(matches!(failure.classify(Action::Transact, "committing"), LogError::Indefinite(_)));
    }

    #[test]
    fn a_zombie_is_fenced_whatever_it_was_doing() {
        for code in [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch] {
            for action in [Action::Ask, Action::Transact] {
                assert!(matches!(Failure::of(code).classify(action, "x"), LogError::Fenced(_)), "{code:?}");
            }
        }
    }

    #[test]
    fn what_only_a_person_can_mend_is_not_transient() {
        for code in [Code::TopicAuthorizationFailed, Code::MessageSizeTooLarge, Code::UnknownTopicOrPartition] {
            let error = Failure::of(code).classify(Action::Transact, "sending");
            assert!(!error.is_transient(), "{code:?} became {error}");
        }
    }

    #[test]
    fn a_bad_setting_is_named_without_its_value() {
        let error = KafkaError::ClientConfig(
            RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "Invalid value \"hunter2\"".to_owned(),
            "sasl.mechanism".to_owned(),
            "hunter2".to_owned(),
        );
        let text = classify(&error, Action::Ask, "connecting").to_string();
        assert!(text.contains("sasl.mechanism") && !text.contains("hunter2"), "{text}");
    }
}
