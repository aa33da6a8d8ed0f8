//! From bound statements to stages.
//!
//! All statements that read one topic share one stage, a chain each. An aggregation whose keys contain the topic's
//! own trusted key finishes there: all rows of a group are in one partition. Any other one is cut in two: rows are
//! combined per group where they are read, sent through an internal topic that is partitioned by the group, and
//! merged in a stage of their own.

mod ranking;
mod updating;

use std::collections::BTreeSet;

use datafusion_common::DFSchema;
use datafusion_expr::Expr as DfExpr;
use freshet_plan::{
    Aggregate, Chain, Column, DataType, Input, Output, Plan, ProjectedColumn, RepartitionSource, Stage, Step,
    TopicSink, TopicSource, Window, WindowAggregate,
};

use crate::aggregate::{Grouping, Key};
use crate::bind::columns_in;
use crate::convert_expr::{Place, convert};
use crate::ids::{Ids, source_stage};
use crate::ranking::ROW_NUMBER;
use crate::relation::WINDOW_COLUMNS;
use crate::sink::Statement;
use crate::{Catalog, PlanOptions, Table};

/// The version of the internal records' encoding that this planner plans for.
pub const INTERNAL_FORMAT_VERSION: u32 = 1;

/// The version of the windowed aggregation's state that this planner plans for.
pub const AGGREGATE_STATE_VERSION: u32 = 1;

/// Why bound statements can't be staged. Everything was checked while it was bound: this is a mistake of the
/// planner's, and says which statement it was.
pub(crate) struct Mistake {
    pub(crate) statement: u32,
    pub(crate) message: String,
}

/// Builds the plan.
pub(crate) fn plan(catalog: &Catalog, statements: &[Statement], options: &PlanOptions) -> Result<Plan, Mistake> {
    let mut sources: Vec<usize> = Vec::new();
    for statement in statements {
        if !sources.contains(&statement.relation.source) {
            sources.push(statement.relation.source);
        }
    }
    let mut ids = Ids::default();
    let mut stages = Vec::new();
    for source in sources {
        let table = &catalog.tables[source];
        let readers: Vec<&Statement> =
            statements.iter().filter(|statement| statement.relation.source == source).collect();
        let columns = source_columns(table, &readers);
        let id = source_stage(table);
        let mut chains = Vec::new();
        let mut later = Vec::new();
        for statement in readers {
            let sink = &catalog.tables[statement.sink];
            let builder = Builder { table, sink, statement, columns: &columns, options };
            let (chain, merging) =
                builder.build(&mut ids, &id).map_err(|message| Mistake { statement: statement.index, message })?;
            chains.push(chain);
            later.extend(merging);
        }
        let input = Input::Topic(TopicSource {
            table: table.name.clone(),
            topic: table.topic.clone(),
            format: table.format,
            columns,
            key: table.key.clone(),
            key_trusted: table.key_trusted,
            event_time: table.event_time.clone(),
        });
        stages.push(Stage { id, input, chains });
        stages.extend(later);
    }
    Ok(Plan { version: freshet_plan::PLAN_VERSION, max_parallelism: options.max_parallelism, stages })
}

/// The columns that a source decodes: those that some statement needs, those that the contract requires, and the
/// event time; in the Topic's order.
fn source_columns(table: &Table, readers: &[&Statement]) -> Vec<Column> {
    let needed: BTreeSet<String> = readers.iter().flat_map(|statement| needed(statement, table)).collect();
    let event_time = table.event_time.as_ref().map(|event_time| event_time.column.as_str());
    let is_kept =
        |column: &&Column| column.required || needed.contains(&column.name) || event_time == Some(column.name.as_str());
    table.columns.iter().filter(is_kept).cloned().collect()
}

