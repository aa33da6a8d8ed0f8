//! Wrong manifests, each with what must be found and where; and right ones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use freshet_engine::{OnBadRecord, OnLate};
use freshet_log::StartPosition;
use freshet_plan::types::DataType;
use freshet_plan::{Column, EventTime, Format};

use super::diagnostics::{Diagnostics, Severity};
use super::{Checkpoint, Examined, SqlText, Tables, object, pipeline, source};

const FILE: &str = "case.yaml";

fn examine(text: &str) -> Examined {
    let mut diagnostics = Diagnostics::default();
    let documents = source::parse(FILE, text, &mut diagnostics);
    diagnostics.add_text(FILE, text.to_owned());
    let objects = object::find(documents, &mut diagnostics);
    pipeline::assemble(&objects, diagnostics)
}

/// What a case expects: a line, and texts that the problem on it contains. Consecutive `#!` on a line
/// speak of one problem if one contains them all, of several otherwise.
fn expectations(case: &str) -> Vec<(u32, Vec<&str>)> {
    let mut wanted = Vec::new();
    for (number, line) in (1..).zip(case.lines()) {
        if let Some((at, text)) = line.strip_prefix("#@ ").and_then(|rest| rest.split_once(' ')) {
            wanted.push((at.parse().expect("a line number"), vec![text]));
        } else if let Some((_, texts)) = line.split_once(" #! ") {
            wanted.push((number, texts.split(" #! ").collect()));
        }
    }
    wanted
}

fn cases(file: &'static str) -> Vec<(&'static str, &'static str)> {
    let cases = file.split("=== ").skip(1).map(|case| case.split_once('\n').expect("a title and a text"));
    cases.collect()
}

#[test]
fn every_mistake_is_found_in_its_place_and_nothing_else() {
    let files = [
        include_str!("cases/topic.yaml"),
        include_str!("cases/streamjob.yaml"),
        include_str!("cases/between.yaml"),
        include_str!("cases/documents.yaml"),
    ];
    let mut count = 0;
    let mut failures = Vec::new();
    for (title, case) in files.into_iter().flat_map(cases) {
        count += 1;
        let found = examine(case);
        let mut rest: Vec<(u32, String)> = found
            .diagnostics
            .items()
            .iter()
            .filter(|item| item.severity != Severity::Note)
            .map(|item| {
                let help = item.help.as_deref().unwrap_or("");
                (item.place.line, format!("{}: {}: {} = {help}", item.resource, item.field, item.message))
            })
            .collect();
        let mut missing = Vec::new();
        for (line, texts) in expectations(case) {
            let all = |(at, text): &(u32, String)| *at == line && texts.iter().all(|wanted| text.contains(wanted));
            if let Some(at) = rest.iter().position(all) {
                rest.remove(at);
                continue;
            }
            for wanted in texts {
                match rest.iter().position(|(at, text)| *at == line && text.contains(wanted)) {
                    Some(at) => drop(rest.remove(at)),
                    None => missing.push(format!("{line}: {wanted}")),
                }
            }
        }
        if !missing.is_empty() || !rest.is_empty() {
            failures.push(format!("{title}\n  not found: {missing:#?}\n  not expected: {rest:#?}"));
        }
        let errors = found.diagnostics.has_errors();
        assert_eq!(found.pipeline.is_none(), errors || !case.contains("kind: StreamJob"), "{title}");
    }
    assert!(failures.is_empty(), "{} of {count} cases:\n{}", failures.len(), failures.join("\n"));
    assert!(count >= 70, "only {count} cases were read");
}

const GOOD: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: payments}
---
apiVersion: freshet.dev/v1alpha1
kind: Topic
metadata: {name: order-items, namespace: payments, labels: {team: orders}}
spec:
  topicName: shop.order-items
  partitions: 12
  replicas: 3
  config: {retention.ms: "604800000", cleanup.policy: delete}
  schema:
    format: JSON
    key: [id]
    partitioner: Murmur2
    columns:
      - {name: id, type: STRING, required: true}
      - {name: amount, type: "DECIMAL(12,2)"}
      - {name: ts, type: timestamp(3)}
    eventTime: {column: ts, maxOutOfOrderness: 5s, idleTimeout: 1m}
