//! Freshet beside other engines: the same records on the same topics of one broker, the same SQL, exactly once, with
//! transactions of the same length, one engine after the other.
//!
//! Both are warm when they are measured, and neither is measured while the other works:
//!
//! 1. the first records are written to the input;
//! 2. each engine in turn starts, reads them to their end, and is stopped in its tracks (SIGSTOP);
//! 3. the records to be measured are written, while nobody reads;
//! 4. each engine in turn goes on, alone, until all of them are read and all that it writes is committed;
//! 5. what the two have written is compared.
//!
//! ```text
//! freshet.rs   our side: one worker, one slot
//! flink.rs     a session cluster of Flink with one slot, fed by its SQL client
//! progress.rs  how far an engine is, asked of the broker alone: the same question for both
//! digest.rs    what is in an output, whatever its order
//! ```

mod digest;
mod flink;
mod freshet;
mod progress;

use std::path::Path;
use std::time::Duration;

use self::digest::Digest;
use self::flink::Flink;
use self::freshet::Freshet;
use self::progress::{Progress, Sample};
use super::process;
use crate::LabError;
use crate::nexmark::{Kind, PARTITIONS, Pipeline, Records, Settings, TopicWriter, ensure_topics};
use crate::servers::{KafkaOptions, KafkaServer};

/// Epochs of Freshet and checkpoints of Flink, ms: the default of a StreamJob, which the manifests leave as it is.
const INTERVAL_MS: u64 = 500;

/// What is compared.
#[derive(Debug, Clone, clap::Args)]
pub struct PeerOptions {
    /// Of `peers`: queries of examples/nexmark.
    #[arg(long, value_delimiter = ',', default_value = "q0,q1,q2,q5-counts,q12-event-time")]
    pub queries: Vec<String>,
    /// Of `peers`: records of the input that engines get warm with.
    #[arg(long, default_value_t = 2_000_000)]
    pub warm_up: u64,
    /// Of `peers`: records of the input that are measured.
    #[arg(long, default_value_t = 4_000_000)]
    pub records: u64,
    /// Of `peers`: records in one second of event time.
    #[arg(long, default_value_t = 10_000)]
    pub per_second: u32,
}

/// An engine that runs one query.
trait Engine {
    /// Its name, for tables.
    fn name(&self) -> &'static str;
    /// Its processes.
    fn ids(&self) -> Vec<u32>;
    /// What the names of its consumer groups begin with.
    fn groups(&self) -> &'static str;
    /// The topic that it writes.
    fn output(&self) -> &str;
    /// Stops it in its tracks.
    fn freeze(&self);
    /// Lets it go on.
    fn thaw(&self);
    /// The end of its log.
    fn said(&self) -> String;
}

/// What one engine took for one query.
struct Measured {
    engine: &'static str,
    took: Duration,
    cpu: f64,
    broker_cpu: f64,
    peak_mib: Vec<f64>,
    output: Digest,
}

