//! Pure: one job and its tables from the resources that were found, and what is wrong between them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use freshet_engine::{OnBadRecord, OnLate};
use freshet_log::StartPosition;
use freshet_plan::{Column, EventTime, Format};
use freshet_state::lineage::RestoreFrom;

use super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::node::Place;
use super::object::{self, Kind, Object};
use super::sql_text::SqlText;
use super::{Examined, Tables, job, known, rules, schema, topic};

/// A validated pipeline: every default filled in, every reference looked up.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The job.
    pub job: Job,
    /// The Topics of its namespace, in the order of the files.
    pub topics: Vec<TopicTable>,
    /// Warnings and notes, with the text of the files: [`Diagnostics::push_sql`] adds what the planner says.
    pub remarks: Diagnostics,
}

/// A StreamJob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its namespace; `default` where the manifest names none.
    pub namespace: String,
    /// Its name: at most 40 characters of `[a-z0-9-]`.
    pub name: String,
    /// What it computes.
    pub sql: SqlText,
    /// Where a new lineage begins to read.
    pub start_from: StartPosition,
    /// What becomes of state that is there already, where that is asked.
    pub restore_from: RestoreFrom,
    /// Asks for it once more, when it changes.
    pub restore_nonce: String,
    /// Operators whose state a change of the SQL may drop, by their ids in the lineage.
    pub accept_dropped: BTreeSet<String>,
    /// How many slots share it; at least 1.
    pub replicas: u32,
    /// Partitions of internal topics; at least 1.
    pub max_parallelism: u32,
    /// How often an epoch is committed.
    pub epoch_interval: Duration,
    /// How long the state of a key is kept after its last record; `None` for ever.
    pub state_ttl: Option<Duration>,
    /// `host:port,…`; `None`: where the job is run says it.
    pub bootstrap_servers: Option<String>,
    /// librdkafka's settings for those: protocol and mechanism, without files and credentials.
    pub kafka_settings: Vec<(String, String)>,
    /// Where state is kept; `None`: where the job is run says it.
    pub checkpoint: Option<Checkpoint>,
    /// What is done with a bad record; dead letters by the name that the topic has in Kafka.
    pub on_bad_record: OnBadRecord,
    /// What is done with a late record; dead letters by the name that the topic has in Kafka.
    pub on_late: OnLate,
}

/// Where state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// `s3://bucket/prefix`, `file:///folder` or `memory:///`; the job's objects lie under
    /// `<url>/<namespace>/<name>/`.
    pub url: String,
    /// Address of an S3-compatible store.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
}

/// A Topic.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicTable {
    /// The resource's name, which works in SQL too when it is quoted.
    pub resource: String,
    /// The table's name in SQL: the resource's with `-` written as `_`.
    pub table: String,
    /// The topic's name in Kafka.
    pub topic: String,
    /// How many partitions it is to have; at least 1.
    pub partitions: u32,
    /// Copies of each partition; `None`: the broker's default.
    pub replicas: Option<u16>,
    /// Configuration of the Kafka topic, by name.
    pub config: Vec<(String, String)>,
    /// Whether the Kafka topic may be made: one that is only adopted or observed is there, or the job can't run.
    pub managed: bool,
    /// What its records are; `None`: it takes dead letters, but is no table.
    pub contract: Option<Contract>,
}

/// What the records of a topic are.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    /// How values are encoded.
    pub format: Format,
    /// The columns, in order; at least one.
    pub columns: Vec<Column>,
    /// Names of the record key's columns; empty: none is declared.
    pub key: Vec<String>,
    /// Whether the declared partitioner is Murmur2, so that the key may be trusted for grouping.
    pub key_trusted: bool,
    /// Where event time comes from; `None`: the record's timestamp, in order.
    pub event_time: Option<EventTime>,
}

