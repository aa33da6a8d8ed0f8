//! Where a run's input comes from: the pilot's generator with its recount, files, or elsewhere.

use std::time::Duration;

use freshet_env::{Env as _, RealEnv};
use freshet_log::model::ModelBroker;
use freshet_log::{LogError, Outgoing};

use super::files::Files;
use super::tail::Tail;
use super::{Cluster, RunArgs, target};
use crate::cli::Failure;
use crate::cli::pipeline::Planned;
use crate::demo::{Generator, Recount, Rules, Settings, compare};
use crate::manifest::TopicTable;

/// Records that are made or read in one step.
pub(super) const STEP_RECORDS: usize = 2_000;
/// How many bytes of input may wait in the embedded log.
const EMBEDDED_INPUT_BYTES: u64 = 64 << 20;
/// Records in one second of the pilot's event time.
const EVENTS_PER_SECOND: u32 = 250;
/// From so many records on there must be results of both kinds.
const ENOUGH_FOR_RESULTS: u64 = 100_000;
/// The pilot's accounts.
const ACCOUNTS: u32 = 25_000;

/// What input is written to.
pub(in crate::cli) enum Target {
    Embedded(ModelBroker),
    Kafka(freshet_kafka::bulk::Loader),
}

impl Target {
    pub(super) async fn write(&mut self, batch: &Outgoing) -> Result<(), LogError> {
        match self {
            Self::Embedded(broker) => {
                for topic in &batch.topics {
                    broker.room(topic, EMBEDDED_INPUT_BYTES).await?;
                }
                broker.append_batch(batch)
            }
            Self::Kafka(loader) => loader.send(batch),
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), LogError> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Kafka(loader) => loader.finish(),
        }
    }
}

/// A run's input.
pub(in crate::cli) enum Feed {
    /// Somebody else's.
    Elsewhere,
    /// The pilot's generator.
    Pilot(Box<Pilot>),
    /// Files of lines.
    Files(Box<Files>),
}

/// What can go wrong with input.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum FeedError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("{file}: {error}")]
    Read { file: String, error: std::io::Error },
}

/// How much the pilot's generator makes, and which records.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Making {
    /// How many records; without a number it makes them for ever.
    pub events: Option<u64>,
    /// Records a second, at the most.
    pub rate: u32,
    /// The same seed makes the same records.
    pub seed: u64,
}

/// The feed of a query on the embedded log, which reads the topic of the table `read`: files, or what the pilot's
/// generator makes of `transactions`.
pub(in crate::cli) fn for_query(
    input: &[(String, String)],
    making: Making,
    topics: &[TopicTable],
    read: &[&TopicTable],
    broker: &ModelBroker,
) -> Result<Feed, Failure> {
    let target = Target::Embedded(broker.clone());
    let is_read = |name: &str| read.iter().any(|read| name == read.table || name == read.resource);
    let tables = read.iter().map(|read| read.table.as_str()).collect::<Vec<_>>().join(" and ");
    if let Some((name, file)) = input.iter().find(|(name, _)| !is_read(name)) {
        return Err(Failure::Refused(format!("--input {name}={file}: the query reads {tables}, and nothing else")));
    }
    if !input.is_empty() {
        for read in read {
            // Its records go once they are read.
            let _ = broker.retain_bytes(&read.topic, EMBEDDED_INPUT_BYTES / 2);
        }
        return Files::new(input, topics, target).map(|files| Feed::Files(Box::new(files)));
    }
    if tables == "transactions" && Pilot::has_its_tables(topics) {
        return Ok(Feed::Pilot(Box::new(Pilot::new(making, topics, target))));
    }
    Err(Failure::Refused(format!(
        "the embedded log begins empty: give the query input with --input {}=FILE, or the brokers with --kafka",
        read.first().map_or("TABLE", |read| read.table.as_str())
    )))
}

/// The feed that a run is asked for.
pub(super) fn choose(args: &RunArgs, planned: &Planned, cluster: &Cluster) -> Result<Feed, Failure> {
    let embedded = matches!(cluster, Cluster::Embedded(_));
    if !args.input.is_empty() {
        let topics = &planned.pipeline.topics;
        return Files::new(&args.input, topics, target(cluster)?).map(|files| Feed::Files(Box::new(files)));
    }
    let pilot = Pilot::fits(planned);
    if args.generate && !pilot {
        return Err(Failure::Refused(
            "--generate makes the input of examples/fraud-detection, and this is another pipeline; give it --input"
                .to_owned(),
        ));
    }
    if pilot && (args.generate || embedded) {
        let making = Making { events: args.events, rate: args.rate, seed: args.seed };
        return Ok(Feed::Pilot(Box::new(Pilot::new(making, &planned.pipeline.topics, target(cluster)?))));
    }
    if embedded {
        return Err(Failure::Refused(
            "the embedded log begins empty: give this pipeline input with --input TABLE=FILE, or run it with --kafka"
                .to_owned(),
        ));
    }
    Ok(Feed::Elsewhere)
}

impl Feed {
    /// Writes some more, and says whether there is more still.
    pub async fn step(&mut self) -> Result<bool, FeedError> {
        match self {
            Self::Elsewhere => Ok(false),
            Self::Pilot(pilot) => {
                pilot.step().await?;
                Ok(!pilot.done)
            }
            Self::Files(files) => {
                files.step().await?;
                Ok(!files.are_read())
            }
        }
    }

