//! The pilot on a cluster: the manifests of `examples/fraud-detection`, on topics of one's own; its input; and the
//! recount of what it must write, by the code that the demo recounts with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freshet::demo::{Generator, Recount, Rules, Settings, WindowRow, compare};
use freshet_kafka::KafkaConfig;
use freshet_kafka::bulk::{Loader, read_committed, wait_until_settled};
use freshet_log::Outgoing;

use super::scene::Scene;
use crate::LabError;

/// Partitions of the pilot's input, as its manifest says.
const PARTITIONS: u32 = 4;
/// How long the output may take to be whole after the last record of the input.
const DEADLINE: Duration = Duration::from_secs(180);
/// The topics: their names behind `payments.` in the manifests, and their partitions.
const TOPICS: [(&str, u32); 4] =
    [("transactions", PARTITIONS), ("alerts", 4), ("country-totals", 2), ("transactions.dlq", 1)];

/// The pilot's topics of one scene.
#[derive(Debug)]
pub struct Pilot {
    kafka: KafkaConfig,
    prefix: String,
    /// Event time of the first record of a feed, ms since the Unix epoch.
    start_ms: i64,
    /// The name of its StreamJob.
    pub job: String,
    /// Its manifests: file names and texts, with the scene's topics, brokers and store.
    pub manifests: Vec<(String, String)>,
}

/// Input that is being written.
#[derive(Debug)]
pub struct PilotFeed {
    thread: Option<JoinHandle<Result<u64, LabError>>>,
    finish: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
}

/// What a feeding thread writes, and where to.
struct Writer {
    kafka: KafkaConfig,
    topic: String,
    start_ms: i64,
    seed: u64,
    per_second: u64,
    at_least: u64,
    asked: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
}

/// What was compared.
#[derive(Debug, Clone, Copy)]
pub struct Exact {
    /// Records of the input.
    pub records: u64,
    /// Of them, those after their window had closed.
    pub late: u64,
    /// Of them, those that are no transactions.
    pub bad: u64,
    /// Rows of `alerts`.
    pub alerts: usize,
    /// Rows of `country-totals`.
    pub totals: usize,
}

impl Pilot {
    /// The pilot's manifests for plain pods of a scene, and its topics, which are made. `store` is the endpoint that
    /// pods use.
    ///
    /// # Errors
    /// When the example can't be read, or topics can't be made.
    pub fn new(scene: &Scene, store: &str) -> Result<Self, LabError> {
        let mut pilot = Self::for_operator(scene)?;
        let topics: Vec<_> = TOPICS.iter().map(|(name, partitions)| (pilot.topic(name), *partitions)).collect();
        scene.make_topics(&topics)?;
        for (_, text) in pilot.manifests.iter_mut().filter(|(_, text)| text.contains("kind: StreamJob")) {
            let (brokers, url, region) = (&scene.around.kafka_from_pods, scene.store_url(), &scene.around.region);
            text.push_str(&format!(
                "\n  kafka: {{bootstrapServers: \"{brokers}\"}}\n  \
                 checkpoint: {{url: \"{url}\", s3: {{endpoint: \"{store}\", region: {region}}}}}\n"
            ));
        }
        Ok(pilot)
    }

    /// The pilot's manifests for the operator of a scene's cluster: it makes the topics, and knows brokers and store.
    ///
    /// # Errors
    /// When the example can't be read.
    pub fn for_operator(scene: &Scene) -> Result<Self, LabError> {
        let mut pilot = Self::as_it_stands(scene.kafka())?;
        // Internal topics are called after the job.
        let (prefix, job) = (scene.topic(""), format!("{}-{}", pilot.job, scene.run()));
        for (_, text) in &mut pilot.manifests {
            *text = text.replace("topicName: payments.", &format!("topicName: {prefix}"));
            if text.contains("kind: StreamJob") {
                *text = text.replace(&format!("name: {}", pilot.job), &format!("name: {job}"));
            }
        }
        Ok(Self { prefix, job, ..pilot })
    }

