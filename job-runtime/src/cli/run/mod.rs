//! `freshet run`: a whole job in this process, until it is done or asked to stop.
//!
//! ```text
//! feed ──▶ topics ──▶ slots ──▶ topics ──▶ tail ──▶ live view, summary
//!   └────────────── recount ───────────────────────────▲ (the pilot: is the result right?)
//! ```

pub(super) mod feed;
mod files;
mod tail;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freshet_env::{RealEnv, SharedEnv, deadline};
use freshet_log::Log;
use freshet_log::model::ModelBroker;
use freshet_state::lineage::{Lineage, Owner};
use freshet_state::store::{MemoryStore, Store};

use self::feed::{Feed, Target};
use self::tail::Tail;
use super::environment::{
    asked_to_stop, block_on, checkpoint, duration, end_at_once, kafka, kafka_config, patiently, setting, store,
    topic_specs,
};
use super::pipeline::Planned;
use super::{Failure, Manifests, pipeline};
use crate::demo::{LiveView, Snapshot};
use crate::job;
use crate::metrics::Metrics;
use crate::observe::server::{Server, Shown};
use crate::observe::{Observed, logs};
use crate::reporter::{Board, Reporter};
use crate::slot::{Slot, SlotError, StopHandle, StopSignal, Tuning};

pub(super) const EXAMPLES: &str = "\
Examples:
  freshet run examples/fraud-detection --for 20s
  freshet run my-pipeline --input orders=orders.jsonl --print totals
  freshet run examples/fraud-detection --kafka localhost:9092 --generate --events 1000000
  freshet run my-pipeline --kafka localhost:9092 --checkpoint file:///var/lib/freshet --listen 127.0.0.1:9900

Ctrl-C stops cleanly; a second one ends at once.
Exit codes: 0 done (and right, where there is a recount), 1 it failed or the recount differs, 2 refused.";

/// The cluster that owns jobs which are run outside of any.
const LOCAL_CLUSTER: &str = "local";

#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(super) struct RunArgs {
    #[command(flatten)]
    manifests: Manifests,
    /// Run on the Kafka cluster at these brokers, not on the embedded log
    #[arg(long, value_name = "HOST:PORT,…")]
    kafka: Option<String>,
    /// A librdkafka setting, for instance security.protocol=SSL
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting, requires = "kafka")]
    kafka_setting: Vec<(String, String)>,
    /// Where state is kept [default: the manifest's, else ./.freshet/state; the embedded log: memory]
    #[arg(long, value_name = "URL")]
    checkpoint: Option<String>,
    /// End after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    run_for: Option<Duration>,
    /// End once so many records were made (with the pilot's generator) and processed
    #[arg(long)]
    events: Option<u64>,
    /// Make the pilot's input (on the embedded log it is made without being asked for)
    #[arg(long)]
    generate: bool,
    /// Records made a second, at the most
    #[arg(long, default_value_t = 100_000)]
    rate: u32,
    /// The generator's seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the lines of FILE (`-`: standard input) to a table's topic, each a record
    #[arg(long, value_name = "TABLE=FILE", value_parser = setting)]
    input: Vec<(String, String)>,
    /// Print the records of this output table as they are committed
    #[arg(long, value_name = "TABLE")]
    print: Vec<String>,
    /// End once everything that was there is read and committed
    #[arg(long)]
    until_caught_up: bool,
    /// Slots that share the job in this process [default: spec.replicas]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    slots: Option<u32>,
    /// Progress as plain lines, even on a terminal
    #[arg(long)]
    plain: bool,
    /// Serve metrics and health here
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<std::net::SocketAddr>,
}

/// Runs the pipeline.
pub(super) fn run(args: RunArgs) -> Result<(), Failure> {
    let planned = pipeline::load(&args.manifests.paths)?;
    block_on(run_on(args, planned))?
}

/// The log that a job runs on.
enum Cluster {
    Embedded(ModelBroker),
    Kafka(freshet_kafka::KafkaConfig),
}

/// A running job.
struct Running {
    slots: Vec<tokio::task::JoinHandle<Result<(), SlotError>>>,
    stops: Vec<StopHandle>,
    board: Rc<RefCell<Board>>,
}