/// The topic's columns that a statement computes with.
fn needed(statement: &Statement, table: &Table) -> BTreeSet<String> {
    let relation = &statement.relation;
    let mut names: BTreeSet<String> = relation.filters.iter().flat_map(|filter| columns_in(&filter.expr)).collect();
    match &relation.grouping {
        Some(grouping) => {
            names.extend(inputs(grouping).iter().flat_map(|expr| columns_in(expr)));
            let event_time = table.event_time.as_ref().filter(|_| relation.window.is_some());
            names.extend(event_time.map(|event_time| event_time.column.clone()));
        }
        None => names.extend(statement.outputs.iter().flat_map(columns_in)),
    }
    if let Some(ranking) = &relation.ranking {
        let keys = ranking.keys.iter().map(|key| &key.value);
        let values = keys.chain(ranking.order.iter().map(|order| &order.value)).chain(&relation.having);
        names.extend(values.flat_map(|value| columns_in(&value.expr)));
        names.remove(ROW_NUMBER);
    }
    names
}

/// What a grouping computes from a row.
fn inputs(grouping: &Grouping) -> Vec<&DfExpr> {
    let keys = grouping.keys.iter().map(|key| &key.value.expr);
    let calls = grouping.aggregates.iter().flat_map(|call| {
        call.argument.iter().map(|(value, _)| &value.expr).chain(call.filter.iter().map(|filter| &filter.expr))
    });
    keys.chain(calls).collect()
}

/// The rows at one point of a chain: what each column is called in expressions, and for people.
struct Layout(Vec<(String, String)>);

impl Layout {
    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self(names.map(|name| (name.to_owned(), name.to_owned())).collect())
    }

    fn place(&self, name: &str) -> Option<Place> {
        let at = self.0.iter().position(|(inner, _)| inner == name)?;
        Some((at, self.0[at].1.clone()))
    }

    fn convert(&self, expr: &DfExpr, schema: &DFSchema) -> Result<freshet_plan::Expr, String> {
        convert(expr, &|name| self.place(name), Some(schema))
    }
}

struct Builder<'a> {
    table: &'a Table,
    sink: &'a Table,
    statement: &'a Statement,
    columns: &'a [Column],
    options: &'a PlanOptions,
}

/// Where a grouping finds what it needs, in the rows before it.
struct Grouped {
    /// The position of the time, where one was asked for.
    time: Option<usize>,
    group: Vec<usize>,
    group_columns: Vec<Column>,
    aggregates: Vec<Aggregate>,
}

