//! Level: Helm and a real API server. The chart renders, is refused with bad values, grants what the operator needs and
//! no more, and is installed, upgraded and uninstalled without losing a definition or its key.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use freshet_e2e::cluster::{ApiServer, ApiServerOptions};
use freshet_e2e::install::{Cache, KubernetesProgram, PrometheusProgram, installed_kubernetes, installed_prometheus};
use freshet_e2e::servers::Scratch;
use serde_json::Value;

const NAMESPACE: &str = "freshet-system";

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/freshet")
}

fn program(program: KubernetesProgram) -> Command {
    Command::new(installed_kubernetes(&Cache::from_environment(), program).unwrap())
}

fn helm(arguments: &[&str]) -> Command {
    let mut command = program(KubernetesProgram::Helm);
    command.args(arguments).arg("freshet").arg(chart()).args(["--namespace", NAMESPACE]);
    command
}

fn ran(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What a command prints that must succeed.
fn said(command: &mut Command) -> String {
    let output = ran(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed:\n{out}{err}");
    out.into_owned()
}

/// The objects that the chart renders to.
fn rendered(values: &[&str]) -> Vec<Value> {
    let mut command = helm(&["template"]);
    command.args(values.iter().flat_map(|value| ["--set", value]));
    serde_saphyr::from_multiple::<Value>(&said(&mut command)).unwrap().into_iter().filter(|it| !it.is_null()).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

const ALL_OPTIONS: &[&str] = &[
    "watchNamespace=apps",
    "clusterId=prod",
    "networkPolicy.enabled=true",
    "serviceMonitor.enabled=true",
    "podMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "kafka.bootstrapServers=kafka:9092",
    "kafka.tls.enabled=true",
    "kafka.tls.caSecretName=kafka-ca",
    "kafka.sasl.mechanism=SCRAM-SHA-512",
    "kafka.sasl.secretName=kafka-user",
    "checkpoint.url=s3://pipelines/state",
    "checkpoint.s3.endpoint=http://s3:7070",
    "checkpoint.s3.secretName=s3-credentials",
    "image.pullSecrets[0].name=registry",
];

#[test]
fn it_passes_the_linter() {
    said(program(KubernetesProgram::Helm).args(["lint", "--strict"]).arg(chart()));
}

#[test]
fn options_bring_what_they_say() {
    let kinds = |objects: &[Value]| -> BTreeSet<String> {
        objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect()
    };
    let plain = kinds(&rendered(&[]));
    let all = kinds(&rendered(ALL_OPTIONS));
    let wanted = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(&all - &plain, wanted(&["NetworkPolicy", "PodMonitor", "PrometheusRule", "ServiceMonitor"]));
    assert_eq!(
        &plain - &all,
        wanted(&["ClusterRole", "ClusterRoleBinding"]),
        "one namespace needs no cluster-wide role"
    );
    let none =
        kinds(&rendered(&["crds.install=false", "rbac.create=false", "serviceAccount.create=false", "replicas=1"]));
    assert_eq!(none, wanted(&["Deployment", "Secret", "Service"]));
}

/// The alerts, as Prometheus itself evaluates them over series of a job with two workers.
#[test]
fn a_worker_that_commits_nothing_is_not_hidden_by_one_that_does() {
    let alerts = chart().join("files/alerts.yaml");
    let series = |name: &str, slot: u32, values: &str| {
        format!(
            "      - series: '{name}{{namespace=\"a\", streamjob=\"b\", slot=\"{slot}\", stage=\"0\", partition=\"{slot}\"}}'\n        values: '{values}'\n"
        )
    };
    let commits = |slot: u32, values: &str| series("freshet_last_commit_timestamp_seconds", slot, values);
    // Both have records waiting; the first commits each minute, the second has not since the beginning.
    let input: String = [
        series("freshet_lag_records", 0, "5x10"),
        series("freshet_lag_records", 1, "7x10"),
        commits(0, "0+60x10"),
        commits(1, "0x10"),
    ]
    .concat();
    let summary = "StreamJob a/b has records waiting, and its worker 1 commits nothing";
    let description =
        "No epoch has committed for more than a minute. Look at the job's conditions: kubectl describe streamjob b";
    let text = format!(
        "rule_files: ['{}']\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n{input}    alert_rule_test:\n      - eval_time: 1m\n        alertname: FreshetEpochsNotCommitting\n        exp_alerts: []\n      - eval_time: 8m\n        alertname: FreshetEpochsNotCommitting\n        exp_alerts:\n          - exp_labels: {{severity: critical, namespace: a, streamjob: b, slot: '1'}}\n            exp_annotations:\n              summary: \"{summary}\"\n              description: \"{description}\"\n",
        alerts.display()
    );
    let scratch = Scratch::new("alerts").unwrap();
    let test = scratch.path().join("test.yaml");
    std::fs::write(&test, text).unwrap();
    let promtool = installed_prometheus(&Cache::from_environment(), PrometheusProgram::Promtool).unwrap();
    said(Command::new(&promtool).args(["check", "rules"]).arg(&alerts));
    said(Command::new(&promtool).args(["test", "rules"]).arg(&test));
}

#[test]
fn values_that_can_not_work_are_refused_by_name() {
    for (value, named) in [
        ("kafka.bootstrapServers=kafka", "/kafka/bootstrapServers"),
        ("kafka.sasl.mechanism=SCRAM", "/kafka/sasl/mechanism"),
        ("kafka.sasl.mechanism=PLAIN", "/kafka/sasl/secretName"),
        ("checkpoint.url=pipelines", "/checkpoint/url"),
        ("deletionDeadline=soon", "/deletionDeadline"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("kafka.bootstrap=kafka:9092", "bootstrap"),
    ] {
        let output = ran(helm(&["template"]).args(["--set", value]));
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{value} is taken");
        assert!(err.contains(named), "{value}: {err}");
    }
}

#[test]
fn the_operator_may_do_what_it_needs_and_no_more() {
    for values in [&[] as &[&str], ALL_OPTIONS] {
        let objects = rendered(values);
        let roles: Vec<&Value> = of_kind(&objects, "Role").chain(of_kind(&objects, "ClusterRole")).collect();
        assert!(!roles.is_empty());
        for rule in roles.iter().flat_map(|role| role["rules"].as_array().unwrap()) {
            let (groups, resources, verbs) =
                (texts(&rule["apiGroups"]), texts(&rule["resources"]), texts(&rule["verbs"]));
            assert!(![&groups, &resources, &verbs].iter().any(|list| list.contains(&"*")), "a wildcard: {rule}");
            if resources.contains(&"secrets") {
                assert_eq!(
                    (&resources[..], &verbs[..]),
                    (&["secrets"][..], &["create"][..]),
                    "Secrets are read: {rule}"
                );
            }
            if resources.contains(&"namespaces") {
                assert_eq!((&verbs[..], texts(&rule["resourceNames"])), (&["get"][..], vec!["kube-system"]), "{rule}");
            }
            for forbidden in ["nodes", "persistentvolumes", "roles", "clusterroles", "customresourcedefinitions"] {
                assert!(!resources.contains(&forbidden), "something cluster-wide: {rule}");
            }
        }
    }
}

/// `operator/src/rbac.md` says which step uses what; the chart grants exactly that.
#[test]
fn roles_are_what_the_operator_documents() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/src/rbac.md")).unwrap();
    let mut documented = BTreeSet::new();
    for line in
        text.lines().filter(|line| line.starts_with('|') && !line.contains("---") && !line.contains("API group"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [group, resources, verbs, ..] = cells[..] else { panic!("{line}") };
        // What follows in backquotes is the one object that it is about.
        for resource in resources.split(", ").filter(|resource| !resource.starts_with('`')) {
            documented.extend(verbs.split(", ").map(|verb| format!("{group}/{resource}: {verb}")));
        }
    }
    let objects = rendered(&[]);
    let mut granted = BTreeSet::new();
    for role in of_kind(&objects, "Role").chain(of_kind(&objects, "ClusterRole")) {
        for rule in role["rules"].as_array().unwrap() {
            for (group, resource) in texts(&rule["apiGroups"])
                .iter()
                .flat_map(|group| texts(&rule["resources"]).into_iter().map(move |it| (group, it)))
            {
                granted.extend(texts(&rule["verbs"]).iter().map(|verb| format!("{group}/{resource}: {verb}")));
            }
        }
    }
    assert_eq!(granted, documented, "left: what the chart grants; right: what rbac.md says");
}

#[test]
fn the_readme_lists_every_value() {
    let values: Value = serde_saphyr::from_str(&std::fs::read_to_string(chart().join("values.yaml")).unwrap()).unwrap();
    let readme = std::fs::read_to_string(chart().join("README.md")).unwrap();
    let listed: BTreeSet<&str> =
        readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name)).collect();
    let mut wanted = BTreeSet::new();
    leaves("", &values, &mut wanted);
    assert_eq!(listed.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), wanted);
}

/// Paths of values; resources are a value as a whole.
fn leaves(path: &str, value: &Value, into: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(fields) if !fields.is_empty() && path != "resources" => {
            for (name, field) in fields {
                leaves(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, field, into);
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

#[test]
fn installed_upgraded_and_uninstalled_it_keeps_definitions_and_key() {
    let server = ApiServer::start_temporary(&ApiServerOptions::default()).unwrap();
    let at = |mut command: Command| -> Command {
        command.env("KUBECONFIG", server.kubeconfig());
        command
    };
    let kubectl = |arguments: &[&str]| -> Command {
        let mut command = at(program(KubernetesProgram::Kubectl));
        command.args(arguments);
        command
    };
    said(at(helm(&["install", "--create-namespace"])).args(["--set", "kafka.bootstrapServers=kafka:9092"]));
    let key =
        || said(&mut kubectl(&["-n", NAMESPACE, "get", "secret", "freshet-control-key", "-o", "jsonpath={.data.key}"]));
    let first = key();
    assert_eq!(first.len(), 44, "32 bytes in base64");

    let may = |verb: &str, what: &str| -> bool {
        let account = format!("--as=system:serviceaccount:{NAMESPACE}:freshet-operator");
        // `can-i` says no by its exit code, too.
        let output = ran(&mut kubectl(&["auth", "can-i", verb, what, "-n", "apps", &account]));
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    };
    for (verb, what) in [("list", "streamjobs.freshet.dev"), ("create", "statefulsets.apps"), ("create", "secrets")] {
        assert!(may(verb, what), "it may not {verb} {what}");
    }
    for (verb, what) in [
        ("get", "secrets"),
        ("list", "secrets"),
        ("patch", "secrets"),
        ("create", "streamjobs.freshet.dev"),
        ("delete", "topics.freshet.dev"),
        ("create", "clusterroles.rbac.authorization.k8s.io"),
        ("create", "pods/exec"),
        ("delete", "namespaces"),
    ] {
        assert!(!may(verb, what), "it may {verb} {what}");
    }

    said(at(helm(&["upgrade"])).args(["--set", "replicas=1"]));
    assert_eq!(key(), first, "an upgrade made another key: the operator would be locked out of its workers");
    let definitions = ["topics.freshet.dev", "streamjobs.freshet.dev"];
    said(at(program(KubernetesProgram::Helm)).args(["uninstall", "freshet", "--namespace", NAMESPACE]));
    for definition in definitions {
        said(&mut kubectl(&["get", "crd", definition]));
    }
    assert_eq!(key(), first);
    let gone = ran(&mut kubectl(&["-n", NAMESPACE, "get", "deployment", "freshet-operator"]));
    assert!(!gone.status.success(), "the operator is left");
    // And again, beside what was kept.
    said(&mut at(helm(&["install"])));
    assert_eq!(key(), first);
}