async fn run_on(args: RunArgs, planned: Planned) -> Result<(), Failure> {
    let env: SharedEnv = Rc::new(RealEnv::new());
    let job = planned.pipeline.job.clone();
    let (log, cluster): (Rc<dyn Log>, Cluster) = match &args.kafka {
        None => {
            let broker = ModelBroker::embedded();
            (Rc::new(broker.client(Rc::clone(&env))), Cluster::Embedded(broker))
        }
        Some(servers) => {
            let config = kafka_config(servers, &job.name, &args.kafka_setting).map_err(Failure::Refused)?;
            (kafka(config.clone(), &env)?, Cluster::Kafka(config))
        }
    };
    // The embedded log has only what is made here; a Kafka cluster has what others keep.
    let embedded = matches!(cluster, Cluster::Embedded(_));
    let made = planned.pipeline.topics.iter().filter(|topic| topic.managed || embedded);
    log.ensure_topics(&topic_specs(made)).await.map_err(Failure::failed)?;
    let store: Rc<dyn Store> = match &cluster {
        // The topics end with the process, and so must the state.
        Cluster::Embedded(_) => Rc::new(MemoryStore::new()),
        Cluster::Kafka(_) => store(&checkpoint(args.checkpoint.as_deref(), &planned.pipeline)?)?,
    };
    let feed = feed::choose(&args, &planned, &cluster)?;
    let owner = Owner { cluster: LOCAL_CLUSTER.to_owned(), namespace: job.namespace.clone(), name: job.name.clone() };
    let spec = planned.spec(owner);
    let slots = args.slots.unwrap_or(job.replicas);
    let open = async || {
        let lineage = job::open(&spec, Rc::clone(&store), &env).await?;
        job::current_generation(&spec, &lineage, &log, &env, slots).await?;
        Ok::<_, SlotError>(lineage)
    };
    let lineage = patiently(&env, open).await.map_err(Failure::failed)?;

    let (view_stop, view_asked) = tokio::sync::mpsc::unbounded_channel::<()>();
    let asked = AtomicBool::new(false);
    let view = LiveView::start(args.plain, move || {
        if asked.swap(true, Ordering::Relaxed) {
            ratatui::restore();
            end_at_once();
        }
        let _ = view_stop.send(());
    })
    .map_err(Failure::failed)?;
    let lines = start_logs(&view)?;
    let metrics = Metrics::new(&job.name, "local");
    let observed = Observed::new(&job.name, 0, env.now_ms());
    observed.update(|status| status.lineage = Some(lineage.id().to_owned()));
    let _server = serve(&args, &metrics, &observed)?;
    let running = start_slots(slots, &lineage, &log, &env, &metrics, &observed);
    // The topics may have been made a moment ago.
    let follow = async || Ok::<_, SlotError>(Tail::start(&planned, &args.print, &log, &env).await?);
    let tail = patiently(&env, follow).await.map_err(Failure::failed)?;
    let shown = Shows { view, lines, started: env.monotonic(), env: Rc::clone(&env), ends_after: args.run_for };
    drive(args, running, Feeding::start(feed), tail, shown, view_asked, job.epoch_interval).await
}

fn start_logs(view: &LiveView) -> Result<Option<logs::Tail>, Failure> {
    let settings = logs::Settings::from_environment("warn").map_err(|error| Failure::Refused(error.to_string()))?;
    let lines = view.on_terminal().then(|| logs::Tail::new(5));
    logs::init(&settings, lines.clone()).map_err(Failure::failed)?;
    Ok(lines)
}

fn serve(args: &RunArgs, metrics: &Metrics, observed: &Observed) -> Result<Option<Server>, Failure> {
    let Some(address) = args.listen else { return Ok(None) };
    let shown = Shown {
        observed: observed.clone(),
        metrics: metrics.clone(),
        now_ms: std::sync::Arc::new(freshet_env::wall_clock_ms),
    };
    Server::start(address, shown).map(Some).map_err(|error| Failure::Refused(error.to_string()))
}

fn start_slots(
    slots: u32,
    lineage: &Lineage,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
    metrics: &Metrics,
    observed: &Observed,
) -> Running {
    let board = Rc::new(RefCell::new(Board::default()));
    let mut running = Running { slots: Vec::new(), stops: Vec::new(), board: Rc::clone(&board) };
    for number in 0..slots {
        let events = Reporter::new(Rc::clone(env), metrics.clone(), observed.clone(), Rc::clone(&board));
        let slot = Slot {
            number,
            lineage: lineage.clone(),
            tuning: Tuning::default(),
            env: Rc::clone(env),
            log: Rc::clone(log),
            events: Rc::new(events),
        };
        let (stop, signal) = StopSignal::new();
        running.stops.push(stop);
        running.slots.push(tokio::task::spawn_local(async move { crate::slot::run(&slot, None, &signal).await }));
    }
    running
}

/// Where progress is shown.
struct Shows {
    view: LiveView,
    lines: Option<logs::Tail>,
    started: Duration,
    env: SharedEnv,
    ends_after: Option<Duration>,
}

