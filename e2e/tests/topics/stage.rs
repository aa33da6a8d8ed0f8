//! The servers, a namespace, an operator, and short forms of what every test does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use freshet_crds::definition::definitions;
use freshet_crds::{StreamJob, Topic};
use freshet_e2e::cluster::SharedApiServer;
use freshet_e2e::servers::SharedKafka;
use freshet_kafka::KafkaConfig;
use freshet_kafka::admin::{Admin, ConfigChange, NewTopic, TopicDescription, Trouble};
use freshet_operator::config::Config;
use freshet_operator::context::Context;
use freshet_operator::metrics::Metrics;
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// No wait of a test lasts longer, on whatever machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace, its operator, and the broker.
pub struct Stage {
    pub client: Client,
    pub namespace: String,
    pub topics: Api<Topic>,
    pub jobs: Api<StreamJob>,
    pub bootstrap: String,
    pub admin: Admin,
    operator: Option<(watch::Sender<bool>, JoinHandle<()>)>,
    metrics: Metrics,
    key: PathBuf,
    deadline: &'static str,
    /// Whether the operator has a default cluster.
    names_brokers: bool,
}

/// Runs a test with a stage on the shared broker.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Stage) -> F) {
    run_on(SharedKafka::get().bootstrap().to_owned(), test);
}

/// Runs a test with a stage on the broker at `bootstrap`.
pub fn run_on<F: Future<Output = ()>>(bootstrap: String, test: impl FnOnce(Stage) -> F) {
    let server = SharedApiServer::get();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let work = async {
            let stage = Stage::open(server.client().await, bootstrap, "1h").await;
            test(stage).await;
        };
        tokio::time::timeout(PATIENCE * 4, work).await
    });
    assert!(ended.is_ok(), "the test did not end; the API server's log ends:\n{}", server.log_tail());
}

