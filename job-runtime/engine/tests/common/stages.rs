//! A pair of stages with a repartition topic between them, in memory.

use freshet_engine::StageProgram;
use freshet_log::Fetched;
use freshet_plan::Plan;
use proptest::prelude::*;

use super::{Driven, Payment, SINK, batch, context, payments_of, program, repartition_topic};

/// Upstream tasks.
pub const UPSTREAM: u32 = 3;
/// Downstream tasks.
pub const PARTITIONS: u32 = 2;

/// The stages' tasks, and how far they are.
pub struct Stages {
    programs: [StageProgram; 2],
    pub upstream: Vec<Driven>,
    pub downstream: Vec<Driven>,
    /// Committed internal records by partition.
    pub topic: Vec<Vec<Vec<u8>>>,
    /// For each source partition and each repartition partition, where the committed position is.
    read: Vec<usize>,
    merged: Vec<usize>,
    pub input: Vec<Vec<Payment>>,
}

impl Stages {
    pub fn new(plan: &Plan, input: Vec<Vec<Payment>>) -> Self {
        let context = context(UPSTREAM, PARTITIONS);
        let programs = [0, 1].map(|stage| program(plan, stage, &context));
        Self {
            upstream: (0..UPSTREAM).map(|p| Driven::new(&programs[0], p, &context)).collect(),
            downstream: (0..PARTITIONS).map(|p| Driven::new(&programs[1], p, &context)).collect(),
            programs,
            topic: vec![vec![]; PARTITIONS as usize],
            read: vec![0; UPSTREAM as usize],
            merged: vec![0; PARTITIONS as usize],
            input,
        }
    }

    /// One epoch of an upstream task: up to `records` records in batches of `size`, and then it commits or crashes.
    pub fn read(&mut self, task: usize, records: usize, size: usize, crash: bool) {
        let (driven, from) = (&mut self.upstream[task], self.read[task]);
        let to = self.input[task].len().min(from + records);
        for (at, chunk) in self.input[task][from..to].chunks(size).enumerate() {
            let batch = payments_of(task as u32, (from + at * size) as i64, chunk);
            driven.task.process(&batch, 0, &mut driven.out).expect("good records");
        }
        if crash {
            driven.crash(&self.programs[0], false);
            return;
        }
        driven.commit();
        self.read[task] = to;
        for record in driven.committed.drain(..) {
            if record.topic == repartition_topic() {
                self.topic[record.partition as usize].push(record.value);
            }
        }
    }

    /// The same of a downstream task.
    pub fn merge(&mut self, task: usize, records: usize, size: usize, crash: bool) {
        let (driven, from) = (&mut self.downstream[task], self.merged[task]);
        let to = self.topic[task].len().min(from + records);
        for (at, chunk) in self.topic[task][from..to].chunks(size).enumerate() {
            let values = chunk.iter().map(Vec::as_slice);
            let batch: Fetched = batch(&repartition_topic(), task as u32, (from + at * size) as i64, values);
            driven.task.process(&batch, 0, &mut driven.out).expect("internal records");
        }
        if crash {
            driven.crash(&self.programs[1], true);
            return;
        }
        driven.commit();
        self.merged[task] = to;
    }

    /// Does `actions`, one after another, and then whatever is left.
    pub fn act(&mut self, actions: Vec<Action>) {
        for Action { upstream, task, records, size, crash } in actions {
            if upstream {
                self.read(task, records, size, crash);
            } else {
                self.merge(task % PARTITIONS as usize, records, size, crash);
            }
        }
        self.finish();
    }

    /// Reads whatever is left.
    pub fn finish(&mut self) {
        for task in 0..self.upstream.len() {
            self.read(task, usize::MAX - 1_000_000, 50, false);
        }
        for task in 0..self.downstream.len() {
            self.merge(task, usize::MAX - 1_000_000, 50, false);
        }
    }

    pub fn results(&self) -> Vec<String> {
        let written = self.downstream.iter().flat_map(|driven| &driven.committed);
        let mut results: Vec<_> = written.filter(|w| w.topic == SINK).map(|w| w.text().to_owned()).collect();
        results.sort();
        results
    }

    pub fn late(&self) -> (u64, u64) {
        let late = |tasks: &[Driven]| tasks.iter().map(|driven| driven.task.stats().late).sum();
        (late(&self.upstream), late(&self.downstream))
    }
}

/// Last records that close every window of the test's payments.
pub fn with_end(mut input: Vec<Vec<Payment>>) -> Vec<Vec<Payment>> {
    for partition in &mut input {
        partition.push(Payment::new("end", 0, 10_000));
    }
    input
}

/// What one task does next.
#[derive(Debug, Clone)]
pub struct Action {
    pub upstream: bool,
    pub task: usize,
    pub records: usize,
    pub size: usize,
    pub crash: bool,
}

/// A step of one task.
pub fn action() -> impl Strategy<Value = Action> {
    (any::<bool>(), 0..UPSTREAM as usize, 1..30_usize, 1..10_usize, prop::bool::weighted(0.2))
        .prop_map(|(upstream, task, records, size, crash)| Action { upstream, task, records, size, crash })
}
