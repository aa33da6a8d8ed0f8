//! A checked grouping of a plan.

use arrow::array::ArrayRef;
use arrow_schema::SchemaRef;
use freshet_plan::changelog::GROUP_STATE_VERSION;
use freshet_plan::{Column, Emits, GroupAggregate};

use crate::EngineError;
use crate::accumulate::{AccumulateError, AggregateSpec};
use crate::group::key::decode_columns;
use crate::operator::grouping;
use crate::types::arrow_schema;

/// What the operators of a grouping need of a plan.
#[derive(Debug, Clone)]
pub(crate) struct GroupSpec {
    pub id: String,
    pub group: Vec<usize>,
    pub group_columns: Vec<Column>,
    pub aggregates: Vec<AggregateSpec>,
    pub emits: Emits,
    /// How long a group is kept at least after its last row, ms of event time.
    pub ttl_ms: Option<i64>,
    /// Group, aggregates.
    pub output: SchemaRef,
}

impl GroupSpec {
    /// Checks a grouping.
    ///
    /// # Errors
    /// [`EngineError::Plan`] for what this runtime does not do.
    pub fn new(plan: &GroupAggregate) -> Result<Self, EngineError> {
        let refuse = |why: String| EngineError::Plan(format!("operator {}: {why}", plan.id));
        if plan.state_version != GROUP_STATE_VERSION {
            let version = plan.state_version;
            return Err(refuse(format!("its state has format {version}; this runtime has {GROUP_STATE_VERSION}")));
        }
        grouping::check_columns(&plan.group, &plan.group_columns).map_err(refuse)?;
        if plan.emits == Emits::First && !plan.aggregates.is_empty() {
            return Err(refuse("aggregates change after a group's first row".to_owned()));
        }
        if plan.state_ttl_ms.is_some_and(|ttl| ttl <= 0) {
            return Err(refuse("a state that is kept for no time is none".to_owned()));
        }
        Ok(Self {
            id: plan.id.clone(),
            group: plan.group.clone(),
            group_columns: plan.group_columns.clone(),
            aggregates: plan.aggregates.iter().map(AggregateSpec::new).collect::<Result<_, _>>().map_err(refuse)?,
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
        grouping::check_input(input, &self.group, &self.group_columns, &self.aggregates)
            .map_err(|why| self.mistaken(why))
    }

    /// The grouping columns of encoded keys.
    pub fn group_arrays<'k>(
        &self,
        keys: impl ExactSizeIterator<Item = &'k [u8]>,
    ) -> Result<Vec<ArrayRef>, EngineError> {
        decode_columns(&self.group_columns, keys)
            .map_err(|detail| EngineError::State { operator: self.id.clone(), detail })
    }

    pub fn failed(&self, error: &AccumulateError) -> EngineError {
        EngineError::Expression { operator: self.id.clone(), detail: error.to_string() }
    }

    /// What does not fit together in this runtime itself.
    pub fn mistaken(&self, detail: impl std::fmt::Display) -> EngineError {
        EngineError::Plan(format!("operator {}: {detail}", self.id))
    }

    pub fn damaged(&self, detail: impl Into<String>) -> EngineError {
        EngineError::State { operator: self.id.clone(), detail: detail.into() }
    }
}