status: {observedGeneration: 3}
---
apiVersion: freshet.dev/v1alpha1
kind: Topic
metadata: {name: dlq, namespace: payments}
spec: {}
---
apiVersion: freshet.dev/v1alpha1
kind: StreamJob
metadata: {name: orders, namespace: payments}
spec:
  sql: |
    INSERT INTO totals
    SELECT nonsense
  startFrom: {type: Timestamp, timestamp: "2026-01-31T01:00:00.250+01:00"}
  replicas: 3
  maxParallelism: 64
  epochInterval: 1s
  stateTtl: 24h
  kafka:
    bootstrapServers: "kafka-0:9092,[::1]:9092"
    tls: {}
    sasl: {mechanism: SCRAM-SHA-512, secretRef: {name: fraud-kafka-user}}
  checkpoint: {url: "s3://pipelines/state", s3: {endpoint: "http://s3:7070", region: us-east-1}}
  errors: {onBadRecord: DeadLetter, deadLetterTopic: dlq, onLate: Drop}
"#;

#[test]
fn everything_is_resolved() {
    let pipeline = examine(GOOD).pipeline.expect("no mistake");
    let job = &pipeline.job;
    assert_eq!((job.namespace.as_str(), job.name.as_str()), ("payments", "orders"));
    assert_eq!(job.sql.text(), "INSERT INTO totals\nSELECT nonsense\n");
    assert_eq!(job.start_from, StartPosition::Timestamp(1_769_817_600_250));
    assert_eq!((job.replicas, job.max_parallelism, job.epoch_interval), (3, 64, Duration::from_secs(1)));
    assert_eq!(job.state_ttl, Some(Duration::from_secs(86_400)));
    assert_eq!(job.bootstrap_servers.as_deref(), Some("kafka-0:9092,[::1]:9092"));
    let settings = [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "SCRAM-SHA-512")];
    assert_eq!(job.kafka_settings, settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let (url, endpoint, region) = ("s3://pipelines/state", Some("http://s3:7070"), Some("us-east-1"));
    let checkpoint = Checkpoint { url: url.into(), endpoint: endpoint.map(Into::into), region: region.map(Into::into) };
    assert_eq!(job.checkpoint, Some(checkpoint));
    assert_eq!((&job.on_bad_record, &job.on_late), (&OnBadRecord::DeadLetter("dlq".into()), &OnLate::Drop));

    let [items, dlq] = &pipeline.topics[..] else { panic!("two topics, not {:?}", pipeline.topics) };
    assert_eq!((items.resource.as_str(), items.table.as_str()), ("order-items", "order_items"));
    assert_eq!((items.topic.as_str(), items.partitions, items.replicas), ("shop.order-items", 12, Some(3)));
    let config = [("cleanup.policy", "delete"), ("retention.ms", "604800000")];
    assert_eq!(items.config, config.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let contract = items.contract.as_ref().expect("a contract");
    assert_eq!(
        (contract.format, contract.key.as_slice(), contract.key_trusted),
        (Format::Json, &["id".to_owned()][..], true)
    );
    let columns = vec![
        Column::required("id", DataType::String),
        Column::new("amount", DataType::Decimal(12, 2)),
        Column::new("ts", DataType::Timestamp(3)),
    ];
    assert_eq!(contract.columns, columns);
    let event_time = EventTime { column: "ts".into(), max_out_of_orderness_ms: 5_000, idle_timeout_ms: Some(60_000) };
    assert_eq!(contract.event_time, Some(event_time));
    assert_eq!((dlq.topic.as_str(), dlq.partitions, &dlq.contract), ("dlq", 1, &None));

    let remarks = pipeline.remarks;
    assert_eq!((remarks.count(Severity::Note), remarks.items().len()), (1, 1), "the Namespace was skipped: {remarks}");
}

#[test]
fn what_is_left_out_has_its_default() {
    let text =
        "apiVersion: freshet.dev/v1alpha1\nkind: StreamJob\nmetadata: {name: a}\nspec: {sql: INSERT INTO b SELECT 1}\n";
    let job = examine(text).pipeline.expect("no mistake").job;
    assert_eq!(job.namespace, "default");
    assert_eq!((job.replicas, job.max_parallelism, job.epoch_interval), (1, 16, Duration::from_millis(500)));
    assert_eq!((job.start_from, job.bootstrap_servers, job.checkpoint), (StartPosition::Earliest, None, None));
    assert_eq!((job.on_bad_record, job.on_late), (OnBadRecord::Fail, OnLate::Drop));
}

#[test]
fn mistakes_in_the_sql_are_shown_where_they_stand() {
    let examined = examine(GOOD);
    let sql = examined.sql.expect("the SQL can be planned");
    let mut diagnostics = examined.diagnostics;
    let at = sql.text().find("nonsense").expect("nonsense");
    diagnostics.push_sql(&sql, at..at + 8, "there is no column `nonsense`", Some("the columns are id, amount, ts"));
    let shown = diagnostics.to_string();
    let wanted = "\
error: StreamJob/orders: spec.sql: there is no column `nonsense`
   --> case.yaml:36:12
   |
36 |     SELECT nonsense
   |            ^^^^^^^^
   = help: the columns are id, amount, ts
";
    assert!(shown.contains(wanted), "{shown}");
    let json = serde_json::to_value(&diagnostics).expect("JSON");
    let error = json.as_array().expect("a list").iter().find(|item| item["severity"] == "error").expect("the error");
    assert_eq!((&error["file"], &error["line"], &error["column"]), (&"case.yaml".into(), &36.into(), &12.into()));
    assert_eq!((&error["field"], &error["help"]), (&"spec.sql".into(), &"the columns are id, amount, ts".into()));
}

#[test]
fn sql_is_planned_beside_other_mistakes_of_its_job_but_not_of_its_tables() {
    let wrong_job = GOOD.replace("replicas: 3\n  maxParallelism", "replicas: 0\n  maxParallelism");
    let examined = examine(&wrong_job);
    assert!(examined.pipeline.is_none() && examined.sql.is_some() && examined.topics.len() == 2);
    let wrong_table = GOOD.replace("timestamp(3)", "timestamp(4)");
    let examined = examine(&wrong_table);
    assert!(examined.sql.is_none());
    assert!(examined.diagnostics.to_string().contains("the SQL was not looked at"), "{}", examined.diagnostics);
    let lost_table = GOOD.replace("spec: {}", "spec: {");
    assert!(examine(&lost_table).sql.is_none());
}

#[test]
fn a_terminal_is_not_obeyed_and_long_lines_are_cut() {
    let text = format!(
        "apiVersion: freshet.dev/v1alpha1\nkind: Topic\nmetadata: {{name: a}}\nspec: {{topicName: \"{}\u{7f}\", partitions: 0}}\n",
        "x".repeat(300)
    );
    let shown = examine(&text).diagnostics.to_string();
    assert!(!shown.contains('\u{7f}'), "{shown}");
    assert!(shown.lines().filter(|line| line.starts_with("4 |")).all(|line| line.chars().count() < 160), "{shown}");
}

/// A folder of its own for a test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("freshet-manifests-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file for the test");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn folders_and_files_are_read_as_kubectl_does() {
    let folder = Folder::new("good");
    for (at, part) in GOOD.split("---\n").enumerate() {
        folder.write(&format!("{at}.{}", if at % 2 == 0 { "yaml" } else { "yml" }), part);
    }
    folder.write("notes.txt", "apiVersion: nonsense");
    std::fs::create_dir_all(folder.0.join("sub.yaml")).expect("a folder");
    let whole = super::load(std::slice::from_ref(&folder.0)).expect("no mistake");
    assert_eq!(whole.job.name, "orders");
    // The same file named twice is read once.
    let twice = super::load(&[folder.0.clone(), folder.0.join("3.yml")]).expect("no mistake");
    assert_eq!(twice.topics, whole.topics);

    let errors = super::load(&[folder.0.join("1.yml")]).expect_err("no job");
    assert!(errors.to_string().contains("there is no StreamJob among the manifests"), "{errors}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = Folder::new("bad");
    let empty = Folder::new("empty");
    let paths = [folder.write("a.yaml", [0xff, 0xfe]), folder.0.join("missing.yaml"), empty.0.clone()];
    let errors = super::load(&paths).expect_err("nothing can be read").to_string();
    for wanted in ["a.yaml:1:1\n", "not UTF-8", "missing.yaml\n", "can't be read", "no *.yaml or *.yml in this folder"]
    {
        assert!(errors.contains(wanted), "{wanted}: {errors}");
    }
    assert!(!errors.contains("no StreamJob"), "{errors}");
}

#[test]
fn the_examples_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/fraud-detection");
    let pipeline = super::load(&[folder]).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(pipeline.job.name, "fraud-detection");
    assert!(pipeline.remarks.items().is_empty(), "{}", pipeline.remarks);
    let tables: Vec<&str> = pipeline.topics.iter().map(|topic| topic.table.as_str()).collect();
    assert_eq!(tables, ["alerts", "country_totals", "transactions_dlq", "transactions"]);
}

