//! Level: real servers for what says Kafka; the rest runs the program alone. The queries of examples/nexmark, as a person
//! runs them: every result is compared with a recount of the records that shares nothing with the engine.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use freshet_e2e::nexmark::{Destination, Pipeline, QUERIES, Records, Recount, Settings, same, spelled, write};
use freshet_e2e::servers::{KafkaOptions, KafkaServer, Scratch};
use freshet_kafka::KafkaConfig;
use freshet_kafka::bulk::{read_committed, wait_until_settled};

/// A minute of event time: windows close, and the last ones do not.
const SETTINGS: Settings = Settings { seed: 20_260_101, events: 60_000, per_second: 1_000, shuffled: 1_500 };

/// What the query must write.
fn recount(query: &str) -> Vec<String> {
    let mut recount = Recount::new(query).unwrap();
    Records::new(&SETTINGS).unwrap().for_each(|record| recount.add(&record));
    let rows = recount.rows();
    // An agreement of nothing with nothing is no proof.
    assert!(rows.len() >= 5, "{query}: only {} rows to compare", rows.len());
    rows
}

fn files() -> Scratch {
    let folder = Scratch::new("nexmark").unwrap();
    write(&SETTINGS, &Destination::Folder(folder.path().to_owned())).unwrap();
    folder
}

fn program(what: &str, manifests: &[PathBuf]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshet-under-test"));
    command.arg(what).args(manifests).stdin(Stdio::null()).current_dir(std::env::temp_dir());
    command
}

fn rows(what: &str, output: &Output) -> Vec<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}: {errors}", output.status);
    let lines = output.stdout.split(|byte| *byte == b'\n');
    lines.filter(|line| line.starts_with(b"{")).map(|line| spelled(line).unwrap()).collect()
}

#[test]
fn each_query_answers_as_it_is_tried() {
    let folder = files();
    for query in QUERIES {
        let pipeline = Pipeline::load(query).unwrap();
        let read = &pipeline.reads()[0].name;
        let input = format!("{read}={}/{read}.jsonl", folder.path().display());
        let mut command = program("query", &pipeline.manifests[..1]);
        command.arg(pipeline.select().unwrap()).args(["--input", &input, "--format", "json"]);
        same(query, recount(query), rows(query, &command.output().unwrap())).unwrap();
    }
}

#[test]
fn each_query_runs_without_a_broker() {
    let folder = files();
    for query in QUERIES {
        let pipeline = Pipeline::load(query).unwrap();
        let read = &pipeline.reads()[0].name;
        let input = format!("{read}={}/{read}.jsonl", folder.path().display());
        let mut command = program("run", &pipeline.manifests);
        command.args(["--input", &input, "--print", &pipeline.output.name, "--plain"]);
        same(query, recount(query), rows(query, &command.output().unwrap())).unwrap();
    }
}

#[test]
fn queries_run_on_a_real_kafka() {
    let server = KafkaServer::start_temporary(&KafkaOptions::default()).unwrap();
    let bootstrap = server.bootstrap();
    write(&SETTINGS, &Destination::Kafka(bootstrap.clone())).unwrap();
    let folder = Scratch::new("nexmark-state").unwrap();
    let config = KafkaConfig::new(&bootstrap, "nexmark-test");
    // Pass-through, computation, one stage with panes, two stages.
    for query in ["q0", "q14", "q5-counts", "q12-event-time"] {
        let pipeline = Pipeline::load(query).unwrap();
        let state = format!("file://{}", folder.path().display());
        let mut command = program("run", &pipeline.manifests);
        command.args(["--kafka", &bootstrap, "--checkpoint", &state, "--until-caught-up", "--plain"]);
        rows(query, &command.output().unwrap());
        let topic = &pipeline.output.topic;
        wait_until_settled(&config, topic, std::time::Duration::from_secs(60)).unwrap();
        let mut found = Vec::new();
        let visit = |batch: &freshet_log::Fetched| {
            found.extend(batch.records.iter().map(|record| spelled(batch.value(record).unwrap()).unwrap()));
        };
        read_committed(&config, topic, visit).unwrap();
        same(query, recount(query), found).unwrap();
    }
}
