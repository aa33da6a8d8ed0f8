//! What a failed test leaves: its resources as YAML, events, logs of its pods and of the cluster's parts, metrics.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, LogParams};

use super::kubernetes::Kubernetes;
use super::scene::Scene;
use crate::scenario::sibling_binary;

/// How much of a part's log is copied, bytes.
const LOG_BYTES: usize = 2 << 20;

/// Writes all of it; what can't be had is said in its place, and stops nothing.
pub(super) fn write(scene: &Scene) -> PathBuf {
    let name: String =
        scene.name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let folder = sibling_binary("failures").join(format!("{name}-{}", scene.namespace));
    put(&folder.join("about.txt"), &format!("test {}\nnamespace {}\n", scene.name, scene.namespace));
    resources(&scene.kubernetes, &scene.namespace, &folder.join("resources"));
    pods(&scene.kubernetes, &scene.namespace, &folder);
    if let Some(lab) = &scene.around.lab {
        let logs = lab.logs();
        parts(&logs, &logs, &folder.join("parts"));
    }
    folder
}

/// Every kind of resource of the namespace that can be listed, one file a kind; and the cluster's nodes.
fn resources(kubernetes: &Kubernetes, namespace: &str, folder: &Path) {
    let discovered = kubernetes.block_on(kube::Discovery::new(kubernetes.client()).run());
    let discovered = match discovered {
        Ok(discovered) => discovered,
        Err(error) => {
            return put(&folder.join("none.txt"), &format!("the API server does not say what it has: {error}"));
        }
    };
    for group in discovered.groups() {
        for (kind, capabilities) in group.recommended_resources() {
            let namespaced = matches!(capabilities.scope, kube::discovery::Scope::Namespaced);
            let listed = capabilities.supports_operation(kube::discovery::verbs::LIST);
            // What is secret stays so; of what belongs to the cluster, only its nodes can explain much.
            if !listed || kind.kind == "Secret" || (!namespaced && kind.kind != "Node") {
                continue;
            }
            let api: Api<DynamicObject> = if namespaced {
                Api::namespaced_with(kubernetes.client(), namespace, &kind)
            } else {
                Api::all_with(kubernetes.client(), &kind)
            };
            let text = match kubernetes.block_on(api.list(&ListParams::default())) {
                Ok(list) if list.items.is_empty() => continue,
                Ok(list) => yaml(list.items),
                Err(error) => format!("# {error}\n"),
            };
            put(
                &folder.join(format!(
                    "{}.{}.yaml",
                    kind.plural,
                    if kind.group.is_empty() { "core" } else { &kind.group }
                )),
                &text,
            );
        }
    }
}

fn yaml(mut items: Vec<DynamicObject>) -> String {
    for item in &mut items {
        // Who set which field explains nothing, and is most of the text.
        item.metadata.managed_fields = None;
    }
    let texts = items.iter().map(|item| serde_saphyr::to_string(item).unwrap_or_else(|error| format!("# {error}\n")));
    texts.collect::<Vec<_>>().join("---\n")
}

/// Logs of every container, of the one before it too, and its metrics.
fn pods(kubernetes: &Kubernetes, namespace: &str, folder: &Path) {
    let api: Api<Pod> = Api::namespaced(kubernetes.client(), namespace);
    let Ok(listed) = kubernetes.block_on(api.list(&ListParams::default())) else { return };
    for pod in listed {
        let name = pod.metadata.name.unwrap_or_default();
        let containers = pod.spec.map(|spec| spec.containers).unwrap_or_default();
        for container in containers {
            for (previous, suffix) in [(false, "log"), (true, "previous.log")] {
                let how = LogParams { container: Some(container.name.clone()), previous, ..LogParams::default() };
                if let Ok(text) = kubernetes.block_on(api.logs(&name, &how))
                    && !text.is_empty()
                {
                    put(&folder.join("pods").join(format!("{name}.{}.{suffix}", container.name)), &text);
                }
            }
            for port in
                container.ports.unwrap_or_default().iter().filter(|port| port.name.as_deref() == Some("metrics"))
            {
                let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{}/proxy/metrics", port.container_port);
                if let Ok(text) = kubernetes.get(&path) {
                    put(&folder.join("metrics").join(format!("{name}.{}.txt", container.name)), &text);
                }
            }
        }
    }
}

/// The ends of the logs of the cluster's parts.
fn parts(root: &Path, from: &Path, to: &Path) {
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
            parts(root, &path, to);
        } else if kind.is_ok_and(|kind| kind.is_file()) && path.extension().is_some_and(|extension| extension == "log")
        {
            let bytes = fs::read(&path).unwrap_or_default();
            let end = &bytes[bytes.len().saturating_sub(LOG_BYTES)..];
            put(&to.join(path.strip_prefix(root).unwrap_or(&path)), &String::from_utf8_lossy(end));
        }
    }
}

fn put(path: &Path, text: &str) {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    if let Err(error) = made {
        eprintln!("{} can't be written: {error}", path.display());
    }
}
