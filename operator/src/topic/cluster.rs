//! Does IO: the Kafka clusters, one client each, which many Topics share.
//!
//! Passes over Topics ask one by one; what they ask within a short window goes to the brokers in one request a
//! kind. While requests are under way, the next ones gather by themselves, so that a thousand Topics cost tens of
//! requests and not thousands.
//!
//! ```text
//! pass ──look x──┐
//! pass ──look y──┼──▶ gather ──▶ describe topics [x, y], describe configs [x, y] ──▶ an answer each
//! pass ──make z──┘           └─▶ create topics [z]
//! ```
//!
//! A request that is refused as a whole is asked again for each of its topics alone, so that one Topic can't spoil
//! the others' answers.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use freshet_kafka::KafkaConfig;
use freshet_kafka::admin::{
    Admin, AdminError, AdminResult, ConfigChange, ConfigEntry, ConfigSource, NewTopic, TopicDescription, Trouble,
};
use prometheus::{IntCounterVec, Opts};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::decide::{KafkaTopic, Seen};
use super::secured::Secured;
use super::wanted::Access;
use crate::clock;

/// How long requests gather.
const WINDOW: Duration = Duration::from_millis(5);
/// Topics in one request.
const MOST: usize = 250;
/// Partitions that one request makes: a controller refuses more than 10,000.
const MOST_PARTITIONS: i64 = 2_000;
/// Requests under way at once.
const AT_ONCE: usize = 4;
/// A client that nobody asks is closed after this long.
const IDLE: Duration = Duration::from_secs(600);
/// How long the brokers may take.
const LIMIT: Duration = Duration::from_secs(5);

/// All Kafka clusters that Topics name. Cheap to clone.
#[derive(Clone)]
pub struct Clusters(Arc<All>);

struct All {
    known: Mutex<HashMap<Access, Cluster>>,
    requests: IntCounterVec,
    secured: Secured,
}

impl Clusters {
    /// None yet; one of them may need what `secured` says.
    ///
    /// # Panics
    /// Never: the metric's name is valid.
    #[must_use]
    pub fn new(registry: &prometheus::Registry, secured: Secured) -> Self {
        let opts = Opts::new("freshet_operator_kafka_requests_total", "Requests to Kafka, each for many topics.");
        let requests = IntCounterVec::new(opts, &["request", "outcome"]).expect("a valid name");
        if let Err(error) = registry.register(Box::new(requests.clone())) {
            tracing::warn!(%error, "requests to Kafka are not counted");
        }
        Self(Arc::new(All { known: Mutex::default(), requests, secured }))
    }

    /// The cluster behind `access`. Contacts nobody yet.
    ///
    /// # Errors
    /// A setting that librdkafka does not accept.
    pub fn at(&self, access: &Access) -> AdminResult<Cluster> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, cluster| !cluster.asks.is_closed());
        if let Some(cluster) = known.get(access) {
            return Ok(cluster.clone());
        }
        let mut config = KafkaConfig::new(&access.bootstrap_servers, "freshet-operator");
        config.request_timeout = LIMIT;
        config.extra = self.0.secured.settings(access);
        let admin = Admin::connect(&config).map_err(|error| AdminError {
            trouble: Trouble::Refused,
            code: "_INVALID_ARG".to_owned(),
            words: error.to_string(),
        })?;
        let (asks, gathered) = mpsc::unbounded_channel();
        let link = Link { admin, requests: self.0.requests.clone() };
        tokio::spawn(gather(gathered, link));
        let cluster = Cluster { asks, id: Arc::default() };
        known.insert(access.clone(), cluster.clone());
        Ok(cluster)
    }

    /// The id of the cluster behind `access`, if it was ever asked for.
    #[must_use]
    pub fn known_id(&self, access: &Access) -> Option<String> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(access).and_then(|cluster| cluster.id.get().cloned())
    }
}

/// One Kafka cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    asks: mpsc::UnboundedSender<Ask>,
    id: Arc<OnceLock<String>>,
}

#[derive(Clone)]
struct Link {
    admin: Admin,
    requests: IntCounterVec,
}

type Reply<T> = oneshot::Sender<AdminResult<T>>;

