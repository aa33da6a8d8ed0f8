//! Does IO: one replica leads by Lease, others stand by.
//!
//! A leader renews its Lease well before it ends. One that loses it ends its process at once, so that nothing of
//! it goes on; kubelet starts it again, and it stands by. Work that two leaders do for a moment does no harm: each
//! write is idempotent or guarded by the version it was decided on, and workers are kept apart by the generation
//! log.

use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;

/// Why there is no leading.
#[derive(Debug, thiserror::Error)]
pub enum LeadError {
    /// The Lease can't be read or made.
    #[error(
        "the Lease {namespace}/{name} can't be used: {source}; the operator needs get, create, update and patch on it"
    )]
    Lease {
        /// Where it is.
        namespace: String,
        /// What it is called.
        name: String,
        /// The API's answer.
        source: Box<LeaseManagerError>,
    },
    /// Another replica leads now, or this one could not renew in time.
    #[error("the Lease was lost: another replica leads now, or the API server did not answer in time")]
    Lost,
}

/// Leadership. [`Leadership::resign`] hands the Lease over at once; a replica that is killed is followed after the
/// Lease's duration.
#[derive(Debug)]
pub struct Leadership {
    holds: watch::Receiver<bool>,
    task: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
}

impl Leadership {
    /// Begins to ask for the Lease that `config` names.
    ///
    /// # Errors
    /// [`LeadError::Lease`].
    pub async fn seek(client: Client, config: &Config) -> Result<Self, LeadError> {
        let seconds = config.lease_duration.as_secs().max(3);
        let manager = LeaseManagerBuilder::new(client, &config.lease)
            .with_namespace(&config.namespace)
            .with_identity(config.identity())
            .with_duration(seconds)
            // Renewed when so much is left: time for several attempts.
            .with_grace(seconds * 2 / 3)
            .build()
            .await
            .map_err(|source| LeadError::Lease {
                namespace: config.namespace.clone(),
                name: config.lease.clone(),
                source: Box::new(source),
            })?;
        let (holds, task) = manager.watch().await;
        Ok(Self { holds, task })
    }

    /// Completes once this replica leads.
    ///
    /// # Errors
    /// [`LeadError::Lost`]: there will be no leading.
    pub async fn gained(&mut self) -> Result<(), LeadError> {
        self.holds.wait_for(|holds| *holds).await.map(|_| ()).map_err(|_| LeadError::Lost)
    }

    /// Completes once this replica no longer leads.
    pub async fn lost(&mut self) {
        let _ = self.holds.wait_for(|holds| !*holds).await;
    }

    /// Gives the Lease up, so that another replica leads at once.
    pub async fn resign(self) {
        drop(self.holds);
        if crate::clock::within(Duration::from_secs(5), self.task).await.is_none() {
            tracing::warn!("the Lease could not be given up in time; others wait until it ends");
        }
    }
}
