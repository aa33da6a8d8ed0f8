//! What a thousand StreamJobs cost the operator: a real API server and broker, the operator as a process of its own, and
//! workers that are faked.

use std::time::{Duration, Instant};

use freshet_crds::{StreamJob, Topic};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::fake_workers::FakeWorkers;
use super::operator::{Idle, MANY, NAMESPACE, Stand, asking, each, for_each, rate, typed, until_ready};
use super::process::percentile;
use super::{Line, Place};
use crate::LabError;

/// How many jobs are changed one after the other, to see how soon the operator acts.
const CHANGED: usize = 200;
/// Between two of them: each is measured alone.
const APART: Duration = Duration::from_millis(50);
/// How long the operator may take to act.
const PATIENCE: Duration = Duration::from_secs(30);

/// Jobs applied, some changed, and the operator left alone.
pub(super) fn streamjobs(place: &Place<'_>) -> Result<Vec<Line>, LabError> {
    let stand = Stand::start(place, &["--checkpoint-url=s3://pipelines/state"])?;
    stand.measure(measure(&stand))
}

fn name(number: usize) -> String {
    format!("job-{number:04}")
}

/// Counts above `least`, by minutes and accounts.
fn sql(least: u32) -> String {
    format!(
        "INSERT INTO alerts SELECT account_id, window_start, window_end, COUNT(*) AS txns FROM TABLE(TUMBLE(TABLE \
         transactions, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE amount > {least} GROUP BY account_id, window_start, \
         window_end"
    )
}

fn status(job: &StreamJob) -> Option<(i64, &[Condition])> {
    job.status.as_ref().map(|status| (status.observed_generation, status.conditions.as_slice()))
}

async fn measure(stand: &Stand) -> Result<Vec<Line>, LabError> {
    let client = stand.client().await?;
    prepare(&client).await?;
    let workers = FakeWorkers::start(client.clone());
    let api: Api<StreamJob> = Api::namespaced(client, NAMESPACE);
    let (before, counted) = (stand.cpu_seconds(), stand.counted().await?);
    let began = Instant::now();
    for_each(|number| {
        let api = api.clone();
        async move {
            let (version, metadata) = (freshet_crds::API_VERSION, json!({ "name": name(number) }));
            let job =
                json!({ "apiVersion": version, "kind": "StreamJob", "metadata": metadata, "spec": { "sql": sql(1) } });
            api.create(&PostParams::default(), &typed(&job)?).await.map(drop).map_err(asking("making a StreamJob"))
        }
    })
    .await?;
    let applied = began.elapsed();
    until_ready(&api, status).await?;
    let made = began.elapsed();
    let cpu = stand.cpu_seconds() - before;
    let writes = stand.counted().await?.writes - counted.writes;
    let idle = stand.idle().await?;

    for number in 0..CHANGED {
        let change = Patch::Merge(json!({ "spec": { "sql": sql(2) } }));
        workers.await_write(&name(number));
        api.patch(&name(number), &PatchParams::default(), &change).await.map_err(asking("changing a StreamJob"))?;
        tokio::time::sleep(APART).await;
    }
    let answers = all_answers(&workers).await?;
    let changed = Instant::now();
    until_ready(&api, status).await?;
    let settled = changed.elapsed();
    let with_topics = topics_beside(stand).await?;
    Ok(vec![
        Line {
            what: "1,000 StreamJobs applied until all are Ready, with faked workers",
            wanted: "—",
            found: format!(
                "{:.0} a second ({made:.1?}, of which applying took {applied:.1?}; {cpu:.1} CPU s, {:.1} ms a job)",
                rate(made),
                cpu * 1_000.0 / MANY as f64
            ),
        },
        Line {
            what: "writes to the API server for a new StreamJob",
            wanted: "—",
            found: format!("{:.2}", each(writes)),
        },
        Line {
            what: "operator with 1,000 StreamJobs that run",
            wanted: "< 2 % of a core, < 128 MB, no write",
            found: format!(
                "{:.1} % of a core, {:.0} MiB, {} writes and {} questions to workers in {} s",
                idle.share_of_core, idle.resident_mib, idle.writes, idle.asked, idle.seconds
            ),
        },
        Line {
            what: "from a changed spec to the first write of a child, 1,000 StreamJobs there",
            wanted: "p99 < 200 ms",
            found: format!(
                "p50 {:.0} ms, p99 {:.0} ms of {CHANGED}; the last of them Ready {settled:.1?} after",
                percentile(&answers, 0.5),
                percentile(&answers, 0.99)
            ),
        },
        Line {
            what: "operator with 1,000 Topics in order beside them",
            wanted: "< 2 % of a core, < 128 MB, no write",
            found: format!(
                "{:.1} % of a core, {:.0} MiB, {} writes in {} s",
                with_topics.share_of_core, with_topics.resident_mib, with_topics.writes, with_topics.seconds
            ),
        },
    ])
}

