//! One fault's place: a job and Topics called after it, in the namespace that all faults share.

use std::cell::RefCell;

use freshet_e2e::LabError;
use freshet_e2e::faults::FaultyS3;
use freshet_e2e::scenario::cluster::STORE_SECRET;
use freshet_kafka::bulk::Loader;
use freshet_log::Outgoing;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::canary::WRONG_KEY;
use super::*;

/// A fault's place.
pub struct Stage<'a> {
    /// The namespace, the cluster.
    pub scene: &'a Scene,
    /// The fault's name.
    pub name: &'a str,
    /// The faulty proxy that the fault's job works through.
    proxy: RefCell<Option<FaultyS3>>,
}

/// Makes what most faults share: a Topic to read and one to write.
pub fn prepare(scene: &Scene) {
    let stage = Stage::new(scene, "shared");
    stage.apply(&[stage.topic("events", json!({})), stage.topic("copies", json!({}))]).unwrap();
    let key = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wrong-credentials"},
        "stringData": {"AWS_ACCESS_KEY_ID": scene.around.access_key, "AWS_SECRET_ACCESS_KEY": WRONG_KEY},
    });
    stage.apply(&[key]).unwrap();
}

impl<'a> Stage<'a> {
    /// The place of the fault `name`.
    pub const fn new(scene: &'a Scene, name: &'a str) -> Self {
        Self { scene, name, proxy: RefCell::new(None) }
    }

    /// Keeps a proxy until the fault is over.
    pub fn keep(&self, proxy: FaultyS3) {
        self.proxy.replace(Some(proxy));
    }

    /// Does something with the proxy that is kept.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn kept<T>(&self, work: impl FnOnce(&mut FaultyS3) -> Result<T, LabError>) -> Result<T, LabError> {
        work(self.proxy.borrow_mut().as_mut().expect("a proxy is kept"))
    }

    /// The name of a Kafka topic of this run.
    pub fn kafka_topic(&self, name: &str) -> String {
        self.scene.topic(name)
    }

    /// A Topic of one partition with the columns of all, with `more` in its spec.
    pub fn topic(&self, name: &str, more: Value) -> Value {
        let mut spec = json!({
            "topicName": self.kafka_topic(name),
            "partitions": 1,
            "schema": {"format": "JSON", "key": ["id"], "columns": [
                {"name": "id", "type": "STRING", "required": true},
                {"name": "a", "type": "BIGINT"},
                {"name": "b", "type": "BIGINT"},
            ]},
        });
        merge(&mut spec, more);
        json!({"apiVersion": "freshet.dev/v1alpha1", "kind": "Topic", "metadata": {"name": name}, "spec": spec})
    }

    /// A job that copies `events` to `copies`, with `more` in its spec.
    pub fn job(&self, more: Value) -> Value {
        let mut spec = json!({
            "sql": "INSERT INTO copies SELECT id, a, b FROM events",
            "epochInterval": "200ms",
            "startFrom": {"type": "Latest"},
            "template": {"resources": {"requests": {"cpu": "10m", "memory": "32Mi"}}},
        });
        merge(&mut spec, more);
        json!({"apiVersion": "freshet.dev/v1alpha1", "kind": "StreamJob", "metadata": {"name": self.name}, "spec": spec})
    }

    /// The store that jobs use, by another endpoint or with another Secret.
    pub fn checkpoint(&self, bucket: &str, endpoint: &str, secret: &str) -> Value {
        let region = &self.scene.around.region;
        json!({"checkpoint": {
            "url": format!("s3://{bucket}/{}", self.scene.namespace),
            "s3": {"endpoint": endpoint, "region": region, "secretRef": {"name": secret}},
        }})
    }

    /// As [`Stage::checkpoint`], where all is as it should be.
    pub fn good_checkpoint(&self) -> Value {
        self.checkpoint(&self.scene.around.bucket, &self.scene.around.store_from_pods, STORE_SECRET)
    }

    /// Applies resources.
    ///
    /// # Errors
    /// What the API server answered.
    pub fn apply(&self, resources: &[Value]) -> Result<(), LabError> {
        resources
            .iter()
            .try_for_each(|resource| self.scene.kubernetes.apply(&self.scene.namespace, &resource.to_string()))
    }

    /// Changes the job's spec.
    ///
    /// # Errors
    /// What the API server answered.
    pub fn change(&self, spec: &Value) -> Result<(), LabError> {
        self.scene.change_job(self.name, &json!({ "spec": spec })).map(drop)
    }

    /// Runs kubectl in the namespace.
    ///
    /// # Errors
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, LabError> {
        self.scene.kubectl()?.run(arguments)
    }

    /// The pod of the job's only worker.
    pub fn pod(&self) -> String {
        format!("{}-0", self.name)
    }

    /// Writes values to a Topic of this run.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub fn write(&self, topic: &str, values: &[&str]) -> Result<(), LabError> {
        let topic = self.kafka_topic(topic);
        let failed = || LabError::kafka(format!("writing to {topic}"));
        let mut loader = Loader::new(&self.scene.kafka()).map_err(failed())?;
        let mut batch = Outgoing::new(vec![topic.clone()]);
        let at_ms = chrono::Utc::now().timestamp_millis();
        for value in values {
            batch.push(0, 0, at_ms, Some(b"k"), Some(value.as_bytes()));
        }
        loader.send(&batch).map_err(failed())?;
        loader.finish().map_err(failed())
    }

    /// What the resource says; nothing while its status speaks of a former generation.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn conditions(&self, of: Of) -> Result<Option<Vec<Condition>>, LabError> {
        Ok(match of {
            Of::Job => self.scene.job(self.name)?.and_then(|job| {
                let status = job.status?;
                (Some(status.observed_generation) == job.metadata.generation).then_some(status.conditions)
            }),
            Of::Topic => self.scene.topic_resource(self.name)?.and_then(|topic| {
                let status = topic.status?;
                (Some(status.observed_generation) == topic.metadata.generation).then_some(status.conditions)
            }),
        })
    }

    /// Removes the resource, so that its worker no longer takes processor time from others.
    pub fn clear(&self, of: Of) {
        let kind = match of {
            Of::Job => "streamjob",
            Of::Topic => "topic",
        };
        if let Err(error) = self.kubectl(&["delete", kind, self.name, "--wait=false", "--ignore-not-found"]) {
            println!("{}: {error}", self.name);
        }
    }
}

/// Adds the fields of `more`, map into map.
pub fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}
