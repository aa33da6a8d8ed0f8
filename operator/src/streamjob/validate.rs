//! Pure: what a StreamJob asks for, checked and resolved once. Later steps never look at the raw spec again.
//!
//! The manifests that workers and preflights read are made here: the Topics that the SQL names and the job itself,
//! with the operator's defaults filled in and without what only a cluster knows (replicas, pods, Secrets). They are
//! checked by the room that reads them in the pods ([`freshet::manifest`]), and the SQL is planned, so that a
//! mistake is shown before anything is touched.

use std::collections::BTreeSet;
use std::sync::Arc;

use freshet::manifest::{self, Severity};
use freshet_crds::reasons::{Reason, SPEC_INVALID, TOPIC_NOT_FOUND};
use freshet_crds::{DesiredState, KafkaSpec, SecretRef, StreamJob, StreamJobSpec, TemplateSpec, Topic, defaults};
use freshet_plan::{Input, Output, Plan};
use kube::ResourceExt;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::names::hex;
use crate::clock::millis;
use crate::config::Config;

/// A StreamJob without mistakes.
#[derive(Debug, Clone, PartialEq)]
pub struct Valid {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// How many workers it is to have; at least 1.
    pub replicas: u32,
    /// Whether it is to have none for now.
    pub suspended: bool,
    /// A short hash of the manifests and of the image that runs them.
    pub revision: String,
    /// What the folder of a worker holds, in one file: the job, and behind it the Topics that it names, as YAML.
    pub manifests: String,
    /// How many stages its plan has.
    pub stages: usize,
    /// The Topics that it reads and writes, by their resources' names.
    pub topics: Vec<String>,
    /// What is particular about its pods.
    pub pods: Pods,
    /// The most that its lag may be, ms.
    pub max_lag_ms: Option<u64>,
    /// What tells a request for `restoreFrom` from those before it.
    pub asks: Asks,
}

/// What tells a request for `restoreFrom` from those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asks {
    /// `restoreNonce`.
    pub nonce: String,
    /// When the resource was made, ms since the Unix epoch.
    pub made_ms: i64,
    /// The resource's generation.
    pub generation: i64,
}

impl Asks {
    fn of(job: &StreamJob) -> Self {
        Self {
            nonce: job.spec.restore_nonce.clone().unwrap_or_default(),
            made_ms: job.metadata.creation_timestamp.as_ref().map_or(0, millis),
            generation: job.metadata.generation.unwrap_or_default(),
        }
    }

    /// Whether a preflight asks: `restoreFrom` is for a job that has no lineage yet, and once for each nonce. Whether this
    /// one was answered before is known to the store.
    #[must_use]
    pub fn anything(&self, has_lineage: bool) -> bool {
        !has_lineage || !self.nonce.is_empty()
    }
}

/// What is particular about a job's pods.
#[derive(Debug, Clone, PartialEq)]
pub struct Pods {
    /// The cluster that the job's state belongs to.
    pub cluster_id: String,
    /// The image of the runtime.
    pub image: String,
    /// When kubelet pulls it.
    pub image_pull_policy: String,
    /// Secrets that it is pulled with.
    pub image_pull_secrets: Vec<String>,
    /// How they reach Kafka.
    pub kafka: KafkaSpec,
    /// The user's own ServiceAccount.
    pub service_account: Option<String>,
    /// The Secret with the credentials of an S3 store.
    pub s3_secret: Option<String>,
    /// A hash of the places that the job works on: workers that run must be restarted to see others.
    pub places: String,
    /// The user's wish for a restart.
    pub restart_nonce: String,
    /// The user's overrides.
    pub template: Option<TemplateSpec>,
}

impl Pods {
    /// A short hash of what may keep a pod from running and is not in the revision.
    #[must_use]
    pub fn hash(&self) -> String {
        let particular = json!([self.service_account, self.template, self.image_pull_policy, self.image_pull_secrets]);
        hex(&Sha256::digest(particular.to_string()))[..12].to_owned()
    }
}

/// The fields of a spec that its pods read.
const READ_IN_PODS: &[&str] = &[
    "sql",
    "startFrom",
    "restoreFrom",
    "restoreNonce",
    "maxParallelism",
    "epochInterval",
    "stateTtl",
    "kafka",
    "checkpoint",
    "errors",
    "upgrade",
];

