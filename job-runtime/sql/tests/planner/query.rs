//! A SELECT by itself: its columns, its plan, and what is said of what is none.

use freshet_plan::{Changes, Column, Emits, Output, Step, print};
use freshet_sql::{PlanOptions, Query, RESULT, SqlError};

use crate::cases::shown;
use crate::shop;

fn query(sql: &str) -> Result<Query, Vec<SqlError>> {
    freshet_sql::plan_query(
        &shop::catalog("a STRING"),
        sql,
        &PlanOptions { max_parallelism: 1, ..PlanOptions::default() },
    )
}

fn accepted(sql: &str) -> Query {
    query(sql).unwrap_or_else(|errors| panic!("{sql}\n{}", shown(&errors)))
}

fn columns(sql: &str) -> Vec<String> {
    accepted(sql).columns.iter().map(described).collect()
}

fn described(column: &Column) -> String {
    format!("{} {}{}", column.name, column.data_type, if column.required { " required" } else { "" })
}

#[test]
fn the_select_list_says_names_and_types() {
    assert_eq!(columns("SELECT * FROM plain"), ["a STRING", "b INT"]);
    assert_eq!(
        columns(
            "SELECT id, amount * 2, merchant.country, NULL AS nothing, 'x' AS x, Mixed FROM (SELECT id, amount, merchant, n AS Mixed FROM payments)"
        ),
        [
            "id STRING required",
            "amount * 2 DECIMAL(14,2)",
            "country STRING",
            "nothing STRING",
            "x STRING required",
            "Mixed INT",
        ]
    );
    assert_eq!(
        columns(
            "SELECT account, window_end, COUNT(*), AVG(n) AS mean FROM TUMBLE(payments, ts, INTERVAL '1' MINUTE) \
             GROUP BY account, window_start, window_end"
        ),
        ["account STRING required", "window_end TIMESTAMP(3) required", "COUNT(*) BIGINT required", "mean DOUBLE",]
    );
}

#[test]
fn a_name_that_is_there_twice_gets_a_number() {
    assert_eq!(columns("SELECT a, b, a FROM plain"), ["a STRING", "b INT", "a_2 STRING"]);
}

#[test]
fn a_limit_at_the_end_is_handed_over_and_not_planned() {
    let (without, with) = (accepted("SELECT a FROM plain"), accepted("SELECT a FROM plain LIMIT 7;"));
    assert_eq!((without.limit, with.limit), (None, Some(7)));
    assert_eq!(without.plan, with.plan);
}

/// What is tried out is what will be deployed: the steps are those of a job that writes the same columns.
#[test]
fn the_plan_is_that_of_a_job_which_writes_the_same_columns() {
    for (out, select) in [
        (
            "account STRING required, n BIGINT required",
            "SELECT account, COUNT(*) AS n FROM TUMBLE(payments, ts, INTERVAL '1' MINUTE) GROUP BY account, window_start, window_end HAVING COUNT(*) > 1",
        ),
        (
            "note STRING, total DECIMAL(38,2)",
            "SELECT note, SUM(amount) AS total FROM TUMBLE(payments, ts, INTERVAL '1' MINUTE) GROUP BY note, window_start, window_end",
        ),
        (
            "id STRING required",
            "WITH large AS (SELECT id, n FROM payments WHERE amount > 10) SELECT id FROM large WHERE n = 1",
        ),
    ] {
        let job = shop::plan(out, &format!("INSERT INTO out {select}"));
        let mut job = job.unwrap_or_else(|errors| panic!("{select}\n{}", shown(&errors)));
        let mut query = accepted(select).plan;
        let mut sinks = Vec::new();
        for plan in [&mut job, &mut query] {
            plan.max_parallelism = 1;
            for chain in plan.stages.iter_mut().flat_map(|stage| &mut stage.chains) {
                let Output::Topic(sink) = &mut chain.output else { continue };
                sinks.push(sink.columns.clone());
                (sink.table, sink.topic) = ("out".to_owned(), "out".to_owned());
            }
        }
        assert_eq!(print::tree(&query), print::tree(&job));
        assert_eq!(query, job);
        assert_eq!(sinks.len(), 2);
        assert_eq!(sinks[0], sinks[1]);
    }
}

