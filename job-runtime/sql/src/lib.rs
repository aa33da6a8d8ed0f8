//! From SQL to a plan.
//!
//! [`plan`] takes the SQL of a job and the [`Catalog`] of its tables (one for each Topic), and gives the
//! [`Plan`] that the runtime runs, or everything that is wrong with the SQL, each with its place,
//! and with what to write instead. It reads nothing and decides nothing by chance: the same text and catalogue give
//! the same plan.
//!
//! ```text
//!  text ─dialect─▶ statements ─refuse─▶ INSERT + query ─relation, select, aggregate─▶ bound ─sink─▶ statement
//!                                             │ names, bind, functions, windows                      │ ids
//!                                             ▼                                                      ▼
//!                                     typed expressions ────────convert_expr────────────────▶ stages ─▶ Plan
//! ```
//!
//! # What is read
//! `INSERT INTO t [(columns)] SELECT … FROM …` statements, separated by `;`, in Flink SQL's spelling, each perhaps several
//! SELECTs with UNION ALL between them; and `CREATE TEMPORARY VIEW v AS SELECT …` for those behind it. FROM is one table, a derived table or a common table expression over one, or an event-time window over one:
//! `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))` or, shorter, `TUMBLE(t, ts, INTERVAL '10 seconds')`,
//! and HOP and CUMULATE in the same forms; `SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' MINUTE)`.
//! A window adds the columns `window_start`, `window_end` and `window_time` (TIMESTAMP(3)); its rows are grouped by
//! the first two and by any expressions, with COUNT, SUM, MIN, MAX and AVG, each with DISTINCT and FILTER.
//!
//! Rows can be grouped without a window, too, and SELECT DISTINCT is such a grouping; ROW_NUMBER with a bound keeps the
//! first rows of each key (`ranking`). See `updating` for where a result that changes may go.
//!
//! [`plan_query`] reads one SELECT of the same SQL without INSERT INTO, for `freshet query`.
//!
//! # What is refused
//! Everything else, by name and place. The syntax tree is taken apart without leaving anything out (see `refuse`), so
//! that a clause is either planned or refused, never skipped. Functions whose results a replay would not repeat
//! (`now()`, `random()`…) are refused too.
//!
//! # Who does what
//! The parser is `sqlparser`'s with a dialect of our own; names are resolved here, where their places are known;
//! expressions are planned and typed by DataFusion's `SqlToRel` and its type coercion, one by one. The shape of a
//! query (FROM, WHERE, GROUP BY, HAVING, the SELECT list) is planned here, since it is stages, keys and state that
//! matter, and no logical plan of DataFusion's ever exists.
//!
//! # Types of aggregates
//! SUM of integers is BIGINT, of DECIMAL(p,s) DECIMAL(38,s), of floats DOUBLE; AVG of DECIMAL(p,s) is
//! DECIMAL(38,max(s,6)), of other numbers DOUBLE; COUNT is BIGINT; MIN and MAX keep the type.

mod aggregate;
mod aggregates;
pub mod arrow_types;
mod bind;
mod cascade;
mod coerce;
mod convert_expr;
mod dialect;
mod error;
mod functions;
mod grouping_sets;
mod ids;
mod lengths;
mod names;
mod patterns;
mod query;
mod ranking;
mod refuse;
mod refuse_expr;
mod relation;
mod respell;
mod select;
mod sessions;
mod sink;
mod stages;
mod union;
mod updating;
mod views;
mod walk;
mod windows;

use freshet_plan::{Changes, Column, EventTime, Format, Plan};

pub use error::{SqlError, SqlPosition, SqlSpan};
pub use query::{Query, RESULT};
pub use stages::{AGGREGATE_STATE_VERSION, INTERNAL_FORMAT_VERSION};

use bind::Binder;
use dialect::Purpose;
use error::{Outcome, Site, both};
use refuse::InsertParts;
use select::Planner;
use sink::Statement;

