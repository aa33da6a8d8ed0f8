//! Nothing secret is shown: not in a status, an event, a log or a metric, of jobs and of the operator, whatever went wrong.

use base64::Engine as _;
use freshet_e2e::scenario::cluster::NAMESPACE;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;

use super::*;

/// A store's key that is wrong, as a job has it.
pub const WRONG_KEY: &str = "canary-wrong-key-6f1c2e9a";

/// What can be read of a job, the operator or a namespace: where it stands, and the text.
pub type Texts = Vec<(String, String)>;

/// All that a job shows that is about to go, and the secrets that go with it.
#[derive(Default)]
pub struct Remains {
    /// What it shows.
    pub texts: Texts,
    /// What it must not show.
    pub secrets: Vec<String>,
}

/// What the job of a fault shows now.
pub fn remains(scene: &Scene, job: &str) -> Remains {
    let kubectl = scene.kubectl().unwrap();
    let of_job = format!("app.kubernetes.io/instance={job}");
    let look =
        |arguments: &[&str]| (format!("{job}: {}", arguments.join(" ")), kubectl.run(arguments).unwrap_or_default());
    let mut texts = vec![
        look(&["get", "streamjob", job, "-o", "yaml", "--ignore-not-found"]),
        look(&["get", "pods,jobs,statefulsets,services,configmaps", "-l", &of_job, "-o", "yaml"]),
    ];
    texts.extend(logs_and_metrics(scene, &kubectl, &scene.namespace, &of_job));
    let token =
        look(&["get", "secret", &format!("{job}-control"), "--ignore-not-found", "-o", "jsonpath={.data.token}"]).1;
    Remains { texts, secrets: if token.is_empty() { Vec::new() } else { with_plain(&token) } }
}

/// Logs of pods with a label, of the containers before them too, and their metrics.
fn logs_and_metrics(scene: &Scene, kubectl: &Kubectl, namespace: &str, label: &str) -> Texts {
    let pods = scene.kubernetes.api::<Pod>(namespace);
    let some = ListParams::default().labels(label);
    let mut texts = Texts::new();
    for pod in scene.kubernetes.ask("listing pods", pods.list(&some)).unwrap() {
        let name = pod.metadata.name.unwrap_or_default();
        for previous in ["--previous=false", "--previous=true"] {
            texts.push((
                format!("{name}: logs {previous}"),
                kubectl.run(&["logs", &name, previous]).unwrap_or_default(),
            ));
        }
        let ports = pod.spec.into_iter().flat_map(|spec| spec.containers).flat_map(|it| it.ports.unwrap_or_default());
        for port in ports.filter(|port| matches!(port.name.as_deref(), Some("http" | "metrics"))) {
            for page in ["metrics", "status"] {
                let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{}/proxy/{page}", port.container_port);
                texts.push((format!("{name}: {page}"), scene.kubernetes.get(&path).unwrap_or_default()));
            }
        }
    }
    texts
}

/// A value of a Secret as it stands there, and as it is meant.
fn with_plain(encoded: &str) -> Vec<String> {
    let plain = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
    // The operator's key is bytes, which no text shows.
    std::iter::once(encoded.to_owned()).chain(String::from_utf8(plain)).collect()
}

/// Looks for every secret in everything that can be read. After the `whole` table that is something of each kind; a few
/// faults may leave nothing of some.
pub fn nothing_secret_is_shown(scene: &Scene, left: Vec<Remains>, whole: bool) {
    let mut secrets: Vec<String> = with_plain(&base64::engine::general_purpose::STANDARD.encode(WRONG_KEY));
    secrets.push(scene.around.secret_key.clone());
    let system = Kubectl::new(scene.kubernetes.kubeconfig(), NAMESPACE).unwrap();
    let key = system.run(&["get", "secret", "freshet-control-key", "-o", "jsonpath={.data.key}"]).unwrap();
    assert!(!key.is_empty(), "the operator has no key");
    secrets.extend(with_plain(&key));
    let mut texts = Texts::new();
    let tokens: usize = left.iter().map(|remains| remains.secrets.len()).sum();
    for remains in left {
        texts.extend(remains.texts);
        secrets.extend(remains.secrets);
    }
    let kubectl = scene.kubectl().unwrap();
    let of_operator = "app.kubernetes.io/name=freshet-operator";
    texts.extend(logs_and_metrics(scene, &system, NAMESPACE, of_operator));
    for (kubectl, what) in [(&kubectl, "events,topics,streamjobs"), (&system, "events,deployments,leases,pods")] {
        texts.push((what.to_owned(), kubectl.run(&["get", what, "-o", "yaml"]).unwrap()));
    }
    let read = |part: &str| texts.iter().filter(|(place, text)| place.contains(part) && text.len() > 100).count();
    let always = ["freshet-operator", "events"];
    let of_jobs = ["streamjob", "logs --previous=false", "logs --previous=true", "metrics", "status"];
    for part in always.into_iter().chain(of_jobs.into_iter().filter(|_| whole)) {
        assert!(
            read(part) > 0,
            "nothing of `{part}` was read: {:?}",
            texts.iter().map(|(place, _)| place).collect::<Vec<_>>()
        );
    }
    assert!(tokens > 0 || !whole, "no job had a control token");
    for (place, text) in &texts {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "a secret that begins with `{}` stands in {place}", &secret[..4]);
        }
    }
    println!("{} secrets, none of them in {} texts", secrets.len(), texts.len());
}
