//! Reads a run's outputs as any `read_committed` reader would: for the live view, for printing, for the recount.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use freshet_env::{SharedEnv, deadline};
use freshet_log::{Consumer, Fetched, Log, LogError, TopicPartition};
use freshet_plan::Output;

use crate::cli::pipeline::Planned;
use crate::demo::WindowRow;

/// How many of the latest records are kept to be shown.
const LATEST: usize = 12;

/// How long to wait for a batch that may be there.
const MOMENT: Duration = Duration::from_millis(1);
/// How many batches are taken before the run goes on.
const BATCHES_AT_ONCE: u32 = 64;

/// The outputs of a job.
pub(super) struct Tail {
    log: Rc<dyn Log>,
    env: SharedEnv,
    consumer: Option<Box<dyn Consumer>>,
    /// Table by topic.
    tables: BTreeMap<String, String>,
    positions: BTreeMap<TopicPartition, i64>,
    printed: Vec<String>,
    title: String,
    keeps_all: bool,
    all: BTreeMap<String, Vec<Vec<u8>>>,
    latest: VecDeque<String>,
    counts: BTreeMap<String, u64>,
}

impl Tail {
    /// Reads every output topic from its end as it is now.
    pub async fn start(
        planned: &Planned,
        printed: &[String],
        log: &Rc<dyn Log>,
        env: &SharedEnv,
    ) -> Result<Self, LogError> {
        let mut tables = BTreeMap::new();
        let mut positions = BTreeMap::new();
        let mut title = String::new();
        for chain in planned.plan.stages.iter().flat_map(|stage| &stage.chains) {
            let Output::Topic(sink) = &chain.output else { continue };
            if title.is_empty() {
                title.clone_from(&sink.table);
            }
            tables.insert(sink.topic.clone(), sink.table.clone());
            for partition in 0..log.partition_count(&sink.topic).await? {
                let partition = TopicPartition::new(sink.topic.clone(), partition);
                let end = log.bounds(&partition).await?.stable;
                positions.insert(partition, end);
            }
        }
        let starts: Vec<_> = positions.iter().map(|(partition, offset)| (partition.clone(), *offset)).collect();
        let consumer = log.consumer(&starts).await?;
        Ok(Self {
            log: Rc::clone(log),
            env: Rc::clone(env),
            consumer: Some(consumer),
            tables,
            positions,
            printed: printed.to_vec(),
            title,
            keeps_all: planned.pipeline.job.name == "fraud-detection",
            all: BTreeMap::new(),
            latest: VecDeque::new(),
            counts: BTreeMap::new(),
        })
    }

    /// Takes what is there; `to_end` waits until everything that is committed was read.
    pub async fn read(&mut self, to_end: bool) -> Result<(), LogError> {
        let Some(mut consumer) = self.consumer.take() else { return Ok(()) };
        let mut ends = BTreeMap::new();
        if to_end {
            for partition in self.positions.keys() {
                ends.insert(partition.clone(), self.log.bounds(partition).await?.stable);
            }
        }
        let mut taken = 0;
        loop {
            if to_end {
                if ends.iter().all(|(partition, end)| self.positions[partition] >= *end) {
                    break;
                }
                let batch = consumer.next().await?;
                self.take(&batch);
            } else {
                // A consumer may yield between two batches: only when a moment brings nothing is there nothing.
                match deadline(&self.env, MOMENT, consumer.next()).await {
                    Some(batch) => self.take(&batch?),
                    None => break,
                }
                taken += 1;
                if taken == BATCHES_AT_ONCE {
                    break;
                }
            }
        }
        self.consumer = Some(consumer);
        Ok(())
    }

    fn take(&mut self, batch: &Fetched) {
        let Some(table) = self.tables.get(&batch.partition.topic) else { return };
        if let Some(position) = self.positions.get_mut(&batch.partition) {
            *position = (*position).max(batch.next_offset);
        }
        *self.counts.entry(table.clone()).or_default() += batch.records.len() as u64;
        for record in &batch.records {
            let value = batch.value(record).unwrap_or_default();
            if self.printed.contains(table) {
                println!("{}", String::from_utf8_lossy(value));
            }
            if *table == self.title {
                self.latest.push_front(String::from_utf8_lossy(value).into_owned());
                self.latest.truncate(LATEST);
            }
            if self.keeps_all {
                self.all.entry(table.clone()).or_default().push(value.to_vec());
            }
        }
    }

    /// The output whose records are shown.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// How many records that output has got.
    pub fn titled_count(&self) -> u64 {
        self.counts.get(&self.title).copied().unwrap_or(0)
    }

    /// How many records all outputs have got.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The latest, newest first.
    pub fn latest(&self) -> Vec<String> {
        self.latest.iter().cloned().collect()
    }

    /// All rows of one of the pilot's outputs.
    pub fn rows(&self, table: &str, group: &str) -> Result<Vec<WindowRow>, String> {
        self.all.get(table).into_iter().flatten().map(|value| WindowRow::from_json(value, group)).collect()
    }
}