/// The tables that SQL may name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    /// One for each Topic; their names are different.
    pub tables: Vec<Table>,
}

/// A Topic as a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Its name in SQL: the resource's name with `_` for `-`.
    pub name: String,
    /// The Topic resource's name, which names the table too, in backticks.
    pub resource_name: String,
    /// The topic's name in Kafka.
    pub topic: String,
    /// How values are encoded.
    pub format: Format,
    /// Its columns, in the Topic's order.
    pub columns: Vec<Column>,
    /// Names of the record key's columns; empty without a declared key.
    pub key: Vec<String>,
    /// Whether the declared partitioner is one by which keys may be trusted for grouping (Murmur2).
    pub key_trusted: bool,
    /// How event time is read, where the Topic declares it.
    pub event_time: Option<EventTime>,
    /// How many partitions the topic has. Not part of the plan.
    pub partitions: u32,
}

/// What a plan depends on besides the SQL and the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOptions {
    /// Partitions of internal topics; fixed for a lineage.
    pub max_parallelism: u32,
    /// How long the state of a key is kept at least after its last record, ms of event time, by operators that would
    /// keep it for ever; `None` for ever.
    pub state_ttl_ms: Option<i64>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { max_parallelism: 64, state_ttl_ms: None }
    }
}

/// Deep expressions are walked recursively; the stack that this may take is bounded by the bound on operators in a
/// statement, and is far below this.
const STACK_BYTES: usize = 128 << 20;

/// Plans the SQL of a job.
///
/// # Errors
/// Everything that is wrong with it, at least one error for each statement that can't be planned, in the order of
/// their places.
pub fn plan(catalog: &Catalog, sql: &str, options: &PlanOptions) -> Result<Plan, Vec<SqlError>> {
    with_stack(sql, || plan_here(catalog, sql, options))
}

/// Plans one SELECT, whose rows go nowhere but to whoever runs it: the plan's only sink is [`RESULT`], with the
/// columns that the SELECT gives. A LIMIT at its end is not part of the plan, but handed over beside it.
///
/// # Errors
/// As [`plan`].
pub fn plan_query(catalog: &Catalog, sql: &str, options: &PlanOptions) -> Result<Query, Vec<SqlError>> {
    with_stack(sql, || query::plan(catalog, sql, options))
}

/// Plans on a thread of its own for the sake of its stack: the caller's may be small.
fn with_stack<T: Send>(sql: &str, work: impl FnOnce() -> Outcome<T> + Send) -> Result<T, Vec<SqlError>> {
    let planned = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("freshet-plan".to_owned()).stack_size(STACK_BYTES);
        let handle = thread.spawn_scoped(scope, work).map_err(|error| error.to_string())?;
        handle.join().map_err(|panic| {
            let text =
                panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            text.unwrap_or("no message").to_owned()
        })
    });
    let mut result = planned.unwrap_or_else(|error| {
        let site = Site::new(sql, &[]);
        Err(site
            .error(sqlparser::tokenizer::Span::empty(), format!("the planner failed on this SQL: {error}"))
            .help("this is a mistake in the planner; write the statement in another way, and report it")
            .into())
    });
    if let Err(errors) = &mut result {
        errors.sort_by_key(|error| (error.span.start, error.span.end));
        errors.dedup();
    }
    result
}

