//! Files of lines as input: each line a record.

use std::fs::File;
use std::io::{BufRead, BufReader};

use freshet_env::{Env as _, RealEnv};
use freshet_log::Outgoing;
use freshet_plan::key::partition_of;

use super::feed::{FeedError, STEP_RECORDS, Target};
use crate::cli::Failure;
use crate::manifest::TopicTable;

/// One file that is being read.
struct Source {
    file: String,
    lines: Box<dyn BufRead>,
    topic: u16,
    partitions: u32,
    /// The columns of the record's key.
    key: Vec<String>,
}

/// Files of lines, each line a record.
pub(in crate::cli) struct Files {
    target: Target,
    open: Vec<Source>,
    batch: Outgoing,
    env: RealEnv,
    unkeyed: u32,
}

impl Files {
    pub(super) fn new(input: &[(String, String)], tables: &[TopicTable], target: Target) -> Result<Self, Failure> {
        let mut topics = Vec::new();
        let mut open = Vec::new();
        for (name, file) in input {
            let table = tables.iter().find(|t| t.table == *name || t.resource == *name);
            let Some(table) = table else {
                let known: Vec<&str> = tables.iter().map(|topic| &*topic.table).collect();
                return Err(Failure::Refused(format!(
                    "--input {name}=…: there is no table {name}, only {}",
                    known.join(", ")
                )));
            };
            let lines: Box<dyn BufRead> = if file == "-" {
                Box::new(BufReader::new(std::io::stdin()))
            } else {
                let opened =
                    File::open(file).map_err(|error| Failure::Refused(format!("--input {name}={file}: {error}")))?;
                Box::new(BufReader::new(opened))
            };
            let key = table.contract.as_ref().map(|contract| contract.key.clone()).unwrap_or_default();
            open.push(Source {
                file: file.clone(),
                lines,
                topic: topics.len() as u16,
                partitions: table.partitions,
                key,
            });
            topics.push(table.topic.clone());
        }
        Ok(Self { target, open, batch: Outgoing::new(topics), env: RealEnv::new(), unkeyed: 0 })
    }

    /// Whether all of them are read to their ends.
    pub(super) fn are_read(&self) -> bool {
        self.open.is_empty()
    }

    /// Reads some lines of each file.
    pub(super) async fn step(&mut self) -> Result<(), FeedError> {
        self.batch.clear();
        let now_ms = self.env.now_ms();
        let mut ended = Vec::new();
        for (at, source) in self.open.iter_mut().enumerate() {
            for _ in 0..STEP_RECORDS {
                let mut line = Vec::new();
                let read = source.lines.read_until(b'\n', &mut line);
                if read.map_err(|error| FeedError::Read { file: source.file.clone(), error })? == 0 {
                    ended.push(at);
                    break;
                }
                let line = line.trim_ascii();
                if line.is_empty() {
                    continue;
                }
                let key = record_key(line, &source.key);
                let partition = match &key {
                    Some(key) => partition_of(key, source.partitions),
                    None => {
                        self.unkeyed = self.unkeyed.wrapping_add(1);
                        self.unkeyed % source.partitions
                    }
                };
                self.batch.push(source.topic, partition, now_ms, key.as_deref(), Some(line));
            }
        }
        if !self.batch.is_empty() {
            self.target.write(&self.batch).await?;
        }
        for at in ended.into_iter().rev() {
            self.open.remove(at);
        }
        if self.open.is_empty() {
            self.target.finish()?;
        }
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// The record key of a JSON line, as the runtime writes keys: one column as its text, several as a JSON array. `None` when
/// no key is declared or the line does not have it.
fn record_key(line: &[u8], columns: &[String]) -> Option<Vec<u8>> {
    let row: serde_json::Value = serde_json::from_slice(line).ok()?;
    let values = columns.iter().map(|column| row.get(column)).collect::<Option<Vec<_>>>()?;
    match &*values {
        [] => None,
        [serde_json::Value::Null] => None,
        [serde_json::Value::String(text)] => Some(text.clone().into_bytes()),
        [other] => Some(other.to_string().into_bytes()),
        several => serde_json::to_vec(several).ok(),
    }
}
