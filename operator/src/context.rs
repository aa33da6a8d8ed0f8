//! What every room needs.

use std::sync::Arc;

use kube::Client;

use crate::clock::Clock;
use crate::config::Config;
use crate::events::Events;
use crate::metrics::Metrics;

/// Who writes: the field manager of everything that is applied.
pub const FIELD_MANAGER: &str = "freshet-operator";

/// What every room needs. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The API client.
    pub client: Client,
    /// The settings.
    pub config: Arc<Config>,
    /// The metrics.
    pub metrics: Metrics,
    /// Publishes events.
    pub events: Events,
    /// Tells the time.
    pub clock: Clock,
    /// What tells this cluster from others: state belongs to a job of one cluster.
    pub cluster_id: Arc<str>,
}

impl Context {
    /// A context over `client`, with the machine's clock.
    #[must_use]
    pub fn new(client: Client, config: Arc<Config>, metrics: Metrics, cluster_id: &str) -> Self {
        let clock = Clock::machine();
        let events = Events::new(client.clone(), &config.identity(), clock.clone());
        Self { client, config, metrics, events, clock, cluster_id: cluster_id.into() }
    }
}