impl Shows {
    fn elapsed(&self) -> Duration {
        self.env.monotonic().saturating_sub(self.started)
    }
}

/// Why a run begins to end.
enum Ending {
    Done,
    Stopped,
    Failed(SlotError),
}

async fn drive(
    args: RunArgs,
    mut running: Running,
    feeding: Feeding,
    mut tail: Tail,
    shows: Shows,
    mut view_asked: tokio::sync::mpsc::UnboundedReceiver<()>,
    epoch_interval: Duration,
) -> Result<(), Failure> {
    let mut figures = Figures::default();
    let mut ticks = 0_u64;
    let mut stop = std::pin::pin!(asked_to_stop());
    let mut quiet = Quiet::new(epoch_interval);
    let ending = loop {
        tokio::select! {
            biased;
            () = &mut stop => break Ending::Stopped,
            Some(()) = view_asked.recv() => break Ending::Stopped,
            failed = first_end(&mut running.slots) => break failed.map_or_else(Ending::Failed, |()| Ending::Done),
            () = shows.env.sleep(Duration::from_millis(100)) => {}
        }
        ticks += 1;
        let now = shows.env.monotonic();
        if figures.due(now) || ticks == 1 {
            tail.read(false).await.map_err(Failure::failed)?;
            let snapshot = figures.snapshot(&args, &running.board.borrow(), &tail, &shows, now);
            shows.view.show(snapshot);
        }
        if args.run_for.is_some_and(|limit| shows.elapsed() >= limit) {
            break Ending::Done;
        }
        let ends_by_itself = feeding.is_finished() || (args.until_caught_up && feeding.is_elsewhere());
        if ends_by_itself && quiet.look(&running.board.borrow(), now) {
            break Ending::Done;
        }
    };
    let (failure, feed) = match ending {
        Ending::Failed(error) => (Some(error), Feed::Elsewhere),
        Ending::Done | Ending::Stopped => {
            let mut feed = feeding.stop(&shows.env).await?;
            (finish(&mut running, &mut feed, &mut tail, &shows, epoch_interval).await?, feed)
        }
    };
    let now = shows.env.monotonic();
    let snapshot = figures.snapshot(&args, &running.board.borrow(), &tail, &shows, now);
    drop(shows);
    if let Some(error) = failure {
        return Err(Failure::Failed(format!("{}: {error}", error.reason())));
    }
    println!("{}", snapshot.summary());
    feed.check(&tail)
}

/// The feed at work, on a task of its own: a write is never cut short.
struct Feeding {
    task: tokio::task::JoinHandle<Result<Feed, feed::FeedError>>,
    stop: Rc<Cell<bool>>,
    elsewhere: bool,
}

impl Feeding {
    fn start(mut feed: Feed) -> Self {
        let stop = Rc::new(Cell::new(false));
        let asked = Rc::clone(&stop);
        let elsewhere = feed.is_elsewhere();
        let task = tokio::task::spawn_local(async move {
            while !asked.get() && feed.step().await? {}
            Ok(feed)
        });
        Self { task, stop, elsewhere }
    }

    const fn is_elsewhere(&self) -> bool {
        self.elsewhere
    }

    /// Whether it had something to write, and has written all of it.
    fn is_finished(&self) -> bool {
        !self.elsewhere && self.task.is_finished()
    }

    /// Ends it after the write that is under way, and gives the feed back.
    async fn stop(self, env: &SharedEnv) -> Result<Feed, Failure> {
        self.stop.set(true);
        match deadline(env, Duration::from_secs(30), self.task).await {
            Some(Ok(feed)) => feed.map_err(Failure::failed),
            Some(Err(panic)) => Err(Failure::Failed(format!("the input's task panicked: {panic}"))),
            None => {
                Err(Failure::Failed("the input could not be written within 30 s: does the job read it?".to_owned()))
            }
        }
    }
}

