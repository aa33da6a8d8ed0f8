//! Administration of a Kafka cluster: topics, their configuration, offsets of groups.
//!
//! One [`Admin`] is one client; it may be asked many things at once, and keeps its connections. Every call
//! takes many topics in one request and gives one result a topic, in their order, so that one bad topic does
//! not hide the others. The outer error is one of the whole request.
//!
//! ```text
//! caller --call--> thread of its own --FFI (native)--> librdkafka --> brokers
//!                  event thread      <-- log lines, client errors
//! ```

pub(crate) mod native;
mod types;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use freshet_log::{LogError, TopicPartition};
use rdkafka::bindings::rd_kafka_admin_op_t as Op;
use rdkafka::producer::{BaseProducer, Producer};

pub use types::{
    AdminError, AdminResult, Cluster, ConfigChange, ConfigEntry, ConfigSource, NewTopic, OffsetSpec, Operation,
    Partition, TopicDescription, Trouble,
};

use crate::config::KafkaConfig;
use crate::error::{Action, classify};
use crate::events::Events;
use crate::thread::{away, spawn};
use native::{Found, Places, Request};

type Client = BaseProducer<Events>;

/// How long the event thread waits for an event before it looks whether its client is still needed.
const EVENT_WAIT: Duration = Duration::from_millis(500);

/// A client for administration.
#[derive(Clone)]
pub struct Admin {
    client: Arc<Client>,
    limit: Duration,
}

impl Admin {
    /// A client for the cluster that `config` names. Contacts nobody yet. Requests are given up after
    /// [`KafkaConfig::request_timeout`].
    ///
    /// # Errors
    /// [`LogError::Refused`] when librdkafka does not accept a setting; the text names it, never its value.
    pub fn connect(config: &KafkaConfig) -> Result<Self, LogError> {
        let create = config.for_administration().create_with_context(Events::default());
        let client: Client = create.map_err(|error| classify(&error, Action::Ask, "connecting"))?;
        let client = Arc::new(client);
        let events = Arc::downgrade(&client);
        spawn("freshet-admin-events", move || serve_events(&events))?;
        Ok(Self { client, limit: config.request_timeout })
    }

    /// The cluster's id, size, and what this client's user may do to it.
    ///
    /// # Errors
    /// When the cluster does not answer or refuses to.
    pub async fn cluster(&self) -> AdminResult<Cluster> {
        self.ask(Op::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER, native::describe_cluster).await
    }

    /// Ids and partitions of `topics`. [`Trouble::NotFound`] is one that is not there.
    ///
    /// # Errors
    /// Of the whole request: the cluster does not answer or refuses to.
    pub async fn describe_topics(&self, topics: Vec<String>) -> AdminResult<Vec<AdminResult<TopicDescription>>> {
        self.describe(topics, false).await
    }

    /// As [`Admin::describe_topics`], with what this client's user may do to each.
    ///
    /// # Errors
    /// Of the whole request: the cluster does not answer or refuses to.
    pub async fn describe_topics_and_rights(
        &self,
        topics: Vec<String>,
    ) -> AdminResult<Vec<AdminResult<TopicDescription>>> {
        self.describe(topics, true).await
    }

