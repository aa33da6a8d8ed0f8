//! Does IO: the process as a whole.
//!
//! ```text
//! settings ─▶ client ─▶ health and metrics ─▶ Lease ─▶ watches ─▶ controllers ─▶ asked to stop ─▶ passes end ─▶ Lease given up
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::layer::util::Identity;

use crate::client;
use crate::clock;
use crate::config::Config;
use crate::context::Context;
use crate::lead::{LeadError, Leadership};
use crate::metrics::Metrics;
use crate::serve::{self, Readiness, ServeError};
use crate::{streamjob, topic};

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No API server is named.
    #[error("no API server: {0}; run in a pod, or set KUBECONFIG")]
    Config(#[from] kube::config::InferConfigError),
    /// The client can't be made.
    #[error("the API client can't be made: {0}")]
    Client(#[from] kube::Error),
    /// The cluster can't be told from others.
    #[error(
        "the namespace kube-system, whose UID tells this cluster from others, can't be read: {0}; grant get on it, or set --cluster-id"
    )]
    Cluster(kube::Error),
    /// The control key can't be used.
    #[error(transparent)]
    Key(#[from] streamjob::KeyError),
    /// Nothing can be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Kafka's credentials are not whole.
    #[error(transparent)]
    Kafka(#[from] topic::secured::MissingCredentials),
    /// No leading.
    #[error(transparent)]
    Lead(#[from] LeadError),
}

/// How long passes that are under way may take once the process is asked to stop.
const LAST_PASSES: Duration = Duration::from_secs(10);

/// Runs the operator until the process is asked to stop.
///
/// # Errors
/// [`RunError`]: the process should end and be started again.
pub async fn run(config: Config) -> Result<(), RunError> {
    topic::secured::Secured::of(&config)?;
    let config = Arc::new(config);
    let kube_config = kube::Config::infer().await?;
    let client = client::build(kube_config, &Identity::new())?;
    let metrics = Metrics::new();
    let readiness = Readiness::default();
    let listener = serve::listen(config.listen).await?;
    let server = tokio::spawn(serve::serve(listener, metrics.clone(), readiness.clone()));
    let cluster_id = match &config.cluster_id {
        Some(given) => given.clone(),
        None => cluster_id(&client).await.map_err(RunError::Cluster)?,
    };
    let context = Context::new(client.clone(), Arc::clone(&config), metrics.clone(), &cluster_id);
    let (stop, stopping) = watch::channel(false);
    let asked = tokio::spawn(asked_to_stop());

    let mut leadership = if config.no_leader_election { None } else { Some(Leadership::seek(client, &config).await?) };
    readiness.set(true);
    tracing::info!(identity = config.identity(), namespace = config.watch_namespace, "the operator is there");
    let mut asked = std::pin::pin!(asked);
    if let Some(leadership) = &mut leadership {
        tokio::select! {
            gained = leadership.gained() => gained?,
            _ = &mut asked => return Ok(()),
        }
    }
    metrics.leading(true);
    tracing::info!("this replica leads");
    let mut work = std::pin::pin!(operate(context, stopping)?);
    let lost = async {
        match &mut leadership {
            Some(leadership) => leadership.lost().await,
            None => future::pending().await,
        }
    };
    let ended = tokio::select! {
        () = &mut work => Ok(()),
        () = lost => Err(LeadError::Lost.into()),
        ended = server => match ended {
            Ok(Err(error)) => Err(error.into()),
            _ => Ok(()),
        },
        _ = &mut asked => {
            readiness.set(false);
            // Nobody listens when all controllers have ended by themselves.
            let _ = stop.send(true);
            if clock::within(LAST_PASSES, work).await.is_none() {
                tracing::warn!("passes that were under way are cut off; the next leader makes them again");
            }
            Ok(())
        }
    };
    metrics.leading(false);
    if let (Some(leadership), Ok(())) = (leadership, &ended) {
        leadership.resign().await;
    }
    ended
}

/// The UID of the namespace kube-system: it lives as long as its cluster, and no other cluster has it.
async fn cluster_id(client: &kube::Client) -> Result<String, kube::Error> {
    use kube::ResourceExt;
    let api: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(client.clone());
    Ok(api.get_metadata("kube-system").await?.uid().unwrap_or_default())
}

/// All watches and controllers: completes some time after `stopping` becomes true, when passes under way have
/// ended. Dropped, it ends at once, as if the process were killed.
///
/// # Errors
/// [`streamjob::KeyError`]: the control key can't be used.
pub fn operate(
    context: Context,
    stopping: watch::Receiver<bool>,
) -> Result<impl Future<Output = ()> + Send, streamjob::KeyError> {
    let key = streamjob::ControlKey::read(&context.config.control_key_file)?;
    Ok(async move {
        let mut tasks = JoinSet::new();
        let watches = Watches::start(&context, &mut tasks);
        let stop = stopping;
        let jobs = streamjob::control(context.clone(), watches.clone(), key, stop.clone());
        let topics = topic::control(context, watches, stop);
        future::join(jobs, topics).await;
    })
}

/// The watches of all rooms. Cheap to clone.
#[derive(Clone)]
pub struct Watches {
    /// All StreamJobs.
    pub jobs: crate::watch::Watched<freshet_crds::StreamJob>,
    /// All Topics.
    pub topics: crate::watch::Watched<freshet_crds::Topic>,
}

impl Watches {
    /// Begins to watch what more than one room wants to know of.
    pub fn start(context: &Context, tasks: &mut JoinSet<()>) -> Self {
        use crate::watch::{Watched, api};
        let (client, namespace) = (&context.client, context.config.watch_namespace.as_deref());
        let config = kube::runtime::watcher::Config::default;
        Self {
            jobs: Watched::start(api(client, namespace), config(), tasks, |_| {}),
            topics: Watched::start(api(client, namespace), config(), tasks, |_| {}),
        }
    }
}

/// Completes once `stopping` is true, or nobody can say it any more.
pub async fn asked(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(_) => future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}
