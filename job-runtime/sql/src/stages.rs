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
use crate::relation::{Relation, WINDOW_COLUMNS};
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
            let (chain, behind) =
                builder.build(&mut ids, &id).map_err(|message| Mistake { statement: statement.index, message })?;
            chains.push(chain);
            later.extend(behind);
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
    let mut relation = &statement.relation;
    while let Some(inner) = &relation.below {
        relation = &inner.relation;
    }
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

/// What is done with a statement's rows, cut where they go through an internal topic.
struct Line {
    /// Steps and outputs of the pieces that are done, the first of them in the source's stage.
    done: Vec<(Option<Stage>, Vec<Step>, Output)>,
    /// The stage of the last piece, still without its chain; `None` in the source's.
    stage: Option<Stage>,
    /// The id of the last piece's stage.
    id: String,
    steps: Vec<Step>,
}

impl Line {
    /// Goes on behind the internal topic of `operator`, to which rows of `columns` are sent, placed by the first `keys`.
    fn cut(&mut self, operator: &str, keys: usize, columns: Vec<Column>) {
        let output = Output::Repartition {
            operator: operator.to_owned(),
            key: (0..keys).collect(),
            columns: columns.clone(),
            format_version: INTERNAL_FORMAT_VERSION,
        };
        let input = Input::Repartition(RepartitionSource {
            operator: operator.to_owned(),
            from_stage: std::mem::replace(&mut self.id, operator.to_owned()),
            columns,
            format_version: INTERNAL_FORMAT_VERSION,
        });
        let before = self.stage.replace(Stage { id: operator.to_owned(), input, chains: Vec::new() });
        self.done.push((before, std::mem::take(&mut self.steps), output));
    }
}

/// Keeps the rows for which a relation's conditions hold.
fn filter(relation: &Relation, layout: &Layout, schema: &DFSchema, line: &mut Line) -> Result<(), String> {
    for filter in &relation.filters {
        line.steps.push(Step::Filter { predicate: layout.convert(&filter.expr, schema)? });
    }
    Ok(())
}

