//! Input for a scenario's job: a function of the seed, written in its own thread while other things happen.
//!
//! One record in five comes out of order, within the declared bound; a few come after their window closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freshet_kafka::bulk::Loader;
use freshet_log::Outgoing;
use freshet_plan::key::partition_of;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::job::{DISORDER_MS, Job, PARTITIONS};
use super::{Role, WINDOW_MS};
use crate::LabError;

/// Event time of the first record: 2026-01-01.
const START_MS: i64 = 1_767_225_600_000;
/// Records that are made between two looks at the clock.
const CHUNK: u64 = 500;

/// What is fed.
#[derive(Debug, Clone, Copy)]
pub struct FeedOptions {
    /// The same seed gives the same records.
    pub seed: u64,
    /// Records a second, until told to finish.
    pub per_second: u64,
    /// Records that are written at least; the rest comes as fast as it can once told to finish.
    pub at_least: u64,
    /// Different keys.
    pub keys: u32,
    /// Records of one second of event time.
    pub per_event_second: u64,
    /// Different values of the column `g`.
    pub groups: u32,
    /// Bytes that are added to each record.
    pub pad: usize,
    /// Whether event time is the wall clock, and always in order.
    pub live: bool,
    /// Whether keys come one after the other, and not at random.
    pub sequential: bool,
    /// Whether the last records close all windows.
    pub closing: bool,
}

impl Default for FeedOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            per_second: 10_000,
            at_least: 0,
            keys: 500,
            per_event_second: 2_000,
            groups: 20,
            pad: 16,
            live: false,
            sequential: false,
            closing: true,
        }
    }
}

/// Input that is being written.
#[derive(Debug)]
pub struct Feed {
    thread: Option<JoinHandle<Result<u64, LabError>>>,
    finish: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
}

impl Feed {
    /// Starts to write.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn start(job: &Job, options: FeedOptions) -> Result<Self, LabError> {
        let (finish, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (asked, count) = (Arc::clone(&finish), Arc::clone(&made));
        let (config, topic) = (job.kafka().clone(), job.topic(Role::Events));
        let write = move || {
            let failed = || LabError::kafka(format!("feeding {topic}"));
            let mut loader = Loader::new(&config).map_err(failed())?;
            let mut maker = Maker::new(options);
            let mut batch = Outgoing::new(vec![topic.clone()]);
            let began = Instant::now();
            loop {
                let finishing = asked.load(Ordering::Relaxed);
                if finishing && maker.made >= options.at_least {
                    break;
                }
                let due = (began.elapsed().as_secs_f64() * options.per_second as f64) as u64;
                if !finishing && maker.made >= due {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                }
                for _ in 0..CHUNK.min(if finishing { CHUNK } else { due - maker.made }) {
                    maker.push(&mut batch);
                }
                loader.send(&batch).map_err(failed())?;
                batch.clear();
                count.store(maker.made, Ordering::Relaxed);
            }
            if options.closing {
                maker.close(&mut batch);
                loader.send(&batch).map_err(failed())?;
            }
            loader.finish().map_err(failed())?;
            Ok(maker.made)
        };
        let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(write);
        let thread = thread.map_err(LabError::file("starting a thread in", "."))?;
        Ok(Self { thread: Some(thread), finish, made })
    }

    /// How many records were made so far.
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
        let thread = self.thread.take().expect("it is taken only here and when dropped");
        thread.join().expect("the feed does not panic")
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // A scenario that failed leaves its feed to end with the process; it only stops making records.
        self.finish.store(true, Ordering::Relaxed);
    }
}

/// Makes records.
struct Maker {
    options: FeedOptions,
    random: SmallRng,
    made: u64,
    /// By key: its partition, its next `seq`.
    keys: Vec<(u32, u64)>,
    value: String,
    pad: String,
}

impl Maker {
    fn new(options: FeedOptions) -> Self {
        let keys = (0..options.keys).map(|key| (partition_of(format!("k{key}").as_bytes(), PARTITIONS), 0)).collect();
        Self {
            options,
            random: SmallRng::seed_from_u64(options.seed),
            made: 0,
            keys,
            value: String::new(),
            pad: "x".repeat(options.pad),
        }
    }

    fn now(&self) -> i64 {
        if self.options.live {
            return now_ms();
        }
        START_MS + (self.made * 1000 / self.options.per_event_second) as i64
    }

    fn push(&mut self, batch: &mut Outgoing) {
        let key = match self.options.sequential {
            true => (self.made % u64::from(self.options.keys)) as u32,
            false => self.random.random_range(0..self.options.keys),
        };
        let behind = match self.random.random_range(0..1000) {
            _ if self.options.live => 0,
            0..2 => DISORDER_MS + WINDOW_MS + self.random.random_range(0..WINDOW_MS),
            2..200 => self.random.random_range(0..DISORDER_MS),
            _ => 0,
        };
        let at = self.now() - behind;
        self.made += 1;
        self.put(batch, key, at);
    }

    /// One record for each partition, so far ahead that every window before it closes.
    fn close(&mut self, batch: &mut Outgoing) {
        let at = self.now() + 2 * WINDOW_MS + 2 * DISORDER_MS;
        for partition in 0..PARTITIONS {
            let key = self.keys.iter().position(|(of, _)| *of == partition);
            let key = key.expect("there are so many keys that each partition has one");
            self.made += 1;
            self.put(batch, key as u32, at);
        }
    }

    fn put(&mut self, batch: &mut Outgoing, key: u32, at: i64) {
        use std::fmt::Write as _;
        let group = self.random.random_range(0..self.options.groups);
        let v = self.random.random_range(0..1000);
        let (partition, seq) = &mut self.keys[key as usize];
        let pad = &self.pad;
        self.value.clear();
        let text = format_args!(r#"{{"k":"k{key}","g":"g{group}","seq":{seq},"v":{v},"ts":{at},"pad":"{pad}"}}"#);
        self.value.write_fmt(text).expect("a string takes everything");
        let key = format!("k{key}");
        batch.push(0, *partition, now_ms(), Some(key.as_bytes()), Some(self.value.as_bytes()));
        *seq += 1;
    }
}

/// The wall clock, ms since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