enum Ask {
    Id(Reply<String>),
    Look(String, Reply<Seen>),
    Check(NewTopic, Reply<()>),
    Create(NewTopic, Reply<()>),
    Grow(String, u32, Reply<()>),
    Alter(String, Vec<ConfigChange>, Reply<()>),
    Delete(String, Reply<()>),
}

impl Cluster {
    /// The cluster's id; asked for once.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub async fn id(&self) -> AdminResult<String> {
        if let Some(id) = self.id.get() {
            return Ok(id.clone());
        }
        let id = self.ask(Ask::Id).await?;
        Ok(self.id.get_or_init(|| id).clone())
    }

    /// How `topic` is.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses to.
    pub async fn look(&self, topic: &str) -> AdminResult<Seen> {
        self.ask(|reply| Ask::Look(topic.to_owned(), reply)).await
    }

    /// Asks whether a topic could be made, and makes none.
    ///
    /// # Errors
    /// The cluster does not answer, or would refuse to make it.
    pub async fn check(&self, topic: NewTopic) -> AdminResult<()> {
        self.ask(|reply| Ask::Check(topic, reply)).await
    }

    /// Makes a topic. [`Trouble::Exists`] when it is there.
    ///
    /// # Errors
    /// The cluster does not answer, in which case the topic may have been made, or refuses to.
    pub async fn create(&self, topic: NewTopic) -> AdminResult<()> {
        self.ask(|reply| Ask::Create(topic, reply)).await
    }

    /// Grows `topic` to `partitions` in all.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses to.
    pub async fn grow(&self, topic: &str, partitions: u32) -> AdminResult<()> {
        self.ask(|reply| Ask::Grow(topic.to_owned(), partitions, reply)).await
    }

    /// Changes entries of `topic`'s configuration, all or none.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses to.
    pub async fn alter(&self, topic: &str, changes: Vec<ConfigChange>) -> AdminResult<()> {
        self.ask(|reply| Ask::Alter(topic.to_owned(), changes, reply)).await
    }

    /// Deletes `topic` with all that is in it.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses to.
    pub async fn delete(&self, topic: &str) -> AdminResult<()> {
        self.ask(|reply| Ask::Delete(topic.to_owned(), reply)).await
    }

    async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> AdminResult<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || AdminError {
            trouble: Trouble::Unavailable,
            code: "_DESTROY".to_owned(),
            words: "the client was closed".to_owned(),
        };
        self.asks.send(ask(reply)).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// Takes what is asked, in batches, until nobody asks any more.
async fn gather(mut asks: mpsc::UnboundedReceiver<Ask>, link: Link) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut left: Vec<Ask> = Vec::new();
    loop {
        if left.is_empty() {
            let Some(Some(first)) = clock::within(IDLE, asks.recv()).await else { return };
            left.push(first);
            clock::sleep(WINDOW).await;
        }
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        while let Ok(ask) = asks.try_recv() {
            left.push(ask);
        }
        let (batch, rest) = Batch::of(left);
        left = rest;
        let link = link.clone();
        tokio::spawn(async move {
            link.carry_out(batch).await;
            drop(permit);
        });
    }
}

/// What is asked at once. Within a kind each topic is there once, but for looks, which share an answer.
#[derive(Default)]
struct Batch {
    ids: Vec<Reply<String>>,
    looks: BTreeMap<String, Vec<Reply<Seen>>>,
    checks: BTreeMap<String, (NewTopic, Reply<()>)>,
    creates: BTreeMap<String, (NewTopic, Reply<()>)>,
    grows: BTreeMap<String, (u32, Reply<()>)>,
    alters: BTreeMap<String, (Vec<ConfigChange>, Reply<()>)>,
    deletes: BTreeMap<String, Reply<()>>,
}

