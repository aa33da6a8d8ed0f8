//! Stages of groupings without a window: one stage where the topic's own key is grouped by, and two where it is not.

use datafusion_common::DFSchema;
use freshet_plan::changelog::GROUP_STATE_VERSION;
use freshet_plan::{Column, DataType, Emits, GroupAggregate, Step};

use super::{Builder, Grouped, Layout, Line, schema};
use crate::aggregate::Grouping;
use crate::ids::Ids;

impl Builder<'_> {
    /// Goes on with a grouping, and with what the statement does behind it. The rows before it are of `layout`.
    pub(super) fn group(
        &self,
        grouping: &Grouping,
        emits: Emits,
        ids: &mut Ids,
        line: &mut Line,
        (layout, input): (&Layout, &DFSchema),
    ) -> Result<(), String> {
        let by_topic_key = self.is_by_topic_key(grouping);
        let id =
            ids.aggregation(self.statement, &self.statement.relation, grouping, (self.table, self.sink), by_topic_key)?;
        let Grouped { group, group_columns, aggregates, .. } =
            self.grouped(None, grouping, &mut line.steps, layout, input)?;
        let state_ttl_ms = self.options.state_ttl_ms;
        let aggregate = GroupAggregate {
            id,
            group,
            group_columns,
            aggregates,
            emits,
            state_ttl_ms,
            state_version: GROUP_STATE_VERSION,
        };
        if by_topic_key {
            line.steps.push(Step::GroupAggregate(aggregate.clone()));
        } else {
            line.steps.push(Step::GroupCombine(aggregate.clone()));
            line.cut(&aggregate.id, grouping.keys.len(), internal_columns(&aggregate));
            line.steps.push(Step::GroupMerge(aggregate.clone()));
        }
        self.after_group(grouping, &aggregate, &mut line.steps)
    }

    /// HAVING and the projection onto the sink.
    fn after_group(
        &self,
        grouping: &Grouping,
        aggregate: &GroupAggregate,
        steps: &mut Vec<Step>,
    ) -> Result<(), String> {
        let schema = schema(&grouping.output)?;
        let inner = grouping.output.iter().map(|field| field.name().clone());
        let outer = aggregate.output_columns().into_iter().map(|column| column.name);
        let layout = Layout(inner.zip(outer).collect());
        for having in &self.statement.relation.having {
            steps.push(Step::Filter { predicate: layout.convert(&having.expr, &schema)? });
        }
        steps.push(self.outputs(&layout, &schema)?);
        Ok(())
    }
}

/// The rows of an internal topic: the group, the greatest event time of the rows that were combined, and the partial
/// state of each aggregate in the operator's own encoding.
fn internal_columns(aggregate: &GroupAggregate) -> Vec<Column> {
    let mut columns = aggregate.group_columns.clone();
    columns.push(Column::required("newest", DataType::Timestamp(3)));
    columns.extend(aggregate.aggregates.iter().map(|call| Column::required(&call.name, DataType::Bytes)));
    columns
}