impl Builder<'_> {
    /// The chain in the source's stage, and the stage that merges its groups, if there is one.
    fn build(&self, ids: &mut Ids, stage: &str) -> Result<(Chain, Option<Stage>), String> {
        let relation = &self.statement.relation;
        let schema = schema(&relation.base)?;
        let mut steps = Vec::new();
        let mut layout = Layout::of(self.columns.iter().map(|column| column.name.as_str()));
        let needed = needed(self.statement, self.table);
        // A filter copies the rows that it keeps: columns that only others need are dropped before it.
        if !relation.filters.is_empty() && needed.len() < self.columns.len() {
            let kept: Vec<&Column> = self.columns.iter().filter(|column| needed.contains(&column.name)).collect();
            steps.push(Step::Project { columns: self.pruned(&kept, &layout) });
            layout = Layout::of(kept.iter().map(|column| column.name.as_str()));
        }
        for filter in &relation.filters {
            steps.push(Step::Filter { predicate: layout.convert(&filter.expr, &schema)? });
        }
        if let Some(ranking) = &relation.ranking {
            return self.rank(ranking, ids, stage, (steps, &layout, &schema));
        }
        let Some(grouping) = &relation.grouping else {
            steps.push(self.outputs(&layout, &schema)?);
            return Ok((self.chain(steps, self.topic()), None));
        };
        if let Some(emits) = self.statement.emits(self.table) {
            return self.group(grouping, emits, ids, stage, (steps, &layout, &schema));
        }
        let by_topic_key = self.is_by_topic_key(grouping);
        let id = ids.aggregation(self.statement, grouping, self.table, self.sink, by_topic_key)?;
        let aggregate = self.aggregate(id, grouping, &mut steps, &layout, &schema)?;
        if by_topic_key {
            steps.push(Step::WindowAggregate(aggregate.clone()));
            self.after(grouping, &aggregate, &mut steps)?;
            return Ok((self.chain(steps, self.topic()), None));
        }
        let columns = internal_columns(&aggregate);
        let operator = aggregate.id.clone();
        steps.push(Step::WindowCombine(aggregate.clone()));
        let output = Output::Repartition {
            operator: operator.clone(),
            key: (0..grouping.keys.len()).collect(),
            columns: columns.clone(),
            format_version: INTERNAL_FORMAT_VERSION,
        };
        let mut merging = vec![Step::WindowMerge(aggregate.clone())];
        self.after(grouping, &aggregate, &mut merging)?;
        let input = Input::Repartition(RepartitionSource {
            operator: operator.clone(),
            from_stage: stage.to_owned(),
            columns,
            format_version: INTERNAL_FORMAT_VERSION,
        });
        let second = Stage { id: operator, input, chains: vec![self.chain(merging, self.topic())] };
        Ok((self.chain(steps, output), Some(second)))
    }

    fn chain(&self, steps: Vec<Step>, output: Output) -> Chain {
        Chain { statement: self.statement.index, steps, output }
    }

    fn pruned(&self, kept: &[&Column], layout: &Layout) -> Vec<ProjectedColumn> {
        let place = |column: &Column| layout.place(&column.name).unwrap_or((0, column.name.clone()));
        let project = |column: &&Column| {
            let (index, name) = place(column);
            ProjectedColumn {
                name: column.name.clone(),
                data_type: column.data_type.clone(),
                expr: freshet_plan::Expr::Column { index, name },
            }
        };
        kept.iter().map(project).collect()
    }

    /// Whether all rows of a group are in one partition of the topic: its key, if it is trusted, is among the keys.
    fn is_by_topic_key(&self, grouping: &Grouping) -> bool {
        self.is_by_key(&grouping.keys)
    }

    fn is_by_key(&self, keys: &[Key]) -> bool {
        let is_key = |name: &String| {
            keys.iter().any(|key| matches!(&key.value.raw, DfExpr::Column(column) if column.name == *name))
        };
        self.table.key_trusted && !self.table.key.is_empty() && self.table.key.iter().all(is_key)
    }

    /// The aggregation, after a projection onto what it needs where that is more than columns.
    fn aggregate(
        &self,
        id: String,
        grouping: &Grouping,
        steps: &mut Vec<Step>,
        layout: &Layout,
        schema: &DFSchema,
    ) -> Result<WindowAggregate, String> {
        let time = self
            .table
            .event_time
            .as_ref()
            .map(|event_time| event_time.column.clone())
            .ok_or("a window without event time")?;
        let time = DfExpr::Column(datafusion_common::Column::new_unqualified(time));
        let Grouped { time, group, group_columns, aggregates } =
            self.grouped(Some(&time), grouping, steps, layout, schema)?;
        let window =
            self.statement.relation.window.as_ref().map(|(window, _)| *window).ok_or("a grouping without a window")?;
        Ok(WindowAggregate {
            id,
            window,
            time_column: time.ok_or("a window without time")?,
            group,
            group_columns,
            aggregates,
            state_version: AGGREGATE_STATE_VERSION,
        })
    }

    /// What a grouping, and the time if one is wanted, need, after a projection onto it where that is more than columns.
    fn grouped(
        &self,
        time: Option<&DfExpr>,
        grouping: &Grouping,
        steps: &mut Vec<Step>,
        layout: &Layout,
        schema: &DFSchema,
    ) -> Result<Grouped, String> {
        let mut exprs: Vec<&DfExpr> = Vec::new();
        for expr in time.into_iter().chain(inputs(grouping)) {
            if !exprs.contains(&expr) {
                exprs.push(expr);
            }
        }
        let positions: Vec<usize> = if exprs.iter().all(|expr| matches!(expr, DfExpr::Column(_))) {
            let place = |expr: &&DfExpr| match expr {
                DfExpr::Column(column) => layout.place(&column.name).map(|(at, _)| at),
                _ => None,
            };
            exprs
                .iter()
                .map(|expr| place(expr).ok_or_else(|| format!("column {expr} is not there")))
                .collect::<Result<_, _>>()?
        } else {
            let projected =
                exprs.iter().map(|expr| projected(expr, layout, schema)).collect::<Result<Vec<_>, String>>()?;
            steps.push(Step::Project { columns: projected });
            (0..exprs.len()).collect()
        };
        let position = |wanted: &DfExpr| {
            let at = exprs.iter().position(|expr| *expr == wanted);
            at.map(|at| positions[at]).ok_or_else(|| format!("{wanted} is not computed"))
        };
        let group = grouping.keys.iter().map(|key| position(&key.value.expr)).collect::<Result<_, _>>()?;
        let group_columns = grouping
            .keys
            .iter()
            .map(|key| Column {
                name: key.text.clone(),
                data_type: key.data_type.clone(),
                required: !key.value.nullable,
            })
            .collect();
        let aggregates = grouping.aggregates.iter().map(|call| {
            Ok::<_, String>(Aggregate {
                name: call.text.clone(),
                function: call.function,
                argument: call.argument.as_ref().map(|(value, _)| position(&value.expr)).transpose()?,
                argument_type: call.argument.as_ref().map(|(_, data_type)| data_type.clone()),
                distinct: call.distinct,
                filter: call.filter.as_ref().map(|filter| position(&filter.expr)).transpose()?,
                data_type: call.data_type.clone(),
            })
        });
        let aggregates = aggregates.collect::<Result<_, _>>()?;
        Ok(Grouped { time: time.map(position).transpose()?, group, group_columns, aggregates })
    }

    /// HAVING and the projection onto the sink.
    fn after(&self, grouping: &Grouping, aggregate: &WindowAggregate, steps: &mut Vec<Step>) -> Result<(), String> {
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

    fn outputs(&self, layout: &Layout, schema: &DFSchema) -> Result<Step, String> {
        let columns = self.statement.outputs.iter().zip(&self.sink.columns).map(|(expr, column)| {
            Ok::<_, String>(ProjectedColumn {
                name: column.name.clone(),
                data_type: column.data_type.clone(),
                expr: layout.convert(expr, schema)?,
            })
        });
        Ok(Step::Project { columns: columns.collect::<Result<_, _>>()? })
    }

    fn topic(&self) -> Output {
        let position = |name: &String| self.sink.columns.iter().position(|column| column.name == *name);
        Output::Topic(TopicSink {
            table: self.sink.name.clone(),
            topic: self.sink.topic.clone(),
            format: self.sink.format,
            columns: self.sink.columns.clone(),
            key: self.sink.key.iter().filter_map(position).collect(),
            changes: self.statement.changes,
        })
    }
}

