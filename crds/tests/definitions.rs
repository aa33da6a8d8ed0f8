//! The generated definitions: up to date, complete, and with rules that hold on create and on update.

use freshet_crds::definition::{Definition, definitions};
use freshet_crds::rules;
use kube_cel::Validator;
use serde_json::{Value, json};

fn definition(kind: &str) -> Definition {
    definitions().into_iter().find(|definition| definition.kind == kind).expect(kind)
}

#[test]
fn committed_files_are_what_the_types_give() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for definition in definitions() {
        for path in definition.paths() {
            let committed = std::fs::read_to_string(top.join(&path)).unwrap_or_default();
            assert!(
                committed == definition.yaml(),
                "{path} is not what the types give; run: cargo run -p freshet-crds --bin crdgen"
            );
            let parsed: Value = serde_saphyr::from_str(&committed).expect("YAML");
            assert_eq!(parsed, definition.json, "{path} does not read back as what was written");
        }
    }
}

#[test]
fn generated_pages_are_up_to_date() {
    for (page, text) in
        [("reasons", freshet_crds::reasons::page()), ("manifest-reference", freshet_crds::reference::page())]
    {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/{page}.md"));
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == text, "docs/{page}.md is out of date; run: cargo run -p freshet-crds --bin crdgen");
    }
}

/// Somebody who sees a reason finds what to do by it.
#[test]
fn every_reason_is_in_the_page_of_symptoms() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/troubleshooting.md");
    let page = std::fs::read_to_string(&path).expect("docs/troubleshooting.md");
    let named = |name: &str| page.contains(&format!("`{name}`"));
    let missing: Vec<&str> =
        freshet_crds::reasons::ALL.iter().map(|reason| reason.name).filter(|name| !named(name)).collect();
    assert!(missing.is_empty(), "docs/troubleshooting.md does not name {}", missing.join(", "));
}

/// What a tool reads that waits for a resource which no operator has looked at.
#[test]
fn a_resource_that_nobody_has_looked_at_says_so() {
    for definition in definitions() {
        let status = &definition.schema()["properties"]["status"];
        assert_eq!(status["default"], json!({ "observedGeneration": -1 }), "{}", definition.kind);
    }
}

#[test]
fn every_field_is_described_and_the_schema_is_structural() {
    fn walk(path: &str, schema: &Value, wrong: &mut Vec<String>) {
        if schema["type"].as_str().is_none() {
            wrong.push(format!("{path} has no type"));
        }
        for keyword in ["nullable", "oneOf", "anyOf", "allOf", "not", "$ref", "const"] {
            if schema.get(keyword).is_some() {
                wrong.push(format!("{path} has {keyword}"));
            }
        }
        if let Some(format) = schema.get("format").and_then(Value::as_str)
            && !["int32", "int64", "date-time"].contains(&format)
        {
            wrong.push(format!("{path} has the format {format}, which Kubernetes does not know"));
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            // Type and metadata of the object itself are described by Kubernetes.
            if field["description"].as_str().is_none_or(str::is_empty) && path.contains("spec.") {
                wrong.push(format!("{path} is not described"));
            }
            if name != "metadata" {
                walk(&path, field, wrong);
            }
        }
        if let Some(items) = schema.get("items") {
            walk(&format!("{path}[]"), items, wrong);
        }
    }
    for definition in definitions() {
        let mut wrong = Vec::new();
        walk(definition.kind, &definition.schema()["properties"]["spec"], &mut wrong);
        walk(definition.kind, &definition.schema()["properties"]["status"], &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// Every rule of the list is attached where the list says, and no other rule is anywhere.
#[test]
fn rules_stand_where_they_are_listed() {
    fn walk(path: &str, schema: &Value, found: &mut Vec<(String, String)>) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            found.push((path.to_owned(), rule["rule"].as_str().expect("a rule").to_owned()));
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            walk(&path, field, found);
        }
    }
    for definition in definitions() {
        let mut found = Vec::new();
        walk("", definition.schema(), &mut found);
        let mut listed: Vec<(String, String)> = rules::ALL
            .iter()
            .filter(|(kind, _, _)| *kind == definition.kind)
            .map(|(_, path, rule)| ((*path).to_owned(), rule.rule.to_owned()))
            .collect();
        found.sort();
        listed.sort();
        assert_eq!(found, listed, "{}", definition.kind);
    }
}

/// A rule sees only what it may, and every list that one walks is bounded: an API server refuses rules whose
/// cost it can't bound.
#[test]
fn rules_compile_and_are_bounded() {
    for definition in definitions() {
        let mut schemas = vec![definition.schema()];
        while let Some(schema) = schemas.pop() {
            let compiled = kube_cel::compile_schema(schema);
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                let text = rule["rule"].as_str().expect("a rule");
                assert!(kube_cel::cel::Program::compile(text).is_ok(), "{text}");
                for warning in kube_cel::analyze_rule(text, &compiled, kube_cel::ScopeContext::CrdValidation) {
                    // The analysis counts a loop's own variables as foreign, and takes the largest list for
                    // each: neither says anything about these rules.
                    let loop_variable = ["'k'", "'c'", "'other'"].iter().any(|name| warning.message.contains(name));
                    assert!(
                        loop_variable || warning.kind == kube_cel::WarningKind::CostExceeded,
                        "{text}: {}",
                        warning.message
                    );
                }
            }
            schemas.extend(schema["properties"].as_object().into_iter().flatten().map(|(_, field)| field));
        }
    }
}

