//! A checked window aggregate of a plan.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_schema::{DataType as ArrowType, SchemaRef, TimeUnit};
use freshet_plan::{Column, DataType, WindowAggregate};

use super::panes::Panes;
use crate::EngineError;
use crate::accumulate::{AccumulateError, AggregateSpec};
use crate::group::key::decode_columns;
use crate::operator::{LateGroups, grouping};
use crate::repartition::PartialColumns;
use crate::types::arrow_schema;

/// The version of the state's encoding that this runtime writes and reads.
pub(crate) const STATE_VERSION: u32 = 1;

/// What the window operators need of a plan. `W` is how time is cut: into panes, or into sessions by a gap.
#[derive(Debug, Clone)]
pub(crate) struct WindowSpec<W = Panes> {
    pub id: String,
    pub panes: W,
    pub time_column: usize,
    pub group: Vec<usize>,
    pub group_columns: Vec<Column>,
    pub aggregates: Vec<AggregateSpec>,
    /// Group, window columns, aggregates.
    pub output: SchemaRef,
}

impl WindowSpec {
    /// Checks an aggregate.
    ///
    /// # Errors
    /// [`EngineError::Plan`] for what this runtime does not do.
    pub fn new(plan: &WindowAggregate) -> Result<Self, EngineError> {
        Self::with(plan, Panes::new(plan.window))
    }
}

impl<W> WindowSpec<W> {
    /// Checks an aggregate whose windows are `panes`, or what is wrong with them.
    ///
    /// # Errors
    /// [`EngineError::Plan`] for what this runtime does not do.
    pub fn with(plan: &WindowAggregate, panes: Result<W, String>) -> Result<Self, EngineError> {
        let refuse = |why: String| EngineError::Plan(format!("operator {}: {why}", plan.id));
        if plan.state_version != STATE_VERSION {
            return Err(refuse(format!(
                "its state has format {}; this runtime has {STATE_VERSION}",
                plan.state_version
            )));
        }
        grouping::check_columns(&plan.group, &plan.group_columns).map_err(refuse)?;
        Ok(Self {
            id: plan.id.clone(),
            panes: panes.map_err(refuse)?,
            time_column: plan.time_column,
            group: plan.group.clone(),
            group_columns: plan.group_columns.clone(),
            aggregates: plan.aggregates.iter().map(AggregateSpec::new).collect::<Result<_, _>>().map_err(refuse)?,
            output: arrow_schema(&plan.output_columns()),
        })
    }

    /// Checks that the rows before it have the columns that it needs.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when they don't.
    pub fn check_input(&self, input: &[Column]) -> Result<(), EngineError> {
        let refuse = |why: String| EngineError::Plan(format!("operator {}: {why}", self.id));
        grouping::check_input(input, &self.group, &self.group_columns, &self.aggregates).map_err(refuse)?;
        match input.get(self.time_column).map(|column| &column.data_type) {
            Some(DataType::Timestamp(_) | DataType::TimestampLtz(_)) => Ok(()),
            other => Err(refuse(format!("its time column {} is {other:?}, not a timestamp", self.time_column))),
        }
    }

    /// The times that assign rows to windows, ms since the Unix epoch.
    ///
    /// # Errors
    /// A time that is null: the planner lets only event time through, which never is.
    pub fn times(&self, batch: &RecordBatch) -> Result<Vec<i64>, EngineError> {
        let column = batch.column(self.time_column);
        if column.null_count() > 0 {
            let detail =
                "a row's time is null, so it belongs to no window; leave such rows out with WHERE … IS NOT NULL"
                    .to_owned();
            return Err(EngineError::Expression { operator: self.id.clone(), detail });
        }
        timestamps_ms(column).ok_or_else(|| {
            EngineError::Plan(format!("operator {}: its time column is {}", self.id, column.data_type()))
        })
    }

    /// The grouping columns of encoded keys.
    pub fn group_arrays<'k>(
        &self,
        keys: impl ExactSizeIterator<Item = &'k [u8]>,
    ) -> Result<Vec<ArrayRef>, EngineError> {
        decode_columns(&self.group_columns, keys)
            .map_err(|detail| EngineError::State { operator: self.id.clone(), detail })
    }

    /// What is told of the partial aggregates at `rows` that are late, of windows with these starts and ends.
    ///
    /// # Errors
    /// A key that is damaged.
    pub fn late_groups(
        &self,
        partials: &PartialColumns<'_>,
        rows: &[usize],
        starts: Vec<i64>,
        ends: Vec<i64>,
    ) -> Result<LateGroups, EngineError> {
        let mut columns = self.group_columns.clone();
        columns.push(Column::required("window_start", DataType::Timestamp(3)));
        columns.push(Column::required("window_end", DataType::Timestamp(3)));
        let keys: Vec<&[u8]> = rows.iter().map(|row| partials.key.value(*row)).collect();
        let mut arrays = self.group_arrays(keys.into_iter())?;
        arrays.extend([starts, ends].map(|times| Arc::new(TimestampMillisecondArray::from(times)) as ArrayRef));
        Ok(LateGroups {
            rows: RecordBatch::try_new(arrow_schema(&columns), arrays)
                .map_err(|error| EngineError::Plan(format!("operator {}: {error}", self.id)))?,
            columns,
            records: rows.iter().map(|row| partials.records.value(*row).unsigned_abs()).collect(),
        })
    }

    pub fn failed(&self, error: &AccumulateError) -> EngineError {
        EngineError::Expression { operator: self.id.clone(), detail: error.to_string() }
    }
}

/// A column of timestamps in ms since the Unix epoch, finer digits cut off towards the past; `None` when
/// it is of another type. What stands at nulls is not defined.
pub(crate) fn timestamps_ms(column: &dyn Array) -> Option<Vec<i64>> {
    let ArrowType::Timestamp(unit, _) = column.data_type() else { return None };
    Some(match unit {
        TimeUnit::Second => {
            column.as_primitive::<TimestampSecondType>().values().iter().map(|t| t.saturating_mul(1000)).collect()
        }
        TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().values().to_vec(),
        TimeUnit::Microsecond => {
            column.as_primitive::<TimestampMicrosecondType>().values().iter().map(|t| t.div_euclid(1_000)).collect()
        }
        TimeUnit::Nanosecond => {
            column.as_primitive::<TimestampNanosecondType>().values().iter().map(|t| t.div_euclid(1_000_000)).collect()
        }
    })
}
