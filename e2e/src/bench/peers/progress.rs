//! How far an engine is, asked of the broker: which offsets of the input its groups have committed, and how much of its
//! output a reader of committed records can see. Every engine that commits both in transactions can be asked so.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::LabError;
use crate::nexmark::PARTITIONS;

/// How often it is asked.
const LOOK: Duration = Duration::from_millis(50);
/// So long nothing must have changed for the end to be the end: several commits' time.
const QUIET: Duration = Duration::from_secs(4);
/// And so long something may not change before it is.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a question may take.
const ANSWER: Duration = Duration::from_secs(30);

/// What processes have used at some moment, CPU seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub cpu: f64,
    pub broker_cpu: f64,
}

/// What is asked about an engine.
pub(super) struct Progress {
    config: ClientConfig,
    client: BaseConsumer,
    input: String,
    output: String,
    groups: &'static str,
    /// Members of no group, each asking for the offsets of one.
    askers: Vec<(String, BaseConsumer)>,
}

/// By partition: committed offsets of the input, ends of the output.
type Seen = (Vec<i64>, Vec<i64>);

impl Progress {
    /// Of the engine whose groups' names begin with `groups`.
    pub(super) fn new(bootstrap: &str, input: &str, output: &str, groups: &'static str) -> Result<Self, LabError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("isolation.level", "read_committed");
        let client = config.create().map_err(|error| failed(&error))?;
        let (input, output) = (input.to_owned(), output.to_owned());
        Ok(Self { config, client, input, output, groups, askers: Vec::new() })
    }

    /// Waits until the input is read up to the offsets `wanted` and nothing changes any more. Gives when the last
    /// change was, from the call on, and what `sample` said then.
    pub(super) fn until(
        &mut self,
        wanted: &[i64],
        sample: impl Fn() -> Sample,
    ) -> Result<(Duration, Sample), LabError> {
        let began = Instant::now();
        let (mut changed, mut last) = (began, sample());
        let (mut seen, mut trouble) = (Seen::default(), None);
        loop {
            // A broker that was just started does not answer everything yet: it is asked again.
            match self.look() {
                Ok(now) if now != seen => {
                    seen = now;
                    (changed, last) = (Instant::now(), sample());
                }
                Ok(_) => {}
                Err(error) => trouble = Some(error),
            }
            let read = !seen.0.is_empty() && seen.0.iter().zip(wanted).all(|(offset, wanted)| offset >= wanted);
            if read && changed.elapsed() > QUIET {
                return Ok((changed - began, last));
            }
            if changed.elapsed() > PATIENCE {
                let (read, written) = seen;
                let trouble = trouble.map_or_else(String::new, |error| format!("; {error}"));
                return Err(LabError::Wrong(format!(
                    "nothing changed for {PATIENCE:?}: {} is read to {read:?}, wanted is {wanted:?}; {} has \
                     {written:?}{trouble}",
                    self.input, self.output
                )));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn look(&mut self) -> Result<Seen, LabError> {
        let end = |number: u32| self.client.fetch_watermarks(&self.output, number as i32, ANSWER).map(|(_, end)| end);
        let ends = (0..PARTITIONS).map(end).collect::<Result<Vec<_>, _>>().map_err(|error| failed(&error))?;
        let mut committed = vec![-1; PARTITIONS as usize];
        self.ask(&mut committed)?;
        if committed.iter().all(|offset| *offset < 0) {
            // Groups come with their first commit.
            self.find_groups()?;
            self.ask(&mut committed)?;
        }
        Ok((committed, ends))
    }

    fn ask(&self, committed: &mut [i64]) -> Result<(), LabError> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.input, 0, PARTITIONS as i32 - 1);
        for (_, client) in &self.askers {
            let found = client.committed_offsets(asked.clone(), ANSWER).map_err(|error| failed(&error))?;
            for (place, found) in committed.iter_mut().zip(found.elements()) {
                *place = (*place).max(found.offset().to_raw().unwrap_or(-1));
            }
        }
        Ok(())
    }

    fn find_groups(&mut self) -> Result<(), LabError> {
        let listed = self.client.fetch_group_list(None, ANSWER).map_err(|error| failed(&error))?;
        for group in listed.groups().iter().map(rdkafka::groups::GroupInfo::name) {
            if group.starts_with(self.groups) && self.askers.iter().all(|(known, _)| known != group) {
                let client = self.config.clone().set("group.id", group).create().map_err(|error| failed(&error))?;
                self.askers.push((group.to_owned(), client));
            }
        }
        Ok(())
    }
}

fn failed(error: &KafkaError) -> LabError {
    LabError::Wrong(format!("asking the broker how far an engine is: {error}"))
}
