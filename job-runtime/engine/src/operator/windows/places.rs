//! Where rows come from, for aggregates that go by the order of rows.

use freshet_log::Fetched;

use crate::Rows;
use crate::accumulate::Order;

/// The offsets of the batch that is being read.
#[derive(Debug, Default)]
pub(crate) struct Places {
    partition: u32,
    offsets: Vec<i64>,
}

impl Places {
    /// The rows that come next are those of `batch`.
    pub fn read(&mut self, batch: &Fetched) {
        self.partition = batch.partition.partition;
        self.offsets.clear();
        self.offsets.extend(batch.records.iter().map(|record| record.offset));
    }

    /// The places of `rows`, whose event times are `times`; `None` where they don't stand for one record each.
    pub fn order<'a>(&'a self, rows: &'a Rows, times: &'a [i64]) -> Option<Order<'a>> {
        let origin = rows.origin.as_ref()?.values();
        Some(Order { times, partition: self.partition, origin, offsets: &self.offsets })
    }
}
