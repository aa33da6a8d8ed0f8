//! How large a batch of records may be.
//!
//! A topic's `max.message.bytes` is the limit of a whole batch, and librdkafka has one size of batches for all topics,
//! which it does not divide when a broker refuses one. So when something was too large for a topic, its limit is asked
//! for: batches that were larger than it are made smaller, and what was too large all the same is a record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freshet_log::LogError;

use crate::admin::{Admin, ConfigEntry};
use crate::config::KafkaConfig;

/// The topic's setting.
const LIMIT: &str = "max.message.bytes";
/// No batch is made smaller than this on a guess.
const LEAST_GUESS: usize = 4096;

/// Something that was too large.
#[derive(Debug, Clone)]
pub(crate) struct TooLarge {
    /// What was said about it.
    pub text: String,
    /// The topics that the producer wrote to, one of which refused it.
    pub topics: Vec<String>,
}

/// What the producers of one log have learnt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits(Arc<Mutex<Learnt>>);

#[derive(Debug, Default)]
struct Learnt {
    batch_bytes: Option<usize>,
    refused: Option<TooLarge>,
}

impl Limits {
    fn lock(&self) -> MutexGuard<'_, Learnt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was too large: the next producer finds out what to do about it.
    pub(crate) fn refused(&self, what: TooLarge) {
        self.lock().refused.get_or_insert(what);
    }

    /// The settings for the next producer.
    ///
    /// # Errors
    /// [`LogError::Refused`] when it was a record, and not a batch, that was too large.
    pub(crate) async fn settle(&self, config: &KafkaConfig) -> Result<KafkaConfig, LogError> {
        let (batch_bytes, refused) = {
            let mut learnt = self.lock();
            (learnt.batch_bytes.unwrap_or(config.batch_bytes), learnt.refused.take())
        };
        let Some(refused) = refused else { return Ok(KafkaConfig { batch_bytes, ..config.clone() }) };
        let least = match least_limit(config, &refused.topics).await {
            Ok(least) => least,
            // Whoever may write to a topic may not always look at its settings.
            Err(LogError::Unauthorised(_)) => None,
            Err(error) => {
                self.refused(refused);
                return Err(error);
            }
        };
        let Some(smaller) = smaller_batch(batch_bytes, least.as_ref().map(|(_, limit)| *limit)) else {
            let limit = least.map_or_else(String::new, |(topic, limit)| format!("{topic} takes {limit} bytes. "));
            return Err(LogError::Refused(format!(
                "{}: a record is larger than the topic takes ({LIMIT}). {limit}Raise the topic's {LIMIT}, or make the \
                 record smaller in the SQL",
                refused.text
            )));
        };
        tracing::info!(bytes = smaller, "batches are smaller from now on, so that every topic takes them");
        self.lock().batch_bytes = Some(smaller);
        Ok(KafkaConfig { batch_bytes: smaller, ..config.clone() })
    }
}

/// The batch size to try next, where the least limit of the topics is known, or is not; `None` when batches can't have
/// been what was too large.
fn smaller_batch(now: usize, limit: Option<usize>) -> Option<usize> {
    // A batch has a head of its own, and records have theirs.
    let fits = limit.map_or(now / 2, |limit| limit / 10 * 9);
    let tried = limit.is_none() && fits < LEAST_GUESS;
    (fits < now && fits > 0 && !tried).then_some(fits)
}

/// Which of `topics` takes least, and how many bytes.
async fn least_limit(config: &KafkaConfig, topics: &[String]) -> Result<Option<(String, usize)>, LogError> {
    let answer = Admin::connect(config)?.describe_configs(topics.to_vec()).await;
    let answer = answer.map_err(|error| error.into_log_error("asking how large records may be"))?;
    let limit = |entries: BTreeMap<String, ConfigEntry>| entries.get(LIMIT)?.value.as_ref()?.parse::<usize>().ok();
    let limits = topics.iter().zip(answer).filter_map(|(topic, entries)| Some((topic.clone(), limit(entries.ok()?)?)));
    Ok(limits.min_by_key(|(_, limit)| *limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_become_smaller_until_it_can_only_be_a_record() {
        assert_eq!(smaller_batch(1_000_000, Some(20_000)), Some(18_000));
        assert_eq!(smaller_batch(18_000, Some(20_000)), None, "they fit: it was a record");
        assert_eq!(smaller_batch(1_000_000, Some(1_048_588)), Some(943_722));
        assert_eq!(smaller_batch(1_000_000, Some(30_000_000)), None);
        assert_eq!(smaller_batch(10_000, None), Some(5_000), "the limit is not known");
        assert_eq!(smaller_batch(5_000, None), None);
    }
}