/// The messages of the rules that `new` breaks, after `old` if there is one.
fn broken(kind: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    let definition = definition(kind);
    match Validator::new().validate(definition.schema(), new, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(|error| format!("{}: {}", error.field_path, error.message)).collect(),
    }
}

fn object(kind: &str, spec: &Value) -> Value {
    json!({ "apiVersion": freshet_crds::API_VERSION, "kind": kind, "metadata": { "name": "a" }, "spec": spec })
}

#[test]
fn topics_are_checked_on_create() {
    let columns = json!([{ "name": "id", "type": "STRING" }, { "name": "ts", "type": "timestamp(3)" }]);
    let schema = |more: Value| {
        let mut schema = json!({ "format": "JSON", "columns": columns });
        schema.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({ "schema": schema })
    };
    for (spec, wanted) in [
        (json!({}), ""),
        (json!({ "topicName": "a.b", "partitions": 3 }), ""),
        (json!({ "topicName": ".." }), "spec.topicName: a Kafka topic can't be called"),
        (json!({ "config": { "a": "1" }, "unmanagedConfig": ["b"] }), ""),
        (json!({ "unmanagedConfig": ["b"] }), ""),
        (json!({ "config": { "a": "1" }, "unmanagedConfig": ["b", "a"] }), "spec.unmanagedConfig: an entry of"),
        (schema(json!({ "key": ["id"], "partitioner": "Murmur2" })), ""),
        (schema(json!({ "key": ["nobody"] })), "spec.schema.key: every entry of key"),
        (schema(json!({ "key": ["id", "id"] })), "spec.schema.key: key names a column twice"),
        (schema(json!({ "partitioner": "Murmur2" })), "spec.schema.partitioner: partitioner says"),
        (schema(json!({ "eventTime": { "column": "ts", "idleTimeout": "30s" } })), ""),
        (schema(json!({ "eventTime": { "column": "id" } })), "spec.schema.eventTime: eventTime.column must name"),
        (schema(json!({ "eventTime": { "column": "nobody" } })), "spec.schema.eventTime: eventTime.column must name"),
        (schema(json!({ "eventTime": { "column": "ts", "idleTimeout": "0s" } })), "idleTimeout must be longer"),
    ] {
        let broken = broken("Topic", &object("Topic", &spec), None).join("\n");
        assert!(if wanted.is_empty() { broken.is_empty() } else { broken.contains(wanted) }, "{spec}: `{broken}`");
    }
}