/// A name that no other test has.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Stage {
    async fn open(client: Client, bootstrap: String, deadline: &'static str) -> Self {
        install(&client).await;
        let namespace = unique("topics");
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        let object: Namespace = serde_json::from_value(object).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let key = std::env::temp_dir().join(format!("{namespace}.key"));
        std::fs::write(&key, [7; 32]).unwrap();
        let mut config = KafkaConfig::new(&bootstrap, "topics-test");
        config.request_timeout = Duration::from_secs(10);
        let mut stage = Self {
            topics: Api::namespaced(client.clone(), &namespace),
            jobs: Api::namespaced(client.clone(), &namespace),
            client,
            namespace,
            bootstrap,
            admin: Admin::connect(&config).unwrap(),
            operator: None,
            metrics: Metrics::new(),
            key,
            deadline,
            names_brokers: true,
        };
        stage.start();
        stage
    }

    /// Starts the operator.
    pub fn start(&mut self) {
        let key = self.key.display().to_string();
        let default = ["--kafka", self.bootstrap.as_str()];
        let mut arguments = vec![
            "freshet-operator",
            "--watch-namespace",
            &self.namespace,
            "--topic-resync",
            "1s",
            "--deletion-deadline",
            self.deadline,
            "--control-key-file",
            &key,
        ];
        if self.names_brokers {
            arguments.extend(default);
        }
        let config = Config::parse_from(arguments);
        self.metrics = Metrics::new();
        let context = Context::new(self.client.clone(), Arc::new(config), self.metrics.clone(), "cluster-1");
        let (stop, stopping) = watch::channel(false);
        self.operator = Some((stop, tokio::spawn(freshet_operator::topic::alone(context, stopping))));
    }

    /// Ends the operator as a kill would: in the middle of whatever it does.
    pub async fn kill(&mut self) {
        // The other end of `stop` must outlive the abort: closed, it asks the operator to end in order.
        let (stop, work) = self.operator.take().unwrap();
        work.abort();
        assert!(work.await.unwrap_err().is_cancelled());
        drop(stop);
    }

    /// Starts the operator anew with another deadline for deletions.
    pub async fn with_deadline(&mut self, deadline: &'static str) {
        self.kill().await;
        self.deadline = deadline;
        self.start();
    }

    /// Starts the operator anew, with or without a default cluster.
    pub async fn naming_brokers(&mut self, names_brokers: bool) {
        self.kill().await;
        self.names_brokers = names_brokers;
        self.start();
    }

    /// A figure of the operator's metrics.
    pub fn metric(&self, line: &str) -> u64 {
        let text = String::from_utf8(self.metrics.text()).unwrap();
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.and_then(|figure| figure.trim().parse().ok()).unwrap_or(0)
    }

    /// Makes a Topic called `name`, which names a Kafka topic of its own; gives that one's name.
    pub async fn topic(&self, name: &str, spec: Value) -> String {
        self.topic_in(&self.namespace, name, spec).await
    }

    pub async fn topic_in(&self, namespace: &str, name: &str, mut spec: Value) -> String {
        let kafka = spec["topicName"].as_str().map_or_else(|| unique(name), str::to_owned);
        spec["topicName"] = json!(kafka);
        let object = json!({
            "apiVersion": freshet_crds::API_VERSION, "kind": "Topic", "metadata": { "name": name }, "spec": spec
        });
        let topic: Topic = serde_json::from_value(object).unwrap();
        Api::namespaced(self.client.clone(), namespace).create(&PostParams::default(), &topic).await.unwrap();
        kafka
    }

    /// Makes a StreamJob.
    pub async fn job(&self, name: &str, sql: &str) {
        let object = json!({
            "apiVersion": freshet_crds::API_VERSION, "kind": "StreamJob", "metadata": { "name": name },
            "spec": { "sql": sql, "checkpoint": { "url": "file:///tmp/nowhere" } }
        });
        let job: StreamJob = serde_json::from_value(object).unwrap();
        self.jobs.create(&PostParams::default(), &job).await.unwrap();
    }

    /// Deletes a StreamJob, and waits until it is gone.
    pub async fn free_of_jobs(&self, name: &str) {
        let uid = self.jobs.get(name).await.unwrap().uid().unwrap();
        self.jobs.delete(name, &DeleteParams::default()).await.unwrap();
        let gone = await_condition(self.jobs.clone(), name, conditions::is_deleted(&uid));
        tokio::time::timeout(PATIENCE, gone).await.unwrap_or_else(|_| panic!("{name} is still there")).unwrap();
    }

    /// Changes fields of a Topic's spec.
    pub async fn change(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.topics.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until a Topic is `Ready` with `reason` for its present generation; gives it.
    pub async fn reason(&self, name: &str, reason: &str) -> Topic {
        let holds = |topic: &Topic| {
            let generation = topic.metadata.generation;
            topic.status.as_ref().is_some_and(|status| {
                Some(status.observed_generation) == generation
                    && condition(topic, "Ready").is_some_and(|(_, found, _)| found == reason)
            })
        };
        self.until(name, &format!("Ready with the reason {reason}"), holds).await
    }

    /// Waits until a Topic is stalled with `reason`, as kstatus reads it; gives the message.
    pub async fn stalled(&self, name: &str, reason: &str) -> String {
        let topic = self.reason(name, reason).await;
        for (type_, status) in [("Ready", "False"), ("Reconciling", "False"), ("Stalled", "True")] {
            assert_eq!(condition(&topic, type_).unwrap().0, status, "{type_}: {topic:#?}");
        }
        condition(&topic, "Stalled").unwrap().2
    }

    /// Waits until `holds`; gives the Topic.
    pub async fn until(&self, name: &str, what: &str, holds: impl Fn(&Topic) -> bool) -> Topic {
        let began = Instant::now();
        loop {
            let topic = self.topics.get(name).await.unwrap();
            if holds(&topic) {
                return topic;
            }
            assert!(began.elapsed() < PATIENCE, "waited for {name} to be {what}, in vain: {:#?}", topic.status);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks for a Topic's deletion.
    pub async fn delete(&self, name: &str) {
        self.topics.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until a Topic is gone.
    pub async fn gone(&self, name: &str, uid: &str) {
        let gone = await_condition(self.topics.clone(), name, conditions::is_deleted(uid));
        tokio::time::timeout(PATIENCE, gone).await.unwrap_or_else(|_| panic!("{name} is still there")).unwrap();
    }

    /// Deletes a Topic and waits until it is gone.
    pub async fn deleted(&self, name: &str) {
        let uid = self.topics.get(name).await.unwrap().uid().unwrap();
        self.delete(name).await;
        self.gone(name, &uid).await;
    }

    /// The Kafka topic, if it is there.
    pub async fn kafka(&self, topic: &str) -> Option<TopicDescription> {
        match self.admin.describe_topics(vec![topic.to_owned()]).await.unwrap().remove(0) {
            Ok(topic) => Some(topic),
            Err(error) => {
                assert_eq!(error.trouble, Trouble::NotFound, "{error}");
                None
            }
        }
    }

    /// Makes a Kafka topic by hand, and waits until it is known.
    pub async fn make(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) {
        let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let new = NewTopic { name: topic.to_owned(), partitions, replicas: None, config };
        self.admin.create_topics(vec![new]).await.unwrap().remove(0).unwrap();
        eventually("the new topic", async || self.kafka(topic).await.is_some()).await;
    }

    /// Deletes a Kafka topic by hand, and waits until it is gone.
    pub async fn unmake(&self, topic: &str) {
        self.admin.delete_topics(vec![topic.to_owned()]).await.unwrap().remove(0).unwrap();
        eventually("the topic to be gone", async || self.kafka(topic).await.is_none()).await;
    }

    /// Sets an entry of a Kafka topic's configuration by hand.
    pub async fn set(&self, topic: &str, name: &str, value: &str) {
        let change = ConfigChange::Set { name: name.to_owned(), value: value.to_owned() };
        self.admin.alter_configs(vec![(topic.to_owned(), vec![change])]).await.unwrap().remove(0).unwrap();
    }

    /// An entry of a Kafka topic's configuration.
    pub async fn entry(&self, topic: &str, name: &str) -> String {
        let config = self.admin.describe_configs(vec![topic.to_owned()]).await.unwrap().remove(0).unwrap();
        config[name].value.clone().unwrap()
    }

    /// Waits until an entry of a Kafka topic's configuration has a value.
    pub async fn entry_becomes(&self, topic: &str, name: &str, value: &str) {
        eventually(&format!("{name} to be {value}"), async || self.entry(topic, name).await == value).await;
    }

    /// The reasons of the events about a Topic.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
        events.list(&about).await.unwrap().into_iter().filter_map(|event| event.reason).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        std::fs::remove_file(&self.key).ok();
    }
}

/// Waits until `holds`.
pub async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}, in vain");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Status, reason and message of a Topic's condition.
pub fn condition(topic: &Topic, type_: &str) -> Option<(String, String, String)> {
    let conditions = &topic.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((found.status.clone(), found.reason.clone(), found.message.clone()))
}

/// Applies the definitions, and waits until the API server serves them.
async fn install(client: &Client) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in definitions() {
        let object: CustomResourceDefinition = decoded(&definition.json);
        let name = object.name_any();
        let params = PatchParams::apply("topics-test").force();
        api.patch(&name, &params, &Patch::Apply(&object)).await.unwrap();
        let served = await_condition(api.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(PATIENCE, served).await.unwrap().unwrap();
    }
}

fn decoded<T: DeserializeOwned>(value: &impl Serialize) -> T {
    serde_json::from_value(serde_json::to_value(value).unwrap()).unwrap()
}
