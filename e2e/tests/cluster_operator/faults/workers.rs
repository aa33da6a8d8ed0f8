//! Faults of workers that run, and of what they work on.

use freshet_e2e::LabError;
use freshet_e2e::cluster::address::{S3, S3_PORT, SWITCH};
use freshet_e2e::faults::{FaultyS3, Signal, Weather, throttle_reads};
use freshet_log::LogError;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use super::jobs::changes;
use super::table::{Fault, Of};
use super::*;

const NOT_READY: (&str, &str) = ("Ready", "False");
const STALLED: (&str, &str) = ("Stalled", "True");
const GOOD: fn(&Stage<'_>) -> Vec<Value> = |stage| vec![stage.job(json!({}))];

/// The name of the fault's own input, as a resource; as a table it has `_`.
fn input(stage: &Stage<'_>) -> String {
    format!("{}-in", stage.name)
}

/// A job on an input of its own.
fn on_own_input(stage: &Stage<'_>, more: Value) -> Vec<Value> {
    let table = input(stage).replace('-', "_");
    let sql =
        json!({"sql": format!("INSERT INTO copies SELECT id, a, b FROM {table}"), "startFrom": {"type": "Earliest"}});
    let mut spec = sql;
    stage::merge(&mut spec, more);
    vec![stage.topic(&input(stage), json!({})), stage.job(spec)]
}

/// A job that keeps state: it counts by windows.
fn counting(stage: &Stage<'_>, more: Value) -> Vec<Value> {
    let (from, to) = (input(stage), format!("{}-out", stage.name));
    let columns = json!([{"name": "id", "type": "STRING", "required": true}, {"name": "ts", "type": "TIMESTAMP(3)"}]);
    let counts = json!([
        {"name": "id", "type": "STRING", "required": true},
        {"name": "window_start", "type": "TIMESTAMP(3)", "required": true},
        {"name": "n", "type": "BIGINT", "required": true},
    ]);
    let timed = json!({"schema": {"partitioner": "Murmur2", "columns": columns, "eventTime": {"column": "ts"}}});
    let table = |name: &str| name.replace('-', "_");
    let sql = format!(
        "INSERT INTO {} SELECT id, window_start, COUNT(*) AS n \
         FROM TABLE(TUMBLE(TABLE {}, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY id, window_start, window_end",
        table(&to),
        table(&from)
    );
    let mut spec = json!({"sql": sql, "startFrom": {"type": "Earliest"}});
    stage::merge(&mut spec, more);
    vec![stage.topic(&from, timed), stage.topic(&to, json!({"schema": {"columns": counts}})), stage.job(spec)]
}

fn count(stage: &Stage<'_>) -> Result<(), LabError> {
    let records: Vec<String> =
        (0..50).map(|number| format!(r#"{{"id": "k{number}", "ts": "2026-01-01T00:00:01.000"}}"#)).collect();
    stage.write(&input(stage), &records.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A proxy before the store that can be made to fail, for as long as the tests run.
fn weather(stage: &Stage<'_>) -> Result<(FaultyS3, Value), LabError> {
    let switch = stage.scene.around.lab()?.site().host_process("lan")?.to_string();
    let enter = ["nsenter", "-t", &switch, "-n", "--"].map(str::to_owned);
    let at = std::net::SocketAddr::from((SWITCH, 0));
    let proxy = FaultyS3::start_within(&enter, at, &format!("http://{S3}:{S3_PORT}"))?;
    let around = &stage.scene.around;
    let checkpoint = stage.checkpoint(&around.bucket, &proxy.endpoint(), freshet_e2e::scenario::cluster::STORE_SECRET);
    Ok((proxy, checkpoint))
}

/// State objects of the job, in the store's folder.
fn objects(stage: &Stage<'_>) -> Vec<std::path::PathBuf> {
    fn walk(folder: &std::path::Path, into: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                walk(&path, into);
            } else if name.contains('-') && (name.starts_with('e') || name.starts_with('m')) {
                into.push(path);
            }
        }
    }
    let disk = stage.scene.around.lab().unwrap().site().disk("s3");
    let folder = disk.join("objects").join(&stage.scene.around.bucket).join("state");
    let mut found = Vec::new();
    walk(&folder.join(&stage.scene.namespace).join(stage.name), &mut found);
    found
}

/// Feeds the job until it has written state.
fn count_until_state(stage: &Stage<'_>) -> Result<(), LabError> {
    count(stage)?;
    stage.scene.kubernetes.wait_for(
        "the job to write state",
        PATIENCE,
        || Ok((!objects(stage).is_empty()).then_some(())),
        || stage.scene.state_of_job(stage.name),
    )
}

/// Has the job write state and stop, so that its objects can be touched.
fn stopped_with_state(stage: &Stage<'_>) -> Result<Vec<std::path::PathBuf>, LabError> {
    count_until_state(stage)?;
    stage.change(&json!({"state": "Suspended"}))?;
    stage.scene.kubernetes.wait_for(
        "the job to be suspended",
        PATIENCE,
        || Ok(stage.scene.workers(stage.name)?.is_empty().then_some(())),
        || stage.scene.state_of_job(stage.name),
    )?;
    Ok(objects(stage))
}

/// Another producer's transaction on the job's input, which nobody ends.
fn open_transaction(stage: &Stage<'_>) -> Result<BaseProducer, LabError> {
    let topic = stage.kafka_topic(&input(stage));
    let failed = |error: KafkaError| {
        LabError::kafka(format!("an open transaction on {topic}"))(LogError::Unavailable(error.to_string()))
    };
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &stage.scene.kafka().bootstrap_servers)
        .set("transactional.id", &topic)
        // Longer than the fault lasts: the broker ends it by then.
        .set("transaction.timeout.ms", "300000")
        .create()
        .map_err(failed)?;
    producer.init_transactions(PATIENCE).map_err(failed)?;
    producer.begin_transaction().map_err(failed)?;
    let record = BaseRecord::<[u8], _>::to(&topic).payload(r#"{"id": "k", "a": 1, "b": 1}"#);
    producer.send(record).map_err(|(error, _)| failed(error))?;
    producer.flush(PATIENCE).map_err(failed)?;
    Ok(producer)
}

/// All of them.
pub fn faults() -> Vec<Fault> {
    vec![
        Fault {
            name: "crash-loop",
            of: Of::Job,
            apart: false,
            before: GOOD,
            happens: |stage| {
                for restarts in 0..2 {
                    stage.scene.wait_running(&stage.pod(), restarts)?.signal(Signal::Kill)?;
                }
                Ok(Box::new(|_| Ok(())))
            },
            shows: NOT_READY,
            reasons: &["CrashLoopBackOff"],
            says: "137",
        },
        Fault {
            name: "frozen",
            of: Of::Job,
            apart: false,
            before: GOOD,
            happens: |stage| {
                let frozen = stage.scene.wait_running(&stage.pod(), 0)?.freeze()?;
                Ok(Box::new(|_| frozen.now()))
            },
            shows: NOT_READY,
            reasons: &["WorkerUnreachable"],
            says: "frozen-0",
        },
        Fault {
            name: "open-transaction",
            of: Of::Job,
            apart: false,
            before: |stage| on_own_input(stage, json!({})),
            happens: |stage| {
                let open = open_transaction(stage)?;
                Ok(Box::new(move |_| {
                    let failed = |error: KafkaError| LogError::Unavailable(error.to_string());
                    open.abort_transaction(PATIENCE).map_err(failed).map_err(LabError::kafka("aborting"))
                }))
            },
            shows: NOT_READY,
            reasons: &["InputBlockedByOpenTransaction"],
            says: "open-transaction-in",
        },
        Fault {
            name: "bad-record",
            of: Of::Job,
            apart: false,
            before: |stage| on_own_input(stage, json!({"errors": {"onBadRecord": "Fail"}})),
            happens: |stage| {
                stage.write(&input(stage), &["no JSON"])?;
                Ok(changes(json!({"errors": {"onBadRecord": "Skip"}})))
            },
            shows: STALLED,
            reasons: &["BadRecord"],
            says: "bad-record-in",
        },
        Fault {
            name: "expression-fails",
            of: Of::Job,
            apart: false,
            before: |stage| {
                on_own_input(
                    stage,
                    json!({"sql": "INSERT INTO copies SELECT id, a / b AS a, b FROM expression_fails_in"}),
                )
            },
            happens: |stage| {
                stage.write(&input(stage), &[r#"{"id": "k", "a": 1, "b": 0}"#])?;
                Ok(changes(
                    json!({"sql": "INSERT INTO copies SELECT id, a / NULLIF(b, 0) AS a, b FROM expression_fails_in"}),
                ))
            },
            shows: STALLED,
            reasons: &["ExpressionFailed"],
            says: "",
        },
        Fault {
            name: "store-fails",
            of: Of::Job,
            apart: false,
            before: |stage| {
                let (mut proxy, checkpoint) = weather(stage).unwrap();
                proxy.set(Weather::Fair).unwrap();
                stage.keep(proxy);
                counting(stage, checkpoint)
            },
            happens: |stage| {
                stage.kept(|proxy| proxy.set(Weather::Unavailable))?;
                count(stage)?;
                Ok(Box::new(|stage| stage.kept(|proxy| proxy.set(Weather::Fair))))
            },
            shows: NOT_READY,
            reasons: &["StoreUnavailable", "EpochsNotCommitting"],
            says: "",
        },
        Fault {
            name: "offsets-lost",
            of: Of::Job,
            apart: false,
            before: |stage| counting(stage, json!({})),
            happens: |stage| {
                count_until_state(stage)?;
                let lineage = stage.scene.job(stage.name)?.and_then(|job| job.status?.lineage);
                let lineage = lineage.ok_or_else(|| LabError::Wrong("the job has no lineage".to_owned()))?;
                // Nothing is committed any more, and no word of where it stopped is left.
                let worker = stage.scene.wait_running(&stage.pod(), 0)?;
                let frozen = worker.freeze()?;
                let groups = stage.scene.delete_groups(&lineage.id)?;
                assert!(!groups.is_empty(), "no group of {} was there", lineage.id);
                worker.signal(Signal::Kill)?;
                frozen.forget();
                // As the remedy says.
                Ok(changes(json!({"restoreFrom": {"type": "None"}, "restoreNonce": "1"})))
            },
            shows: STALLED,
            reasons: &["OffsetsLost"],
            says: "spec.restoreNonce",
        },
        Fault {
            // It reads, and commits what it reads; more waits than it can read.
            name: "lag-beyond-objective",
            of: Of::Job,
            apart: false,
            before: |stage| on_own_input(stage, json!({"slo": {"maxLag": "5s"}})),
            happens: |stage| {
                // By the client id of its worker.
                let client = format!("freshet-{}", stage.name);
                let throttled = throttle_reads(stage.scene.around.lab()?, &client, 500_000)?;
                let filler = "x".repeat(1_000);
                let records: Vec<String> =
                    (0..40_000).map(|number| format!(r#"{{"id": "{filler}", "a": {number}, "b": 1}}"#)).collect();
                stage.write(&input(stage), &records.iter().map(String::as_str).collect::<Vec<_>>())?;
                Ok(Box::new(|_| throttled.now()))
            },
            shows: ("LagWithinObjective", "False"),
            reasons: &["LagBeyondBounds"],
            says: "spec.slo.maxLag is 5",
        },
        Fault {
            name: "state-missing",
            of: Of::Job,
            apart: false,
            before: |stage| counting(stage, json!({})),
            happens: |stage| {
                let objects = stopped_with_state(stage)?;
                let away = |path: &std::path::Path| {
                    path.with_file_name(format!("away-{}", path.file_name().unwrap().to_string_lossy()))
                };
                for path in &objects {
                    std::fs::rename(path, away(path)).map_err(LabError::file("moving", path))?;
                }
                stage.change(&json!({"state": "Running"}))?;
                Ok(Box::new(move |_| {
                    objects
                        .iter()
                        .try_for_each(|path| std::fs::rename(away(path), path).map_err(LabError::file("moving", path)))
                }))
            },
            shows: STALLED,
            reasons: &["StateMissing"],
            says: "",
        },
        Fault {
            name: "state-damaged",
            of: Of::Job,
            apart: false,
            before: |stage| counting(stage, json!({})),
            happens: |stage| {
                let objects = stopped_with_state(stage)?;
                let mut whole = Vec::new();
                for path in objects {
                    let bytes = std::fs::read(&path).map_err(LabError::file("reading", &path))?;
                    let mut damaged = bytes.clone();
                    let middle = damaged.len() / 2;
                    damaged[middle] ^= 0x5a;
                    std::fs::write(&path, damaged).map_err(LabError::file("writing", &path))?;
                    whole.push((path, bytes));
                }
                stage.change(&json!({"state": "Running"}))?;
                Ok(Box::new(move |_| {
                    whole.iter().try_for_each(|(path, bytes)| {
                        std::fs::write(path, bytes).map_err(LabError::file("writing", path))
                    })
                }))
            },
            shows: STALLED,
            reasons: &["StateDamaged"],
            says: "",
        },
    ]
}
