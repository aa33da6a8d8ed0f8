//! Pure: what the parts of a cluster write that is not there. An API server without nodes runs no pods: tests and
//! benchmarks of the operator alone write, in the names of controllers and kubelet, what these would, and answer as
//! workers would.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use axum::response::{IntoResponse, Response};
use freshet_crds::control::{LAG_HEADER, PreflightReport, Restored, WorkerPhase, WorkerStatus};
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, StatusCode};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

/// The first lineage of every faked job.
const LINEAGE: &str = "r-0000000001";
const VERSION: &str = "0.1.0";

/// The report of a preflight that found all well; `changed`: it handed out `generation`, which has `slots` slots.
#[must_use]
pub fn passed(generation: u64, slots: u32, changed: bool) -> PreflightReport {
    PreflightReport {
        ok: true,
        reason: "PreflightPassed".to_owned(),
        lineage: Some(LINEAGE.to_owned()),
        lineage_born_ms: Some(1_700_000_000_000),
        generation: Some(generation),
        slots: Some(slots),
        runtime_version: VERSION.to_owned(),
        changed,
        stages: 1,
        tasks: 4,
        ..PreflightReport::default()
    }
}

/// The report of a preflight that refused.
#[must_use]
pub fn refused(reason: String, message: String) -> PreflightReport {
    PreflightReport { ok: false, reason, message, runtime_version: VERSION.to_owned(), ..PreflightReport::default() }
}

/// The slots that a preflight's Job is told to hand out.
#[must_use]
pub fn slots(job: &Job) -> Option<u32> {
    let containers = job.spec.as_ref()?.template.spec.as_ref()?.containers.first()?;
    let args = containers.args.as_ref()?;
    args.iter().skip_while(|arg| *arg != "--slots").nth(1)?.parse().ok()
}

/// Whether a preflight's Job is told to ask for restoreFrom.
#[must_use]
pub fn asks(job: &Job) -> bool {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let args = pod.and_then(|pod| pod.containers.first()?.args.as_ref());
    args.is_some_and(|args| args.iter().any(|arg| arg.starts_with("--asked-by=")))
}

/// The id of a faked job's n-th lineage, from 1.
#[must_use]
pub fn lineage(number: u64) -> String {
    format!("r-{number:010}")
}

/// Whether a request to a worker's control server shows `token`.
#[must_use]
pub fn knows(headers: &HeaderMap, token: &str) -> bool {
    headers.get(AUTHORIZATION).is_some_and(|given| given.as_bytes() == format!("Bearer {token}").as_bytes())
}

/// What a worker's control server answers to who asks how it is: nothing that is known by its tag.
#[must_use]
pub fn answer(headers: &HeaderMap, status: &WorkerStatus) -> Response {
    let tag = status.tag();
    let same = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let about = [(ETAG, tag), (HeaderName::from_static(LAG_HEADER), status.lag_ms.to_string())];
    if same {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    let json = serde_json::to_string(status).unwrap_or_default();
    (about, [(CONTENT_TYPE, "application/json")], json).into_response()
}

/// The pod of a Job, and its name.
#[must_use]
pub fn pod_of_job(job: &Job) -> (String, Value) {
    let template = job.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    let mut labels = template.and_then(|template| template.labels.clone()).unwrap_or_default();
    labels.insert("job-name".to_owned(), job.name_any());
    let name = format!("{}-x", job.name_any());
    let pod = pod(&name, &labels, "preflight");
    (name, pod)
}

/// The pod of a StatefulSet with this ordinal, and its name.
#[must_use]
pub fn pod_of_set(set: &StatefulSet, ordinal: u32) -> (String, Value) {
    let template = set.spec.template.metadata.as_ref();
    let labels = template.and_then(|template| template.labels.clone()).unwrap_or_default();
    let name = format!("{}-{ordinal}", set.name_any());
    let pod = pod(&name, &labels, "worker");
    (name, pod)
}

fn pod(name: &str, labels: &BTreeMap<String, String>, container: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": labels },
        "spec": { "containers": [{ "name": container, "image": "none" }] },
    })
}

/// The status of a preflight's pod that ended with `report`.
#[must_use]
pub fn ended(report: &PreflightReport) -> Value {
    let code = if report.ok { 0 } else { 2 };
    let end = json!({ "exitCode": code, "reason": "Completed", "message": report.termination_message() });
    let container = container("preflight", false, &json!({ "terminated": end }));
    let phase = if report.ok { "Succeeded" } else { "Failed" };
    json!({ "status": { "phase": phase, "containerStatuses": [container] } })
}

/// The status of the Job of that pod.
#[must_use]
pub fn finished(report: &PreflightReport) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |type_: &str| json!({ "type": type_, "status": "True", "lastTransitionTime": now, "lastProbeTime": now, "reason": "Fake" });
    let (first, last) = if report.ok { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
    let mut status = json!({ "startTime": now, "conditions": [condition(first), condition(last)] });
    status[if report.ok { "succeeded" } else { "failed" }] = json!(1);
    if report.ok {
        status["completionTime"] = json!(now);
    }
    json!({ "status": status })
}

/// The status of a worker's pod that runs at `ip`, or that waits: with the container's reason and message.
#[must_use]
pub fn runs(ip: Ipv4Addr, waits: Option<&(String, String)>) -> Value {
    let state = waits.map_or_else(
        || json!({ "running": {} }),
        |(reason, message)| json!({ "waiting": { "reason": reason, "message": message } }),
    );
    let ready = waits.is_none();
    json!({ "status": {
        "phase": "Running",
        "podIP": ip.to_string(),
        "podIPs": [{ "ip": ip.to_string() }],
        "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
        "containerStatuses": [container("worker", ready, &state)],
    } })
}

fn container(name: &str, ready: bool, state: &Value) -> Value {
    json!({ "name": name, "image": "none", "imageID": "", "ready": ready, "restartCount": 0, "state": state })
}

/// What a worker says that is well: it runs its tasks of `generation`, or stands by where that has fewer slots.
#[must_use]
pub fn well(slot: u32, generation: u64, slots: u32) -> WorkerStatus {
    let held = slot < slots;
    WorkerStatus {
        job: "job".to_owned(),
        slot,
        runtime_version: VERSION.to_owned(),
        lineage: Some(LINEAGE.to_owned()),
        phase: if held { WorkerPhase::Running } else { WorkerPhase::StandingBy },
        phase_since_ms: 0,
        generation: held.then_some(generation),
        slots: held.then_some(slots),
        plan_fingerprint: None,
        revision: None,
        ready: true,
        progressing: true,
        epoch: Some(41),
        last_commit_ms: None,
        lag_records: 0,
        lag_ms: 3,
        restored: held.then_some(Restored { tasks: 2, state_bytes: 1_024, took_ms: 12, at_ms: 0 }),
        problem: None,
        blocked_inputs: Vec::new(),
        tasks: Vec::new(),
    }
}
