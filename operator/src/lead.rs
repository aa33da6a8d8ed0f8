//! Does IO: one replica leads by Lease, others stand by.
//!
//! A leader renews its Lease well before it ends. One that loses it ends its process at once, so that nothing of
//! it goes on; kubelet starts it again, and it stands by. Work that two leaders do for a moment does no harm: each
//! write is idempotent or guarded by the version it was decided on, and workers are kept apart by the generation
//! log.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock;
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

/// How often a replica that stands by looks whether the Lease was given up. (By itself it looks again when the Lease as
/// it last saw it ends.)
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Leadership. [`Leadership::resign`] hands the Lease over at once; a replica that is killed is followed after the
/// Lease's duration.
pub struct Leadership {
    seeker: Seeker,
    holds: watch::Receiver<bool>,
    task: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
}

/// What asks for the Lease, and may have to ask anew.
struct Seeker {
    client: Client,
    namespace: String,
    name: String,
    identity: String,
    seconds: u64,
}

impl Seeker {
    async fn manager(&self) -> Result<LeaseManager, LeadError> {
        let manager = LeaseManagerBuilder::new(self.client.clone(), &self.name)
            .with_namespace(&self.namespace)
            .with_identity(&self.identity)
            .with_duration(self.seconds)
            // Renewed when so much is left: time for several attempts.
            .with_grace(self.seconds * 2 / 3);
        manager.build().await.map_err(|source| LeadError::Lease {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            source: Box::new(source),
        })
    }

    /// Completes once nobody holds the Lease.
    async fn free(&self) {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        loop {
            clock::sleep(LOOK_EVERY).await;
            // An API server that does not answer is no news: the one who holds it can't renew it either.
            let Ok(lease) = leases.get(&self.name).await else { continue };
            if lease.spec.is_none_or(|spec| spec.holder_identity.is_none()) {
                return;
            }
        }
    }
}

impl Leadership {
    /// Begins to ask for the Lease that `config` names.
    ///
    /// # Errors
    /// [`LeadError::Lease`].
    pub async fn seek(client: Client, config: &Config) -> Result<Self, LeadError> {
        let seeker = Seeker {
            client,
            namespace: config.namespace.clone(),
            name: config.lease.clone(),
            identity: config.identity(),
            seconds: config.lease_duration.as_secs().max(3),
        };
        let (holds, task) = seeker.manager().await?.watch().await;
        Ok(Self { seeker, holds, task })
    }

    /// Completes once this replica leads.
    ///
    /// # Errors
    /// [`LeadError::Lost`]: there will be no leading.
    pub async fn gained(&mut self) -> Result<(), LeadError> {
        loop {
            tokio::select! {
                gained = self.holds.wait_for(|holds| *holds) => {
                    return gained.map(|_| ()).map_err(|_| LeadError::Lost);
                }
                () = self.seeker.free() => {}
            }
            // Whoever asks anew sees that it is free. (Ended without giving anything up: there is nothing to give, and if
            // it got the Lease just now, the next one has the same identity and goes on with it.)
            self.task.abort();
            (self.holds, self.task) = self.seeker.manager().await?.watch().await;
        }
    }

    /// Completes once this replica no longer leads.
    pub async fn lost(&mut self) {
        let _ = self.holds.wait_for(|holds| !*holds).await;
    }

    /// Gives the Lease up, so that another replica leads at once.
    pub async fn resign(self) {
        drop(self.holds);
        if clock::within(Duration::from_secs(5), self.task).await.is_none() {
            tracing::warn!("the Lease could not be given up in time; others wait until it ends");
        }
    }
}
