//! Tells Prometheus which pods have metrics. Debian's Prometheus was built without the discovery of pods, and asks a
//! server over HTTP instead: this one, which asks the API server.

use std::net::SocketAddr;
use std::path::Path;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::LabError;

use super::super::client::client;

/// Where a pod that asks for it by annotations is scraped unless it says otherwise.
const PATH: &str = "/metrics";

/// Serves the targets on `listen` to whoever asks, with the rights of `kubeconfig`: the life of `freshet-lab pod-targets`.
///
/// # Errors
/// When it can't listen, or the kubeconfig can't be read.
pub fn serve(listen: SocketAddr, kubeconfig: &Path) -> Result<(), LabError> {
    let failed = || LabError::file("listening on", listen.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed())?;
    runtime.block_on(async {
        let app = axum::Router::new().fallback(answer).with_state(client(kubeconfig).await?);
        let listener = tokio::net::TcpListener::bind(listen).await.map_err(failed())?;
        axum::serve(listener, app).await.map_err(failed())
    })
}

async fn answer(State(client): State<kube::Client>) -> Response {
    match Api::<Pod>::all(client).list(&ListParams::default()).await {
        Ok(pods) => axum::Json(pods.items.iter().flat_map(targets).collect::<Vec<_>>()).into_response(),
        // Prometheus keeps what it knew.
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// What of a pod is scraped: the port that its annotations name when they ask for it, else its ports named `metrics`, and
/// the operator's `http`.
fn targets(pod: &Pod) -> Vec<Value> {
    let status = pod.status.as_ref();
    let ended =
        status.and_then(|status| status.phase.as_deref()).is_some_and(|it| ["Succeeded", "Failed"].contains(&it));
    let Some(address) = status.and_then(|status| status.pod_ip.as_deref()).filter(|_| !ended) else {
        return Vec::new();
    };
    let note = |name: &str| {
        let notes = pod.metadata.annotations.as_ref();
        notes.and_then(|notes| notes.get(&format!("prometheus.io/{name}"))).map(String::as_str)
    };
    let asked = note("scrape") == Some("true");
    let label = |name: &str| pod.metadata.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    let operator = label("app.kubernetes.io/name") == Some("freshet-operator");
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let declared = containers.flat_map(|container| container.ports.iter().flatten());
    let named = declared.filter(|port| match port.name.as_deref() {
        Some("metrics") => true,
        Some("http") => operator,
        _ => false,
    });
    let ports: Vec<String> = match note("port").filter(|_| asked) {
        Some(port) => vec![port.to_owned()],
        None => named.map(|port| port.container_port.to_string()).collect(),
    };
    let target = |port: String| {
        json!({
            "targets": [format!("{address}:{port}")],
            "labels": {
                "__metrics_path__": note("path").filter(|_| asked).unwrap_or(PATH),
                "namespace": pod.metadata.namespace,
                "pod": pod.metadata.name,
                "node": pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()),
            },
        })
    };
    ports.into_iter().map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(annotations: &Value, labels: &Value, ports: &Value, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "annotations": annotations, "labels": labels},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": ports}]},
            "status": {"podIP": "10.244.1.5", "phase": phase},
        }))
        .expect("a pod")
    }

    fn told(pod: &Pod) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        targets(pod).iter().map(|one| (text(&one["targets"][0]), text(&one["labels"]["__metrics_path__"]))).collect()
    }

    #[test]
    fn a_pod_is_scraped_where_it_says() {
        let none = json!({});
        let worker = json!([{"name": "metrics", "containerPort": 8080}, {"name": "control", "containerPort": 9090}]);
        let found = [("10.244.1.5:8080".to_owned(), "/metrics".to_owned())];
        assert_eq!(told(&pod(&none, &none, &worker, "Running")), found);
        assert_eq!(told(&pod(&none, &none, &worker, "Failed")), []);

        let asks = json!({"prometheus.io/scrape": "true", "prometheus.io/port": "81", "prometheus.io/path": "/x"});
        let found_there = [("10.244.1.5:81".to_owned(), "/x".to_owned())];
        assert_eq!(told(&pod(&asks, &none, &worker, "Running")), found_there);
        let asks_not = json!({"prometheus.io/scrape": "false", "prometheus.io/port": "81"});
        assert_eq!(told(&pod(&asks_not, &none, &worker, "Running")), found);

        let web = json!([{"name": "http", "containerPort": 8080}]);
        assert_eq!(told(&pod(&none, &none, &web, "Running")), []);
        let operator = json!({"app.kubernetes.io/name": "freshet-operator"});
        assert_eq!(told(&pod(&none, &operator, &web, "Running")), found);
    }
}
