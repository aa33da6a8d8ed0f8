//! Stages of groupings without a window: one stage where the topic's own key is grouped by, and two where it is not.

use datafusion_common::DFSchema;
use freshet_plan::changelog::GROUP_STATE_VERSION;
use freshet_plan::{Chain, Column, DataType, Emits, GroupAggregate, Input, Output, RepartitionSource, Stage, Step};

use super::{Builder, Grouped, INTERNAL_FORMAT_VERSION, Layout, schema};
use crate::aggregate::Grouping;
use crate::ids::Ids;

impl Builder<'_> {
    /// The chain in the source's stage, and the stage that merges its groups, if there is one. `steps` are those before
    /// the grouping, whose rows are of `layout`.
    pub(super) fn group(
        &self,
        grouping: &Grouping,
        emits: Emits,
        ids: &mut Ids,
        stage: &str,
        (mut steps, layout, input): (Vec<Step>, &Layout, &DFSchema),
    ) -> Result<(Chain, Option<Stage>), String> {
        let by_topic_key = self.is_by_topic_key(grouping);
        let id = ids.aggregation(self.statement, grouping, self.table, self.sink, by_topic_key)?;
        let Grouped { group, group_columns, aggregates, .. } =
            self.grouped(None, grouping, &mut steps, layout, input)?;
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
            steps.push(Step::GroupAggregate(aggregate.clone()));
            self.after_group(grouping, &aggregate, &mut steps)?;
            return Ok((self.chain(steps, self.topic()), None));
        }
        let columns = internal_columns(&aggregate);
        let operator = aggregate.id.clone();
        steps.push(Step::GroupCombine(aggregate.clone()));
        let output = Output::Repartition {
            operator: operator.clone(),
            key: (0..grouping.keys.len()).collect(),
            columns: columns.clone(),
            format_version: INTERNAL_FORMAT_VERSION,
        };
        let mut merging = vec![Step::GroupMerge(aggregate.clone())];
        self.after_group(grouping, &aggregate, &mut merging)?;
        let input = Input::Repartition(RepartitionSource {
            operator: operator.clone(),
            from_stage: stage.to_owned(),
            columns,
            format_version: INTERNAL_FORMAT_VERSION,
        });
        let second = Stage { id: operator, input, chains: vec![self.chain(merging, self.topic())] };
        Ok((self.chain(steps, output), Some(second)))
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
