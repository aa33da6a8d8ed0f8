//! Pure: which StreamJobs use a Topic, and whether their state is placed by its partitions.
//!
//! The planner says it. Where a job's SQL can't be planned (it is wrong, or another Topic is missing), a job that
//! names the Topic counts as one that uses it in every way: something that runs from an earlier spec may.

use std::sync::Arc;

use freshet::manifest;
use freshet_crds::{StreamJob, Topic};
use freshet_plan::{Input, Plan, Stage, Step};
use kube::ResourceExt;
use serde_json::{Value, json};

/// How a job uses a Topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// It reads it, writes it, or sends dead letters to it.
    Plain,
    /// It keeps state by the topic's own partitions.
    ByPartition,
}

/// The jobs of `jobs` that use `topic`, by name, in order. `topics` are those of the namespace.
#[must_use]
pub fn users(topic: &Topic, jobs: &[Arc<StreamJob>], topics: &[Arc<Topic>]) -> Vec<(String, Use)> {
    let mut users: Vec<_> = jobs
        .iter()
        .filter(|job| job.namespace() == topic.namespace())
        .filter_map(|job| Some((job.name_any(), how(topic, job, topics)?)))
        .collect();
    users.sort();
    users
}

fn how(topic: &Topic, job: &StreamJob, topics: &[Arc<Topic>]) -> Option<Use> {
    let name = topic.name_any();
    let takes_letters =
        job.spec.errors.as_ref().and_then(|errors| errors.dead_letter_topic.as_ref()).is_some_and(|to| *to == name);
    let plain = takes_letters.then_some(Use::Plain);
    if !names(&job.spec.sql, &name) {
        return plain;
    }
    let Some(plan) = plan(job, topics) else { return Some(Use::ByPartition) };
    let table = name.replace('-', "_");
    let reads = |stage: &&Stage| matches!(&stage.input, Input::Topic(source) if source.table == table);
    if plan.stages.iter().filter(reads).any(keeps_state) {
        return Some(Use::ByPartition);
    }
    // Whatever it is named for: a comment costs a person a look.
    Some(Use::Plain)
}

/// Whether the tasks of `stage`, one a partition of its input, keep state.
fn keeps_state(stage: &Stage) -> bool {
    stage.chains.iter().flat_map(|chain| &chain.steps).any(|step| match step {
        Step::Filter { .. } | Step::Project { .. } => false,
        Step::WindowCombine(_) | Step::GroupCombine(_) | Step::RankCombine(_) => false,
        Step::WindowAggregate(_) | Step::GroupAggregate(_) | Step::Rank(_) => true,
        Step::WindowMerge(_) | Step::GroupMerge(_) | Step::RankMerge(_) => true,
    })
}

/// The plan of `job`, if it can be planned over those of `topics` that its SQL names.
fn plan(job: &StreamJob, topics: &[Arc<Topic>]) -> Option<Plan> {
    let text = |kind: &str, name: String, spec: Value| {
        let object = json!({
            "apiVersion": freshet_crds::API_VERSION, "kind": kind, "metadata": { "name": name }, "spec": spec
        });
        (format!("{kind}/{name}"), object.to_string())
    };
    let mut spec = serde_json::to_value(&job.spec).ok()?;
    // Where dead letters go has no part in the plan, and its Topic may be missing.
    spec.as_object_mut()?.remove("errors");
    let mut texts = vec![text("StreamJob", job.name_any(), spec)];
    for topic in topics.iter().filter(|topic| topic.namespace() == job.namespace()) {
        if names(&job.spec.sql, &topic.name_any()) {
            texts.push(text("Topic", topic.name_any(), serde_json::to_value(&topic.spec).ok()?));
        }
    }
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let examined = manifest::examine_texts(&texts);
    let options = manifest::options_of(examined.pipeline.as_ref().map(|pipeline| &pipeline.job));
    let mut diagnostics = examined.diagnostics;
    manifest::plan(&examined.sql?, &examined.topics, &options, &mut diagnostics)
}

