//! `freshet worker` and `freshet assign`: the parts of a job that runs in several processes.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use freshet_env::{RealEnv, SharedEnv};
use freshet_log::Log;
use freshet_state::lineage::Lineage;

use super::environment::{asked_to_stop, block_on, checkpoint, kafka, kafka_config, open_patiently, setting, store};
use super::pipeline::{self, Planned};
use super::{Failure, Manifests};
use crate::job::{self, JobSpec};
use crate::metrics::Metrics;
use crate::observe::server::{Server, Shown};
use crate::observe::{Limits, Observed};
use crate::reporter::{Board, Reporter};
use crate::slot::{Slot, StopSignal, Tuning};

/// Where a job's records and state are.
#[derive(Debug, clap::Args)]
struct Places {
    #[command(flatten)]
    manifests: Manifests,
    /// The brokers [default: the manifest's spec.kafka.bootstrapServers]
    #[arg(long, value_name = "HOST:PORT,…")]
    kafka: Option<String>,
    /// A librdkafka setting, for instance security.protocol=SSL
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    kafka_setting: Vec<(String, String)>,
    /// Where state is kept [default: the manifest's, else ./.freshet/state]
    #[arg(long, value_name = "URL")]
    checkpoint: Option<String>,
}

/// A job that is open.
struct Opened {
    planned: Planned,
    spec: JobSpec,
    lineage: Lineage,
    log: Rc<dyn Log>,
    env: SharedEnv,
}

impl Places {
    async fn open(&self, planned: Planned) -> Result<Opened, Failure> {
        let env: SharedEnv = Rc::new(RealEnv::new());
        let job = &planned.pipeline.job;
        let servers = self.kafka.as_ref().or(job.bootstrap_servers.as_ref()).ok_or_else(|| {
            Failure::Refused("no brokers: give --kafka, or spec.kafka.bootstrapServers in the StreamJob".to_owned())
        })?;
        let log = kafka(kafka_config(servers, &job.name, &self.kafka_setting), &env)?;
        let store = store(&checkpoint(self.checkpoint.as_deref(), &planned.pipeline)?)?;
        let spec = planned.spec();
        let lineage = open_patiently(&spec, &store, &log, &env).await;
        let lineage = lineage.map_err(|error| Failure::Failed(format!("{}: {error}", error.reason())))?;
        Ok(Opened { planned, spec, lineage, log, env })
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct AssignArgs {
    #[command(flatten)]
    places: Places,
    /// How many slots share the job from now on
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: u32,
}

/// Hands out the next generation.
pub(super) fn assign(args: &AssignArgs) -> Result<(), Failure> {
    let planned = pipeline::load(&args.places.manifests.paths)?;
    block_on(async {
        let opened = args.places.open(planned).await?;
        let generation =
            job::next_generation(&opened.spec, &opened.lineage, &opened.log, &opened.env, args.slots).await;
        let generation = generation.map_err(|error| Failure::Failed(format!("{}: {error}", error.reason())))?;
        println!(
            "generation {} of lineage {}: {} tasks on {} slots",
            generation.number,
            opened.lineage.id(),
            generation.assignment.len(),
            generation.slots
        );
        if generation.slots != args.slots {
            return Err(Failure::Failed(format!(
                "somebody else handed out generation {} at the same time, with {} slots; look, and ask again",
                generation.number, generation.slots
            )));
        }
        Ok(())
    })?
}

#[derive(Debug, clap::Args)]
pub(super) struct WorkerArgs {
    #[command(flatten)]
    places: Places,
    /// This worker's slot, from 0
    #[arg(long)]
    slot: u32,
    /// Serve metrics and health here
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<SocketAddr>,
}

/// Runs a slot.
pub(super) fn worker(args: &WorkerArgs) -> Result<(), Failure> {
    let planned = pipeline::load(&args.places.manifests.paths)?;
    block_on(async {
        let opened = args.places.open(planned).await?;
        let job = &opened.planned.pipeline.job;
        let name = args.slot.to_string();
        let metrics = Metrics::new(&job.name, &name);
        let fingerprint = opened.spec.plan.fingerprint();
        let observed = Observed::new(&job.name, &name, &fingerprint, opened.lineage.id(), opened.env.now_ms());
        let _server = args
            .listen
            .map(|address| {
                let shown = Shown {
                    observed: observed.clone(),
                    metrics: metrics.clone(),
                    limits: limits(job.epoch_interval),
                    now_ms: std::sync::Arc::new(freshet_env::wall_clock_ms),
                };
                Server::start(address, shown).map_err(|error| Failure::Refused(error.to_string()))
            })
            .transpose()?;
        let board = Rc::new(RefCell::new(Board::default()));
        let policy = opened.spec.policy();
        let events = Reporter::new(Rc::clone(&opened.env), metrics, observed, board, policy.clone());
        let slot = Slot {
            number: args.slot,
            lineage: opened.lineage.clone(),
            policy,
            tuning: Tuning { epoch_interval: job.epoch_interval, ..Tuning::default() },
            env: Rc::clone(&opened.env),
            log: Rc::clone(&opened.log),
            events: Rc::new(events),
        };
        let (stop, signal) = StopSignal::new();
        tokio::task::spawn_local(async move {
            asked_to_stop().await;
            stop.stop();
        });
        let ended = crate::slot::run(&slot, None, &signal).await;
        ended.map_err(|error| Failure::Failed(format!("{}: {error}", error.reason())))
    })?
}

/// When this job counts as not progressing.
fn limits(epoch_interval: Duration) -> Limits {
    Limits::for_epoch_interval(i64::try_from(epoch_interval.as_millis()).unwrap_or(i64::MAX))
}