/// What the operator costs with as many Topics beside the jobs, of which none names any.
async fn topics_beside(stand: &Stand) -> Result<Idle, LabError> {
    let api: Api<Topic> = Api::namespaced(stand.client().await?, NAMESPACE);
    for_each(|number| {
        let api = api.clone();
        async move {
            let topic = json!({
                "apiVersion": freshet_crds::API_VERSION, "kind": "Topic",
                "metadata": { "name": format!("other-{number:04}") },
                "spec": { "partitions": 1, "config": { "retention.ms": "86400000" } },
            });
            api.create(&PostParams::default(), &typed(&topic)?).await.map(drop).map_err(asking("making a Topic"))
        }
    })
    .await?;
    until_ready(&api, super::topics::status).await?;
    stand.idle().await
}

/// Two Topics, for all jobs; and the account that a namespace's controller would make.
async fn prepare(client: &kube::Client) -> Result<(), LabError> {
    let account: ServiceAccount = typed(&json!({ "metadata": { "name": "default" } }))?;
    let accounts = Api::namespaced(client.clone(), NAMESPACE);
    accounts.create(&PostParams::default(), &account).await.map_err(asking("making an account"))?;
    let topics: Api<Topic> = Api::namespaced(client.clone(), NAMESPACE);
    let columns = |text: &str| -> Vec<Value> {
        let columns = text.split(", ").filter_map(|column| column.split_once(' '));
        columns.map(|(name, type_)| json!({ "name": name, "type": type_ })).collect()
    };
    let transactions = json!({
        "format": "JSON", "eventTime": { "column": "ts" },
        "columns": columns("account_id STRING, amount INT, ts TIMESTAMP(3)"),
    });
    let out = "account_id STRING, window_start TIMESTAMP(3), window_end TIMESTAMP(3), txns BIGINT";
    let alerts = json!({ "format": "JSON", "columns": columns(out) });
    for (name, schema) in [("transactions", transactions), ("alerts", alerts)] {
        let topic = json!({
            "apiVersion": freshet_crds::API_VERSION, "kind": "Topic", "metadata": { "name": name },
            "spec": { "partitions": 4, "schema": schema },
        });
        topics.create(&PostParams::default(), &typed(&topic)?).await.map_err(asking("making a Topic"))?;
    }
    Ok(())
}

/// What every change was answered after, ms, sorted.
async fn all_answers(workers: &FakeWorkers) -> Result<Vec<i64>, LabError> {
    let began = Instant::now();
    loop {
        let (answers, awaited) = workers.answers();
        if awaited == 0 {
            let mut all: Vec<i64> =
                answers.iter().map(|took| i64::try_from(took.as_millis()).unwrap_or(i64::MAX)).collect();
            all.sort_unstable();
            return Ok(all);
        }
        if began.elapsed() > PATIENCE {
            return Err(LabError::Wrong(format!("{awaited} of {CHANGED} changed jobs had no write of a child")));
        }
        tokio::time::sleep(APART).await;
    }
}
