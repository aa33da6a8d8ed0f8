//! A client of a cluster's API server.

use std::future::Future;
use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::LabError;

/// A client with the rights of whoever the kubeconfig names.
///
/// # Errors
/// When the kubeconfig can't be read, or names no server.
pub async fn client(kubeconfig: &Path) -> Result<Client, LabError> {
    let wrong = |why: String| LabError::Wrong(format!("the kubeconfig {}: {why}", kubeconfig.display()));
    let read = Kubeconfig::read_from(kubeconfig).map_err(|error| wrong(error.to_string()))?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .map_err(|error| wrong(error.to_string()))?;
    Client::try_from(config).map_err(|error| wrong(error.to_string()))
}

/// Why the API server is not ready: what it answered, or why it did not.
///
/// # Errors
/// The reason, as text.
pub async fn readiness(client: &Client) -> Result<(), String> {
    let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
    match client.request_text(request).await {
        Ok(answer) if answer == "ok" => Ok(()),
        Ok(answer) => Err(answer),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs `future` to its end on a thread of its own, whether or not the caller is within a runtime.
///
/// # Panics
/// When `future` does, or the machine has no thread to spare.
pub fn wait_for<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(future)
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
