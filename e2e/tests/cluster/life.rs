//! A cluster's life: up, killed half-way, up again, down; and nothing is left.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use freshet_e2e::cluster::{Cluster, Site};
use freshet_e2e::install::Cache;
use freshet_e2e::servers::Scratch;

use crate::kubectl::Kubectl;

/// The lab program, for the cluster in `folder`.
fn lab(folder: &Path, task: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshet-lab"));
    command.arg("cluster").args(task).env("FRESHET_CLUSTER", folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What it prints; it must succeed.
fn done(folder: &Path, task: &[&str]) -> String {
    let output = lab(folder, task).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{task:?}: {said}\n{wrong}");
    said.into_owned()
}

/// Ends the cluster of a test that failed; its folder is kept, with the logs.
struct EndsAtLast<'a>(&'a Path);

impl Drop for EndsAtLast<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lab(self.0, &["down"]).status().ok();
        }
    }
}

/// What is of this machine and not of any process: whoever has the same before and after left nothing. Small disks
/// are other tests', which run side by side with this one.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    mounts: Vec<String>,
    interfaces: Vec<String>,
    control_groups: Vec<PathBuf>,
    packet_filter: Vec<String>,
}

impl Machine {
    fn now(id: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let ours = mounts.lines().filter(|mount| !mount.starts_with("freshet-small-disk "));
        let mut mounts: Vec<String> = ours.map(str::to_owned).collect();
        mounts.sort();
        let interfaces = fs::read_dir("/sys/class/net").unwrap().flatten();
        let mut interfaces: Vec<String> =
            interfaces.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        interfaces.sort();
        let groups = Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("{id}*")]).output();
        let groups = String::from_utf8(groups.unwrap().stdout).unwrap().lines().map(PathBuf::from).collect();
        let rules = Command::new("iptables-save").output().unwrap();
        let rules = String::from_utf8(rules.stdout).unwrap();
        let packet_filter = rules.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect();
        Self { mounts, interfaces, control_groups: groups, packet_filter }
    }
}

/// Processes of the cluster in `folder`. (Those in its pods carry no mark; they are in its control groups, which could
/// not be removed while one of them lived.)
fn processes_of(folder: &Path) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let named = all.filter(|entry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let mark = format!("FRESHET_CLUSTER_MARK={}", folder.display());
        environment.windows(mark.len()).any(|window| window == mark.as_bytes())
    });
    named.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A cluster with all that it may have besides nodes and brokers.
const WHOLE: [&str; 5] = ["up", "--sasl", "--registry", "--postgres", "--prometheus"];

/// Brings a cluster up until it begins to start a part that is not in `killed`, and kills the program a little later.
/// Gives the part's name, or nothing when the cluster came up before.
fn killed_in_another_step(folder: &Path, killed: &BTreeSet<String>) -> Option<String> {
    let mut starting = lab(folder, &WHOLE).spawn().unwrap();
    let mut lines = BufReader::new(starting.stdout.take().unwrap()).lines().map(Result::unwrap);
    let part = lines.find_map(|line| {
        let part = line.strip_suffix(": starting …")?;
        (!killed.contains(part)).then(|| part.to_owned())
    });
    if part.is_some() {
        // From the first moment of a step to somewhere within it.
        std::thread::sleep(Duration::from_millis(killed.len() as u64 % 5 * 100));
        starting.kill().unwrap();
    }
    let ended = starting.wait_with_output().unwrap();
    assert!(part.is_some() || ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    part
}

/// A pod of the second node that asks for a name.
const ASKS: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asks"}, "spec": {
    "nodeName": "n2", "restartPolicy": "Never", "containers": [{"name": "main", "image": "localhost/busybox:dev",
    "imagePullPolicy": "Never", "command": ["nslookup", "kubernetes.default.svc.cluster.local"]}]}}"#;

#[test]
fn a_cluster_comes_up_from_wherever_it_was_killed_and_leaves_nothing() {
    let scratch = Scratch::new("cluster-life").unwrap();
    let folder = scratch.path().canonicalize().unwrap();
    let site = Site::new(&folder, Cache::from_environment()).unwrap();
    let before = Machine::now(&site.id());
    let _ends = EndsAtLast(&folder);

    // Killed before the first step, and a little after the beginning of each. What was begun goes on, or is begun again.
    let mut starting = lab(&folder, &WHOLE).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    starting.kill().unwrap();
    starting.wait().unwrap();
    let mut killed = BTreeSet::new();
    while let Some(part) = killed_in_another_step(&folder, &killed) {
        killed.insert(part);
    }
    for part in ["network", "Kafka", "Kafka with TLS and SCRAM", "schema registry", "Postgres", "Prometheus", "node n1"]
    {
        assert!(killed.contains(part), "it was not killed while it started {part}: {killed:?}");
    }
    let said = done(&folder, &["up"]);
    let kubeconfig = folder.join("kubeconfig");
    assert!(said.ends_with(&format!("export KUBECONFIG={}\n", kubeconfig.display())), "{said}");
    let kubectl = Kubectl::new(&kubeconfig, "default");
    assert!(kubectl.ok(&["get", "nodes"]).contains(" Ready "));

    // What is up is only looked at.
    let began = Instant::now();
    let said = done(&folder, &WHOLE);
    let took = began.elapsed();
    assert!(!said.contains("starting"), "{said}");
    assert!(took < Duration::from_secs(15), "a repeated start took {took:?}");
    assert!(done(&folder, &["status"]).contains("export KUBECONFIG="));

    // It grows; a pod of the second node reaches the name server on the first one.
    done(&folder, &["up", "--nodes", "2"]);
    kubectl.apply(ASKS);
    kubectl.ok(&["wait", "pod/asks", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"]);
    assert!(kubectl.ok(&["logs", "asks"]).contains("10.96.0.1"), "the API server's address");

    // A server that died is named, and comes back.
    let cluster = Cluster::at(site.clone()).unwrap();
    cluster.kill9("kafka-1/kafka").unwrap();
    let output = lab(&folder, &["status"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("Kafka: NOT READY: kafka-1/kafka does not run"), "{said}");
    cluster.mend().unwrap();
    // So does a whole node, with its pods.
    cluster.kill9("n1/host").unwrap();
    cluster.mend().unwrap();
    done(&folder, &["status"]);

    // Ended half-way, and ended again.
    let mut ending = lab(&folder, &["down"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    ending.kill().unwrap();
    ending.wait().unwrap();
    done(&folder, &["down"]);
    assert_eq!(processes_of(&folder), Vec::<String>::new());
    assert_eq!(Machine::now(&site.id()), before);
    assert!(!kubeconfig.exists() && !folder.join("disks").exists());
    assert!(folder.join("logs/cp/kube-apiserver.log").exists(), "the logs stay");
    done(&folder, &["down"]);
}
