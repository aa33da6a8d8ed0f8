//! Level: a real API server, without nodes. What it makes of Freshet's definitions and of manifests, right and wrong.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

mod agreement;
mod examples;
mod rules;

use freshet_e2e::cluster::SharedApiServer;
use freshet_e2e::scenario::cluster::Kubernetes;

/// The shared API server, with Freshet's kinds.
fn api_server() -> Kubernetes {
    let kubernetes = Kubernetes::new(&SharedApiServer::get().kubeconfig()).unwrap();
    kubernetes.apply_definitions().unwrap();
    kubernetes
}

/// The cases of a file of tests: `=== title`, and a text.
fn cases(file: &str) -> Vec<(String, String)> {
    let cases = file.split("=== ").skip(1).map(|case| case.split_once('\n').expect("a title and a text"));
    cases.map(|(title, text)| (title.to_owned(), text.to_owned())).collect()
}
