//! Does IO: reads the log, drives the pipeline, and stops when it is time to.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use freshet_env::{LocalFuture, SharedEnv};
use freshet_log::{Bounds, Fetched, Log, LogError, TopicPartition};
use freshet_sql::Query;

use super::QueryError;
use super::output::Output;
use super::pipeline::{Pipeline, RowSink};
use super::reading::{Read, Reading};
use super::report::{Ending, Report};

/// How often time passes for a pipeline: rows that go through two stages come at most this much later.
const TICK: Duration = Duration::from_millis(250);

/// Where a query begins to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Begin {
    /// At the first record of each partition.
    Earliest,
    /// At the end of each partition.
    Latest,
}

/// How a query is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Where it begins.
    pub from: Begin,
    /// Whether it goes on at the ends of the topics.
    pub follow: bool,
    /// After how many rows it ends.
    pub limit: Option<u64>,
    /// After how long it ends.
    pub run_for: Option<Duration>,
}

/// Where its records are.
pub enum Supply {
    /// In the log.
    Here,
    /// On their way into the log: this writes them, and completes when all are there.
    Coming(LocalFuture<'static, Result<(), String>>),
}

/// What the loop turns to next.
enum Event {
    Stop,
    TimeUp,
    Supplied(Result<(), String>),
    Tick,
    Batch(Result<Fetched, LogError>),
}

/// Runs a query to its end, of whatever kind. Nothing is written to the log.
///
/// # Errors
/// [`QueryError`]. Rows that came before it are shown.
pub async fn run(
    query: &Query,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
    options: &Options,
    supply: Supply,
    stop: impl Future<Output = ()>,
    output: &mut dyn Output,
) -> Result<Report, QueryError> {
    let mut tally = Tally { output, rows: 0, limit: options.limit, failed: None };
    let ended = read(query, log, env, options, supply, stop, &mut tally).await;
    // Where nothing came but an error, there is nothing to show.
    let shown = if ended.is_ok() || tally.rows > 0 { tally.output.end() } else { Ok(()) };
    let mut report = ended?;
    report.rows = tally.rows;
    match tally.failed.map_or(shown, Err) {
        Ok(()) => Ok(report),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Report { ending: Ending::Unread, ..report }),
        Err(error) => Err(error.into()),
    }
}

async fn read(
    query: &Query,
    log: &Rc<dyn Log>,
    env: &SharedEnv,
    options: &Options,
    supply: Supply,
    stop: impl Future<Output = ()>,
    tally: &mut Tally<'_>,
) -> Result<Report, QueryError> {
    let found = look(query, log).await?;
    let mut pipeline = Pipeline::new(&query.plan, &found.counts)?;
    let (starts, unread_since_ms) = match options.from {
        Begin::Earliest => (found.at(|bounds| bounds.low), i64::MIN),
        Begin::Latest => (found.at(|bounds| bounds.stable), env.now_ms()),
    };
    let mut reading = Reading::new(&starts, options.follow, unread_since_ms);
    let mut supplied = match supply {
        Supply::Here => {
            process(&mut pipeline, reading.ends(&found.at(|bounds| bounds.stable)), tally)?;
            None
        }
        Supply::Coming(writing) => Some(writing),
    };
    let mut consumer = log.consumer(&starts).await?;
    let mut stop = std::pin::pin!(stop);
    let mut time_up = options.run_for.map(|limit| env.sleep(limit));
    let mut tick = env.sleep(TICK);
    let ending = loop {
        if tally.is_over() {
            break Ending::Limit;
        }
        if !options.follow && reading.is_done() {
            break Ending::AtTheEnd;
        }
        let event = tokio::select! {
            biased;
            () = &mut stop => Event::Stop,
            () = if_any(&mut time_up) => Event::TimeUp,
            done = if_any(&mut supplied) => Event::Supplied(done),
            () = &mut tick => Event::Tick,
            batch = consumer.next() => Event::Batch(batch),
        };
        match event {
            Event::Stop => break Ending::Stopped,
            Event::TimeUp => break Ending::TimeUp,
            Event::Supplied(done) => {
                done.map_err(QueryError::Supply)?;
                supplied = None;
                // Who follows was there when the records came.
                if !options.follow {
                    let written = look(query, log).await?;
                    process(&mut pipeline, reading.ends(&written.at(|bounds| bounds.stable)), tally)?;
                }
            }
            Event::Tick => {
                tick = env.sleep(TICK);
                pipeline.pass_time(env.now_ms(), tally)?;
                tally.pause();
            }
            Event::Batch(batch) => {
                process(&mut pipeline, reading.take(batch?, env.now_ms()), tally)?;
                tally.settle();
                // Timers and IO of this thread have their turn between two batches.
                tokio::task::yield_now().await;
            }
        }
    };
    // Twice: partitions that the first time finds idle follow the others the second time.
    for _ in 0..2 {
        pipeline.pass_time(env.now_ms(), tally)?;
    }
    let ending = if tally.is_over() && ending == Ending::AtTheEnd { Ending::Limit } else { ending };
    let held_back = if options.follow { Vec::new() } else { found.held_back() };
    let first_bad = pipeline.first_bad().cloned();
    Ok(Report { ending, rows: 0, counts: pipeline.counts(), first_bad, held_back })
}

