//! Pure: what is particular to a Topic.

use freshet_crds::{ManagementPolicy, Partitioner, TopicSpec, defaults, rules};
use freshet_plan::types::DataType;
use freshet_plan::{Column, EventTime, Format};

use super::diagnostics::Diagnostic;
use super::node::Node;
use super::object::Object;
use super::pipeline::{Contract, TopicTable};
use super::suggest::nearest;

/// What is wrong with a Topic beyond its shape, in words that name the column; and the expressions of the
/// rules whose breach that explains.
pub(super) fn check(object: &Object) -> (Vec<Diagnostic>, Vec<&'static str>) {
    let mut problems = Vec::new();
    let mut explained = Vec::new();
    let Some(schema) = object.node.get("spec").and_then(|spec| spec.get("schema")) else {
        return (problems, explained);
    };
    let columns = schema.get("columns").map(Node::items).unwrap_or_default();
    let names: Vec<&str> = columns.iter().filter_map(|column| column.text(&["name"])).collect();
    // A column whose name can't be read may be the one that is looked for.
    let all_named = names.len() == columns.len() && !columns.is_empty();

    for (at, column) in columns.iter().enumerate() {
        let Some(text) = column.text(&["type"]).filter(|text| !text.is_empty()) else { continue };
        if let Err(error) = text.parse::<DataType>() {
            let field = format!("spec.schema.columns[{at}].type");
            let first_word: String = text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let mut problem = object.error(&field, error.to_string());
            if let Some(meant) = nearest(&first_word, TYPE_NAMES.iter().copied()).filter(|meant| *meant != first_word) {
                problem = problem.help(format!("did you mean `{meant}`?"));
            }
            problem.refined = true;
            problems.push(problem);
        }
    }
    let key = schema.get("key").map(Node::items).unwrap_or_default();
    for (at, name) in key.iter().enumerate() {
        let Some(name) = name.as_str() else { continue };
        let field = format!("spec.schema.key[{at}]");
        if all_named && !names.contains(&name) {
            problems.push(no_column(object, &field, name, &names));
            explained.push(rules::KEY_IS_COLUMNS.rule);
        }
        if key[..at].iter().any(|other| other.as_str() == Some(name)) {
            problems.push(object.error(&field, format!("key names the column `{name}` twice")).help("name it once"));
            explained.push(rules::KEY_UNIQUE.rule);
        }
    }
    if let Some(name) = schema.text(&["eventTime", "column"]).filter(|name| !name.is_empty()) {
        let field = "spec.schema.eventTime.column";
        match columns.iter().find(|column| column.text(&["name"]) == Some(name)) {
            None if all_named => {
                problems.push(no_column(object, field, name, &names));
                explained.push(rules::EVENT_TIME_IS_TIMESTAMP.rule);
            }
            None => {}
            Some(column) => {
                let data_type = column.text(&["type"]).and_then(|text| text.parse::<DataType>().ok());
                if let Some(other) =
                    data_type.filter(|t| !matches!(t, DataType::Timestamp(_) | DataType::TimestampLtz(_)))
                {
                    let message = format!("event time is a TIMESTAMP, and the column `{name}` is {other}");
                    problems.push(object.error(field, message).help(format!(
                        "give `{name}` the type TIMESTAMP(3): in JSON that is ISO 8601, or milliseconds since 1970"
                    )));
                }
                // Whatever type can't be read was reported where it stands.
                explained.push(rules::EVENT_TIME_IS_TIMESTAMP.rule);
            }
        }
    }
    (problems, explained)
}

/// First words of types, for suggestions.
const TYPE_NAMES: &[&str] = &[
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "REAL",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "STRING",
    "TEXT",
    "VARCHAR",
    "BYTES",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "ARRAY",
    "STRUCT",
    "ROW",
];

fn no_column(object: &Object, field: &str, name: &str, names: &[&str]) -> Diagnostic {
    let problem = object.error(field, format!("there is no column `{name}`"));
    match nearest(name, names.iter().copied()) {
        Some(meant) => problem.help(format!("did you mean `{meant}`?")),
        None => problem.help(format!("the columns are {}", names.join(", "))),
    }
}

/// A Topic without mistakes as a table.
pub(super) fn resolve(object: &Object) -> Result<TopicTable, Box<Diagnostic>> {
    let spec = object.node.get("spec").map(Node::to_json).unwrap_or_default();
    let spec: TopicSpec = serde_json::from_value(spec)
        .map_err(|error| Box::new(object.error("spec", format!("spec can't be read: {error}"))))?;
    let contract = spec.schema.map(|schema| -> Result<Contract, Box<Diagnostic>> {
        let columns = schema.columns.into_iter().enumerate().map(|(at, column)| {
            let data_type = column.data_type.parse().map_err(|error: freshet_plan::types::TypeError| {
                Box::new(object.error(&format!("spec.schema.columns[{at}].type"), error.to_string()))
            })?;
            Ok(Column { name: column.name, data_type, required: column.required.unwrap_or_default() })
        });
        let millis = |duration: freshet_crds::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Ok(Contract {
            format: match schema.format {
                freshet_crds::FormatName::Json => Format::Json,
            },
            columns: columns.collect::<Result<_, Box<Diagnostic>>>()?,
            key: schema.key.unwrap_or_default(),
            key_trusted: schema.partitioner == Some(Partitioner::Murmur2),
            event_time: schema.event_time.map(|time| EventTime {
                column: time.column,
                max_out_of_orderness_ms: time
                    .max_out_of_orderness
                    .map_or(i64::try_from(defaults::MAX_OUT_OF_ORDERNESS.as_millis()).unwrap_or(0), millis),
                idle_timeout_ms: time.idle_timeout.map(millis),
            }),
        })
    });
    Ok(TopicTable {
        resource: object.name.clone(),
        table: object.name.replace('-', "_"),
        topic: spec.topic_name.unwrap_or_else(|| object.name.clone()),
        partitions: positive(spec.partitions, defaults::PARTITIONS),
        replicas: spec.replicas.and_then(|replicas| u16::try_from(replicas).ok()),
        config: spec.config.into_iter().collect(),
        managed: spec.management_policy.unwrap_or_default() == ManagementPolicy::Managed,
        contract: contract.transpose()?,
    })
}

/// A number that the schema keeps positive.
pub(super) fn positive(number: Option<i32>, default: u32) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
}