#[test]
fn tables_are_read_past_any_streamjob() {
    let folder = Folder::new("tables");
    folder.write("topics.yaml", GOOD.replace("replicas: 3\n  maxParallelism", "replicas: 0\n  maxParallelism"));
    let tables = super::tables(std::slice::from_ref(&folder.0));
    assert!(!tables.diagnostics.has_errors(), "{}", tables.diagnostics);
    let names: Vec<&str> = tables.topics.iter().map(|topic| topic.table.as_str()).collect();
    assert_eq!(names, ["order_items", "dlq"]);

    let wrong = folder.write("topics.yaml", GOOD.replace("timestamp(3)", "timestamp(4)"));
    assert!(super::tables(&[wrong]).diagnostics.to_string().contains("timestamp(4)"));

    let apart =
        format!("{}---\n{}", GOOD, "apiVersion: freshet.dev/v1alpha1\nkind: Topic\nmetadata: {name: far}\nspec: {}\n");
    let apart = folder.write("topics.yaml", apart);
    assert!(super::tables(&[apart]).diagnostics.to_string().contains("name the files of one namespace"));

    let job_alone = "apiVersion: freshet.dev/v1alpha1\nkind: StreamJob\nmetadata: {name: a}\nspec: {sql: ''}\n";
    let job_alone = folder.write("topics.yaml", job_alone);
    assert!(super::tables(&[job_alone]).diagnostics.to_string().contains("there is no Topic among the manifests"));
}