/// Why a spec can't work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A stalled reason.
    pub reason: &'static Reason,
    /// Everything that is wrong, with fields and remedies.
    pub message: String,
}

/// Checks a StreamJob against the Topics of its namespace.
///
/// # Errors
/// [`Refusal`]: everything that is wrong with it.
pub fn validate(job: &StreamJob, topics: &[Arc<Topic>], config: &Config, cluster_id: &str) -> Result<Valid, Refusal> {
    let (name, namespace) = (job.name_any(), job.namespace().unwrap_or_default());
    let spec = &job.spec;
    let (resolved, pods) = resolve(spec, config, cluster_id)?;
    let own = document("StreamJob", &name, &namespace, &Value::Object(resolved))?;
    let mut meant: Vec<&Topic> = topics.iter().map(|topic| &**topic).filter(|topic| names(spec, topic)).collect();
    // A store has no order, and the revision must not hang on one.
    meant.sort_by_key(|topic| topic.name_any());
    let (manifests, plan) = match planned(spec, &own, &namespace, &meant)? {
        Ok(found) => found,
        Err(diagnostics) => {
            // A word of the SQL may be the name of a Topic that is wrong, and that the job does not mean.
            let is_wrong = |topic: &&&Topic| {
                let resource = format!("Topic/{}", topic.name_any());
                diagnostics.items().iter().any(|item| item.severity == Severity::Error && item.resource == resource)
            };
            let good: Vec<&Topic> = meant.iter().filter(|topic| !is_wrong(topic)).copied().collect();
            let again = if good.len() < meant.len() { planned(spec, &own, &namespace, &good)?.ok() } else { None };
            again.ok_or_else(|| refusal(&diagnostics))?
        }
    };
    let used = used(spec, &plan, &meant);
    let quantities = spec.template.as_ref().and_then(|template| template.resources.as_ref());
    if let Some(resources) = quantities {
        for (field, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
            if let Some((resource, amount)) = amounts.iter().find(|(_, amount)| !is_quantity(amount)) {
                return Err(invalid(format!(
                    "spec.template.resources.{field}.{resource}: `{amount}` is no quantity; write for instance \
                     \"500m\", \"2\" or \"512Mi\""
                )));
            }
        }
    }
    let revision = Sha256::digest(json!([manifests, pods.image, pods.s3_secret]).to_string());
    Ok(Valid {
        uid: job.uid().unwrap_or_default(),
        replicas: spec.replicas.and_then(|count| u32::try_from(count).ok()).unwrap_or(defaults::REPLICAS).max(1),
        suspended: spec.state == Some(DesiredState::Suspended),
        revision: hex(&revision)[..6].to_owned(),
        manifests,
        stages: plan.stages.len(),
        topics: used,
        pods,
        max_lag_ms: spec.slo.as_ref().and_then(|slo| slo.max_lag).map(freshet_crds::Duration::as_millis),
        asks: Asks::of(job),
        name,
        namespace,
    })
}

/// The manifests with `topics`, and the plan; or what is wrong.
fn planned(
    spec: &StreamJobSpec,
    own: &str,
    namespace: &str,
    topics: &[&Topic],
) -> Result<Result<(String, Plan), manifest::Diagnostics>, Refusal> {
    let mut manifests = own.to_owned();
    for topic in topics {
        // Its administration (partitions' copies, configuration) is nothing that a job works by.
        let spec = json!({
            "topicName": topic.spec.topic_name,
            "partitions": topic.spec.partitions,
            "schema": topic.spec.schema,
        });
        manifests += "---\n";
        manifests += &document("Topic", &topic.name_any(), namespace, &without_nulls(spec))?;
    }
    let mut examined = manifest::examine_texts(&[("job.yaml", &manifests)]);
    let parallelism = spec.max_parallelism.and_then(|count| u32::try_from(count).ok());
    let parallelism = parallelism.unwrap_or(defaults::MAX_PARALLELISM);
    let options = manifest::plan_options(parallelism, spec.state_ttl.map(Into::into));
    let sql = examined.sql.as_ref();
    let plan = sql.and_then(|sql| manifest::plan(sql, &examined.topics, &options, &mut examined.diagnostics));
    Ok(match plan {
        Some(plan) if !examined.diagnostics.has_errors() => Ok((manifests, plan)),
        _ => Err(examined.diagnostics),
    })
}

