//! Pure: what is particular to a StreamJob.

use std::time::Duration;

use freshet_crds::{OnBadRecord as BadSpec, OnLate as LateSpec, RestoreType, StartType, StreamJobSpec, defaults};
use freshet_engine::{OnBadRecord, OnLate};
use freshet_log::StartPosition;
use freshet_state::lineage::RestoreFrom;

use super::diagnostics::{Diagnostic, Severity};
use super::kafka::security;
use super::node::Node;
use super::object::Object;
use super::pipeline::{Checkpoint, Job, TopicTable};
use super::sql_text::SqlText;
use super::suggest::nearest;
use super::topic::positive;

const BOOTSTRAP: &str = "spec.kafka.bootstrapServers";
const DEAD_LETTER_TOPIC: &str = "spec.errors.deadLetterTopic";

/// What is wrong with a StreamJob beyond its shape and rules.
pub(super) fn check(object: &Object) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let servers = object.node.text(&["spec", "kafka", "bootstrapServers"]).unwrap_or_default();
    for port in servers.split(',').filter_map(|server| server.rsplit_once(':')).map(|(_, port)| port) {
        if port.parse::<u32>().is_ok_and(|port| port == 0 || port > 65_535) {
            problems.push(object.error(BOOTSTRAP, format!("{port} is no port")).help("ports lie between 1 and 65535"));
        }
    }
    problems
}

/// What is wrong with the references of a StreamJob to Topics. `topics` are those that could be resolved;
/// `names` those of all Topic resources.
pub(super) fn check_references(object: &Object, topics: &[TopicTable], names: &[&str]) -> Vec<Diagnostic> {
    let errors = |field: &str| object.node.text(&["spec", "errors", field]);
    let Some(wanted) = errors("deadLetterTopic").filter(|name| !name.is_empty()) else { return Vec::new() };
    let mut problems = Vec::new();
    if !names.contains(&wanted) {
        let problem = object.error(DEAD_LETTER_TOPIC, format!("there is no Topic resource `{wanted}`"));
        let by_another_name = topics.iter().find(|topic| topic.topic == wanted || topic.table == wanted);
        problems.push(match (by_another_name, nearest(wanted, names.iter().copied())) {
            (Some(topic), _) => problem.help(format!("write the name of the resource: `{}`", topic.resource)),
            (None, Some(meant)) => problem.help(format!("did you mean `{meant}`?")),
            (None, None) => problem.help("add a Topic of this name; it needs no schema"),
        });
    }
    if errors("onBadRecord") != Some("DeadLetter") && errors("onLate") != Some("DeadLetter") {
        let message = "deadLetterTopic is set, but no record is sent there";
        let help = "set onBadRecord or onLate to DeadLetter, or leave deadLetterTopic out";
        problems.push(object.remark(Severity::Warning, DEAD_LETTER_TOPIC, message).help(help));
    }
    problems
}

/// The SQL, if it can be read.
pub(super) fn sql(object: &Object, source: &str) -> Option<SqlText> {
    let node = object.node.get("spec")?.get("sql")?;
    let text = node.as_str().filter(|text| !text.is_empty())?;
    Some(SqlText::new(&object.file, object.resource(), text, source, node.place))
}

/// A StreamJob without mistakes.
pub(super) fn resolve(object: &Object, sql: SqlText, topics: &[TopicTable]) -> Result<Job, Box<Diagnostic>> {
    let refuse = |field: &str, message: String| Box::new(object.error(field, message));
    let spec = object.node.get("spec").map(Node::to_json).unwrap_or_default();
    let spec: StreamJobSpec =
        serde_json::from_value(spec).map_err(|error| refuse("spec", format!("spec can't be read: {error}")))?;
    let start_from = match spec.start_from.map(|start| (start.start_type, start.timestamp)) {
        None | Some((StartType::Earliest, _)) => StartPosition::Earliest,
        Some((StartType::Latest, _)) => StartPosition::Latest,
        Some((StartType::Timestamp, text)) => {
            let text = text.unwrap_or_default();
            let moment = chrono::DateTime::parse_from_rfc3339(&text)
                .map_err(|error| refuse("spec.startFrom.timestamp", format!("`{text}` is no moment: {error}")))?;
            StartPosition::Timestamp(moment.timestamp_millis())
        }
    };
    let errors = spec.errors.as_ref();
    let dead_letters = || {
        let wanted = errors.and_then(|errors| errors.dead_letter_topic.as_deref()).unwrap_or_default();
        let found = topics.iter().find(|topic| topic.resource == wanted).map(|topic| topic.topic.clone());
        found.ok_or_else(|| refuse(DEAD_LETTER_TOPIC, format!("there is no Topic resource `{wanted}`")))
    };
    Ok(Job {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        sql,
        start_from,
        restore_from: match spec.restore_from.map(|from| (from.restore_type, from.lineage_id)) {
            None | Some((RestoreType::Latest, _)) => RestoreFrom::Latest,
            Some((RestoreType::None, _)) => RestoreFrom::Nothing,
            Some((RestoreType::Lineage, id)) => RestoreFrom::Lineage(id.unwrap_or_default()),
        },
        restore_nonce: spec.restore_nonce.unwrap_or_default(),
        accept_dropped: spec
            .upgrade
            .map(|upgrade| upgrade.accept_dropped_state.into_iter().collect())
            .unwrap_or_default(),
        replicas: positive(spec.replicas, defaults::REPLICAS),
        max_parallelism: positive(spec.max_parallelism, defaults::MAX_PARALLELISM),
        epoch_interval: spec.epoch_interval.map_or(defaults::EPOCH_INTERVAL, Duration::from),
        state_ttl: spec.state_ttl.map(Duration::from),
        kafka_settings: spec.kafka.as_ref().map(security).unwrap_or_default(),
        bootstrap_servers: spec.kafka.map(|kafka| kafka.bootstrap_servers),
        on_bad_record: match errors.and_then(|errors| errors.on_bad_record) {
            None | Some(BadSpec::Fail) => OnBadRecord::Fail,
            Some(BadSpec::Skip) => OnBadRecord::Skip,
            Some(BadSpec::DeadLetter) => OnBadRecord::DeadLetter(dead_letters()?),
        },
        on_late: match errors.and_then(|errors| errors.on_late) {
            None | Some(LateSpec::Drop) => OnLate::Drop,
            Some(LateSpec::DeadLetter) => OnLate::DeadLetter(dead_letters()?),
        },
        checkpoint: spec.checkpoint.map(|checkpoint| {
            let (endpoint, region) = checkpoint.s3.map_or((None, None), |s3| (s3.endpoint, s3.region));
            Checkpoint { url: checkpoint.url, endpoint, region }
        }),
    })
}