/// Compares the engines on all queries, and prints a table.
///
/// # Errors
/// When a query could not be measured, or the engines' results differ; the table of the queries before it is printed.
pub(super) fn compare(binary: &Path, options: &PeerOptions) -> Result<(), LabError> {
    // Processes run in folders of their own.
    let binary = &std::path::absolute(binary).map_err(LabError::file("finding", binary))?;
    let before = process::load();
    let mut table = Vec::new();
    let mut result = Ok(());
    for query in &options.queries {
        match measure(binary, query, options) {
            Ok(measured) => {
                let lines = lines(query, options.records, &measured);
                lines.iter().for_each(|line| eprintln!("{line}"));
                table.extend(lines);
            }
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    println!(
        "\n{} cores; load average {before:.1} before, {:.1} after; {} records after {} to get warm, {INTERVAL_MS} ms between \
         commits\n\n| query | engine | records/s | CPU s per M records, engine | broker | peak memory, MiB | rows |\n| --- | --- \
         | --- | --- | --- | --- | --- |",
        process::cores(),
        process::load(),
        options.records,
        options.warm_up
    );
    table.iter().for_each(|line| println!("{line}"));
    result
}

fn lines(query: &str, records: u64, measured: &[Measured; 2]) -> Vec<String> {
    let millions = records as f64 / 1e6;
    let line = |it: &Measured| {
        let memory: Vec<String> = it.peak_mib.iter().map(|mib| format!("{mib:.0}")).collect();
        format!(
            "| {query} | {} | {:.0} | {:.2} | {:.2} | {} | {} |",
            it.engine,
            records as f64 / it.took.as_secs_f64(),
            it.cpu / millions,
            it.broker_cpu / millions,
            memory.join(" + "),
            it.output.rows()
        )
    };
    let [ours, theirs] = measured;
    let memory = |it: &Measured| it.peak_mib.iter().sum::<f64>();
    let times = format!(
        "| {query} | {} / {} | | {:.1}× | {:.1}× | {:.1}× | the same |",
        theirs.engine,
        ours.engine,
        theirs.cpu / ours.cpu,
        theirs.broker_cpu / ours.broker_cpu,
        memory(theirs) / memory(ours)
    );
    vec![line(ours), line(theirs), times]
}

fn measure(binary: &Path, query: &str, options: &PeerOptions) -> Result<[Measured; 2], LabError> {
    // A fresh broker each time: what one query left behind must not slow the next.
    let server = KafkaServer::start_temporary(&KafkaOptions { heap_mb: 512, ..KafkaOptions::default() })?;
    let bootstrap = server.bootstrap();
    let pipeline = Pipeline::load(query)?;
    let [input] = pipeline.reads()[..] else {
        return Err(LabError::Wrong(format!("{query} reads several tables, which this comparison can't feed yet")));
    };
    let kind = Kind::ALL.into_iter().find(|kind| kind.table() == input.name);
    let kind = kind.ok_or_else(|| LabError::Wrong(format!("there are no records for {}", input.name)))?;
    let settings = Settings { seed: 1, events: u64::MAX, per_second: options.per_second, shuffled: 1_000 };
    let mut records = Records::new(&settings)?.filter(|record| record.kind == kind);
    let mut written = vec![0; PARTITIONS as usize];
    let mut write = |count: u64| {
        let mut writer = TopicWriter::open(&bootstrap, &[kind])?;
        for record in records.by_ref().take(usize::try_from(count).unwrap_or(usize::MAX)) {
            written[record.partition as usize] += 1;
            writer.push(&record)?;
        }
        writer.finish()?;
        Ok::<Vec<i64>, LabError>(written.clone())
    };

    let warm = write(options.warm_up)?;
    let progress = |engine: &dyn Engine| Progress::new(&bootstrap, &input.topic, engine.output(), engine.groups());
    let sample = |ids: &[u32]| {
        let cpu = ids.iter().map(|id| process::cpu_seconds(*id)).sum();
        Sample { cpu, broker_cpu: process::cpu_seconds(server.id()) }
    };
    let warmed = |engine: &dyn Engine| {
        let reached = progress(engine)?.until(&warm, || sample(&engine.ids()));
        reached.map_err(|error| LabError::Wrong(format!("{} gets warm: {error}\n{}", engine.name(), engine.said())))?;
        engine.freeze();
        Ok::<(), LabError>(())
    };
    let ours_topic = pipeline.output.topic.clone();
    let theirs_topic = format!("{ours_topic}.flink");
    ensure_topics(&bootstrap, &[ours_topic, theirs_topic.clone()])?;
    let ours = Freshet::start(binary, &bootstrap, &pipeline)?;
    warmed(&ours)?;
    let theirs = Flink::start(&bootstrap, &pipeline, input, &theirs_topic, INTERVAL_MS)?;
    warmed(&theirs)?;

    let all = write(options.records)?;
    let run = |engine: &dyn Engine| {
        let mut progress = progress(engine)?;
        let before = sample(&engine.ids());
        engine.thaw();
        let reached = progress.until(&all, || sample(&engine.ids()));
        let (took, after) =
            reached.map_err(|error| LabError::Wrong(format!("{}: {error}\n{}", engine.name(), engine.said())))?;
        let peak_mib = engine.ids().iter().map(|id| process::peak_mib(*id)).collect();
        // It must not take processor time from the other.
        engine.freeze();
        Ok::<Measured, LabError>(Measured {
            engine: engine.name(),
            took,
            cpu: after.cpu - before.cpu,
            broker_cpu: after.broker_cpu - before.broker_cpu,
            peak_mib,
            output: Digest::default(),
        })
    };
    let mut measured = [run(&ours)?, run(&theirs)?];
    for (measured, topic) in measured.iter_mut().zip([ours.output(), theirs.output()]) {
        measured.output = Digest::of(&bootstrap, topic)?;
    }
    let [one, other] = &measured;
    if one.output != other.output {
        return Err(LabError::Wrong(format!(
            "{query}: {} and {} have written different rows: {} and {}",
            one.engine, other.engine, one.output, other.output
        )));
    }
    Ok(measured)
}