/// Whether `sql` holds the name of the Topic `resource`, as a table or in quotes, as a word of its own.
fn names(sql: &str, resource: &str) -> bool {
    let sql = sql.to_lowercase();
    let of_a_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    [resource.to_owned(), resource.replace('-', "_")].iter().any(|name| {
        sql.match_indices(name.as_str()).any(|(at, _)| {
            let (before, after) = (&sql[..at], &sql[at + name.len()..]);
            !before.ends_with(of_a_name) && !after.starts_with(of_a_name)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &str = r#"[{"name":"id","type":"STRING"},{"name":"ts","type":"TIMESTAMP(3)"}]"#;

    fn topic(name: &str, partitioner: bool) -> Arc<Topic> {
        let mut schema = json!({
            "format": "JSON", "key": ["id"], "columns": serde_json::from_str::<Value>(COLUMNS).expect("columns"),
            "eventTime": { "column": "ts" }
        });
        if partitioner {
            schema["partitioner"] = json!("Murmur2");
        }
        let topic = json!({
            "apiVersion": freshet_crds::API_VERSION, "kind": "Topic",
            "metadata": { "name": name, "namespace": "n" }, "spec": { "schema": schema }
        });
        Arc::new(serde_json::from_value(topic).expect("a Topic"))
    }

    fn plain(name: &str, columns: &Value) -> Arc<Topic> {
        let topic = json!({
            "apiVersion": freshet_crds::API_VERSION, "kind": "Topic",
            "metadata": { "name": name, "namespace": "n" }, "spec": { "schema": { "format": "JSON", "columns": columns } }
        });
        Arc::new(serde_json::from_value(topic).expect("a Topic"))
    }

    fn job(name: &str, sql: &str) -> Arc<StreamJob> {
        let job = json!({
            "apiVersion": freshet_crds::API_VERSION, "kind": "StreamJob",
            "metadata": { "name": name, "namespace": "n" },
            "spec": { "sql": sql, "errors": { "onBadRecord": "DeadLetter", "deadLetterTopic": "letters" } }
        });
        Arc::new(serde_json::from_value(job).expect("a StreamJob"))
    }

    #[test]
    fn the_planner_says_who_keeps_state_by_a_topics_own_partitions() {
        let counts = json!([{ "name": "id", "type": "STRING" }, { "name": "n", "type": "BIGINT" }]);
        let topics =
            [topic("trusted-in", true), topic("loose-in", false), plain("out", &counts), topic("copied", true)];
        let count = |from: &str| {
            format!(
                "INSERT INTO out SELECT id, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE {from}, DESCRIPTOR(ts), INTERVAL \
                 '1' MINUTE)) GROUP BY id, window_start, window_end"
            )
        };
        let jobs = [
            job("by-key", &count("trusted_in")),
            job("re-keyed", &count("loose_in")),
            job("copies", "INSERT INTO copied SELECT id, ts FROM trusted_in"),
            job("broken", "SELECT FROM WHERE loose_in"),
            job("stranger", "INSERT INTO copied SELECT id, ts FROM not_trusted_in"),
        ];
        let of = |topic: &Topic| users(topic, &jobs, &topics);
        let user = |name: &str, how| (name.to_owned(), how);
        assert_eq!(of(&topics[0]), [user("by-key", Use::ByPartition), user("copies", Use::Plain)]);
        assert_eq!(of(&topics[1]), [user("broken", Use::ByPartition), user("re-keyed", Use::Plain)]);
        assert_eq!(of(&topics[2]), [user("by-key", Use::Plain), user("re-keyed", Use::Plain)]);
        let letters = plain("letters", &counts);
        assert_eq!(of(&letters).len(), 5, "dead letters are a use");
    }

    #[test]
    fn a_name_is_a_word_of_its_own() {
        assert!(names("INSERT INTO a SELECT * FROM Orders_EU", "orders-eu"));
        assert!(names("SELECT * FROM \"orders-eu\"", "orders-eu"));
        assert!(!names("SELECT * FROM orders_eu_west", "orders-eu"));
        assert!(!names("SELECT * FROM my_orders", "orders"));
        assert!(names("FROM orders;", "orders"));
    }
}