/// Keys as columns.
fn key_columns(keys: &[Key]) -> Vec<Column> {
    let column =
        |key: &Key| Column { name: key.text.clone(), data_type: key.data_type.clone(), required: !key.value.nullable };
    keys.iter().map(column).collect()
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
    /// The chain in the source's stage, and the stages that go on behind it.
    fn build(&self, ids: &mut Ids, stage: &str) -> Result<(Chain, Vec<Stage>), String> {
        let mut line = Line { done: Vec::new(), stage: None, id: stage.to_owned(), steps: Vec::new() };
        if !self.updating(ids, &mut line)? {
            let (layout, schema) = self.rows(&self.statement.relation, ids, &mut line)?;
            line.steps.push(self.outputs(&layout, &schema)?);
        }
        line.done.push((line.stage.take(), line.steps, self.topic()));
        let mut pieces = line.done.into_iter();
        let (_, steps, output) = pieces.next().ok_or("a statement without steps")?;
        let first = self.chain(steps, output);
        let behind = pieces.filter_map(|(stage, steps, output)| {
            stage.map(|stage| Stage { chains: vec![self.chain(steps, output)], ..stage })
        });
        Ok((first, behind.collect()))
    }

    /// Plans a statement whose result changes, or numbers rows, and says that it is one; nothing of any other.
    fn updating(&self, ids: &mut Ids, line: &mut Line) -> Result<bool, String> {
        let relation = &self.statement.relation;
        let emits = self.statement.emits(self.table);
        if relation.ranking.is_none() && (relation.grouping.is_none() || emits.is_none()) {
            return Ok(false);
        }
        let schema = schema(&relation.base)?;
        let layout = self.pruned_source(relation, line);
        filter(relation, &layout, &schema, line)?;
        match (&relation.ranking, &relation.grouping, emits) {
            (Some(ranking), _, _) => self.rank(ranking, ids, line, &layout, &schema)?,
            (None, Some(grouping), Some(emits)) => self.group(grouping, emits, ids, line, (&layout, &schema))?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Plans the rows that a relation's columns are over: the topic's, or groups. Gives their layout and their types.
    fn rows(&self, relation: &Relation, ids: &mut Ids, line: &mut Line) -> Result<(Layout, DFSchema), String> {
        let schema = schema(&relation.base)?;
        let layout = match &relation.below {
            Some(inner) => self.below(&inner.relation, ids, line)?,
            None => self.pruned_source(relation, line),
        };
        filter(relation, &layout, &schema, line)?;
        let Some(grouping) = &relation.grouping else { return Ok((layout, schema)) };
        let by_topic_key = relation.below.is_none() && self.is_by_topic_key(grouping);
        let id = ids.aggregation(self.statement, relation, grouping, (self.table, self.sink), by_topic_key)?;
        let aggregate = self.aggregate(id, relation, grouping, &mut line.steps, &layout, &schema)?;
        if by_topic_key {
            line.steps.push(Step::WindowAggregate(aggregate.clone()));
        } else {
            line.steps.push(Step::WindowCombine(aggregate.clone()));
            line.cut(&aggregate.id, grouping.keys.len(), internal_columns(&aggregate));
            line.steps.push(Step::WindowMerge(aggregate.clone()));
        }
        self.after(relation, grouping, &aggregate, &mut line.steps)
    }

    /// Plans an aggregation below a window, onto the columns that it is seen through.
    fn below(&self, relation: &Relation, ids: &mut Ids, line: &mut Line) -> Result<Layout, String> {
        let (layout, schema) = self.rows(relation, ids, line)?;
        let columns = relation.columns.iter().map(|column| {
            let computed = projected(&column.value.expr, &layout, &schema)?;
            Ok::<_, String>(ProjectedColumn { name: column.name.clone(), ..computed })
        });
        line.steps.push(Step::Project { columns: columns.collect::<Result<_, _>>()? });
        Ok(Layout::of(relation.columns.iter().map(|column| column.name.as_str())))
    }

    /// The rows that the source decodes. A filter copies the rows that it keeps: columns that only others need are
    /// dropped before it.
    fn pruned_source(&self, relation: &Relation, line: &mut Line) -> Layout {
        let layout = Layout::of(self.columns.iter().map(|column| column.name.as_str()));
        let needed = needed(self.statement, self.table);
        if relation.filters.is_empty() || needed.len() >= self.columns.len() {
            return layout;
        }
        let kept: Vec<&Column> = self.columns.iter().filter(|column| needed.contains(&column.name)).collect();
        line.steps.push(Step::Project { columns: self.pruned(&kept, &layout) });
        Layout::of(kept.iter().map(|column| column.name.as_str()))
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
        relation: &Relation,
        grouping: &Grouping,
        steps: &mut Vec<Step>,
        layout: &Layout,
        schema: &DFSchema,
    ) -> Result<WindowAggregate, String> {
        let time = match &relation.below {
            Some(inner) => inner.time.clone(),
            None => {
                let event_time = self.table.event_time.as_ref().ok_or("a window without event time")?;
                event_time.column.clone()
            }
        };
        let time = DfExpr::Column(datafusion_common::Column::new_unqualified(time));
        let Grouped { time, group, group_columns, aggregates } =
            self.grouped(Some(&time), grouping, steps, layout, schema)?;
        let window = relation.window.as_ref().map(|(window, _)| *window).ok_or("a grouping without a window")?;
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
        let group_columns = key_columns(&grouping.keys);
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

    /// HAVING. Gives the layout and the types of the groups.
    fn after(
        &self,
        relation: &Relation,
        grouping: &Grouping,
        aggregate: &WindowAggregate,
        steps: &mut Vec<Step>,
    ) -> Result<(Layout, DFSchema), String> {
        let schema = schema(&grouping.output)?;
        let inner = grouping.output.iter().map(|field| field.name().clone());
        let outer = aggregate.output_columns().into_iter().map(|column| column.name);
        let layout = Layout(inner.zip(outer).collect());
        for having in &relation.having {
            steps.push(Step::Filter { predicate: layout.convert(&having.expr, &schema)? });
        }
        Ok((layout, schema))
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