    /// Whether it writes nothing itself.
    pub const fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Elsewhere)
    }

    /// Writes what closes all windows, where it knows how to; says whether it did.
    pub fn close(&mut self) -> Result<bool, FeedError> {
        match self {
            Self::Pilot(pilot) => {
                pilot.done = true;
                pilot.close()?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether the results are right, where that can be known.
    pub(super) fn check(&self, tail: &Tail) -> Result<(), Failure> {
        let Self::Pilot(pilot) = self else { return Ok(()) };
        if pilot.resumed {
            println!("recount: left out, since the job went on from an earlier run");
            return Ok(());
        }
        let reports = [
            compare("alerts", &pilot.recount.alerts(), &tail.rows("alerts", "account_id").map_err(Failure::Failed)?),
            compare(
                "country_totals",
                &pilot.recount.country_totals(),
                &tail.rows("country_totals", "country").map_err(Failure::Failed)?,
            ),
        ];
        for report in &reports {
            println!("recount: {report}");
        }
        if reports.iter().all(crate::demo::Report::agrees) {
            // An agreement of nothing with nothing is no proof.
            if pilot.made > ENOUGH_FOR_RESULTS && reports.iter().any(|report| report.expected == 0) {
                return Err(Failure::Failed("the input gave no results, so nothing was checked".to_owned()));
            }
            Ok(())
        } else {
            Err(Failure::Failed("the results differ from the recount of the input".to_owned()))
        }
    }
}

/// The pilot's generator, and the recount of what it made.
pub(in crate::cli) struct Pilot {
    target: Target,
    topic: String,
    generator: Generator,
    recount: Recount,
    batch: Outgoing,
    made: u64,
    events: Option<u64>,
    rate: u32,
    env: RealEnv,
    started: Option<Duration>,
    done: bool,
    resumed: bool,
}

impl Pilot {
    /// Whether a pipeline is the pilot.
    fn fits(planned: &Planned) -> bool {
        planned.pipeline.job.name == "fraud-detection" && Self::has_its_tables(&planned.pipeline.topics)
    }

    /// Whether the pilot's tables are there.
    fn has_its_tables(topics: &[TopicTable]) -> bool {
        let has = |table: &str| topics.iter().any(|topic| topic.table == table);
        has("transactions") && has("alerts") && has("country_totals")
    }

    fn new(making: Making, topics: &[TopicTable], target: Target) -> Self {
        let table = topics.iter().find(|topic| topic.table == "transactions");
        let (topic, partitions) = table.map_or(("transactions", 1), |table| (&*table.topic, table.partitions));
        let rules = Rules::default();
        let env = RealEnv::new();
        if let Target::Embedded(broker) = &target {
            // A topic that is not there yet is made by the caller before; its records go once they are read.
            let _ = broker.retain_bytes(topic, EMBEDDED_INPUT_BYTES / 2);
        }
        // Event time runs faster than the clock, so that a demo of seconds shows windows of minutes; it
        // begins so far back that it stays in the past.
        let start_ms = (env.now_ms() - 86_400_000 * 30) / rules.window_ms * rules.window_ms;
        let settings = Settings {
            seed: making.seed,
            accounts: ACCOUNTS,
            partitions,
            start_ms,
            events_per_second: EVENTS_PER_SECOND,
            disorder_ms: rules.disorder_ms,
            window_ms: rules.window_ms,
        };
        Self {
            target,
            batch: Outgoing::new(vec![topic.to_owned()]),
            topic: topic.to_owned(),
            generator: Generator::new(settings),
            recount: Recount::new(rules, partitions),
            made: 0,
            events: making.events,
            rate: making.rate.max(1),
            env,
            started: None,
            done: false,
            resumed: false,
        }
    }

    /// Makes the records that are due by the rate.
    async fn step(&mut self) -> Result<(), FeedError> {
        let started = *self.started.get_or_insert_with(|| self.env.monotonic());
        let due = self.env.monotonic().saturating_sub(started).as_secs_f64() * f64::from(self.rate);
        let behind = (due as u64).saturating_sub(self.made) as usize;
        let left = self.events.map_or(usize::MAX, |events| (events.saturating_sub(self.made)) as usize);
        let count = behind.min(STEP_RECORDS).min(left);
        let records: Vec<_> = self.generator.by_ref().take(count).collect();
        self.write(records.iter().map(|r| (r.partition, r.key.as_bytes(), &*r.value))).await?;
        if left == count {
            self.target.finish()?;
            self.done = true;
        } else if count < STEP_RECORDS {
            self.env.sleep(Duration::from_millis(10)).await;
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn write<'r>(&mut self, records: impl Iterator<Item = (u32, &'r [u8], &'r [u8])>) -> Result<(), FeedError> {
        let now_ms = self.env.now_ms();
        self.batch.clear();
        for (partition, key, value) in records {
            self.batch.push(0, partition, now_ms, Some(key), Some(value));
            self.recount.record(partition, value);
            self.made += 1;
        }
        self.target.write(&self.batch).await?;
        Ok(())
    }

    /// One record for every partition, far ahead.
    fn close(&mut self) -> Result<(), FeedError> {
        let now_ms = self.env.now_ms();
        let mut batch = Outgoing::new(vec![self.topic.clone()]);
        for record in self.generator.closing() {
            batch.push(0, record.partition, now_ms, Some(record.key.as_bytes()), Some(&record.value));
            self.recount.record(record.partition, &record.value);
        }
        match &mut self.target {
            Target::Embedded(broker) => broker.append_batch(&batch)?,
            Target::Kafka(loader) => loader.send(&batch)?,
        }
        Ok(self.target.finish()?)
    }
}