    /// The pilot as its files have it.
    ///
    /// # Errors
    /// When the example can't be read.
    pub fn as_it_stands(kafka: KafkaConfig) -> Result<Self, LabError> {
        let mut manifests = Vec::new();
        for path in yaml_files(&Self::folder())? {
            let text = std::fs::read_to_string(&path).map_err(LabError::file("reading", &path))?;
            manifests.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text));
        }
        // Its topics keep records for days, and take none from the future.
        let start_ms = crate::scenario::now_ms() - 24 * 3_600_000;
        Ok(Self { kafka, prefix: "payments.".to_owned(), start_ms, job: "fraud-detection".to_owned(), manifests })
    }

    /// The folder of its manifests.
    #[must_use]
    pub fn folder() -> PathBuf {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/fraud-detection");
        folder.canonicalize().unwrap_or(folder)
    }

    /// All its manifests in one text.
    #[must_use]
    pub fn yaml(&self) -> String {
        self.manifests.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n---\n")
    }

    /// Has the next feed go on behind what is in the input already; gives how many records that is.
    ///
    /// # Errors
    /// When Kafka can't be read.
    pub fn go_on(&mut self) -> Result<u64, LabError> {
        let topic = self.topic("transactions");
        let mut newest = self.start_ms;
        let read = read_committed(&self.kafka, &topic, |batch| {
            newest = batch.records.iter().map(|record| record.timestamp_ms).fold(newest, i64::max);
        });
        let records = read.map_err(LabError::kafka(format!("reading {topic}")))?;
        self.start_ms = newest + 1;
        Ok(records)
    }

    fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Starts to write input: `per_second` records, at least `at_least`, until it is told to finish.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn feed(&self, seed: u64, per_second: u64, at_least: u64) -> Result<PilotFeed, LabError> {
        let finish = Arc::new(AtomicBool::new(false));
        let made = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            kafka: self.kafka.clone(),
            topic: self.topic("transactions"),
            start_ms: self.start_ms,
            seed,
            per_second,
            at_least,
            asked: Arc::clone(&finish),
            made: Arc::clone(&made),
        };
        let thread = std::thread::Builder::new().name("pilot-feed".to_owned()).spawn(move || writer.write());
        let thread = thread.map_err(LabError::file("starting a thread in", "."))?;
        Ok(PilotFeed { thread: Some(thread), finish, made })
    }

    /// How many rows a reader of committed records sees by now, of both outputs.
    ///
    /// # Errors
    /// When Kafka can't be read.
    pub fn rows(&self) -> Result<usize, LabError> {
        Ok(self.read("alerts", "account_id")?.len() + self.read("country-totals", "country")?.len())
    }

    fn read(&self, name: &str, group: &str) -> Result<Vec<WindowRow>, LabError> {
        let topic = self.topic(name);
        let (mut rows, mut broken) = (Vec::new(), None);
        let read = read_committed(&self.kafka, &topic, |batch| {
            for record in &batch.records {
                match WindowRow::from_json(batch.value(record).unwrap_or_default(), group) {
                    Ok(row) => rows.push(row),
                    Err(why) => broken = Some(why),
                }
            }
        });
        read.map_err(LabError::kafka(format!("reading {topic}")))?;
        match broken {
            Some(why) => Err(LabError::Wrong(format!("{topic}: {why}"))),
            None => Ok(rows),
        }
    }

    fn recount(&self) -> Result<Recount, LabError> {
        let mut recount = Recount::new(Rules::default(), PARTITIONS);
        let topic = self.topic("transactions");
        let read = read_committed(&self.kafka, &topic, |batch| {
            for record in &batch.records {
                recount.record(batch.partition.partition, batch.value(record).unwrap_or_default());
            }
        });
        read.map_err(LabError::kafka(format!("reading {topic}")))?;
        Ok(recount)
    }

    /// Waits until the output has as many rows as the recount of the input, and compares: every row, and no other.
    ///
    /// # Errors
    /// What differs; or that the output does not come in time, with what `state` says then.
    pub fn settle_exactly(&self, state: impl FnOnce() -> String) -> Result<Exact, LabError> {
        let recount = self.recount()?;
        let (alerts, totals) = (recount.alerts(), recount.country_totals());
        let wanted = alerts.len() + totals.len();
        let began = Instant::now();
        loop {
            let seen = self.rows()?;
            if seen >= wanted {
                break;
            }
            if began.elapsed() > DEADLINE {
                return Err(LabError::Wrong(format!(
                    "waited {DEADLINE:?} for {wanted} rows of output, in vain: {seen} are there; {}",
                    state()
                )));
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        for name in ["alerts", "country-totals"] {
            let topic = self.topic(name);
            wait_until_settled(&self.kafka, &topic, DEADLINE).map_err(LabError::kafka(format!("settling {topic}")))?;
        }
        for (name, group, expected) in [("alerts", "account_id", &alerts), ("country-totals", "country", &totals)] {
            let report = compare(name, expected, &self.read(name, group)?);
            if !report.agrees() {
                return Err(LabError::Wrong(format!("the output is not the recount: {report}")));
            }
        }
        let counts = recount.counts();
        Ok(Exact {
            records: counts.records,
            late: counts.late,
            bad: counts.bad,
            alerts: alerts.len(),
            totals: totals.len(),
        })
    }
}

impl PilotFeed {
    /// How many records it has written by now.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Writes what is missing, and the records that close all windows; gives how many there are.
    ///
    /// # Errors
    /// When something could not be written.
    ///
    /// # Panics
    /// When the feeding thread did.
    pub fn finish(mut self) -> Result<u64, LabError> {
        self.finish.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is taken only here");
        thread.join().expect("the feed does not panic")
    }
}

impl Drop for PilotFeed {
    fn drop(&mut self) {
        self.finish.store(true, Ordering::Relaxed);
    }
}

impl Writer {
    fn write(&self) -> Result<u64, LabError> {
        let rules = Rules::default();
        let mut generator = Generator::new(Settings {
            seed: self.seed,
            accounts: 50_000,
            partitions: PARTITIONS,
            start_ms: self.start_ms,
            events_per_second: 100,
            disorder_ms: rules.disorder_ms,
            window_ms: rules.window_ms,
        });
        let failed = || LabError::kafka(format!("feeding {}", self.topic));
        let mut loader = Loader::new(&self.kafka).map_err(failed())?;
        let mut batch = Outgoing::new(vec![self.topic.clone()]);
        let (began, mut made) = (Instant::now(), 0);
        loop {
            let finishing = self.asked.load(Ordering::Relaxed);
            if finishing && made >= self.at_least {
                break;
            }
            let due = (began.elapsed().as_secs_f64() * self.per_second as f64) as u64;
            let some = if finishing { self.at_least - made } else { due.saturating_sub(made) }.min(1_000);
            if some == 0 {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            for record in generator.by_ref().take(some as usize) {
                batch.push(0, record.partition, record.event_time_ms, Some(record.key.as_bytes()), Some(&record.value));
            }
            made += some;
            loader.send(&batch).map_err(failed())?;
            batch.clear();
            self.made.store(made, Ordering::Relaxed);
        }
        for record in generator.closing() {
            batch.push(0, record.partition, record.event_time_ms, Some(record.key.as_bytes()), Some(&record.value));
            made += 1;
        }
        loader.send(&batch).map_err(failed())?;
        loader.finish().map_err(failed())?;
        Ok(made)
    }
}

fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>, LabError> {
    let entries = std::fs::read_dir(folder).map_err(LabError::file("listing", folder))?.flatten();
    let mut files: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|kind| kind == "yaml")).collect();
    files.sort();
    Ok(files)
}
