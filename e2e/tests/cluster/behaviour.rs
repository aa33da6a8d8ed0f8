//! Other people's workloads behave as on any cluster.

use freshet_e2e::cluster::SharedCluster;

use crate::kubectl::Kubectl;

const WEB: &str = include_str!("web.yaml");

/// A namespace of this test's own, of the restricted level, and kubectl in it; gone at the end.
struct Namespace {
    kubectl: Kubectl,
    name: String,
}

impl Namespace {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let kubectl = Kubectl::new(&SharedCluster::get().kubeconfig(), &name);
        kubectl.ok(&["create", "namespace", &name]);
        kubectl.ok(&["label", "namespace", &name, "pod-security.kubernetes.io/enforce=restricted"]);
        Self { kubectl, name }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.kubectl.ok(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

/// A pod that runs `command` under the restricted level.
fn pod(name: &str, command: &str, more: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}"}}, "spec": {{
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "securityContext": {{"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {{"type": "RuntimeDefault"}}}},
            "containers": [{{"name": "main", "image": "localhost/busybox:dev", "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", "{command}"],
                "securityContext": {{"allowPrivilegeEscalation": false, "capabilities": {{"drop": ["ALL"]}}}}{more}}}]}}}}"#
    )
}

#[test]
fn a_stateful_set_is_served_by_name_and_address_and_guarded_by_its_budget() {
    let namespace = Namespace::new("web");
    let kubectl = &namespace.kubectl;
    kubectl.apply(WEB);
    kubectl.ok(&["rollout", "status", "statefulset/web", "--timeout=120s"]);

    // Files, and who may write where.
    assert_eq!(kubectl.exec("web-0", &["cat", "/config/greeting"]), "from a config map");
    assert_eq!(kubectl.exec("web-0", &["cat", "/secret/greeting"]), "from a secret");
    kubectl.exec("web-0", &["sh", "-c", "echo kept > /scratch/file"]);
    let refusal = kubectl.refused(&["exec", "web-0", "--", "sh", "-c", "echo x > /etc/file"], "");
    assert!(refusal.contains("Read-only file system"), "{refusal}");

    // Names: of the Service, of a pod by its set, and of servers outside of the cluster.
    for host in ["web", &format!("web.{}.svc.cluster.local", namespace.name), "web-1.web-pods:8080"] {
        let url = format!("http://{host}/index.html");
        let page = kubectl.exec_once(&format!("{host} to be served"), "web-0", &["wget", "-q", "-O", "-", &url]);
        assert_eq!(page, "ok\n", "{host}");
    }
    let health = kubectl.exec("web-0", &["wget", "-q", "-S", "-O", "-", "http://s3.freshet-servers.svc:7070/health"]);
    assert_eq!(health.trim(), "OK");
    kubectl.exec("web-0", &["nc", "-w", "5", "kafka.freshet-servers.svc", "9092", "-e", "/bin/true"]);
    let missing = kubectl.refused(&["exec", "web-0", "--", "nslookup", "nobody.default.svc.cluster.local"], "");
    assert!(missing.contains("NXDOMAIN"), "{missing}");

    // The budget: no pod may be evicted while both are needed.
    let eviction = format!(
        r#"{{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {{"name": "web-0", "namespace": "{}"}}}}"#,
        namespace.name
    );
    let path = format!("/api/v1/namespaces/{}/pods/web-0/eviction", namespace.name);
    let refusal = kubectl.refused(&["create", "--raw", &path, "-f", "-"], &eviction);
    assert!(refusal.contains("disruption budget"), "{refusal}");
    kubectl.ok(&["scale", "statefulset/web", "--replicas=3"]);
    kubectl.ok(&["rollout", "status", "statefulset/web", "--timeout=120s"]);
    let first = kubectl.ok(&["get", "pod", "web-0", "-o", "jsonpath={.metadata.uid}"]);
    kubectl.ok(&["wait", "pdb/web", "--for=jsonpath={.status.disruptionsAllowed}=1", "--timeout=60s"]);
    kubectl.ok_with(&["create", "--raw", &path, "-f", "-"], &eviction);
    kubectl.ok(&["wait", "pod/web-0", &format!("--for=jsonpath={{.metadata.uid}}={first}"), "--timeout=1s"]);
    kubectl.ok(&["rollout", "status", "statefulset/web", "--timeout=120s"]);

    // A deleted pod comes back under its name, as another one.
    kubectl.ok(&["delete", "pod", "web-1", "--timeout=60s"]);
    kubectl.ok(&["rollout", "status", "statefulset/web", "--timeout=120s"]);
    kubectl.ok(&["wait", "pod/web-1", "--for=condition=Ready", "--timeout=60s"]);
}

#[test]
fn jobs_end_and_say_what_they_said() {
    let namespace = Namespace::new("job");
    let kubectl = &namespace.kubectl;
    kubectl.apply(&pod("done", "echo out; echo the end > /dev/termination-log", ""));
    kubectl.ok(&["wait", "pod/done", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"]);
    assert_eq!(kubectl.ok(&["logs", "done"]), "out\n");
    let said = "jsonpath={.status.containerStatuses[0].state.terminated.message}";
    assert_eq!(kubectl.ok(&["get", "pod", "done", "-o", said]), "the end\n");

    // More memory than it may have.
    let greedy = pod("greedy", "tail /dev/zero", r#", "resources": {"limits": {"memory": "32Mi"}}"#);
    kubectl.apply(&greedy);
    kubectl.ok(&["wait", "pod/greedy", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s"]);
    let reason = "jsonpath={.status.containerStatuses[0].state.terminated.reason}";
    assert_eq!(kubectl.ok(&["get", "pod", "greedy", "-o", reason]), "OOMKilled");
}

#[test]
fn what_is_not_allowed_is_refused() {
    let namespace = Namespace::new("refused");
    let kubectl = &namespace.kubectl;

    // The restricted level.
    let root = pod("root", "true", "").replace("\"runAsNonRoot\": true, \"runAsUser\": 65532, ", "");
    let refusal = kubectl.refused(&["apply", "-f", "-"], &root);
    assert!(refusal.contains("violates PodSecurity"), "{refusal}");

    // Rights: a service account may nothing until it is given something.
    kubectl.ok(&["create", "serviceaccount", "reader"]);
    let user = format!("system:serviceaccount:{}:reader", namespace.name);
    let refusal = kubectl.refused(&["get", "pods", "--as", &user], "");
    assert!(refusal.contains("Forbidden"), "{refusal}");
    kubectl.ok(&["create", "role", "reader", "--verb=list", "--resource=pods"]);
    kubectl.ok(&[
        "create",
        "rolebinding",
        "reader",
        "--role=reader",
        &format!("--serviceaccount={}:reader", namespace.name),
    ]);
    kubectl.ok(&["get", "pods", "--as", &user]);
    let refusal = kubectl.refused(&["delete", "pod", "x", "--as", &user], "");
    assert!(refusal.contains("Forbidden"), "{refusal}");

    // Quota.
    kubectl.ok(&["create", "quota", "small", "--hard=pods=1"]);
    kubectl.ok(&["wait", "quota/small", "--for=jsonpath={.status.hard.pods}=1", "--timeout=60s"]);
    kubectl.apply(&pod("one", "sleep 60", ""));
    let refusal = kubectl.refused(&["apply", "-f", "-"], &pod("two", "sleep 60", ""));
    assert!(refusal.contains("exceeded quota: small"), "{refusal}");
}
