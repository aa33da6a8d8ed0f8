//! Level: pure, with the very code of the readers. What kstatus (Flux, kpt) and Argo CD with `examples/argocd` make of
//! the statuses that the operator writes, for every situation of a StreamJob and of a Topic.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod jobs;
mod topics;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use freshet_crds::definition::definitions;
use freshet_e2e::install::{Cache, Part, install_missing, installed_health};
use serde::Deserialize;
use serde_json::{Value, json};

/// A situation, the resource in it, and what is to be made of it.
struct Row {
    situation: &'static str,
    object: Value,
    /// By kstatus, and by Argo CD.
    wanted: (&'static str, &'static str),
}

/// The resource works as it should.
const GOOD: (&str, &str) = ("Current", "Healthy");
/// It may come to work by itself.
const UNDER_WAY: (&str, &str) = ("InProgress", "Progressing");
/// A person must change something.
const FAILED: (&str, &str) = ("Failed", "Degraded");
/// It is being deleted. (Argo CD itself says Progressing of such a resource, and asks no script.)
const GOING: (&str, &str) = ("Terminating", "Progressing");

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    kstatus: String,
    says: String,
    argo: String,
    argo_says: String,
}

/// The scripts of the example, by kind.
fn scripts() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/argocd/argocd-cm.yaml");
    let config: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let script = |kind: &str| config["data"][format!("resource.customizations.health.freshet.dev_{kind}")].clone();
    json!({ "Topic": script("Topic"), "StreamJob": script("StreamJob") })
}

fn ask(objects: &[&Value]) -> Vec<Answer> {
    let cache = Cache::from_environment();
    install_missing(&cache, &[Part::Health]).unwrap();
    let mut command = Command::new(installed_health(&cache).unwrap());
    let mut asked = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let question = json!({ "scripts": scripts(), "objects": objects }).to_string();
    asked.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
    let output = asked.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn check(rows: &[Row]) {
    let answers = ask(&rows.iter().map(|row| &row.object).collect::<Vec<_>>());
    assert_eq!(answers.len(), rows.len());
    let mut wrong = Vec::new();
    for (row, answer) in rows.iter().zip(&answers) {
        println!("{:<58} {:<11} {:<11} {}", row.situation, answer.kstatus, answer.argo, answer.argo_says);
        let got = (answer.kstatus.as_str(), answer.argo.as_str());
        if got != row.wanted {
            wrong.push(format!("{}: {:?} instead of {:?}: {answer:?}\n{}", row.situation, got, row.wanted, row.object));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The status of a resource that was applied and that no operator has looked at: the definition's own.
fn unseen(kind: &str) -> Value {
    let definition = definitions().into_iter().find(|definition| definition.kind == kind).unwrap();
    definition.schema()["properties"]["status"]["default"].clone()
}

/// Says what stands in both answers where something is wrong, so that a person reads it in either tool.
#[test]
fn both_tools_pass_the_operators_words_on() {
    let rows = jobs::rows();
    let refused = rows.iter().find(|row| row.situation == "a change is refused, the old revision runs").unwrap();
    let answers = ask(&[&refused.object]);
    for said in [&answers[0].says, &answers[0].argo_says] {
        assert!(said.contains("operator agg1"), "{answers:?}");
    }
    assert!(answers[0].argo_says.starts_with("StateIncompatible: "), "{answers:?}");
}

#[test]
fn stream_jobs_are_what_their_conditions_say() {
    check(&jobs::rows());
}

#[test]
fn topics_are_what_their_conditions_say() {
    check(&topics::rows());
}
