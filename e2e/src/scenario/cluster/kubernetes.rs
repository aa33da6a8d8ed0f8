//! A client of an API server for tests, which are plain functions: it brings its own runtime, and every wait has a
//! deadline and says what it waited for.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config, Resource};
use serde::Serialize;

use crate::LabError;

/// Who the scenarios are, for the API server's record of who set which field.
pub const MANAGER: &str = "freshet-e2e";
/// How often something is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A client of one API server.
pub struct Kubernetes {
    runtime: tokio::runtime::Runtime,
    client: Client,
    kubeconfig: PathBuf,
}

impl Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes").field("kubeconfig", &self.kubeconfig).finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// A client of the cluster that the current context of `kubeconfig` names.
    ///
    /// # Errors
    /// When the file can't be read, or names no cluster.
    pub fn new(kubeconfig: &Path) -> Result<Self, LabError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(LabError::file("starting a runtime in", "."))?;
        let wrong = |error: &dyn std::fmt::Display| LabError::Wrong(format!("{}: {error}", kubeconfig.display()));
        let read = Kubeconfig::read_from(kubeconfig).map_err(|error| wrong(&error))?;
        let config = runtime.block_on(Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()));
        let mut config = config.map_err(|error| wrong(&error))?;
        // A server that is stopped in its tracks must not hold a test for ever.
        config.read_timeout = Some(Duration::from_secs(30));
        let client = {
            let _inside = runtime.enter();
            Client::try_from(config).map_err(|error| wrong(&error))?
        };
        Ok(Self { runtime, client, kubeconfig: kubeconfig.to_owned() })
    }

    /// kube's own client, for what is not here.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The file that it was made from.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs `work` to its end.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Asks the API server; `doing` says what for.
    ///
    /// # Errors
    /// What it answered.
    pub fn ask<T>(&self, doing: &str, work: impl Future<Output = kube::Result<T>>) -> Result<T, LabError> {
        self.block_on(work).map_err(|source| LabError::Kubernetes { doing: doing.to_owned(), source: Box::new(source) })
    }

    /// The resources of a type in a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client(), namespace)
    }

    /// Creates a resource in a namespace.
    ///
    /// # Errors
    /// What the API server answered.
    pub fn create<K>(&self, namespace: &str, resource: &K) -> Result<K, LabError>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let doing = format!("creating {}/{namespace}/{}", K::kind(&()), resource.meta().name.as_deref().unwrap_or("?"));
        self.ask(&doing, self.api::<K>(namespace).create(&PostParams::default(), resource))
    }

    /// Applies the resources of a YAML text, each in the namespace that it names, else in `namespace`.
    ///
    /// # Errors
    /// When the text is no YAML, names a kind that the server does not have, or is refused.
    pub fn apply(&self, namespace: &str, yaml: &str) -> Result<(), LabError> {
        let wrong = |error: serde_saphyr::Error| LabError::Wrong(format!("resources to apply are no YAML: {error}"));
        let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(yaml).map_err(wrong)?;
        objects.iter().try_for_each(|object| self.apply_one(namespace, object))
    }

    fn apply_one(&self, namespace: &str, object: &DynamicObject) -> Result<(), LabError> {
        let types = object.types.clone().unwrap_or_default();
        let name = object.metadata.name.clone().unwrap_or_default();
        let doing = format!("applying {}/{name}", types.kind);
        let kind = kube::core::GroupVersionKind::try_from(&types)
            .map_err(|error| LabError::Wrong(format!("{doing}: {error}")))?;
        let (resource, capabilities) = self.ask(&doing, kube::discovery::pinned_kind(&self.client, &kind))?;
        let api: Api<DynamicObject> = match capabilities.scope {
            kube::discovery::Scope::Cluster => Api::all_with(self.client(), &resource),
            kube::discovery::Scope::Namespaced => {
                let namespace = object.metadata.namespace.as_deref().unwrap_or(namespace);
                Api::namespaced_with(self.client(), namespace, &resource)
            }
        };
        let how = PatchParams::apply(MANAGER).force();
        self.ask(&doing, api.patch(&name, &how, &Patch::Apply(object))).map(drop)
    }

    /// Waits until `reached` gives something.
    ///
    /// # Errors
    /// When the deadline passes first, with what `state` says then; an error of `reached` ends the wait at once.
    pub fn wait_for<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut reached: impl FnMut() -> Result<Option<T>, LabError>,
        state: impl FnOnce() -> String,
    ) -> Result<T, LabError> {
        let began = Instant::now();
        loop {
            if let Some(found) = reached()? {
                return Ok(found);
            }
            if began.elapsed() > deadline {
                return Err(LabError::Wrong(format!("waited {deadline:?} for {what}, in vain; {}", state())));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// What an API server said when it refused something, or nothing when the error is of another kind.
#[must_use]
pub fn refusal(error: &LabError) -> Option<&Status> {
    match error {
        LabError::Kubernetes { source, .. } => match &**source {
            kube::Error::Api(status) => Some(status),
            _ => None,
        },
        _ => None,
    }
}