impl Batch {
    /// The next batch of `asks`, and what is left for later ones.
    fn of(asks: Vec<Ask>) -> (Self, Vec<Ask>) {
        let (mut batch, mut rest) = (Self::default(), Vec::new());
        let mut partitions = 0;
        for ask in asks {
            match ask {
                Ask::Id(reply) => batch.ids.push(reply),
                Ask::Look(name, reply) if batch.looks.len() < MOST || batch.looks.contains_key(&name) => {
                    batch.looks.entry(name).or_default().push(reply);
                }
                Ask::Check(new, reply) if batch.checks.len() < MOST && !batch.checks.contains_key(&new.name) => {
                    batch.checks.insert(new.name.clone(), (new, reply));
                }
                Ask::Create(new, reply)
                    if batch.creates.len() < MOST
                        && (partitions + i64::from(new.partitions) <= MOST_PARTITIONS || batch.creates.is_empty())
                        && !batch.creates.contains_key(&new.name) =>
                {
                    partitions += i64::from(new.partitions);
                    batch.creates.insert(new.name.clone(), (new, reply));
                }
                Ask::Grow(name, total, reply) if batch.grows.len() < MOST && !batch.grows.contains_key(&name) => {
                    batch.grows.insert(name, (total, reply));
                }
                Ask::Alter(name, changes, reply) if batch.alters.len() < MOST && !batch.alters.contains_key(&name) => {
                    batch.alters.insert(name, (changes, reply));
                }
                Ask::Delete(name, reply) if batch.deletes.len() < MOST && !batch.deletes.contains_key(&name) => {
                    batch.deletes.insert(name, reply);
                }
                later => rest.push(later),
            }
        }
        (batch, rest)
    }
}

type Answers<T> = Pin<Box<dyn Future<Output = AdminResult<Vec<AdminResult<T>>>> + Send>>;

impl Link {
    fn count<T>(&self, request: &str, answer: &AdminResult<T>) {
        let outcome = if answer.is_ok() { "answered" } else { "failed" };
        self.requests.with_label_values(&[request, outcome]).inc();
    }

    async fn carry_out(&self, batch: Batch) {
        let Batch { ids, looks, checks, creates, grows, alters, deletes } = batch;
        let ids = self.tell_id(ids);
        let looks = self.look(looks);
        let (admin, checks) = (self.admin.clone(), checks.into_values().collect());
        let checks = self.write("check-topics", checks, move |topics| {
            let admin = admin.clone();
            Box::pin(async move { admin.check_new_topics(topics).await })
        });
        let (admin, creates) = (self.admin.clone(), creates.into_values().collect());
        let creates = self.write("create-topics", creates, move |topics| {
            let admin = admin.clone();
            Box::pin(async move { admin.create_topics(topics).await })
        });
        let grows = grows.into_iter().map(|(name, (total, reply))| ((name, total), reply)).collect();
        let admin = self.admin.clone();
        let grows = self.write("create-partitions", grows, move |topics| {
            let admin = admin.clone();
            Box::pin(async move { admin.create_partitions(topics).await })
        });
        let alters = alters.into_iter().map(|(name, (changes, reply))| ((name, changes), reply)).collect();
        let admin = self.admin.clone();
        let alters = self.write("alter-configs", alters, move |topics| {
            let admin = admin.clone();
            Box::pin(async move { admin.alter_configs(topics).await })
        });
        let (admin, deletes) = (self.admin.clone(), deletes.into_iter().collect());
        let deletes = self.write("delete-topics", deletes, move |topics| {
            let admin = admin.clone();
            Box::pin(async move { admin.delete_topics(topics).await })
        });
        tokio::join!(ids, looks, checks, creates, grows, alters, deletes);
    }

    async fn tell_id(&self, asked: Vec<Reply<String>>) {
        if asked.is_empty() {
            return;
        }
        let answer = self.admin.cluster().await;
        self.count("describe-cluster", &answer);
        for reply in asked {
            let _ = reply.send(answer.clone().map(|cluster| cluster.id));
        }
    }