/// Those of `topics` that the job reads, writes, or sends dead letters to, by their resources' names.
fn used(spec: &StreamJobSpec, plan: &Plan, topics: &[&Topic]) -> Vec<String> {
    let mut tables: BTreeSet<&str> = BTreeSet::new();
    for stage in &plan.stages {
        if let Input::Topic(source) = &stage.input {
            tables.insert(&source.table);
        }
        tables.extend(stage.chains.iter().filter_map(|chain| match &chain.output {
            Output::Topic(sink) => Some(sink.table.as_str()),
            Output::Repartition { .. } => None,
        }));
    }
    let dead_letters = spec.errors.as_ref().and_then(|errors| errors.dead_letter_topic.as_deref());
    let names = topics.iter().map(|topic| topic.name_any());
    names
        .filter(|name| tables.contains(name.replace('-', "_").as_str()) || dead_letters == Some(name.as_str()))
        .collect()
}

/// A StreamJob as far as the deletion of what it leaves needs it: neither its SQL nor its Topics need be good, or there.
///
/// # Errors
/// [`Refusal`]: where its records and state are can't be told.
pub fn remnant(job: &StreamJob, config: &Config, cluster_id: &str) -> Result<Valid, Refusal> {
    let (name, namespace) = (job.name_any(), job.namespace().unwrap_or_default());
    let (mut resolved, pods) = resolve(&job.spec, config, cluster_id)?;
    resolved.retain(|field, _| matches!(field.as_str(), "kafka" | "checkpoint"));
    // A manifest has some.
    resolved.insert("sql".to_owned(), json!("-- none"));
    Ok(Valid {
        manifests: document("StreamJob", &name, &namespace, &Value::Object(resolved))?,
        name,
        namespace,
        uid: job.uid().unwrap_or_default(),
        replicas: 1,
        suspended: false,
        revision: String::new(),
        stages: 0,
        topics: Vec::new(),
        pods,
        max_lag_ms: None,
        asks: Asks::of(job),
    })
}

/// The part of the spec that workers read, with defaults filled in; and what is particular about the job's pods.
fn resolve(spec: &StreamJobSpec, config: &Config, cluster_id: &str) -> Result<(Map<String, Value>, Pods), Refusal> {
    let all = serde_json::to_value(spec).map_err(|error| invalid(format!("spec can't be read: {error}")))?;
    let mut resolved = Map::new();
    for field in READ_IN_PODS {
        if let Some(value) = all.get(*field) {
            resolved.insert((*field).to_owned(), value.clone());
        }
    }
    let kafka = spec.kafka.clone().or_else(|| config.default_kafka()).ok_or_else(|| {
        invalid("spec.kafka is missing, and the operator has no default: set spec.kafka.bootstrapServers".to_owned())
    })?;
    let whole = serde_json::to_value(&kafka).map_err(|error| invalid(format!("spec.kafka can't be read: {error}")))?;
    resolved.insert("kafka".to_owned(), whole);
    let secret: Option<SecretRef>;
    if let Some(checkpoint) = &spec.checkpoint {
        if !checkpoint.url.starts_with("s3://") {
            return Err(invalid(format!(
                "spec.checkpoint.url: {} is a place that only one machine knows; on a cluster state lies on s3://",
                checkpoint.url
            )));
        }
        secret = checkpoint.s3.as_ref().and_then(|s3| s3.secret_ref.clone());
        if let Some(s3) = resolved.get_mut("checkpoint").and_then(|checkpoint| checkpoint.get_mut("s3")) {
            s3.as_object_mut().map(|s3| s3.remove("secretRef"));
        }
    } else {
        let url = config.checkpoint_url.as_ref().ok_or_else(|| {
            invalid("spec.checkpoint is missing, and the operator has no default: set spec.checkpoint.url".to_owned())
        })?;
        let mut checkpoint = json!({ "url": url });
        if config.checkpoint_s3_endpoint.is_some() || config.checkpoint_s3_region.is_some() {
            let s3 = json!({ "endpoint": config.checkpoint_s3_endpoint, "region": config.checkpoint_s3_region });
            checkpoint["s3"] = without_nulls(s3);
        }
        resolved.insert("checkpoint".to_owned(), checkpoint);
        secret = config.checkpoint_s3_secret.clone().map(|name| SecretRef { name });
    }
    let s3_secret = secret.map(|secret| secret.name);
    let places = json!([resolved.get("kafka"), resolved.get("checkpoint"), s3_secret]).to_string();
    let pods = Pods {
        cluster_id: cluster_id.to_owned(),
        image: config.runtime_image.clone(),
        image_pull_policy: config.image_pull_policy.clone(),
        image_pull_secrets: config.image_pull_secret.clone(),
        kafka,
        service_account: spec.service_account_name.clone(),
        s3_secret,
        places: hex(&Sha256::digest(places))[..12].to_owned(),
        restart_nonce: spec.restart_nonce.clone().unwrap_or_default(),
        template: spec.template.clone(),
    };
    Ok((resolved, pods))
}

