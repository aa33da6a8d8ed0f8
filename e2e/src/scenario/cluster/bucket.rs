//! The objects of one scene in the bucket that all share.

use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use super::{Scene, Surroundings};
use crate::LabError;

/// How long the pods of a scene may take to end: a worker's grace period, and what a busy node takes besides.
const DEADLINE: Duration = Duration::from_secs(60);

/// The keys of all objects below `prefix`, for instance of a scene's namespace.
///
/// # Errors
/// When the store refuses.
pub fn objects(around: &Surroundings, prefix: &str) -> Result<Vec<String>, LabError> {
    let listed = with_store(around, async |store| {
        store.list(Some(&Path::from(prefix))).map_ok(|object| object.location).try_collect::<Vec<_>>().await
    })?;
    Ok(listed.into_iter().map(String::from).collect())
}

/// Deletes all objects of `scene`, once the pods that could write more are gone, and gives their number.
///
/// # Errors
/// When the pods stay, or the store refuses.
pub(super) fn clear(scene: &Scene) -> Result<usize, LabError> {
    if objects(&scene.around, &scene.namespace)?.is_empty() {
        return Ok(0);
    }
    let pods: Api<Pod> = scene.kubernetes.api(&scene.namespace);
    let there = || scene.kubernetes.ask("listing pods", pods.list(&ListParams::default())).map(|list| list.items.len());
    scene.kubernetes.wait_for(
        &format!("the pods of {} to end", scene.namespace),
        DEADLINE,
        || Ok((there()? == 0).then_some(())),
        || format!("there are {:?}", there()),
    )?;
    let doomed = objects(&scene.around, &scene.namespace)?;
    with_store(&scene.around, async |store| {
        for object in &doomed {
            store.delete(&Path::from(object.as_str())).await?;
        }
        Ok(())
    })?;
    Ok(doomed.len())
}

fn with_store<T>(
    around: &Surroundings,
    work: impl AsyncFnOnce(&AmazonS3) -> object_store::Result<T>,
) -> Result<T, LabError> {
    let wrong = |error: object_store::Error| LabError::Wrong(format!("the bucket {}: {error}", around.bucket));
    let store = AmazonS3Builder::new()
        .with_endpoint(&around.store_from_here)
        .with_allow_http(true)
        .with_bucket_name(&around.bucket)
        .with_region(&around.region)
        .with_access_key_id(&around.access_key)
        .with_secret_access_key(&around.secret_key)
        .build()
        .map_err(wrong)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(LabError::file("starting a runtime in", "."))?.block_on(work(&store)).map_err(wrong)
}
