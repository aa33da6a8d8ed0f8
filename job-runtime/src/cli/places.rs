//! Where a job's records and state are, for the commands that run it outside of `freshet run`.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use freshet_crds::control::{EXIT_FAILED, EXIT_REFUSED, WorkerEnd};
use freshet_crds::reasons::{self, Reason};
use freshet_env::{RealEnv, SharedEnv};
use freshet_log::Log;
use freshet_state::lineage::Owner;
use freshet_state::store::Store;

use super::environment::{checkpoint, kafka, kafka_config, setting, store};
use super::{Failure, Manifests};
use crate::manifest::{self, Pipeline};
use crate::slot::SlotError;

/// Where a job's records and state are, and whose it is.
#[derive(Debug, clap::Args)]
pub(super) struct Places {
    #[command(flatten)]
    pub manifests: Manifests,
    /// The brokers [default: the manifest's spec.kafka.bootstrapServers]
    #[arg(long, value_name = "HOST:PORT,…")]
    kafka: Option<String>,
    /// A librdkafka setting, for instance security.protocol=SASL_SSL. SASL credentials come from the environment:
    /// FRESHET_KAFKA_SASL_USERNAME and FRESHET_KAFKA_SASL_PASSWORD
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    kafka_setting: Vec<(String, String)>,
    /// Where state is kept [default: the manifest's, else ./.freshet/state]
    #[arg(long, value_name = "URL")]
    checkpoint: Option<String>,
    /// The cluster that the job belongs to: the UID of its kube-system namespace
    #[arg(long, value_name = "ID", default_value = "local")]
    cluster_id: String,
}

/// Clients of both.
pub(super) struct Reached {
    pub owner: Owner,
    pub log: Rc<dyn Log>,
    pub store: Rc<dyn Store>,
    pub env: SharedEnv,
}

/// Why a command of a pod ends, as its report has it.
#[derive(Debug)]
pub(super) struct Ended {
    pub reason: Reason,
    pub message: String,
    /// Whether the same may work later without anybody changing anything.
    pub may_heal: bool,
}

impl Ended {
    pub fn refused(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), may_heal: false }
    }

    /// Says it on standard error, writes it to the report's file, and gives the exit code.
    pub fn report(&self, file: Option<&Path>) -> Failure {
        eprintln!("error: {}: {}", self.reason.name, self.message);
        let end = WorkerEnd { reason: self.reason.name.to_owned(), message: self.message.clone() };
        write_report(file, &end.termination_message());
        Failure::Said(self.exit_code())
    }

    pub const fn exit_code(&self) -> u8 {
        if self.may_heal { EXIT_FAILED } else { EXIT_REFUSED }
    }
}

impl From<SlotError> for Ended {
    fn from(error: SlotError) -> Self {
        Self { reason: error.known_reason(), message: error.to_string(), may_heal: error.is_transient() }
    }
}

/// Writes a report for whoever supervises the process. That it can't be written must not hide what it says.
pub(super) fn write_report(file: Option<&Path>, text: &str) {
    if let Some(path) = file
        && let Err(error) = std::fs::write(path, text)
    {
        eprintln!("the report can't be written to {}: {error}", path.display());
    }
}

/// The manifests, without a look at their SQL: all that a worker needs of them.
pub(super) fn read(paths: &[PathBuf]) -> Result<Pipeline, Ended> {
    manifest::load(paths).map_err(|diagnostics| Ended::refused(reasons::SPEC_INVALID, diagnostics.in_short()))
}

impl Places {
    /// Clients for the job of `pipeline`. Nobody is contacted yet.
    pub fn reach(&self, pipeline: &Pipeline) -> Result<Reached, Ended> {
        let env: SharedEnv = Rc::new(RealEnv::new());
        let job = &pipeline.job;
        let servers = self.kafka.as_ref().or(job.bootstrap_servers.as_ref()).ok_or_else(|| {
            let message = "no brokers: give --kafka, or spec.kafka.bootstrapServers in the StreamJob";
            Ended::refused(reasons::SPEC_INVALID, message)
        })?;
        // The manifest speaks of its own brokers only; what is given here counts more.
        let declared = if self.kafka.is_none() { job.kafka_settings.as_slice() } else { &[] };
        let settings: Vec<_> = declared.iter().chain(&self.kafka_setting).cloned().collect();
        let config = kafka_config(servers, &job.name, &settings)
            .map_err(|message| Ended::refused(reasons::CREDENTIALS_INVALID, message))?;
        let log = kafka(config, &env).map_err(|failure| Ended::refused(reasons::KAFKA_REFUSED, failure.text()))?;
        let unusable = |failure: Failure| Ended::refused(reasons::STORE_UNUSABLE, failure.text());
        let place = checkpoint(self.checkpoint.as_deref(), pipeline).map_err(unusable)?;
        let store = store(&place).map_err(unusable)?;
        let owner =
            Owner { cluster: self.cluster_id.clone(), namespace: job.namespace.clone(), name: job.name.clone() };
        Ok(Reached { owner, log, store, env })
    }
}
