//! `freshet worker`: one slot of a job, as a pod runs it.
//!
//! A worker plans nothing. What it runs, and how, it takes from the newest generation in the store, and follows later
//! ones by itself, into the lineage that follows too, where restoreFrom begins another; of the manifests it needs the job's name and where its records and state are. As long as there is
//! no lineage, or no generation with tasks for it, it stands by.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use freshet_crds::control::Assignment;
use freshet_crds::reasons;
use freshet_state::lineage::Lineage;
use tokio::sync::mpsc::UnboundedReceiver;

use super::Failure;
use super::environment::{asked_to_stop, block_on, duration};
use super::places::{Ended, Places, Reached, read};
use crate::control::{self, Asked, ControlError};
use crate::job;
use crate::manifest::Pipeline;
use crate::metrics::Metrics;
use crate::observe::Observed;
use crate::observe::server::{Server, Shown};
use crate::reporter::{Board, Reporter};
use crate::slot::{Phase, Process, Slot, SlotError, SlotEvents as _, StopSignal, Tuning};

/// How long to wait before the store is asked again for a lineage, or after a failure that somebody may mend.
const PAUSE: Duration = Duration::from_secs(2);
/// How soon it is looked for the lineage that follows one that has ended.
const FOLLOWED: Duration = Duration::from_millis(250);
/// How long missing rights are tried again.
const RIGHTS_PATIENCE: Duration = Duration::from_secs(60);
/// Failures that lie further apart are not one.
const APART: Duration = Duration::from_secs(30);

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
    /// Serve control here, to who has the token
    #[arg(long, value_name = "HOST:PORT", requires = "control_token_file")]
    control_listen: Option<SocketAddr>,
    /// The file with the token of the control server
    #[arg(long, value_name = "FILE", requires = "control_listen")]
    control_token_file: Option<PathBuf>,
    /// How long the last commit may take when the worker is asked to stop
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = duration)]
    stop_within: Duration,
    /// How long to try again what somebody may mend outside of the job [default: rights a minute, so that the process
    /// is started again with what its environment says by then; topics, buckets and objects for ever]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    give_up_after: Option<Duration>,
    /// Write why the worker ended for good here, as JSON of at most 4096 bytes
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Runs a slot.
pub(super) fn worker(args: &WorkerArgs) -> Result<(), Failure> {
    let ended = read(&args.places.manifests.paths).and_then(|pipeline| {
        let ran = block_on(run(args, &pipeline));
        ran.map_err(|failure| Ended::refused(reasons::INTERNAL_ERROR, failure.text()))?
    });
    ended.map_err(|ended| ended.report(args.report.as_deref()))
}

