//! FROM: what a SELECT reads.
//!
//! A [`Relation`] is one topic seen through whatever lies between it and the SELECT: derived tables, common table
//! expressions and a window. Columns of derived tables are no rows of their own; they are the expressions that they
//! stand for, so that a pile of them plans as one line of steps.

use arrow_schema::{DataType as ArrowType, Field, Fields, TimeUnit};
use datafusion_expr::Expr as DfExpr;
use freshet_plan::Window;
use sqlparser::ast::{Expr, Ident, ObjectName, Spanned, TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins};
use sqlparser::tokenizer::Span;

use crate::aggregate::Grouping;
use crate::arrow_types::to_arrow;
use crate::bind::fields;
use crate::error::{Outcome, Site, all};
use crate::names::{Found, look_up, suggestion};
use crate::ranking::Ranking;
use crate::refuse::{self, Refusals};
use crate::select::Planner;
use crate::windows::{self, WindowCall};
use crate::{Catalog, Table};

/// The window's columns, as the relations' columns are called and as expressions name them. The `#` keeps them
/// apart from a topic's own columns.
pub(crate) const WINDOW_COLUMNS: [(&str, &str); 3] =
    [("window_start", "#window_start"), ("window_end", "#window_end"), ("window_time", "#window_time")];

/// The type of the window's columns.
pub(crate) const WINDOW_TYPE: ArrowType = ArrowType::Timestamp(TimeUnit::Millisecond, None);

/// An expression, its type, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Typed {
    /// As it was written.
    pub(crate) raw: DfExpr,
    /// With its casts.
    pub(crate) expr: DfExpr,
    pub(crate) data_type: ArrowType,
    pub(crate) nullable: bool,
    pub(crate) span: Span,
}

/// A column of a relation.
#[derive(Debug, Clone)]
pub(crate) struct RelationColumn {
    pub(crate) name: String,
    pub(crate) value: Typed,
}

/// What a SELECT reads, or gives.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    /// What it is called before a dot.
    pub(crate) names: Vec<String>,
    /// The table that is read, as a position in the catalogue.
    pub(crate) source: usize,
    /// The columns that `filters` and the grouping are over: the topic's, and a window's.
    pub(crate) base: Fields,
    /// Conditions on the topic's rows.
    pub(crate) filters: Vec<Typed>,
    /// The window, and where it was written.
    pub(crate) window: Option<(Window, Span)>,
    /// What a window of sessions is made by: rows with different values are never in one.
    pub(crate) partition: Vec<Typed>,
    /// How rows are grouped; `having` and `columns` are then over its output.
    pub(crate) grouping: Option<Grouping>,
    /// How rows are numbered, if they are not grouped; `having` and `columns` are then over `base` with the number.
    pub(crate) ranking: Option<Ranking>,
    /// Conditions on the groups, or on numbered rows.
    pub(crate) having: Vec<Typed>,
    pub(crate) columns: Vec<RelationColumn>,
}

impl Relation {
    /// The topic itself.
    fn of_table(source: usize, table: &Table, span: Span) -> Self {
        let base = fields(table.columns.iter().map(|c| Field::new(&c.name, to_arrow(&c.data_type), !c.required)));
        let columns =
            base.iter().map(|field| RelationColumn { name: field.name().clone(), value: column(field, span) });
        Self {
            names: vec![table.name.clone(), table.resource_name.clone()],
            source,
            columns: columns.collect(),
            base,
            filters: Vec::new(),
            window: None,
            partition: Vec::new(),
            grouping: None,
            ranking: None,
            having: Vec::new(),
        }
    }

    /// The columns that its expressions are over: of the topic's rows, or of the groups.
    pub(crate) fn inner(&self) -> &Fields {
        self.grouping.as_ref().map_or(&self.base, |grouping| &grouping.output)
    }

    /// The columns that a SELECT over it sees.
    pub(crate) fn outer(&self) -> Fields {
        fields(self.columns.iter().map(|c| Field::new(&c.name, c.value.data_type.clone(), c.value.nullable)))
    }

