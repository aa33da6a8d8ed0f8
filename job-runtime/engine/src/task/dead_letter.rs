//! Dead letters: records that give no row, or a row that is late, written on unchanged with the reason in
//! their headers.

use freshet_log::{Fetched, FetchedRecord, Header, Outgoing};
use freshet_plan::Format;
use freshet_plan::key::partition_of;

use super::source::Bad;
use super::{JobContext, OnLate};
use crate::EngineError;
use crate::format::encoder;
use crate::operator::{Late, LateGroups};

/// Why the record is there: [`crate::format::BadReason`], [`LATE`], [`LATE_GROUP`] and the like.
pub const HEADER_REASON: &str = "freshet-error-reason";
/// The topic that it was read from.
pub const HEADER_TOPIC: &str = "freshet-topic";
/// Its partition there.
pub const HEADER_PARTITION: &str = "freshet-partition";
/// Its offset there.
pub const HEADER_OFFSET: &str = "freshet-offset";
/// What exactly is wrong, for people.
pub const HEADER_DETAIL: &str = "freshet-detail";

/// The reason of a record whose window had closed when it came.
pub const LATE: &str = "LateRecord";
/// The reason of a group, combined from records that are not known any more, whose window had closed.
pub const LATE_GROUP: &str = "LateGroup";

/// A topic for dead letters: its position among the outputs, and how many partitions it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutputPlace {
    pub topic: u16,
    pub partitions: u32,
}

/// Where a task's dead letters go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DeadLetters {
    pub bad: Option<OutputPlace>,
    pub late: Option<OutputPlace>,
}

impl DeadLetters {
    /// Writes a record that gives no row.
    pub fn bad(&self, batch: &Fetched, bad: &Bad, out: &mut Outgoing) {
        if let Some(topic) = self.bad {
            topic.write(batch, &batch.records[bad.index], bad.reason, &bad.detail, out);
        }
    }

    /// Counts late records, each once however many chains missed it, and writes them where the job says so.
    pub fn late(
        &self,
        batch: &Fetched,
        mut late: Late,
        context: &JobContext,
        out: &mut Outgoing,
    ) -> Result<u64, EngineError> {
        late.records.sort_unstable();
        late.records.dedup();
        let groups: u64 = late.groups.iter().flat_map(|groups| &groups.records).sum();
        if let (OnLate::DeadLetter(_), Some(topic)) = (&context.on_late, self.late) {
            for record in &late.records {
                let detail = "its window had closed when it came";
                topic.write(batch, &batch.records[*record as usize], LATE, detail, out);
            }
            for groups in &late.groups {
                topic.write_groups(batch, groups, out)?;
            }
        }
        Ok(late.records.len() as u64 + groups)
    }
}

impl OutputPlace {
    /// A record keeps its key, value and timestamp. It is placed by its key, or by its partition.
    fn write(self, batch: &Fetched, record: &FetchedRecord, reason: &str, detail: &str, out: &mut Outgoing) {
        let key = batch.key(record);
        let partition =
            key.map_or(batch.partition.partition % self.partitions, |key| partition_of(key, self.partitions));
        out.push(self.topic, partition, record.timestamp_ms, key, batch.value(record));
        let mut headers = origin(batch, reason, detail);
        headers.push(header(HEADER_OFFSET, record.offset.to_string()));
        out.set_headers(headers);
    }

    /// A group becomes a JSON object of its columns and its window.
    fn write_groups(self, batch: &Fetched, groups: &LateGroups, out: &mut Outgoing) -> Result<(), EngineError> {
        let (mut values, mut ends) = (Vec::new(), Vec::new());
        encoder(Format::Json, &groups.columns).encode(&groups.rows, &mut values, &mut ends)?;
        let mut start = 0;
        for (end, records) in ends.iter().zip(&groups.records) {
            let value = &values[start..*end as usize];
            let timestamp_ms = batch.records.last().map_or(0, |record| record.timestamp_ms);
            out.push(self.topic, batch.partition.partition % self.partitions, timestamp_ms, None, Some(value));
            let detail = format!(
                "{records} records of a partition that had been idle came after this group's window had closed"
            );
            out.set_headers(origin(batch, LATE_GROUP, &detail));
            start = *end as usize;
        }
        Ok(())
    }
}

fn origin(batch: &Fetched, reason: &str, detail: &str) -> Vec<Header> {
    vec![
        header(HEADER_REASON, reason),
        header(HEADER_TOPIC, batch.partition.topic.as_str()),
        header(HEADER_PARTITION, batch.partition.partition.to_string()),
        header(HEADER_DETAIL, detail),
    ]
}

fn header(name: &'static str, value: impl Into<String>) -> Header {
    Header { name, value: value.into().into_bytes() }
}