/// Checks every resource and all of them together, and makes the pipeline if nothing is wrong.
pub(super) fn assemble(objects: &[Object], mut diagnostics: Diagnostics) -> Examined {
    check_each(objects, &mut diagnostics);
    let (jobs, topic_objects): (Vec<&Object>, Vec<&Object>) =
        objects.iter().partition(|object| object.kind == Kind::StreamJob);
    let topics = resolve_topics(&topic_objects, &mut diagnostics);
    let names: Vec<&str> = topic_objects.iter().map(|object| object.name.as_str()).collect();
    let mut found = check_duplicates(objects);
    found.extend(check_kafka_names(&topic_objects));
    found.extend(check_namespaces(&jobs, &topic_objects));
    found.extend(jobs.iter().flat_map(|job| job::check_references(job, &topics, &names)));
    found.extend(jobs.iter().skip(1).map(|job| {
        job.error("metadata.name", format!("{} is a second StreamJob: a pipeline has one", job.resource()))
            .help("put each job and its Topics into a folder of its own, or name their files one by one")
    }));
    found.into_iter().for_each(|problem| diagnostics.push(problem));

    let Some(job) = jobs.first() else {
        // Where a file could not be read, the job may well be in it.
        if !diagnostics.has_errors() {
            let files: Vec<&str> = objects.iter().map(|object| object.file.as_str()).collect();
            let place = files.first().copied().or_else(|| diagnostics.items().first().map(|item| item.file.as_str()));
            let place = place.or(diagnostics.first_file()).unwrap_or("(no files)").to_owned();
            diagnostics.push(
                Diagnostic::new(Severity::Error, &place, Place::default(), "there is no StreamJob among the manifests")
                    .help(format!("add one: `apiVersion: {}`, `kind: StreamJob`", freshet_crds::API_VERSION)),
            );
        }
        return Examined { pipeline: None, sql: None, topics, diagnostics };
    };
    let sql = diagnostics.text(&job.file).and_then(|source| job::sql(job, source));
    let of_a_job = |item: &Diagnostic| item.severity != Severity::Error || item.resource.starts_with("StreamJob/");
    let sql_can_be_planned = diagnostics.items().iter().all(of_a_job);
    if let (Some(sql), false) = (&sql, sql_can_be_planned) {
        // A mistake that can't be shown yet must not be taken for none.
        let message = "the SQL was not looked at, since the tables that it may name have mistakes";
        let place = sql.place(0..0);
        let mut note = Diagnostic::new(Severity::Note, sql.file(), place, message).help("mend them and look again");
        (note.resource, note.field) = (sql.resource().to_owned(), "spec.sql".to_owned());
        diagnostics.push(note);
    }
    let resolved = match (&sql, diagnostics.has_errors()) {
        (Some(sql), false) => match job::resolve(job, sql.clone(), &topics) {
            Ok(job) => Some(job),
            Err(problem) => {
                diagnostics.push(*problem);
                None
            }
        },
        _ => None,
    };
    let pipeline = resolved.map(|job| Pipeline { job, topics: topics.clone(), remarks: diagnostics.clone() });
    Examined { pipeline, sql: sql.filter(|_| sql_can_be_planned), topics, diagnostics }
}

/// Checks the Topics alone, and all of them together: StreamJobs among `objects` are passed over, right or wrong.
pub(super) fn assemble_topics(mut objects: Vec<Object>, mut diagnostics: Diagnostics) -> Tables {
    objects.retain(|object| object.kind == Kind::Topic);
    check_each(&objects, &mut diagnostics);
    let topic_objects: Vec<&Object> = objects.iter().collect();
    let topics = resolve_topics(&topic_objects, &mut diagnostics);
    let mut found = check_duplicates(&objects);
    found.extend(check_kafka_names(&topic_objects));
    found.extend(check_one_namespace(&topic_objects));
    found.into_iter().for_each(|problem| diagnostics.push(problem));
    if objects.is_empty() && !diagnostics.has_errors() {
        let place = diagnostics.items().first().map(|item| item.file.as_str()).or(diagnostics.first_file());
        let place = place.unwrap_or("(no files)").to_owned();
        diagnostics.push(
            Diagnostic::new(Severity::Error, &place, Place::default(), "there is no Topic among the manifests")
                .help(format!("add one: `apiVersion: {}`, `kind: Topic`", freshet_crds::API_VERSION)),
        );
    }
    Tables { topics, diagnostics }
}

/// Notes what is wrong with each resource by itself.
fn check_each(objects: &[Object], diagnostics: &mut Diagnostics) {
    for object in objects {
        for problem in check(object) {
            diagnostics.push(problem);
        }
    }
    diagnostics.settle();
}

