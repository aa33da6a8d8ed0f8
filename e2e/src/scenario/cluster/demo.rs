//! `make cluster-demo`: the pilot under the operator on the lab's cluster, as a user would do it, to its exact result.
//!
//! Images → `helm install` → `kubectl apply` → Ready → input for a while → the output compared with a recount of the
//! input. Everything stays, so that there is something to try: run again, the job goes on from where it is.

use std::io::Write as _;
use std::time::{Duration, Instant};

use freshet_kafka::KafkaConfig;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::kubernetes::Kubernetes;
use super::operator::{Kubectl, NAMESPACE, Operator, STORE_SECRET};
use super::pilot::Pilot;
use super::scene::from_json;
use super::surroundings::Surroundings;
use crate::LabError;
use crate::cluster::Cluster;
use crate::images::ImageName;

/// Where the demo's resources are: where a user who says nothing puts them.
const WHERE: &str = "default";
/// How long Topics and job may take to be Ready.
const READY: Duration = Duration::from_secs(120);
/// How often it is told how things are.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// What the demo does.
#[derive(Debug, Clone, Copy)]
pub struct DemoOptions {
    /// How long the job is fed.
    pub feed_for: Duration,
    /// Records a second.
    pub rate: u64,
    /// The generator's.
    pub seed: u64,
}

/// Runs the demo on the cluster that the environment names, which is up.
///
/// # Errors
/// The first step that failed; or what the output and the recount of the input do not agree in.
pub fn demo(options: &DemoOptions) -> Result<(), LabError> {
    let around = Surroundings::of_lab(&Cluster::load()?)?;
    let kubernetes = Kubernetes::new(&around.kubeconfig)?;
    let kubectl = Kubectl::new(&around.kubeconfig, WHERE)?;
    let mut pilot = Pilot::as_it_stands(KafkaConfig::new(&around.kafka_from_here, "freshet-demo"))?;
    let (folder, job) = (Pilot::folder().display().to_string(), pilot.job.clone());

    let operator = Operator::new(&around, ImageName::Freshet);
    tell(&format!("installing the operator: helm upgrade --install freshet charts/freshet -n {NAMESPACE} \\"));
    let values = operator.values().iter().map(|value| format!("    --set {value}")).collect::<Vec<_>>();
    tell(&values.join(" \\\n"));
    operator.install()?;

    tell(&format!("the store's keys: Secret {STORE_SECRET}"));
    let keys = json!({"AWS_ACCESS_KEY_ID": around.access_key, "AWS_SECRET_ACCESS_KEY": around.secret_key});
    let secret = from_json::<Secret>(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": STORE_SECRET}, "stringData": keys,
    }));
    let secret = serde_json::to_string(&secret).map_err(|error| LabError::Wrong(format!("a Secret: {error}")))?;
    kubernetes.apply(WHERE, &secret)?;

    tell(&format!("kubectl apply -f {folder}"));
    tell(kubectl.run(&["apply", "-f", &folder])?.trim_end());
    wait_ready(&kubectl, &job)?;
    tell(kubectl.run(&["get", "topics,streamjobs"])?.trim_end());

    let before = pilot.go_on()?;
    let rate = options.rate;
    tell(&format!(
        "feeding it for {:?}: {rate} transactions a second, behind {before} that are there",
        options.feed_for
    ));
    feed(&pilot, &kubectl, options)?;
    tell("comparing all output with a recount of all input");
    let began = Instant::now();
    let exact = pilot.settle_exactly(|| {
        kubectl.run(&["describe", &format!("streamjob/{job}")]).unwrap_or_else(|error| error.to_string())
    })?;
    tell(&format!(
        "exact after {:.1} s: {} records, of them {} late and {} bad; all {} alerts and all {} country totals are as the \
         recount has them",
        began.elapsed().as_secs_f64(),
        exact.records,
        exact.late,
        exact.bad,
        exact.alerts,
        exact.totals
    ));
    tell(kubectl.run(&["get", "streamjobs"])?.trim_end());
    tell(&next(&around, &kubectl, &job));
    Ok(())
}

/// Writes input, and tells how the job keeps up.
fn feed(pilot: &Pilot, kubectl: &Kubectl, options: &DemoOptions) -> Result<(), LabError> {
    let feed = pilot.feed(options.seed, options.rate, 0)?;
    let began = Instant::now();
    let mut told = Instant::now();
    while began.elapsed() < options.feed_for {
        let left = options.feed_for.saturating_sub(began.elapsed());
        std::thread::sleep(TELL_EVERY.saturating_sub(told.elapsed()).min(left));
        told = Instant::now();
        let line = kubectl.run(&["get", "streamjob", &pilot.job, "--no-headers"])?;
        let line = line.split_whitespace().collect::<Vec<_>>().join("  ");
        let (written, rows) = (feed.made(), pilot.rows()?);
        tell(&format!("{:5.1} s  {written} written, {rows} rows of output  |  {line}", began.elapsed().as_secs_f64()));
    }
    feed.finish().map(drop)
}

/// Waits until the Topics and the job are Ready, and tells what they wait for when that changes.
fn wait_ready(kubectl: &Kubectl, job: &str) -> Result<(), LabError> {
    let columns = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status} \
                   {.status.conditions[?(@.type==\"Ready\")].reason}: \
                   {.status.conditions[?(@.type==\"Ready\")].message}";
    let began = Instant::now();
    let mut last = String::new();
    loop {
        let said = kubectl.run(&["get", "streamjob", job, "-o", columns])?;
        if said != last {
            tell(&format!("{:5.1} s  {job}: Ready={said}", began.elapsed().as_secs_f64()));
        }
        if said.starts_with("True") {
            break;
        }
        last = said;
        if began.elapsed() > READY {
            let state = kubectl.run(&["describe", "topics,streamjobs"])?;
            return Err(LabError::Wrong(format!("waited {READY:?} for {job} to be Ready, in vain:\n{state}")));
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    kubectl.run(&["wait", "--for=condition=Ready", "topics", "--all", "--timeout=60s"]).map(drop)
}

/// What to try next.
fn next(around: &Surroundings, kubectl: &Kubectl, job: &str) -> String {
    let folder = kubectl.program().parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    let config = around.kubeconfig.display();
    format!(
        "\nIt goes on running. To try next:\n\
         export KUBECONFIG={config} PATH={folder}:$PATH\n\
         kubectl get topics,streamjobs -o wide\n\
         kubectl describe streamjob {job}\n\
         kubectl scale streamjob/{job} --replicas=2\n\
         kubectl delete pod {job}-0\n\
         kubectl patch streamjob {job} --type=merge -p '{{\"spec\":{{\"state\":\"Suspended\"}}}}'\n\
         kubectl logs -f {job}-0"
    )
}

fn tell(line: &str) {
    println!("{line}");
    // Whoever watches through a pipe wants to see it now.
    std::io::stdout().flush().ok();
}
