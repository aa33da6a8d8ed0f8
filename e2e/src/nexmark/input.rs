//! Where records go: files of lines, or topics of a Kafka.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use freshet_env::RealEnv;
use freshet_kafka::bulk::Loader;
use freshet_kafka::{KafkaConfig, KafkaLog};
use freshet_log::{Log, Outgoing, TopicSpec};

use super::PARTITIONS;
use super::records::{Kind, Record, Records, Settings};
use crate::LabError;
use crate::scenario::now_ms;

/// Records that are handed to the client together.
const BATCH: usize = 2_000;

/// Where records are written to.
#[derive(Debug, Clone)]
pub enum Destination {
    /// `person.jsonl`, `auction.jsonl`, `bid.jsonl` in this folder.
    Folder(PathBuf),
    /// The topics of examples/nexmark on these brokers, made where they are missing.
    Kafka(String),
}

/// Makes the records of `settings` and writes them; gives how many there are of each kind.
///
/// # Errors
/// When they can't be made, or written.
pub fn write(settings: &Settings, to: &Destination) -> Result<BTreeMap<Kind, u64>, LabError> {
    let mut counts: BTreeMap<Kind, u64> = Kind::ALL.into_iter().map(|kind| (kind, 0)).collect();
    let counted = Records::new(settings)?.inspect(|record| *counts.entry(record.kind).or_default() += 1);
    match to {
        Destination::Folder(folder) => write_files(counted, folder)?,
        Destination::Kafka(bootstrap) => {
            let mut writer = TopicWriter::open(bootstrap, &Kind::ALL)?;
            let mut records = counted;
            records.try_for_each(|record| writer.push(&record))?;
            writer.finish()?;
        }
    }
    Ok(counts)
}

fn write_files(records: impl Iterator<Item = Record>, folder: &Path) -> Result<(), LabError> {
    std::fs::create_dir_all(folder).map_err(LabError::file("making", folder))?;
    let mut files = BTreeMap::new();
    for kind in Kind::ALL {
        let path = folder.join(format!("{}.jsonl", kind.table()));
        let file = File::create(&path).map_err(LabError::file("writing", &path))?;
        files.insert(kind, (BufWriter::new(file), path));
    }
    for record in records {
        let Some((file, path)) = files.get_mut(&record.kind) else { continue };
        writeln!(file, "{}", record.value).map_err(LabError::file("writing", &*path))?;
    }
    files.into_values().try_for_each(|(mut file, path)| file.flush().map_err(LabError::file("writing", path)))
}

/// Writes records to the topics of examples/nexmark, in batches.
pub struct TopicWriter {
    loader: Loader,
    batch: Outgoing,
    kinds: Vec<Kind>,
}

impl std::fmt::Debug for TopicWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicWriter").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

impl TopicWriter {
    /// A writer of records of `kinds`; their topics are made where they are missing.
    ///
    /// # Errors
    /// When Kafka can't be reached, or refuses.
    pub fn open(bootstrap: &str, kinds: &[Kind]) -> Result<Self, LabError> {
        let topics: Vec<String> = kinds.iter().map(|kind| kind.topic().to_owned()).collect();
        ensure_topics(bootstrap, &topics)?;
        let loader = Loader::new(&KafkaConfig::new(bootstrap, "freshet-nexmark"));
        let loader = loader.map_err(LabError::kafka("connecting to write records"))?;
        Ok(Self { loader, batch: Outgoing::new(topics), kinds: kinds.to_vec() })
    }

    /// Takes a record; one of another kind is passed over.
    ///
    /// # Errors
    /// When Kafka does not take it, or an earlier one.
    pub fn push(&mut self, record: &Record) -> Result<(), LabError> {
        let Some(place) = self.kinds.iter().position(|kind| *kind == record.kind) else { return Ok(()) };
        let (key, value) = (record.key.as_bytes(), record.value.as_bytes());
        self.batch.push(place as u16, record.partition, now_ms(), Some(key), Some(value));
        if self.batch.records.len() < BATCH {
            return Ok(());
        }
        self.send()
    }

    fn send(&mut self) -> Result<(), LabError> {
        self.loader.send(&self.batch).map_err(LabError::kafka("writing records"))?;
        self.batch.clear();
        Ok(())
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// When something could not be written.
    pub fn finish(mut self) -> Result<(), LabError> {
        self.send()?;
        self.loader.finish().map_err(LabError::kafka("writing records"))
    }
}

/// Makes topics where they are missing; their records never expire.
pub(crate) fn ensure_topics(bootstrap: &str, topics: &[String]) -> Result<(), LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(LabError::file("starting a runtime in", "."))?;
    let config = KafkaConfig::new(bootstrap, "freshet-nexmark");
    let failed = || LabError::kafka("making topics");
    let log = KafkaLog::connect(config, Rc::new(RealEnv::new())).map_err(failed())?;
    let spec = |name: &String| TopicSpec {
        name: name.clone(),
        partitions: PARTITIONS,
        replicas: None,
        config: vec![("retention.ms".to_owned(), "-1".to_owned())],
    };
    let specs: Vec<TopicSpec> = topics.iter().map(spec).collect();
    runtime.block_on(log.ensure_topics(&specs)).map_err(failed()).map(drop)
}
