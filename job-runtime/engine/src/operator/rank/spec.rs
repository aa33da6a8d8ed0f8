//! A checked ranking of a plan.

use arrow::array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use freshet_plan::rank::{MAX_RANKS, RANK_STATE_VERSION};
use freshet_plan::{Column, DataType, Emits, OrderBy, Rank};

use super::order::put_ordered;
use crate::EngineError;
use crate::column::ColumnView;
use crate::group::key::{KeyWriter, can_group, decode_columns};
use crate::types::arrow_schema;

/// What the operators of a ranking need of a plan.
#[derive(Debug, Clone)]
pub(crate) struct RankSpec {
    pub id: String,
    partition: Vec<usize>,
    partition_columns: Vec<Column>,
    order: Vec<OrderBy>,
    pub limit: usize,
    kept: Vec<usize>,
    pub kept_columns: Vec<Column>,
    pub numbered: bool,
    pub emits: Emits,
    pub ttl_ms: Option<i64>,
    pub output: SchemaRef,
}

/// Writes keys and entries of one batch's rows.
pub(super) struct Writer<'a> {
    spec: &'a RankSpec,
    key: KeyWriter<'a>,
    order: Vec<ColumnView<'a>>,
    kept: KeyWriter<'a>,
}

impl RankSpec {
    /// Checks a ranking.
    ///
    /// # Errors
    /// [`EngineError::Plan`] for what this runtime does not do.
    pub fn new(plan: &Rank) -> Result<Self, EngineError> {
        let refuse = |why: String| EngineError::Plan(format!("operator {}: {why}", plan.id));
        if plan.state_version != RANK_STATE_VERSION {
            let version = plan.state_version;
            return Err(refuse(format!("its state has format {version}; this runtime has {RANK_STATE_VERSION}")));
        }
        if plan.partition.len() != plan.partition_columns.len() || plan.kept.len() != plan.kept_columns.len() {
            return Err(refuse("it has more columns than types, or fewer".to_owned()));
        }
        let mut columns = plan.partition_columns.iter().chain(&plan.kept_columns);
        if let Some(column) = columns.find(|column| !can_group(&column.data_type)) {
            return Err(refuse(format!("column `{}` is {}, which can't be kept", column.name, column.data_type)));
        }
        if plan.limit == 0 || plan.limit > MAX_RANKS {
            return Err(refuse(format!("{} rows a key; from 1 to {MAX_RANKS} can be kept", plan.limit)));
        }
        if plan.emits == Emits::First {
            let is_time = |by: &OrderBy| matches!(by.data_type, DataType::Timestamp(_) | DataType::TimestampLtz(_));
            let by_time = matches!(plan.order.as_slice(), [only] if !only.descending && is_time(only));
            if plan.limit != 1 || !by_time {
                return Err(refuse("only the first row by event time never changes".to_owned()));
            }
        }
        if plan.state_ttl_ms.is_some_and(|ttl| ttl <= 0) {
            return Err(refuse("a state that is kept for no time is none".to_owned()));
        }
        Ok(Self {
            id: plan.id.clone(),
            partition: plan.partition.clone(),
            partition_columns: plan.partition_columns.clone(),
            order: plan.order.clone(),
            limit: plan.limit as usize,
            kept: plan.kept.clone(),
            kept_columns: plan.kept_columns.clone(),
            numbered: plan.numbered,
            emits: plan.emits,
            ttl_ms: plan.state_ttl_ms,
            output: arrow_schema(&plan.output_columns()),
        })
    }

    /// Checks that the rows before it have the columns that it needs.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when they don't.
    pub fn check_input(&self, input: &[Column]) -> Result<(), EngineError> {
        let partition = self.partition.iter().zip(self.partition_columns.iter().map(|column| &column.data_type));
        let kept = self.kept.iter().zip(self.kept_columns.iter().map(|column| &column.data_type));
        let order = self.order.iter().map(|by| (&by.column, &by.data_type));
        for (position, wanted) in partition.chain(kept).chain(order) {
            if input.get(*position).map(|column| &column.data_type) != Some(wanted) {
                return Err(self.mistaken(format!("column {position} of its rows is not {wanted}")));
            }
        }
        Ok(())
    }

    pub(super) fn writer<'a>(&'a self, batch: &'a RecordBatch) -> Result<Writer<'a>, EngineError> {
        let keys = |positions| KeyWriter::new(batch, positions).map_err(|error| self.mistaken(error));
        let order = self.order.iter().map(|by| {
            ColumnView::of(batch.column(by.column))
                .map_err(|found| self.mistaken(format!("rows can't be ordered by {found}")))
        });
        Ok(Writer {
            spec: self,
            key: keys(&self.partition)?,
            order: order.collect::<Result<_, _>>()?,
            kept: keys(&self.kept)?,
        })
    }

    /// The kept columns of encoded rows.
    pub fn arrays<'r>(&self, rows: impl ExactSizeIterator<Item = &'r [u8]>) -> Result<Vec<ArrayRef>, EngineError> {
        decode_columns(&self.kept_columns, rows).map_err(|detail| self.damaged(detail))
    }

    /// What does not fit together in this runtime itself.
    pub fn mistaken(&self, detail: impl std::fmt::Display) -> EngineError {
        EngineError::Plan(format!("operator {}: {detail}", self.id))
    }

    pub fn damaged(&self, detail: impl Into<String>) -> EngineError {
        EngineError::State { operator: self.id.clone(), detail: detail.into() }
    }
}

impl Writer<'_> {
    /// Appends the encoded key of `row`.
    pub fn key(&self, row: usize, out: &mut Vec<u8>) {
        self.key.write(row, out);
    }

    /// The row as it is kept.
    pub fn entry(&self, row: usize) -> Entry {
        let mut bytes = Vec::new();
        for (column, by) in self.order.iter().zip(&self.spec.order) {
            put_ordered(column, row, by.descending, by.nulls_first, &mut bytes);
        }
        let split = bytes.len();
        self.kept.write(row, &mut bytes);
        Entry { bytes: bytes.into(), split }
    }
}

/// A row that is kept: what it is ordered by, and behind that its kept columns, which decide among equals.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    bytes: Box<[u8]>,
    split: usize,
}

impl Entry {
    /// The kept columns.
    pub fn row(&self) -> &[u8] {
        &self.bytes[self.split..]
    }

    pub const fn memory_bytes(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        freshet_state::rows::put_varint(out, self.split as u64);
        freshet_state::rows::put_varint(out, self.bytes.len() as u64);
        out.extend_from_slice(&self.bytes);
    }

    /// Reads what [`Entry::encode`] wrote, and moves past it.
    pub fn decode(bytes: &[u8], at: &mut usize) -> Option<Self> {
        use freshet_state::rows::{take_bytes, take_varint};
        let split = usize::try_from(take_varint(bytes, at)?).ok()?;
        let len = take_varint(bytes, at)?;
        let bytes = take_bytes(bytes, at, len)?;
        (split <= bytes.len()).then(|| Self { bytes: bytes.into(), split })
    }
}