/// Whether the job may mean this Topic: its SQL holds one of the table's names, or its dead letters go there. More
/// than are meant do no harm; a Topic with a mistake that the job does not name must not stop it.
#[must_use]
pub fn names(spec: &StreamJobSpec, topic: &Topic) -> bool {
    let resource = topic.name_any();
    let table = resource.replace('-', "_");
    let sql = spec.sql.to_lowercase();
    let holds = |name: &str| {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        sql.match_indices(name).any(|(at, _)| !sql[..at].ends_with(word) && !sql[at + name.len()..].starts_with(word))
    };
    let dead_letters = spec.errors.as_ref().and_then(|errors| errors.dead_letter_topic.as_ref());
    holds(&table) || holds(&resource) || dead_letters == Some(&resource)
}

/// Everything that is wrong, in one text.
fn refusal(diagnostics: &manifest::Diagnostics) -> Refusal {
    let errors: Vec<_> = diagnostics.items().iter().filter(|item| item.severity == Severity::Error).collect();
    let line = |item: &&manifest::Diagnostic| {
        let place = match (item.resource.starts_with("StreamJob/"), item.field.as_str()) {
            (true, "spec.sql") => format!("spec.sql, {}: ", sql_place(diagnostics, item)),
            (true, field) => format!("{field}: "),
            (false, field) => format!("{} {field}: ", item.resource),
        };
        let help = item.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{place}{}{help}", item.message)
    };
    const SHOWN: usize = 5;
    let mut message = errors.iter().take(SHOWN).map(line).collect::<Vec<_>>().join("; ");
    if errors.len() > SHOWN {
        message += &format!("; and {} more: `freshet validate` shows all of them", errors.len() - SHOWN);
    }
    let missing = |item: &&manifest::Diagnostic| {
        item.message.starts_with("there is no table `") || item.message.starts_with("there is no Topic resource `")
    };
    let reason = if !errors.is_empty() && errors.iter().all(missing) { &TOPIC_NOT_FOUND } else { &SPEC_INVALID };
    Refusal { reason, message }
}

/// The line of the SQL that a problem is in: the manifest is the operator's own writing, its lines mean nothing to
/// the user. The SQL begins in the line after `sql:`.
fn sql_place(diagnostics: &manifest::Diagnostics, item: &manifest::Diagnostic) -> String {
    let text = diagnostics.text(&item.file).unwrap_or_default();
    let first = text.lines().position(|line| line.trim_start().starts_with("sql:")).unwrap_or(0);
    let line = usize::try_from(item.place.line).unwrap_or(0).saturating_sub(first + 1).max(1);
    format!("line {line}")
}

/// A resource as a manifest.
fn document(kind: &str, name: &str, namespace: &str, spec: &Value) -> Result<String, Refusal> {
    let metadata = json!({ "name": name, "namespace": namespace });
    yaml(&json!({ "apiVersion": freshet_crds::API_VERSION, "kind": kind, "metadata": metadata, "spec": spec }))
}

fn invalid(message: String) -> Refusal {
    Refusal { reason: &SPEC_INVALID, message }
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, field| !field.is_null());
    }
    value
}

fn yaml(value: &Value) -> Result<String, Refusal> {
    serde_saphyr::to_string(value).map_err(|error| invalid(format!("the manifest can't be written: {error}")))
}

/// Kubernetes' grammar of quantities, as people write it: digits, a fraction, a suffix.
fn is_quantity(text: &str) -> bool {
    const SUFFIXES: &[&str] = &["", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    number.parse::<f64>().is_ok() && !number.starts_with('.') && SUFFIXES.contains(&suffix)
}