#[test]
fn jobs_are_checked_on_create() {
    let spec = |more: Value| {
        let mut spec = json!({ "sql": "INSERT INTO a SELECT * FROM b" });
        spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        spec
    };
    for (spec, wanted) in [
        (spec(json!({})), ""),
        (spec(json!({ "startFrom": { "type": "Timestamp", "timestamp": "2026-01-31T00:00:00Z" } })), ""),
        (spec(json!({ "startFrom": { "type": "Timestamp" } })), "spec.startFrom: timestamp goes with"),
        (
            spec(json!({ "startFrom": { "type": "Latest", "timestamp": "2026-01-31T00:00:00Z" } })),
            "timestamp goes with",
        ),
        (spec(json!({ "epochInterval": "10ms" })), ""),
        (spec(json!({ "epochInterval": "9ms" })), "spec.epochInterval: epochInterval lies between"),
        (spec(json!({ "epochInterval": "6m" })), "epochInterval lies between"),
        (spec(json!({ "stateTtl": "1s" })), ""),
        (spec(json!({ "stateTtl": "999ms" })), "spec.stateTtl: stateTtl is at least 1s"),
        (spec(json!({ "checkpoint": { "url": "s3://abc/d", "s3": { "region": "a" } } })), ""),
        (
            spec(json!({ "checkpoint": { "url": "file:///a", "s3": { "region": "a" } } })),
            "spec.checkpoint.s3: s3 holds",
        ),
        (spec(json!({ "errors": { "onLate": "DeadLetter", "deadLetterTopic": "dlq" } })), ""),
        (spec(json!({ "errors": { "onLate": "DeadLetter" } })), "spec.errors.deadLetterTopic: DeadLetter needs"),
        (spec(json!({ "errors": { "onBadRecord": "DeadLetter", "onLate": "Drop" } })), "DeadLetter needs"),
        (spec(json!({ "errors": { "onBadRecord": "Skip" } })), ""),
    ] {
        let broken = broken("StreamJob", &object("StreamJob", &spec), None).join("\n");
        assert!(if wanted.is_empty() { broken.is_empty() } else { broken.contains(wanted) }, "{spec}: `{broken}`");
    }
    for (name, wanted) in [("a".repeat(40), ""), ("a".repeat(41), "at most 40 characters"), ("a.b".into(), "no dots")] {
        let mut job = object("StreamJob", &spec(json!({})));
        job["metadata"]["name"] = json!(name);
        let broken = broken("StreamJob", &job, None).join("\n");
        assert!(if wanted.is_empty() { broken.is_empty() } else { broken.contains(wanted) }, "{name}: `{broken}`");
    }
}

#[test]
fn what_is_fixed_can_neither_be_changed_nor_set_nor_unset() {
    let sql = "INSERT INTO a SELECT * FROM b";
    for (kind, old, new, wanted) in [
        ("Topic", json!({ "topicName": "a" }), json!({ "topicName": "a" }), ""),
        ("Topic", json!({ "topicName": "a" }), json!({ "topicName": "b" }), "topicName can never be changed"),
        ("Topic", json!({}), json!({ "topicName": "a" }), "topicName can never be changed"),
        ("Topic", json!({ "topicName": "a" }), json!({}), "topicName can never be changed"),
        ("Topic", json!({ "partitions": 6 }), json!({ "partitions": 12 }), ""),
        ("Topic", json!({}), json!({ "partitions": 2 }), ""),
        ("Topic", json!({ "partitions": 1 }), json!({}), ""),
        (
            "Topic",
            json!({ "partitions": 6 }),
            json!({ "partitions": 3 }),
            "spec.partitions: fewer partitions than before",
        ),
        ("Topic", json!({ "partitions": 6 }), json!({}), "fewer partitions than before"),
        ("StreamJob", json!({ "sql": sql }), json!({ "sql": sql, "replicas": 3 }), ""),
        ("StreamJob", json!({ "sql": sql, "maxParallelism": 8 }), json!({ "sql": sql, "maxParallelism": 8 }), ""),
        (
            "StreamJob",
            json!({ "sql": sql, "maxParallelism": 8 }),
            json!({ "sql": sql, "maxParallelism": 9 }),
            "maxParallelism can",
        ),
        ("StreamJob", json!({ "sql": sql }), json!({ "sql": sql, "maxParallelism": 16 }), "maxParallelism can"),
        ("StreamJob", json!({ "sql": sql, "maxParallelism": 16 }), json!({ "sql": sql }), "maxParallelism can"),
    ] {
        let broken = broken(kind, &object(kind, &new), Some(&object(kind, &old))).join("\n");
        assert!(
            if wanted.is_empty() { broken.is_empty() } else { broken.contains(wanted) },
            "{old} -> {new}: `{broken}`"
        );
    }
}
