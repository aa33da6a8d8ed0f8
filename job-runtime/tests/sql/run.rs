//! Runs a plan in memory: every task of every stage, with epochs, and with crashes between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use freshet_engine::{JobContext, OnBadRecord, OnLate, OutputTopic, StageProgram, Task};
use freshet_log::{Fetched, Outgoing, TopicPartition};
use freshet_plan::{Changes, Input, Output, Plan};
use freshet_state::rows::RowBuffer;

/// How a plan is run.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Records a batch.
    pub batch: usize,
    /// Whether each task begins anew from its state after each epoch.
    pub crash: bool,
    /// Batches an epoch.
    pub epoch: usize,
}

pub const SOURCE_PARTITIONS: u32 = 3;

/// What a run gave.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The values of all records in the user's topics, in no order; of upserts, the last one of each key.
    pub values: Vec<String>,
    /// Bad and late records.
    pub bad: BTreeMap<&'static str, u64>,
    pub late: u64,
}

struct Running {
    task: Task,
    out: Outgoing,
    state: BTreeMap<(String, Vec<u8>), Vec<u8>>,
}

fn context(plan: &Plan) -> JobContext {
    let mut outputs: Vec<OutputTopic> = Vec::new();
    for chain in plan.stages.iter().flat_map(|stage| &stage.chains) {
        let (name, partitions) = match &chain.output {
            Output::Topic(sink) => (sink.topic.clone(), 3),
            Output::Repartition { operator, format_version, .. } => {
                (Plan::repartition_topic("job", "r1", operator, *format_version), plan.max_parallelism)
            }
        };
        if !outputs.iter().any(|output| output.name == name) {
            outputs.push(OutputTopic { name, partitions });
        }
    }
    let tasks = plan.stages.iter().map(|stage| match stage.input {
        Input::Topic(_) => SOURCE_PARTITIONS,
        Input::Repartition(_) => plan.max_parallelism,
    });
    JobContext {
        job: "job".to_owned(),
        lineage: "r1".to_owned(),
        outputs,
        on_bad_record: OnBadRecord::Skip,
        on_late: OnLate::Drop,
        stage_tasks: tasks.collect(),
    }
}

/// Runs `plan` over the records of each partition of its topic.
///
/// # Errors
/// What the engine says, as text.
pub fn run(plan: &Plan, partitions: &[Vec<String>], manner: Manner) -> Result<Outcome, String> {
    let context = context(plan);
    let mut outcome = Outcome::default();
    // What lies in the internal topics, by topic and partition.
    let mut internal: BTreeMap<(String, u32), Vec<Vec<u8>>> = BTreeMap::new();
    let mut upserts: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let sinks: BTreeMap<&str, Changes> = plan
        .stages
        .iter()
        .flat_map(|stage| &stage.chains)
        .filter_map(|chain| match &chain.output {
            Output::Topic(sink) => Some((sink.topic.as_str(), sink.changes)),
            Output::Repartition { .. } => None,
        })
        .collect();
    let text = |value: Vec<u8>| String::from_utf8(value).map_err(|error| error.to_string());
    for stage in 0..plan.stages.len() {
        let program =
            StageProgram::compile(plan, stage, Arc::new(context.clone())).map_err(|error| error.to_string())?;
        for partition in 0..context.stage_tasks[stage] {
            let (topic, records) = match &plan.stages[stage].input {
                Input::Topic(source) => {
                    let records = partitions[partition as usize].iter().map(|record| record.clone().into_bytes());
                    (source.topic.clone(), records.collect())
                }
                Input::Repartition(source) => {
                    let topic = Plan::repartition_topic("job", "r1", &source.operator, source.format_version);
                    let records = internal.remove(&(topic.clone(), partition)).unwrap_or_default();
                    (topic, records)
                }
            };
            let written = run_task(&program, &context, (&topic, partition), &records, manner, &mut outcome)?;
            for Written { topic, partition, key, value } in written {
                match (sinks.get(topic.as_str()), key, value) {
                    (Some(Changes::Upsert), Some(key), Some(value)) => drop(upserts.insert(key, value)),
                    (Some(Changes::Upsert), Some(key), None) => drop(upserts.remove(&key)),
                    (Some(Changes::Upsert), None, _) => return Err("an upsert without key".to_owned()),
                    (Some(_), _, value) => outcome.values.push(text(value.unwrap_or_default())?),
                    (None, _, value) => {
                        internal.entry((topic, partition)).or_default().push(value.unwrap_or_default());
                    }
                }
            }
        }
    }
    for value in upserts.into_values() {
        outcome.values.push(text(value)?);
    }
    Ok(outcome)
}

/// A record that a task wrote.
struct Written {
    topic: String,
    partition: u32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

fn run_task(
    program: &StageProgram,
    context: &JobContext,
    (topic, partition): (&str, u32),
    records: &[Vec<u8>],
    manner: Manner,
    outcome: &mut Outcome,
) -> Result<Vec<Written>, String> {
    let mut written = Vec::new();
    let out = Outgoing::new(context.outputs.iter().map(|output| output.name.clone()).collect());
    let mut running = Running { task: program.task(partition), out, state: BTreeMap::new() };
    running.task.restored().map_err(|error| error.to_string())?;
    let mut offset = 0;
    for (at, records) in records.chunks(manner.batch.max(1)).enumerate() {
        let mut batch = Fetched::empty(TopicPartition::new(topic, partition), offset);
        for record in records {
            batch.push(offset, 1_000, None, Some(record));
            offset += 1;
        }
        running.task.process(&batch, 0, &mut running.out).map_err(|error| error.to_string())?;
        if (at + 1) % manner.epoch == 0 {
            running.commit(&mut written)?;
            if manner.crash {
                running.count(outcome);
                running.begin_anew(program, partition)?;
            }
        }
    }
    running.commit(&mut written)?;
    running.count(outcome);
    Ok(written)
}

impl Running {
    fn commit(&mut self, written: &mut Vec<Written>) -> Result<(), String> {
        self.task.flush(&mut self.out).map_err(|error| error.to_string())?;
        let mut rows = RowBuffer::default();
        self.task.snapshot(&mut rows);
        for row in rows.iter() {
            let row = row.map_err(|error| format!("{error:?}"))?;
            let key = (row.operator.to_owned(), row.key.to_vec());
            match row.value {
                Some(value) => drop(self.state.insert(key, value.to_vec())),
                None => drop(self.state.remove(&key)),
            }
        }
        for record in &self.out.records {
            written.push(Written {
                topic: self.out.topics[usize::from(record.topic)].clone(),
                partition: record.partition,
                key: self.out.key(record).map(<[u8]>::to_vec),
                value: self.out.value(record).map(<[u8]>::to_vec),
            });
        }
        self.out.clear();
        Ok(())
    }

    fn begin_anew(&mut self, program: &StageProgram, partition: u32) -> Result<(), String> {
        self.task = program.task(partition);
        for ((operator, key), value) in &self.state {
            self.task.restore(operator, key, Some(value)).map_err(|error| error.to_string())?;
        }
        self.task.restored().map_err(|error| error.to_string())
    }

    fn count(&self, outcome: &mut Outcome) {
        let stats = self.task.stats();
        for (reason, count) in stats.bad {
            *outcome.bad.entry(reason).or_default() += count;
        }
        outcome.late += stats.late;
    }
}