#[test]
fn state_that_is_kept_for_ever_is_a_warning_that_names_its_operator() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/fraud-detection");
    let Tables { topics, .. } = super::tables(&[folder]);
    let sql =
        SqlText::bare("SQL", "INSERT INTO alerts SELECT DISTINCT account_id, ts, ts, 1, amount FROM transactions");
    let warnings = |state_ttl| {
        let mut diagnostics = super::Diagnostics::default();
        let planned = super::plan(&sql, &topics, &super::plan_options(4, state_ttl), &mut diagnostics);
        assert!(planned.is_some() && !diagnostics.has_errors(), "{diagnostics}");
        (diagnostics.count(super::Severity::Warning), diagnostics.to_string())
    };
    let (count, text) = warnings(None);
    assert_eq!(count, 1, "{text}");
    for part in ["operator agg-", "(distinct ", "grows with the number of keys, by about ", "set spec.stateTtl"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(warnings(Some(Duration::from_secs(3_600))), (0, String::new()));
}

#[test]
fn mistakes_in_bare_sql_are_shown_where_they_stand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/fraud-detection");
    let Tables { topics, mut diagnostics } = super::tables(&[folder]);
    let sql = SqlText::bare("SQL", "SELECT account_id,\n       amont\nFROM transactions");
    assert_eq!(super::plan_query(&sql, &topics, &mut diagnostics), None);
    let wanted = "\
error: `transactions` has no column `amont`
  --> SQL:2:8
  |
2 |        amont
  |        ^^^^^
  = help: did you mean `amount`?

";
    assert_eq!(diagnostics.to_string(), wanted);
}