/// A row's kind comes first, and what a row replaces is shown, also where a job would not need it.
#[test]
fn a_result_that_changes_shows_its_changes() {
    let sql = "SELECT account AS op, COUNT(*) AS n FROM payments GROUP BY account";
    assert_eq!(columns(sql), ["op STRING required", "op_2 STRING required", "n BIGINT required"]);
    let plan = accepted(sql).plan;
    let chain = &plan.stages[0].chains[0];
    assert!(matches!(&chain.output, Output::Topic(sink) if sink.changes == Changes::Log && sink.columns.len() == 2));
    let emits = chain.steps.iter().find_map(|step| match step {
        Step::GroupAggregate(group) => Some(group.emits),
        _ => None,
    });
    assert_eq!(emits, Some(Emits::Changes));
    // Rows that stay have no kinds.
    assert_eq!(columns("SELECT DISTINCT account FROM payments"), ["account STRING required"]);
}

#[test]
fn its_only_sink_is_the_result() {
    let plan = accepted("SELECT a FROM plain").plan;
    let sinks: Vec<&Output> = plan.stages.iter().flat_map(|stage| &stage.chains).map(|chain| &chain.output).collect();
    assert!(matches!(sinks[..], [Output::Topic(sink)] if sink.topic == RESULT && sink.key.is_empty()), "{sinks:?}");
}

#[test]
fn what_is_no_query_is_refused_with_its_place() {
    for (sql, wanted) in [
        (
            "INSERT INTO out SELECT a FROM plain",
            "1:1-7 `INSERT` does not begin a query; only SELECT is supported\n    a query writes nothing: leave INSERT INTO … out, and begin with SELECT\n",
        ),
        (
            "CREATE TABLE x (a INT)",
            "1:1-7 `CREATE` does not begin a query; only SELECT is supported\n    tables are Topic resources: declare a Topic manifest, and read it\n",
        ),
        (
            "SELECT a FROM plain; SELECT b FROM plain",
            "1:22-41 a query is one SELECT, and this is a second statement\n    run one after the other\n",
        ),
        (" -- nothing", "1:1-1 there is no statement in the SQL\n    write SELECT … FROM <table>\n"),
        ("SELECT a\nFROM plane", "2:6-11 there is no table `plane`\n    did you mean `plain`?\n"),
        // The result is no table.
        (
            "SELECT * FROM result",
            "1:15-21 there is no table `result`\n    the tables are payments, order_items, windowed, numbered, plain, keyed, out; a table is a Topic resource\n",
        ),
        (
            "SELECT a, ts - ts AS d FROM (SELECT id AS a, ts FROM payments)",
            "1:11-18 `d` is an interval, which no column can hold; write date_part('epoch', a) - date_part('epoch', b) for seconds between two times\n",
        ),
        (
            "SELECT a FROM plain LIMIT 2 OFFSET 3",
            "1:21-26 LIMIT is not supported\n    a stream has no end; leave it out\n",
        ),
        (
            "SELECT a FROM (SELECT a FROM plain LIMIT 2)",
            "1:36-41 LIMIT is not supported\n    a stream has no end; leave it out\n",
        ),
        (
            "SELECT id FROM TUMBLE(payments, ts, INTERVAL '1' MINUTE)",
            "1:16-22 a window without GROUP BY is not supported yet\n    add GROUP BY window_start, window_end\n",
        ),
        (
            "SELECT a FROM plain WHERE b",
            "1:27-28 WHERE needs a condition; this is INT\n    compare it with something\n",
        ),
    ] {
        match query(sql) {
            Ok(query) => panic!("{sql}\nwas planned:\n{}", print::tree(&query.plan)),
            Err(errors) => assert_eq!(shown(&errors), wanted, "{sql}"),
        }
    }
}