fn plan_here(catalog: &Catalog, sql: &str, options: &PlanOptions) -> Outcome<Plan> {
    let texts = dialect::split(sql, Purpose::Job)?;
    let binder = Binder::new();
    let mut views = relation::Named::new();
    let mut a_view_is_wrong = false;
    let statements: Vec<Vec<Statement>> = error::all(texts.iter().map(|text| {
        let site = Site::new(sql, &text.tokens);
        let planner = Planner { catalog, site: &site, binder: &binder };
        match dialect::parse(&site, text, Purpose::Job)? {
            sqlparser::ast::Statement::CreateView(view) => {
                let made = planner.view(view, &views).inspect_err(|_| a_view_is_wrong = true)?;
                views.push(made);
                Ok(Vec::new())
            }
            // It may read a view that is not there because of a mistake that is told already.
            _ if a_view_is_wrong => Ok(Vec::new()),
            statement => {
                let (refused, parts) = refuse::insert(&site, statement);
                both(refused, parts.and_then(|parts| each_grouping(&planner, text.index, parts, &views)))
                    .map(|((), statements)| statements)
            }
        }
    }))?;
    let statements: Vec<Statement> = statements.into_iter().flatten().collect();
    if statements.is_empty() {
        let site = Site::new(sql, &[]);
        return Err(site
            .error(sqlparser::tokenizer::Span::empty(), "no statement writes anything")
            .help("write INSERT INTO <table> SELECT … FROM a view")
            .into());
    }
    no_further_reading(catalog, &statements, sql, &texts)?;
    staged(catalog, &statements, options, sql, &texts)
}

/// The statements of one INSERT: one for each set of GROUPING SETS, ROLLUP or CUBE, and one where there are none.
fn each_grouping(
    planner: &Planner<'_>,
    index: u32,
    parts: InsertParts,
    views: &relation::Named,
) -> Outcome<Vec<Statement>> {
    let site = planner.site;
    let InsertParts { table, columns, query } = parts;
    let queries = grouping_sets::expanded(site, *query)?;
    let sets = queries.len();
    let parts = queries.into_iter().map(|query| InsertParts {
        table: table.clone(),
        columns: columns.clone(),
        query: query.into(),
    });
    let statements = error::all(parts.map(|parts| planner.insert(index, parts, views)))?.concat();
    if sets > 1 && statements.iter().any(|statement| statement.changes == Changes::Upsert) {
        let message =
            "GROUPING SETS, ROLLUP and CUBE need a window: without one the results of one set would replace another's";
        return Err(site.error(site.whole(), message).help("write one INSERT INTO for each grouping").into());
    }
    Ok(statements)
}

/// Refuses a statement that reads what another one writes as a result that changes.
fn no_further_reading(
    catalog: &Catalog,
    statements: &[Statement],
    sql: &str,
    texts: &[dialect::StatementText],
) -> Outcome<()> {
    let topic = |at: usize| catalog.tables.get(at).map(|table| table.topic.as_str());
    let updated = |source: usize| {
        statements.iter().any(|writer| writer.changes == Changes::Upsert && topic(writer.sink) == topic(source))
    };
    error::all(statements.iter().map(|reader| {
        if !updated(reader.relation.source) {
            return Ok(());
        }
        let tokens = texts.iter().find(|text| text.index == reader.index).map_or(&[][..], |text| &text.tokens);
        let site = Site::new(sql, tokens);
        let name = catalog.tables.get(reader.relation.source).map_or("", |table| table.name.as_str());
        let message = format!(
            "`{name}` is written by another statement as a result that changes; reading such a result further is not \
             supported yet"
        );
        let help = "read the topic that the other statement reads, or let it write a final result: group by a window";
        Err(site.error(site.whole(), message).help(help).into())
    }))
    .map(|_| ())
}

/// The stages of bound statements; `texts` are theirs, by which a mistake of the planner's is shown.
fn staged(
    catalog: &Catalog,
    statements: &[Statement],
    options: &PlanOptions,
    sql: &str,
    texts: &[dialect::StatementText],
) -> Outcome<Plan> {
    stages::plan(catalog, statements, options).map_err(|mistake| {
        let tokens = texts.iter().find(|text| text.index == mistake.statement).map_or(&[][..], |text| &text.tokens);
        let site = Site::new(sql, tokens);
        site.error(site.whole(), format!("the statement can't be planned: {}", mistake.message)).into()
    })
}