async fn run(args: &WorkerArgs, pipeline: &Pipeline) -> Result<(), Ended> {
    let reached = args.places.reach(pipeline)?;
    let job = &pipeline.job.name;
    let observed = Observed::new(job, args.slot, reached.env.now_ms());
    let metrics = Metrics::new(job, &args.slot.to_string());
    let now_ms: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(freshet_env::wall_clock_ms);
    let refused = |text: String| Ended::refused(reasons::SPEC_INVALID, text);
    let shown = Shown { observed: observed.clone(), metrics: metrics.clone(), now_ms: Arc::clone(&now_ms) };
    let server = args.listen.map(|address| Server::start(address, shown)).transpose();
    let _server = server.map_err(|error| refused(error.to_string()))?;
    let (_control, asked) = match (args.control_listen, &args.control_token_file) {
        (Some(address), Some(file)) => {
            let served = control::serve(address, file, observed.clone(), now_ms);
            let (server, asked) = served.map_err(|error| match error {
                ControlError::Serve(error) => refused(error.to_string()),
                error @ ControlError::Token { .. } => Ended::refused(reasons::CREDENTIALS_INVALID, error.to_string()),
            })?;
            (Some(server), Some(asked))
        }
        _ => (None, None),
    };
    let board = Rc::new(RefCell::new(Board::default()));
    let events = Rc::new(Reporter::new(Rc::clone(&reached.env), metrics, observed.clone(), board));
    let (stop, signal) = StopSignal::new();
    let stopping = tokio::task::spawn_local(async move {
        asked_to_stop().await;
        stop.stop();
    });
    let lineages = Rc::new(RefCell::new(None));
    if let Some(asked) = asked {
        tokio::task::spawn_local(answer(asked, Rc::clone(&lineages), Rc::clone(&reached.env)));
    }
    let working = work(args, &reached, &observed, &events, &signal, &lineages);
    let late = async {
        // Ends once the process is asked to stop; that it was dropped can't be.
        if stopping.await.is_ok() {
            reached.env.sleep(args.stop_within).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        ended = working => ended.map_err(Ended::from),
        () = late => Err(Ended {
            reason: reasons::EPOCHS_NOT_COMMITTING,
            message: format!(
                "asked to stop, the worker could not commit its last epoch within {:?}; what is not committed is read \
                 again by whoever takes over",
                args.stop_within
            ),
            may_heal: true,
        }),
    }
}

/// Finds the lineage and runs the slot in it, again and again, until asked to stop or until it can't go on.
async fn work(
    args: &WorkerArgs,
    reached: &Reached,
    observed: &Observed,
    events: &Rc<Reporter>,
    signal: &StopSignal,
    lineages: &RefCell<Option<Lineage>>,
) -> Result<(), SlotError> {
    let stopped = |pause: Duration| {
        let (env, signal) = (Rc::clone(&reached.env), signal.clone());
        async move {
            tokio::select! {
                () = signal.asked() => true,
                () = env.sleep(pause) => false,
            }
        }
    };
    // The rank that this process has in a lineage, for as long as it lives.
    let mut process = (String::new(), Process::default());
    // When the failures began that came one after the other, and when the last of them was.
    let mut failing: Option<(Duration, Duration)> = None;
    loop {
        let found = tokio::select! {
            () = signal.asked() => return Ok(()),
            found = job::find(&reached.owner, Rc::clone(&reached.store)) => found,
        };
        let failed = match found {
            Ok(Some(lineage)) => {
                observed.enters(lineage.id(), reached.env.now_ms());
                *lineages.borrow_mut() = Some(lineage.clone());
                if process.0 != lineage.id() {
                    process = (lineage.id().to_owned(), Process::default());
                }
                let slot = Slot {
                    number: args.slot,
                    lineage,
                    tuning: Tuning::default(),
                    env: Rc::clone(&reached.env),
                    log: Rc::clone(&reached.log),
                    events: Rc::clone(events) as Rc<_>,
                };
                match crate::slot::run_as(&slot, &mut process.1, None, signal).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            }
            Ok(None) => {
                events.phase(Phase::StandingBy);
                if stopped(PAUSE).await {
                    return Ok(());
                }
                continue;
            }
            Err(error) => {
                events.failed(&error, may_be_mended(&error));
                error
            }
        };
        let now = reached.env.monotonic();
        let since = match failing {
            Some((since, last)) if now.saturating_sub(last) < APART => since,
            _ => now,
        };
        failing = Some((since, now));
        if failed.known_reason() == reasons::LINEAGE_ENDED {
            // Another may follow, whose record is about to be written; of a job that is deleted the pod goes.
            tracing::info!("{failed}; waiting for the one that follows");
            events.phase(Phase::StandingBy);
            if stopped(FOLLOWED).await {
                return Ok(());
            }
            continue;
        }
        let patience = args.give_up_after.or_else(|| is_about_rights(&failed).then_some(RIGHTS_PATIENCE));
        let is_over = patience.is_some_and(|patience| now.saturating_sub(since) >= patience);
        if !may_be_mended(&failed) || is_over && !failed.is_transient() {
            return Err(failed);
        }
        events.phase(Phase::BackingOff);
        tracing::warn!(reason = failed.reason(), "{failed}; trying again in {PAUSE:?}");
        if stopped(PAUSE).await {
            return Ok(());
        }
    }
}

/// Whether the same worker may go on once somebody has mended something outside of the job: rights, a topic, a bucket,
/// an object. It then tries again by itself, and says meanwhile what is wrong.
fn may_be_mended(error: &SlotError) -> bool {
    error.is_transient()
        || is_about_rights(error)
        || [reasons::TOPIC_NOT_FOUND, reasons::STORE_UNUSABLE, reasons::STATE_MISSING].contains(&error.known_reason())
}

/// Whether rights are missing. They may be granted; but the credentials in the environment stay what they are.
fn is_about_rights(error: &SlotError) -> bool {
    error.known_reason() == reasons::UNAUTHORISED
}

/// Hands out generations as the control server is asked to.
async fn answer(
    mut asked: UnboundedReceiver<Asked>,
    lineages: Rc<RefCell<Option<Lineage>>>,
    env: freshet_env::SharedEnv,
) {
    while let Some(Asked { slots, answer }) = asked.recv().await {
        let lineage = lineages.borrow().clone();
        let handed = match lineage {
            Some(lineage) => job::rescale(&lineage, &env, slots).await,
            None => Ok(None),
        };
        let assignment = handed.map(|handed| {
            handed.map(|handed| Assignment { generation: handed.generation.number, slots: handed.generation.slots })
        });
        // Who asked may have gone.
        let _ = answer.send(assignment);
    }
}