    async fn write<Q: Clone + Send + 'static>(
        &self,
        request: &'static str,
        asked: Vec<(Q, Reply<()>)>,
        ask: impl Fn(Vec<Q>) -> Answers<()> + Send + Sync,
    ) {
        let (questions, replies): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        for (reply, answer) in replies.into_iter().zip(self.each(request, questions, ask).await) {
            // A pass that was cut off waits for no answer.
            let _ = reply.send(answer);
        }
    }

    async fn look(&self, asked: BTreeMap<String, Vec<Reply<Seen>>>) {
        let names: Vec<String> = asked.keys().cloned().collect();
        let admin = &self.admin;
        let described = self
            .each("describe-topics", names.clone(), |names| {
                let admin = admin.clone();
                Box::pin(async move { admin.describe_topics(names).await })
            })
            .await;
        let there = names.iter().zip(&described).filter(|(_, topic)| topic.is_ok());
        let there: Vec<String> = there.map(|(name, _)| name.clone()).collect();
        let configs = self
            .each("describe-configs", there.clone(), |names| {
                let admin = admin.clone();
                Box::pin(async move { admin.describe_configs(names).await })
            })
            .await;
        let mut configs: HashMap<String, _> = there.into_iter().zip(configs).collect();
        for ((name, replies), topic) in asked.into_iter().zip(described) {
            let seen = match topic {
                Err(error) if error.trouble == Trouble::NotFound => Ok(Seen::Absent),
                Err(error) => Err(error),
                Ok(topic) => match configs.remove(&name) {
                    // It went between the two questions.
                    Some(Err(error)) if error.trouble == Trouble::NotFound => Ok(Seen::Absent),
                    Some(Err(error)) => Err(error),
                    Some(Ok(config)) => Ok(Seen::There(seen(&topic, config))),
                    None => Ok(Seen::Absent),
                },
            };
            for reply in replies {
                let _ = reply.send(seen.clone());
            }
        }
    }

    /// An answer to each of `questions`, in their order. What is refused as a whole is asked one by one.
    async fn each<Q: Clone, T>(
        &self,
        request: &'static str,
        questions: Vec<Q>,
        ask: impl Fn(Vec<Q>) -> Answers<T>,
    ) -> Vec<AdminResult<T>> {
        if questions.is_empty() {
            return Vec::new();
        }
        let answer = ask(questions.clone()).await;
        self.count(request, &answer);
        match answer {
            Ok(answers) => answers,
            Err(error) if error.trouble == Trouble::Refused && questions.len() > 1 => {
                let mut answers = Vec::with_capacity(questions.len());
                for question in questions {
                    let answer = ask(vec![question]).await;
                    self.count(request, &answer);
                    answers.push(answer.and_then(|mut answers| answers.pop().unwrap_or_else(|| Err(error.clone()))));
                }
                answers
            }
            Err(error) => questions.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

fn seen(topic: &TopicDescription, config: BTreeMap<String, ConfigEntry>) -> KafkaTopic {
    let copies = topic.partitions.iter().map(|partition| u16::try_from(partition.replicas).unwrap_or(u16::MAX));
    let replicas = (copies.clone().min().unwrap_or(0), copies.max().unwrap_or(0));
    let (mut set, mut effective) = (BTreeMap::new(), BTreeMap::new());
    for (name, entry) in config {
        let value = entry.value.unwrap_or_default();
        if entry.source == ConfigSource::Topic {
            set.insert(name.clone(), value.clone());
        }
        effective.insert(name, value);
    }
    let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    KafkaTopic { id: topic.id.clone(), partitions, replicas, set, effective }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(name: &str, partitions: i32) -> Ask {
        let new = NewTopic { name: name.to_owned(), partitions, replicas: None, config: Vec::new() };
        Ask::Create(new, oneshot::channel().0)
    }

    #[test]
    fn looks_at_one_topic_share_a_question_and_writes_to_one_topic_never_a_request() {
        let look = |name: &str| Ask::Look(name.to_owned(), oneshot::channel().0);
        let grow = |name: &str| Ask::Grow(name.to_owned(), 2, oneshot::channel().0);
        let (batch, rest) = Batch::of(vec![look("a"), grow("a"), look("a"), grow("a"), look("b"), create("a", 1)]);
        assert_eq!(
            batch.looks.iter().map(|(name, replies)| (name.as_str(), replies.len())).collect::<Vec<_>>(),
            [("a", 2), ("b", 1)]
        );
        assert_eq!((batch.grows.len(), batch.creates.len(), rest.len()), (1, 1, 1));
    }

    #[test]
    fn a_batch_is_bounded_by_topics_and_by_partitions() {
        let (batch, rest) = Batch::of((0..MOST + 7).map(|n| create(&format!("t{n}"), 1)).collect());
        assert_eq!((batch.creates.len(), rest.len()), (MOST, 7));
        let (batch, rest) = Batch::of(vec![create("wide", 5_000), create("a", 1_500), create("b", 1_500)]);
        assert_eq!((batch.creates.len(), rest.len()), (1, 2), "a topic wider than a batch goes alone");
        let (batch, rest) = Batch::of(rest);
        assert_eq!((batch.creates.len(), rest.len()), (1, 1));
    }
}