    async fn describe(
        &self,
        topics: Vec<String>,
        with_rights: bool,
    ) -> AdminResult<Vec<AdminResult<TopicDescription>>> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let work = move |request: &Request<'_>| native::describe_topics(request, &topics, with_rights);
        self.ask(Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, work).await
    }

    /// All configuration entries of `topics`, set on them or not.
    ///
    /// # Errors
    /// Of the whole request: the cluster does not answer or refuses to.
    pub async fn describe_configs(
        &self,
        topics: Vec<String>,
    ) -> AdminResult<Vec<AdminResult<BTreeMap<String, ConfigEntry>>>> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let work = move |request: &Request<'_>| native::describe_configs(request, &topics);
        self.ask(Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, work).await
    }

    /// Makes topics. Other brokers may need a moment more before they know them.
    ///
    /// # Errors
    /// Of the whole request: the cluster does not answer or refuses to. Topics may have been made even so.
    pub async fn create_topics(&self, topics: Vec<NewTopic>) -> AdminResult<Vec<AdminResult<()>>> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let work = move |request: &Request<'_>| native::create_topics(request, &topics);
        self.ask(Op::RD_KAFKA_ADMIN_OP_CREATETOPICS, work).await
    }

    /// Asks whether `topics` could be made, and makes none.
    ///
    /// # Errors
    /// Of the whole request: the cluster does not answer or refuses to.
    pub async fn check_new_topics(&self, topics: Vec<NewTopic>) -> AdminResult<Vec<AdminResult<()>>> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let work = move |request: &Request<'_>| {
            request.only_check()?;
            native::create_topics(request, &topics)
        };
        self.ask(Op::RD_KAFKA_ADMIN_OP_CREATETOPICS, work).await
    }

    /// Grows each topic to that many partitions in all.
    ///
    /// # Errors
    /// Of the whole request: the cluster does not answer or refuses to. Topics may have been grown even so.
    pub async fn create_partitions(&self, topics: Vec<(String, u32)>) -> AdminResult<Vec<AdminResult<()>>> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let work = move |request: &Request<'_>| native::create_partitions(request, &topics);
        self.ask(Op::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, work).await
    }

    /// Changes single entries of topics' configuration and leaves all others as they are. A topic's changes
    /// happen together or not at all.
    ///
    /// # Errors
    /// Of the whole request: the cluster does not answer or refuses to. Changes may have been made even so.
    pub async fn alter_configs(&self, topics: Vec<(String, Vec<ConfigChange>)>) -> AdminResult<Vec<AdminResult<()>>> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let work = move |request: &Request<'_>| native::alter_configs(request, &topics);
        self.ask(Op::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS, work).await
    }

    /// Deletes topics with all that is in them.
    ///
    /// # Errors
    /// Of the whole request: the cluster does not answer or refuses to. Topics may have been deleted even so.
    pub async fn delete_topics(&self, topics: Vec<String>) -> AdminResult<Vec<AdminResult<()>>> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let work = move |request: &Request<'_>| native::delete_topics(request, &topics);
        self.ask(Op::RD_KAFKA_ADMIN_OP_DELETETOPICS, work).await
    }

    /// Finds offsets; one result a partition, in their order.
    ///
    /// # Errors
    /// Of the whole request: the cluster does not answer or refuses to.
    pub async fn list_offsets(&self, wanted: Vec<(TopicPartition, OffsetSpec)>) -> AdminResult<Vec<AdminResult<i64>>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS, move |request| {
            let offset = |spec| match spec {
                OffsetSpec::Earliest => -2,
                OffsetSpec::Latest => -1,
                OffsetSpec::MaxTimestamp => -3,
                OffsetSpec::Timestamp(at_ms) => at_ms,
            };
            let places = Places::new(wanted.iter().map(|(place, spec)| (place, offset(*spec))))?;
            let found = native::list_offsets(request, &places)?;
            Ok(in_order(found, wanted.iter().map(|(place, _)| place)))
        })
        .await
    }

    /// Forgets the committed offsets of `partitions` in `group`; one result a partition, in their order.
    ///
    /// # Errors
    /// Of the whole request: the group is not there, or has members that read these topics.
    pub async fn delete_group_offsets(
        &self,
        group: String,
        partitions: Vec<TopicPartition>,
    ) -> AdminResult<Vec<AdminResult<()>>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(Op::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS, move |request| {
            let places = Places::new(partitions.iter().map(|place| (place, 0)))?;
            let done = native::delete_group_offsets(request, &group, &places)?;
            Ok(in_order(done, partitions.iter()).into_iter().map(|result| result.map(drop)).collect())
        })
        .await
    }

    /// Sets committed offsets of `group`, which must have no members; one result a partition, in their order.
    ///
    /// # Errors
    /// Of the whole request: the group has members, or the cluster does not answer or refuses to.
    pub async fn alter_group_offsets(
        &self,
        group: String,
        offsets: Vec<(TopicPartition, i64)>,
    ) -> AdminResult<Vec<AdminResult<()>>> {
        if offsets.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(Op::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, move |request| {
            let places = Places::new(offsets.iter().map(|(place, offset)| (place, *offset)))?;
            let done = native::alter_group_offsets(request, &group, &places)?;
            Ok(in_order(done, offsets.iter().map(|(place, _)| place)).into_iter().map(|done| done.map(drop)).collect())
        })
        .await
    }

    /// Runs `work` with a request of kind `op` on a thread of its own.
    async fn ask<T: Send + 'static>(
        &self,
        op: Op,
        work: impl FnOnce(&Request<'_>) -> AdminResult<T> + Send + 'static,
    ) -> AdminResult<T> {
        let (client, limit) = (self.client.clone(), self.limit);
        let answer = away("freshet-admin", move || {
            let answer = Request::new(client.client(), op, limit).and_then(|request| work(&request));
            let events = client.client().context();
            Ok(match answer {
                Ok(answer) => {
                    events.forgive();
                    Ok(answer)
                }
                Err(error) if error.trouble == Trouble::Unavailable => Err(denied(events).unwrap_or(error)),
                Err(error) => Err(error),
            })
        });
        answer.await.unwrap_or_else(|error| {
            let (trouble, code) = (Trouble::Unavailable, "_FAIL".to_owned());
            Err(AdminError { trouble, code, words: error.to_string() })
        })
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Behind wrong credentials every request times out; the reason is among the client's events.
fn denied(events: &Events) -> Option<AdminError> {
    let error = events.denied()?;
    Some(AdminError { trouble: Trouble::Unauthorised, code: "_AUTHENTICATION".to_owned(), words: error.to_string() })
}

/// Takes log lines and errors from a client until nobody holds it any more.
fn serve_events(client: &Weak<Client>) {
    while let Some(client) = client.upgrade() {
        client.poll(EVENT_WAIT);
    }
}

fn in_order<'a>(found: Vec<Found>, wanted: impl Iterator<Item = &'a TopicPartition>) -> Vec<AdminResult<i64>> {
    let mut found: HashMap<TopicPartition, AdminResult<i64>> = found.into_iter().collect();
    let missing = |place: &TopicPartition| AdminError {
        trouble: Trouble::Unavailable,
        code: "_BAD_MSG".to_owned(),
        words: format!("the answer does not speak of {place}"),
    };
    wanted.map(|place| found.remove(place).unwrap_or_else(|| Err(missing(place)))).collect()
}