fn projected(expr: &DfExpr, layout: &Layout, schema: &DFSchema) -> Result<ProjectedColumn, String> {
    use datafusion_expr::ExprSchemable;
    let converted = layout.convert(expr, schema)?;
    let given = expr.get_type(schema).map_err(|error| error.to_string())?;
    let data_type =
        crate::arrow_types::nearest(&given).ok_or_else(|| format!("{expr} has no type that a column can have"))?;
    let name = match &converted {
        freshet_plan::Expr::Column { name, .. } => name.clone(),
        other => other.to_string(),
    };
    Ok(ProjectedColumn { name, data_type, expr: converted })
}

fn schema(columns: &arrow_schema::Fields) -> Result<DFSchema, String> {
    DFSchema::from_unqualified_fields(columns.clone(), std::collections::HashMap::new())
        .map_err(|error| error.to_string())
}

/// The rows of an internal topic: the group, the start of its pane (which is `window_start` where windows don't
/// overlap; where they do, the end of the first window that counts them follows; of sessions start and end), and the partial state of each
/// aggregate in the operator's own encoding.
fn internal_columns(aggregate: &WindowAggregate) -> Vec<Column> {
    let mut columns = aggregate.group_columns.clone();
    let times = match aggregate.window {
        Window::Hop { size_ms, slide_ms, .. } if slide_ms < size_ms => &["pane_start", "first_end"][..],
        Window::Cumulate { .. } => &["pane_start"],
        Window::Session { .. } => &[WINDOW_COLUMNS[0].0, WINDOW_COLUMNS[1].0],
        Window::Tumble { .. } | Window::Hop { .. } => &[WINDOW_COLUMNS[0].0],
    };
    columns.extend(times.iter().map(|name| Column::required(*name, DataType::Timestamp(3))));
    columns.extend(aggregate.aggregates.iter().map(|call| Column::required(&call.name, DataType::Bytes)));
    columns
}
