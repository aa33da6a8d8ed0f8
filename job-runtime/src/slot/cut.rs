//! The first half of an epoch: at a batch boundary, everything since the last cut becomes one commit to make.

use std::collections::BTreeMap;
use std::rc::Rc;

use freshet_env::{PlantedBug, planted};
use freshet_log::{CommittedOffset, TopicPartition};
use freshet_state::generation::PointerOffset;
use freshet_state::metadata::CommitMetadata;
use freshet_state::object::{ObjectHeader, TaskSection, after_merge, encode};
use freshet_state::paths::{ObjectKind, ObjectName};
use freshet_state::rows::RowBuffer;

use super::SlotError;
use super::commit::{Cut, commit};
use super::work::{Commit, Work};

/// The version of the runtime, as state objects record it.
const RUNTIME_VERSION: &str = env!("CARGO_PKG_VERSION");

impl Work<'_> {
    /// Ends the epoch here and gives its commit, or nothing when there is nothing to commit.
    pub(super) async fn cut(&mut self) -> Result<Option<Commit>, SlotError> {
        let slot = self.slot;
        let began = slot.env.monotonic();
        self.pass_time()?;
        self.send().await?;
        for at in 0..self.tasks.len() {
            let task = &mut self.tasks[at];
            task.task.flush(&mut self.out).map_err(|error| SlotError::Engine { task: task.id.clone(), error })?;
            self.send().await?;
        }
        let old = began.saturating_sub(self.last_commit) >= slot.tuning.recommit_interval;
        let moved = self.tasks.iter().any(|task| task.position != task.cut_position);
        let dirty = self.tasks.iter().any(|task| task.task.is_dirty());
        if !(self.in_transaction || moved || dirty || old) {
            return Ok(None);
        }
        let Some(mut producer) = self.producer.take() else { return Ok(None) };
        if !self.in_transaction {
            producer.begin()?;
        }
        self.in_transaction = false;
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        let object = if dirty { self.snapshot(epoch) } else { None };
        let partial = planted(PlantedBug::OffsetsOfMovedOnly);
        let which: Vec<usize> = (0..self.tasks.len())
            .filter(|at| !partial || self.tasks[*at].position != self.tasks[*at].cut_position)
            .collect();
        let offsets = self.offsets_of(which.into_iter(), epoch);
        self.remember(&offsets);
        for task in &mut self.tasks {
            task.cut_position = task.position;
        }
        let cut = Cut {
            epoch,
            generation: self.generation.number,
            object,
            offsets,
            snapshot: slot.env.monotonic().saturating_sub(began),
            records: std::mem::take(&mut self.records),
        };
        let env = Rc::clone(&slot.env);
        Ok(Some(Box::pin(commit(env, slot.lineage.clone(), producer, cut, slot.tuning.upload_deadline))))
    }

    /// Lets tasks see the time; an idle one follows the slowest active one of its stage in this slot.
    fn pass_time(&mut self) -> Result<(), SlotError> {
        let awake_ms = match planted(PlantedBug::IdleByWallClock) {
            true => self.slot.env.now_ms(),
            false => self.awake.look(self.slot.env.monotonic()),
        };
        let mut least: BTreeMap<usize, Option<i64>> = BTreeMap::new();
        for task in self.tasks.iter().filter(|task| !task.task.is_idle()) {
            let watermark = task.task.watermark();
            least.entry(task.stage).and_modify(|least| *least = (*least).min(watermark)).or_insert(watermark);
        }
        for task in &mut self.tasks {
            let followed = least.get(&task.stage).copied().flatten();
            task.task
                .tick(awake_ms, followed, &mut self.out)
                .map_err(|error| SlotError::Engine { task: task.id.clone(), error })?;
        }
        Ok(())
    }

    /// The changed rows of all tasks as one object, with the manifests of all.
    fn snapshot(&mut self, epoch: u64) -> Option<(String, bytes::Bytes)> {
        let name = ObjectName {
            generation: self.generation.number,
            slot: self.slot.number,
            kind: ObjectKind::Delta,
            epoch,
            random: self.slot.env.random_u64(),
        };
        let mut sections = Vec::with_capacity(self.tasks.len());
        for task in &mut self.tasks {
            let mut rows = RowBuffer::default();
            task.task.snapshot(&mut rows);
            let before = std::mem::take(&mut task.manifest);
            let after = task.merged.take().and_then(|merged| after_merge(&before, &merged, &name));
            sections.push(TaskSection::delta(&name, task.id.clone(), after.unwrap_or(before), rows));
        }
        let header = ObjectHeader {
            lineage: self.slot.lineage.id().to_owned(),
            name,
            plan_fingerprint: self.generation.plan_fingerprint.clone(),
            runtime_version: RUNTIME_VERSION.to_owned(),
        };
        let bytes = encode(&header, &sections);
        let without = planted(PlantedBug::OffsetsWithoutState);
        for (task, section) in self.tasks.iter_mut().zip(sections) {
            task.manifest = section.manifest;
            if !without {
                task.object = Some(name.to_string());
            }
        }
        Some((name.to_string(), bytes))
    }

    /// The positions of tasks, with their metadata, by consumer group.
    pub(super) fn offsets_of(
        &self,
        which: impl Iterator<Item = usize>,
        epoch: u64,
    ) -> Vec<(String, Vec<(TopicPartition, CommittedOffset)>)> {
        let mut groups: BTreeMap<&str, Vec<(TopicPartition, CommittedOffset)>> = BTreeMap::new();
        for at in which {
            let task = &self.tasks[at];
            let metadata = CommitMetadata {
                generation: self.generation.number,
                epoch,
                slot: self.slot.number,
                object: task.object.clone(),
            };
            let committed = CommittedOffset { offset: task.position, metadata: metadata.to_string() };
            groups.entry(&task.group).or_default().push((task.input.clone(), committed));
        }
        groups.into_iter().map(|(group, offsets)| (group.to_owned(), offsets)).collect()
    }

    pub(super) fn remember(&mut self, groups: &[(String, Vec<(TopicPartition, CommittedOffset)>)]) {
        self.offsets = groups
            .iter()
            .flat_map(|(group, offsets)| {
                offsets.iter().map(move |(input, committed)| PointerOffset {
                    group: group.clone(),
                    topic: input.topic.clone(),
                    partition: input.partition,
                    offset: committed.offset,
                    metadata: committed.metadata.clone(),
                })
            })
            .collect();
    }
}