/// What a query reads, as it is found.
#[derive(Default)]
struct Found {
    /// How many partitions each topic has.
    counts: BTreeMap<String, u32>,
    /// Where each partition begins and ends.
    bounds: Vec<(TopicPartition, Bounds)>,
}

impl Found {
    fn at(&self, which: impl Fn(&Bounds) -> i64) -> Vec<(TopicPartition, i64)> {
        self.bounds.iter().map(|(at, bounds)| (at.clone(), which(bounds))).collect()
    }

    /// Partitions with offsets that no reader sees before somebody's transaction ends.
    fn held_back(&self) -> Vec<(TopicPartition, i64)> {
        let mut behind = self.at(|bounds| bounds.high - bounds.stable);
        behind.retain(|(_, offsets)| *offsets > 0);
        behind
    }
}

async fn look(query: &Query, log: &Rc<dyn Log>) -> Result<Found, QueryError> {
    let mut found = Found::default();
    for (_, topic) in query.plan.source_stages() {
        let count = log.partition_count(topic).await.map_err(|error| match error {
            LogError::UnknownTopic(_) => QueryError::NoTopic(topic.to_owned()),
            error => error.into(),
        })?;
        for number in 0..count {
            let partition = TopicPartition::new(topic, number);
            let bounds = log.bounds(&partition).await?;
            found.bounds.push((partition, bounds));
        }
        found.counts.insert(topic.to_owned(), count);
    }
    Ok(found)
}

fn process(
    pipeline: &mut Pipeline,
    reads: impl IntoIterator<Item = Read>,
    tally: &mut Tally<'_>,
) -> Result<(), QueryError> {
    reads.into_iter().try_for_each(|read| pipeline.process(&read.batch, read.since_ms, tally))
}

/// Counts rows on their way out, and knows when there are enough.
struct Tally<'o> {
    output: &'o mut dyn Output,
    rows: u64,
    limit: Option<u64>,
    failed: Option<std::io::Error>,
}

impl Tally<'_> {
    fn is_over(&self) -> bool {
        self.failed.is_some() || self.limit.is_some_and(|limit| self.rows >= limit)
    }

    fn note(&mut self, written: std::io::Result<()>) {
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }

    fn settle(&mut self) {
        let written = self.output.settle();
        self.note(written);
    }

    fn pause(&mut self) {
        let written = self.output.pause();
        self.note(written);
    }
}

impl RowSink for Tally<'_> {
    fn row(&mut self, record: &[u8]) -> ControlFlow<()> {
        if self.is_over() {
            return ControlFlow::Break(());
        }
        let written = self.output.row(record);
        self.note(written);
        self.rows += 1;
        if self.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// What `future` gives; for ever nothing where there is none.
async fn if_any<T>(future: &mut Option<LocalFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
