//! Stages of ROW_NUMBER with a bound: one where the topic's own key is numbered by, and two where it is not.

use datafusion_common::DFSchema;
use datafusion_expr::{Expr as DfExpr, ExprSchemable};
use freshet_plan::rank::RANK_STATE_VERSION;
use freshet_plan::{Changes, Column, DataType, Emits, OrderBy, Rank, Step};

use super::{Builder, Layout, Line, key_columns, projected, schema};
use crate::ids::Ids;
use crate::ranking::{ROW_NUMBER, Ranking, kept, leaves, over_kept};

impl Builder<'_> {
    /// Goes on with a ranking, and with what the statement does behind it. The rows before it are of `layout`.
    pub(super) fn rank(
        &self,
        ranking: &Ranking,
        ids: &mut Ids,
        line: &mut Line,
        layout: &Layout,
        input: &DFSchema,
    ) -> Result<(), String> {
        let relation = &self.statement.relation;
        let limit = ranking.limit.ok_or("ROW_NUMBER without a bound")?;
        let emits = match ranking.emits(self.table, !relation.having.is_empty()) {
            Emits::Latest if self.statement.changes == Changes::Log => Emits::Changes,
            emits => emits,
        };
        let after = || self.statement.outputs.iter().chain(relation.having.iter().map(|having| &having.expr));
        let leaves = leaves(after());
        let numbered = after().any(|expr| crate::bind::columns_in(expr).iter().any(|name| name == ROW_NUMBER));
        let by_topic_key = self.is_by_key(&ranking.keys);
        let id = ids.ranking(self.statement, ranking, &leaves, emits, (self.table, self.sink), by_topic_key)?;

        let keys = ranking.keys.iter().map(|key| &key.value.expr);
        let order = ranking.order.iter().map(|order| &order.value.expr);
        let mut exprs: Vec<&DfExpr> = Vec::new();
        for expr in keys.chain(order).chain(&leaves) {
            if !exprs.contains(&expr) {
                exprs.push(expr);
            }
        }
        let columns = exprs.iter().map(|expr| projected(expr, layout, input)).collect::<Result<Vec<_>, String>>()?;
        let position = |wanted: &DfExpr| {
            exprs.iter().position(|expr| *expr == wanted).ok_or_else(|| format!("{wanted} is not computed"))
        };
        let kept_columns: Vec<Column> = leaves
            .iter()
            .map(|leaf| {
                let column = &columns[position(leaf)?];
                let nullable = leaf.nullable(input).map_err(|error| error.to_string())?;
                Ok(Column { name: column.name.clone(), data_type: column.data_type.clone(), required: !nullable })
            })
            .collect::<Result<_, String>>()?;
        let order = ranking.order.iter().map(|order| {
            let column = position(&order.value.expr)?;
            Ok::<_, String>(OrderBy {
                column,
                name: columns[column].name.clone(),
                data_type: order.data_type.clone(),
                descending: order.descending,
                nulls_first: order.nulls_first,
            })
        });
        let rank = Rank {
            id,
            partition: ranking.keys.iter().map(|key| position(&key.value.expr)).collect::<Result<_, _>>()?,
            partition_columns: key_columns(&ranking.keys),
            order: order.collect::<Result<_, _>>()?,
            limit,
            kept: leaves.iter().map(position).collect::<Result<_, _>>()?,
            kept_columns,
            numbered,
            emits,
            state_ttl_ms: self.options.state_ttl_ms,
            state_version: RANK_STATE_VERSION,
        };
        line.steps.push(Step::Project { columns });
        if by_topic_key {
            line.steps.push(Step::Rank(rank.clone()));
        } else {
            line.steps.push(Step::RankCombine(rank.clone()));
            line.cut(&rank.id, rank.partition.len(), internal_columns(&rank));
            line.steps.push(Step::RankMerge(rank.clone()));
        }
        self.after_rank(&rank, &leaves, &mut line.steps)
    }

    /// The conditions behind the bound and the projection onto the sink.
    fn after_rank(&self, rank: &Rank, leaves: &[DfExpr], steps: &mut Vec<Step>) -> Result<(), String> {
        let output = rank.output_columns();
        let number = rank.numbered.then(|| ROW_NUMBER.to_owned());
        let inner: Vec<String> = (0..leaves.len()).map(kept).chain(number).collect();
        let fields = inner.iter().zip(&output).map(|(name, column)| {
            arrow_schema::Field::new(name, crate::arrow_types::to_arrow(&column.data_type), !column.required)
        });
        let schema = schema(&crate::bind::fields(fields))?;
        let layout = Layout(inner.iter().cloned().zip(output.iter().map(|column| column.name.clone())).collect());
        let over = |expr: &DfExpr| over_kept(expr.clone(), leaves).map_err(|error| error.to_string());
        for having in &self.statement.relation.having {
            steps.push(Step::Filter { predicate: layout.convert(&over(&having.expr)?, &schema)? });
        }
        let columns = self.statement.outputs.iter().zip(&self.sink.columns).map(|(expr, column)| {
            Ok::<_, String>(freshet_plan::ProjectedColumn {
                name: column.name.clone(),
                data_type: column.data_type.clone(),
                expr: layout.convert(&over(expr)?, &schema)?,
            })
        });
        steps.push(Step::Project { columns: columns.collect::<Result<_, _>>()? });
        Ok(())
    }
}

/// The rows of an internal topic: the key, an event time, and the kept rows in the operator's own encoding.
fn internal_columns(rank: &Rank) -> Vec<Column> {
    let mut columns = rank.partition_columns.clone();
    columns.push(Column::required("time", DataType::Timestamp(3)));
    columns.push(Column::required("rows", DataType::Bytes));
    columns
}