    /// What its column `name` stands for, as it was written.
    pub(crate) fn raw(&self, name: &str) -> Option<&DfExpr> {
        self.columns.iter().find(|column| column.name == name).map(|column| &column.value.raw)
    }
}

fn column(field: &Field, span: Span) -> Typed {
    let expr = DfExpr::Column(datafusion_common::Column::new_unqualified(field.name()));
    Typed { raw: expr.clone(), expr, data_type: field.data_type().clone(), nullable: field.is_nullable(), span }
}

/// A table or a common table expression that is in reach, by name.
pub(crate) type Named = Vec<(String, Relation)>;

impl Planner<'_> {
    /// Plans FROM.
    pub(crate) fn from(&self, from: &[TableWithJoins], named: &Named) -> Outcome<Relation> {
        let site = self.site;
        let [TableWithJoins { relation, joins }] = from else {
            return Err(match from.get(1) {
                Some(second) => site
                    .error(second.relation.span(), "several tables in FROM (a join) are not supported yet")
                    .help("read one table; write one INSERT INTO for each table that is read"),
                None => site
                    .error(site.whole(), "SELECT without FROM is not supported: a job reads a topic")
                    .help("write SELECT … FROM <table>"),
            }
            .into());
        };
        if let Some(join) = joins.first() {
            let span = join.relation.span();
            let span = if span.start.line == 0 { site.keywords(&["JOIN"]) } else { span };
            return Err(site.error(span, "JOIN is not supported yet").help("read one table").into());
        }
        self.factor(relation, named)
    }

    fn factor(&self, factor: &TableFactor, named: &Named) -> Outcome<Relation> {
        let site = self.site;
        let mut refusals = Refusals::new(site);
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                let span = name.span();
                if version.is_some() {
                    refusals.at(span, "FOR SYSTEM_TIME AS OF (a lookup join)", "joins come later; read one table");
                }
                refusals.clause(
                    sample.is_some(),
                    &["TABLESAMPLE"],
                    "write WHERE with a condition on the record's data",
                );
                let other = !with_hints.is_empty()
                    || *with_ordinality
                    || !partitions.is_empty()
                    || json_path.is_some()
                    || !index_hints.is_empty();
                if other {
                    refusals.at(
                        span,
                        &format!("what follows `{name}`"),
                        "write only the table's name, and perhaps an alias",
                    );
                }
                refusals.end()?;
                let relation = match args {
                    None => self.table(name, named)?,
                    Some(args) if args.settings.is_some() => {
                        return Err(site.error(span, "SETTINGS is not supported").into());
                    }
                    Some(args) => self.windowed(name, &args.args, named)?,
                };
                self.aliased(relation, alias.as_ref())
            }
            TableFactor::TableFunction { expr, alias } => {
                let Expr::Function(function) = expr else {
                    let what = "TABLE(…) without a window function";
                    return Err(site
                        .error(expr.span(), format!("{what} is not supported"))
                        .help("write TABLE(TUMBLE(…)), or the table's name alone")
                        .into());
                };
                let args = refuse::bare_call(site, function)?;
                let relation = self.windowed(&function.name, args, named)?;
                self.aliased(relation, alias.as_ref())
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                let span = alias.as_ref().map_or_else(|| subquery.span(), |alias| alias.name.span);
                if *lateral {
                    refusals.at(span, "LATERAL", "");
                }
                refusals.clause(
                    sample.is_some(),
                    &["TABLESAMPLE"],
                    "write WHERE with a condition on the record's data",
                );
                refusals.end()?;
                let mut relation = self.query(subquery.as_ref().clone(), named)?;
                relation.names.clear();
                self.aliased(relation, alias.as_ref())
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let relation = self.from(std::slice::from_ref(table_with_joins), named)?;
                self.aliased(relation, alias.as_ref())
            }
            other => {
                let what = match other {
                    TableFactor::Function { .. } => "a table function",
                    TableFactor::UNNEST { .. } => "UNNEST",
                    TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } => "JSON_TABLE",
                    TableFactor::XmlTable { .. } => "XMLTABLE",
                    TableFactor::Pivot { .. } => "PIVOT",
                    TableFactor::Unpivot { .. } => "UNPIVOT",
                    TableFactor::MatchRecognize { .. } => "MATCH_RECOGNIZE",
                    _ => "this form of FROM",
                };
                refusals.at(other.span(), what, "read a table, or a window over one");
                refusals.end()?;
                Err(site.error(site.whole(), "this form of FROM is not supported").into())
            }
        }
    }

    /// A table or a common table expression by name.
    fn table(&self, name: &ObjectName, named: &Named) -> Outcome<Relation> {
        match name.0.as_slice() {
            [part] if part.as_ident().is_some() => {
                let ident = part.as_ident().cloned().unwrap_or_else(|| Ident::new(""));
                self.by_name(&ident, named)
            }
            _ => Err(self
                .site
                .error(name.span(), format!("`{name}` is not a table's name: names of tables have no dots"))
                .help("a table is called as its Topic resource, with `_` for `-`")
                .into()),
        }
    }

    fn by_name(&self, ident: &Ident, named: &Named) -> Outcome<Relation> {
        if let Found::One(at) = look_up(ident, named.iter().map(|(name, _)| name.as_str())) {
            return Ok(named[at].1.clone());
        }
        let at = find_table(self.catalog, ident).ok_or_else(|| {
            let names = self
                .catalog
                .tables
                .iter()
                .map(|table| table.name.as_str())
                .chain(named.iter().map(|(name, _)| name.as_str()));
            unknown_table(self.site, ident, names)
        })?;
        Ok(Relation::of_table(at, &self.catalog.tables[at], ident.span))
    }

    fn windowed(&self, name: &ObjectName, args: &[sqlparser::ast::FunctionArg], named: &Named) -> Outcome<Relation> {
        let WindowCall { table, partition, time, window, span } = windows::window_call(self.site, name, args)?;
        let mut relation = self.by_name(&table, named)?;
        if relation.ranking.is_some() {
            return Err(self
                .site
                .error(
                    table.span,
                    format!("a window over numbered rows, as `{table}` gives them, is not supported yet"),
                )
                .help("write one of both into a topic with one INSERT INTO, and read that topic with another job")
                .into());
        }
        if relation.window.is_some() || relation.grouping.is_some() {
            return Err(self
                .site
                .error(table.span, format!("a window over the windowed query `{table}` is not supported yet"))
                .help("write the first aggregation to a topic with one INSERT INTO, and read that topic with another")
                .into());
        }
        self.check_time_column(&relation, &table, &time)?;
        if let Some((name, _)) =
            WINDOW_COLUMNS.iter().find(|(name, _)| relation.columns.iter().any(|c| c.name == *name))
        {
            return Err(self
                .site
                .error(table.span, format!("`{table}` has a column `{name}` already, which the window would give too"))
                .help(format!(
                    "rename it first: WITH q AS (SELECT …, `{name}` AS earlier_{name} FROM {table}), then TABLE q"
                ))
                .into());
        }
        relation.partition = all(partition.iter().map(|column| self.partition_column(&relation, &table, column)))?;
        let window_fields = WINDOW_COLUMNS.map(|(_, inner)| Field::new(inner, WINDOW_TYPE, false));
        relation.base = fields(relation.base.iter().map(|field| field.as_ref().clone()).chain(window_fields.clone()));
        for ((outer, _), field) in WINDOW_COLUMNS.iter().zip(&window_fields) {
            relation.columns.push(RelationColumn { name: (*outer).to_owned(), value: column(field, span) });
        }
        relation.window = Some((window, span));
        Ok(relation)
    }

    /// A column behind PARTITION BY.
    fn partition_column(&self, relation: &Relation, table: &Ident, column: &Ident) -> Outcome<Typed> {
        let names = || relation.columns.iter().map(|column| column.name.as_str());
        if let Found::One(at) = look_up(column, names()) {
            return Ok(Typed { span: column.span, ..relation.columns[at].value.clone() });
        }
        let help = match suggestion(&column.value, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its columns are {}", names().collect::<Vec<_>>().join(", ")),
        };
        Err(self.site.error(column.span, format!("`{table}` has no column `{}`", column.value)).help(help).into())
    }

    /// Windows go by the topic's event time and by nothing else.
    fn check_time_column(&self, relation: &Relation, table: &Ident, time: &Ident) -> Outcome<()> {
        let site = self.site;
        let source = &self.catalog.tables[relation.source];
        let Some(event_time) = &source.event_time else {
            return Err(site
                .error(
                    time.span,
                    format!("the Topic `{}` declares no event time, by which windows go", source.resource_name),
                )
                .help(format!("give it schema.eventTime: {{column: {}, maxOutOfOrderness: 5s}}", time.value))
                .into());
        };
        let at = match look_up(time, relation.columns.iter().map(|column| column.name.as_str())) {
            Found::One(at) => at,
            Found::Several | Found::Nothing => {
                let names = relation.columns.iter().map(|column| column.name.as_str());
                let near = suggestion(&time.value, names).unwrap_or_else(|| event_time.column.clone());
                return Err(site
                    .error(time.span, format!("`{table}` has no column `{}`", time.value))
                    .help(format!("did you mean `{near}`?"))
                    .into());
            }
        };
        let value = &relation.columns[at].value;
        let is_event_time = matches!(&value.raw, DfExpr::Column(column) if column.name == event_time.column);
        if !is_event_time {
            return Err(site
                .error(
                    time.span,
                    format!("windows go by the topic's event time `{}`, not by `{}`", event_time.column, time.value),
                )
                .help(format!("write DESCRIPTOR({}), or change the Topic's schema.eventTime", event_time.column))
                .into());
        }
        if !matches!(value.data_type, ArrowType::Timestamp(..)) {
            return Err(site
                .error(time.span, format!("the event time `{}` is no TIMESTAMP", event_time.column))
                .help("declare the column as TIMESTAMP(3) in its Topic; numbers are read as milliseconds")
                .into());
        }
        Ok(())
    }

    fn aliased(&self, mut relation: Relation, alias: Option<&TableAlias>) -> Outcome<Relation> {
        let Some(TableAlias { explicit: _, name, columns, at }) = alias else { return Ok(relation) };
        if at.is_some() {
            return Err(self.site.error(name.span, "AT after an alias is not supported").into());
        }
        self.renamed(&mut relation, name, columns)?;
        Ok(relation)
    }

    /// Gives a relation a name, and its columns the names that are listed behind it.
    pub(crate) fn renamed(
        &self,
        relation: &mut Relation,
        name: &Ident,
        columns: &[TableAliasColumnDef],
    ) -> Outcome<()> {
        for TableAliasColumnDef { name: column, data_type } in columns {
            if data_type.is_some() {
                return Err(self
                    .site
                    .error(column.span, format!("a type after the name `{column}` is not supported"))
                    .help("write only the name; CAST the value where it is selected")
                    .into());
            }
        }
        if !columns.is_empty() {
            if columns.len() != relation.columns.len() {
                let message =
                    format!("`{name}` names {} columns, but there are {}", columns.len(), relation.columns.len());
                return Err(self.site.error(name.span, message).help("name all columns, or none").into());
            }
            for (column, new) in relation.columns.iter_mut().zip(columns) {
                column.name.clone_from(&new.name.value);
            }
        }
        relation.names = vec![name.value.clone()];
        Ok(())
    }
}

/// The table that `ident` names: by its name in SQL, or by its resource's name.
pub(crate) fn find_table(catalog: &Catalog, ident: &Ident) -> Option<usize> {
    if let Found::One(at) = look_up(ident, catalog.tables.iter().map(|table| table.name.as_str())) {
        return Some(at);
    }
    catalog.tables.iter().position(|table| table.resource_name == ident.value)
}

/// There is no such table.
pub(crate) fn unknown_table<'a>(
    site: &Site<'_>,
    ident: &Ident,
    names: impl Iterator<Item = &'a str> + Clone,
) -> crate::SqlError {
    let help = match suggestion(&ident.value, names.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => match names.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "declare it as a Topic resource".to_owned(),
            names => format!("the tables are {names}; a table is a Topic resource"),
        },
    };
    site.error(ident.span, format!("there is no table `{}`", ident.value)).help(help)
}