/// Lets everything that was made be processed, closes windows where the feed can, and stops the slots.
async fn finish(
    running: &mut Running,
    feed: &mut Feed,
    tail: &mut Tail,
    shows: &Shows,
    epoch_interval: Duration,
) -> Result<Option<SlotError>, Failure> {
    for closing in [false, true] {
        if closing && !feed.close().map_err(Failure::failed)? {
            break;
        }
        if feed.is_elsewhere() {
            break;
        }
        let began = shows.env.monotonic();
        let mut quiet = Quiet::new(epoch_interval);
        loop {
            let now = shows.env.monotonic();
            if quiet.look(&running.board.borrow(), now) {
                break;
            }
            if now.saturating_sub(began) > Duration::from_secs(60) {
                return Err(Failure::Failed(format!(
                    "after 60 s {} records still wait to be processed and committed",
                    running.board.borrow().lag_records()
                )));
            }
            tokio::select! {
                biased;
                ended = first_end(&mut running.slots) => return Ok(ended.err()),
                () = shows.env.sleep(Duration::from_millis(20)) => {}
            }
        }
    }
    for stop in running.stops.drain(..) {
        stop.stop();
    }
    for slot in running.slots.drain(..) {
        match slot.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Ok(Some(error)),
            Err(panic) => return Err(Failure::Failed(format!("a slot panicked: {panic}"))),
        }
    }
    tail.read(true).await.map_err(Failure::failed)?;
    Ok(None)
}

/// The first slot that ends.
async fn first_end(slots: &mut [tokio::task::JoinHandle<Result<(), SlotError>>]) -> Result<(), SlotError> {
    let ended = futures::future::select_all(slots.iter_mut()).await.0;
    match ended {
        Ok(result) => result,
        Err(panic) => Err(SlotError::Plan(format!("a slot panicked: {panic}"))),
    }
}

/// Whether a job has nothing left to do: nothing waits, and no epoch was committed for some intervals.
struct Quiet {
    patience: Duration,
    epochs: u64,
    since: Option<Duration>,
}

impl Quiet {
    fn new(epoch_interval: Duration) -> Self {
        Self { patience: (epoch_interval * 4).max(Duration::from_millis(400)), epochs: 0, since: None }
    }

    fn look(&mut self, board: &Board, now: Duration) -> bool {
        let still = board.phase.is_empty() && board.lag_records() == 0 && board.epochs == self.epochs;
        self.epochs = board.epochs;
        if !still {
            self.since = None;
            return false;
        }
        now.saturating_sub(*self.since.get_or_insert(now)) >= self.patience
    }
}

/// Rates, from one snapshot to the next.
#[derive(Default)]
struct Figures {
    at: Duration,
    records: u64,
    rate: u64,
}

impl Figures {
    fn due(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) >= Duration::from_millis(250)
    }

    fn snapshot(&mut self, args: &RunArgs, board: &Board, tail: &Tail, shows: &Shows, now: Duration) -> Snapshot {
        let records_in = board.records_in();
        let spent = now.saturating_sub(self.at).as_secs_f64();
        if spent > 0.0 {
            let rate = (records_in.saturating_sub(self.records)) as f64 / spent;
            self.rate =
                if self.records == 0 { rate as u64 } else { (self.rate as f64).mul_add(0.6, rate * 0.4) as u64 };
        }
        self.at = now;
        self.records = records_in;
        let now_ms = shows.env.now_ms();
        let tasks = board.tasks.values();
        Snapshot {
            job: board_title(args),
            phase: board.phase.clone(),
            elapsed: shows.elapsed(),
            ends_after: shows.ends_after,
            now_ms,
            records_in,
            records_per_second: self.rate,
            records_out: tail.count(),
            lag_records: board.lag_records(),
            lag: Duration::ZERO,
            watermark_ms: board.watermark(),
            epochs: board.epochs,
            epochs_failed: board.failures,
            epoch_took: board.epoch_took,
            state_keys: tasks.clone().map(|task| task.stats.state_keys).sum(),
            state_bytes: tasks.clone().map(|task| task.stats.state_bytes).sum(),
            late: tasks.clone().map(|task| task.stats.late).sum(),
            bad: tasks.map(|task| task.stats.bad.values().sum::<u64>()).sum(),
            latest_title: tail.title().to_owned(),
            latest_count: tail.titled_count(),
            latest: tail.latest(),
            log: shows.lines.as_ref().map(logs::Tail::lines).unwrap_or_default(),
        }
    }
}

fn board_title(args: &RunArgs) -> String {
    let paths: Vec<String> = args.manifests.paths.iter().map(|path: &PathBuf| path.display().to_string()).collect();
    match &args.kafka {
        Some(servers) => format!("{} on {servers}", paths.join(" ")),
        None => format!("{} on the embedded log", paths.join(" ")),
    }
}

/// What feeds write to.
fn target(cluster: &Cluster) -> Result<Target, Failure> {
    Ok(match cluster {
        Cluster::Embedded(broker) => Target::Embedded(broker.clone()),
        Cluster::Kafka(config) => Target::Kafka(
            freshet_kafka::bulk::Loader::new(config).map_err(|error| Failure::Refused(error.to_string()))?,
        ),
    })
}