/// The Topics in which nothing is wrong.
fn resolve_topics(objects: &[&Object], diagnostics: &mut Diagnostics) -> Vec<TopicTable> {
    let mut topics = Vec::new();
    for object in objects {
        // By place, since a name may be there twice.
        let resource = object.resource();
        let wrong = |item: &Diagnostic| {
            item.severity == Severity::Error && item.resource == resource && item.file == object.file
        };
        if !diagnostics.items().iter().any(wrong) {
            match topic::resolve(object) {
                Ok(table) => topics.push(table),
                Err(problem) => diagnostics.push(*problem),
            }
        }
    }
    topics
}

/// What is wrong with one resource.
fn check(object: &Object) -> Vec<Diagnostic> {
    let Some(known) = known::definition(object.kind) else {
        return vec![object.error("kind", "this kind has no definition")];
    };
    let mut problems = object::check_metadata(object);
    let mut shape = schema::check(object, known.definition.schema());
    shape.unreadable.extend(problems.iter().map(|problem| problem.field.clone()));
    let (more, explained) = match object.kind {
        Kind::Topic => topic::check(object),
        Kind::StreamJob => (job::check(object), Vec::new()),
    };
    problems.extend(rules::check(object, &known.rules, &shape, &explained));
    problems.extend(shape.problems);
    problems.extend(more);
    problems
}

/// Two resources of one kind and name are one resource to Kubernetes: the later would overwrite the first.
fn check_duplicates(objects: &[Object]) -> Vec<Diagnostic> {
    let mut first: HashMap<(&str, &str, &str), &Object> = HashMap::new();
    let mut problems = Vec::new();
    for object in objects.iter().filter(|object| !object.name.is_empty()) {
        let identity = (object.kind.name(), object.namespace.as_str(), object.name.as_str());
        if let Some(other) = first.get(&identity) {
            let message = format!("{} is there twice, first in {}", object.resource(), place(other));
            problems.push(object.error("metadata.name", message).help("rename one of the two, or remove it"));
        } else {
            first.insert(identity, object);
        }
    }
    problems
}

/// Two Topics must not be one topic in Kafka.
fn check_kafka_names(topics: &[&Object]) -> Vec<Diagnostic> {
    let mut first: HashMap<&str, &Object> = HashMap::new();
    let mut problems = Vec::new();
    for object in topics {
        let own = object.node.text(&["spec", "topicName"]);
        let Some(name) = own.or(Some(object.name.as_str())).filter(|name| !name.is_empty()) else { continue };
        match first.get(name) {
            Some(other) if other.name != object.name => {
                let message =
                    format!("the Kafka topic `{name}` belongs to {} already ({})", other.resource(), place(other));
                let field = if own.is_some() { "spec.topicName" } else { "metadata.name" };
                problems.push(object.error(field, message).help("give each Topic a topicName of its own"));
            }
            Some(_) => {}
            None => {
                first.insert(name, object);
            }
        }
    }
    problems
}

/// Resources see one another within a namespace only.
fn check_namespaces(jobs: &[&Object], topics: &[&Object]) -> Vec<Diagnostic> {
    let Some(job) = jobs.first() else { return Vec::new() };
    let elsewhere = topics.iter().filter(|topic| topic.namespace != job.namespace);
    elsewhere
        .map(|topic| {
            let message = format!(
                "{} is in the namespace `{}`, but {} is in `{}`, and sees only Topics of its own",
                topic.resource(),
                topic.namespace,
                job.resource(),
                job.namespace
            );
            topic.error("metadata.namespace", message).help("give both the same metadata.namespace")
        })
        .collect()
}

/// Two Topics of one name in two namespaces would be one table.
fn check_one_namespace(topics: &[&Object]) -> Vec<Diagnostic> {
    let Some(first) = topics.first() else { return Vec::new() };
    let elsewhere = topics.iter().filter(|topic| topic.namespace != first.namespace);
    elsewhere
        .map(|topic| {
            let message = format!(
                "{} is in the namespace `{}`, but {} is in `{}`",
                topic.resource(),
                topic.namespace,
                first.resource(),
                first.namespace
            );
            topic.error("metadata.namespace", message).help("name the files of one namespace")
        })
        .collect()
}

fn place(object: &Object) -> String {
    format!("{}:{}", object.file, object.node.place_of("metadata.name").line)
}
