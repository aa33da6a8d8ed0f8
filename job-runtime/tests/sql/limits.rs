//! What happens where values end: overflow, division by zero, casts that can't be, numbers that no type holds, texts of a
//! megabyte, and records at the edges of windows.

use freshet_plan::EventTime;
use freshet_sql::{Catalog, PlanOptions, Table};

use crate::events::{columns, table};
use crate::run::{Manner, Outcome, SOURCE_PARTITIONS, run};

const COLUMNS: &str =
    "k STRING, i INT, b BIGINT, d DOUBLE, f FLOAT, m DECIMAL(12,2), h DECIMAL(38,0), s STRING, ts TIMESTAMP(3)";

fn catalog(out: &str, key_trusted: bool, disorder_ms: i64) -> Catalog {
    let event_time = EventTime { column: "ts".to_owned(), max_out_of_orderness_ms: disorder_ms, idle_timeout_ms: None };
    let t = Table {
        key: vec!["k".to_owned()],
        key_trusted,
        event_time: Some(event_time),
        ..table("t", columns(COLUMNS), SOURCE_PARTITIONS)
    };
    Catalog { tables: vec![t, table("out", columns(out), SOURCE_PARTITIONS)] }
}

/// Runs `sql` over records of one partition; the others have a late one that closes their windows.
fn outcome(out: &str, sql: &str, records: &[String], two_stages: bool, disorder_ms: i64) -> Result<Outcome, String> {
    let catalog = catalog(out, !two_stages, disorder_ms);
    let plan = freshet_sql::plan(
        &catalog,
        &format!("INSERT INTO out {sql}"),
        &PlanOptions { max_parallelism: 2, ..PlanOptions::default() },
    )
    .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let windowed = ["TUMBLE", "HOP", "CUMULATE"].iter().any(|window| sql.contains(window));
    let closer = || vec![r#"{"k":"~","ts":9000000000000}"#.to_owned()];
    let (mut first, mut others) = (records.to_vec(), Vec::new());
    if windowed {
        first.extend(closer());
        others = closer();
    }
    run(&plan, &[first, others.clone(), others], Manner { batch: 2, crash: true, epoch: 1 })
}

/// The values of records `{"v":…}` that a run wrote, sorted.
fn values(outcome: &Outcome) -> Vec<String> {
    let value =
        |json: &String| json.strip_prefix("{\"v\":").and_then(|json| json.strip_suffix('}')).unwrap_or(json).to_owned();
    let mut values: Vec<String> = outcome.values.iter().map(value).collect();
    values.sort();
    values
}

/// One record with a field, at a time of its own.
fn record(field: &str) -> String {
    format!("{{\"k\":\"a\",\"ts\":1000,{field}}}")
}

#[test]
fn what_an_expression_can_not_give_stops_the_job_by_name() {
    for (data_type, expression, field, part) in [
        ("BIGINT", "b + 1", "\"b\":9223372036854775807", "verflow"),
        ("BIGINT", "b - 1", "\"b\":-9223372036854775808", "verflow"),
        ("BIGINT", "b * 2", "\"b\":9223372036854775807", "verflow"),
        ("BIGINT", "-b", "\"b\":-9223372036854775808", "verflow"),
        ("BIGINT", "abs(b)", "\"b\":-9223372036854775808", "b"),
        ("BIGINT", "b / -1", "\"b\":-9223372036854775808", "verflow"),
        ("INT", "i * i", "\"i\":65536", "verflow"),
        ("BIGINT", "i / 0", "\"i\":5", "ivide by zero"),
        ("BIGINT", "i % 0", "\"i\":5", "ivide by zero"),
        ("DECIMAL(12,2)", "CAST(m / 0 AS DECIMAL(12,2))", "\"m\":1", "ivide by zero"),
        ("DECIMAL(38,0)", "h * h", "\"h\":99999999999999999999", "h"),
        ("DECIMAL(38,0)", "h + h", "\"h\":99999999999999999999999999999999999999", "h"),
        ("INT", "CAST(s AS INT)", "\"s\":\"x\"", "Cannot cast string 'x'"),
        ("INT", "CAST(s AS INT)", "\"s\":\"3000000000\"", "Cannot cast string"),
        ("INT", "CAST(b AS INT)", "\"b\":3000000000", "3000000000"),
        ("INT", "CAST(d AS INT)", "\"d\":3e9", "3000000000"),
        ("INT", "CAST(CAST('NaN' AS DOUBLE) * d AS INT)", "\"d\":1", "NaN"),
        ("DECIMAL(5,2)", "CAST(m AS DECIMAL(5,2))", "\"m\":1000", "5"),
        ("DATE", "CAST(s AS DATE)", "\"s\":\"2026-02-30\"", "2026-02-30"),
        ("TIMESTAMP(3)", "CAST(s AS TIMESTAMP(3))", "\"s\":\"noon\"", "noon"),
        ("BOOLEAN", "CAST(s AS BOOLEAN)", "\"s\":\"maybe\"", "maybe"),
    ] {
        let out = format!("v {data_type}");
        let error = outcome(&out, &format!("SELECT {expression} FROM t"), &[record(field)], false, 0)
            .expect_err(&format!("{expression} of {field}"));
        assert!(error.contains(part) && error.contains('`'), "{expression} of {field}: {error}");
        let null = outcome(&out, &format!("SELECT {expression} FROM t"), &[record("\"x\":0")], false, 0);
        if !expression.contains("/ 0") && !expression.contains("% 0") {
            assert_eq!(null.map(|outcome| values(&outcome)), Ok(vec!["null".to_owned()]), "{expression} of null");
        }
    }
}

#[test]
fn what_an_expression_can_give_at_the_ends_of_types() {
    for (data_type, expression, field, wanted) in [
        ("BIGINT", "b", "\"b\":-9223372036854775808", "-9223372036854775808"),
        ("BIGINT", "b", "\"b\":9223372036854775807", "9223372036854775807"),
        ("BIGINT", "b", "\"b\":9007199254740993", "9007199254740993"),
        ("BIGINT", "b", "\"b\":1e18", "1000000000000000000"),
        (
            "DECIMAL(38,0)",
            "h",
            "\"h\":99999999999999999999999999999999999999",
            "99999999999999999999999999999999999999",
        ),
        (
            "DECIMAL(38,0)",
            "-h",
            "\"h\":99999999999999999999999999999999999999",
            "-99999999999999999999999999999999999999",
        ),
        ("DOUBLE", "d", "\"d\":-0.0", "-0.0"),
        ("DOUBLE", "d", "\"d\":1e-400", "0.0"),
        ("DOUBLE", "d", "\"d\":5e-324", "5e-324"),
        ("DOUBLE", "d", "\"d\":1.7976931348623157e308", "1.7976931348623157e308"),
        ("DOUBLE", "d * 10", "\"d\":1.7976931348623157e308", "null"),
        ("DOUBLE", "d / 0", "\"d\":1", "null"),
        ("DOUBLE", "d / 0", "\"d\":-0.0", "null"),
        ("BOOLEAN", "d = 0", "\"d\":-0.0", "true"),
        ("BOOLEAN", "CAST('NaN' AS DOUBLE) * d > d", "\"d\":1e308", "true"),
        ("INT", "CAST(d AS INT)", "\"d\":2.7", "2"),
        ("INT", "CAST(d AS INT)", "\"d\":-2.7", "-2"),
        ("INT", "CAST(m AS INT)", "\"m\":2.5", "2"),
        ("INT", "CAST(m AS INT)", "\"m\":-2.7", "-2"),
        ("DECIMAL(12,1)", "CAST(m AS DECIMAL(12,1))", "\"m\":2.25", "2.3"),
        ("DECIMAL(12,1)", "CAST(m AS DECIMAL(12,1))", "\"m\":-2.25", "-2.3"),
        ("DECIMAL(12,2)", "CAST(m / 3 AS DECIMAL(12,2))", "\"m\":10", "3.33"),
        ("INT", "TRY_CAST(s AS INT)", "\"s\":\"x\"", "null"),
        ("INT", "TRY_CAST(s AS INT)", "\"s\":\" 7 \"", "7"),
        ("BIGINT", "i / NULLIF(i - i, 0)", "\"i\":5", "null"),
        ("STRING", "s", "\"s\":\"a\",\"s\":\"b\"", "\"b\""),
        ("STRING", "s", "\"s\":\"\\ud83d\\udeb2\\u0000\"", "\"🚲\\u0000\""),
    ] {
        let found =
            outcome(&format!("v {data_type}"), &format!("SELECT {expression} FROM t"), &[record(field)], false, 0);
        let found = found.unwrap_or_else(|error| panic!("{expression} of {field}: {error}"));
        assert!(found.bad.is_empty(), "{field}: {:?}", found.bad);
        assert_eq!(values(&found), [wanted], "{expression} of {field}");
    }
}

#[test]
fn numbers_that_no_column_holds_are_bad_records() {
    for field in [
        "\"b\":9223372036854775808",
        "\"b\":-9223372036854775809",
        "\"b\":1.5",
        "\"d\":1e400",
        "\"f\":1e39",
        "\"h\":100000000000000000000000000000000000000",
        "\"h\":0.1",
        "\"m\":0.001",
        "\"m\":1e10",
        "\"i\":2147483648",
        "\"i\":\"1\"",
        "\"s\":1",
        "\"s\":\"\\ud83d\"",
    ] {
        let found = outcome(
            "v STRING",
            "SELECT k FROM t WHERE b IS NULL OR d IS NULL OR f IS NULL OR h IS NULL OR m IS NULL OR i IS NULL OR s IS NULL",
            &[record(field)],
            false,
            0,
        );
        let found = found.unwrap_or_else(|error| panic!("{field}: {error}"));
        assert_eq!((found.values.len(), found.bad.values().sum::<u64>()), (0, 1), "{field}: {:?}", found.bad);
    }
}

/// The same in one stage and in two.
fn sums(out: &str, sql: &str, records: &[String]) -> Result<Vec<String>, String> {
    let sql = format!("SELECT {sql} FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY k, window_start, window_end");
    let one = outcome(out, &sql, records, false, 0).map(|outcome| values(&outcome));
    let two = outcome(out, &sql, records, true, 0).map(|outcome| values(&outcome));
    assert_eq!(one.clone().map_err(drop), two.clone().map_err(drop), "{sql}: one stage, and two: {one:?} {two:?}");
    one
}

#[test]
fn sums_are_exact_and_an_overflow_is_named() {
    let record = |b: &str| record(&format!("\"b\":{b},\"h\":{b}"));
    let max = "9223372036854775807";
    let there_and_back = [record(max), record("1"), record("-1"), record("-8")];
    assert_eq!(sums("v BIGINT", "SUM(b)", &there_and_back), Ok(vec!["9223372036854775799".to_owned()]));
    assert_eq!(
        sums("v DOUBLE", "AVG(b)", &[record(max), record(max)]),
        Ok(vec!["9.223372036854775807e18".parse::<f64>().map(|mean| format!("{mean:?}")).expect("a number")])
    );
    let error = sums("v BIGINT", "SUM(b)", &[record(max), record("1")]).expect_err("an overflow");
    assert!(error.contains("SUM(b)") && error.contains("BIGINT"), "{error}");
    let huge = "99999999999999999999999999999999999999";
    let record = |h: &str| format!("{{\"k\":\"a\",\"ts\":1000,\"h\":{h}}}");
    let error = sums("v DECIMAL(38,0)", "SUM(h)", &[record(huge), record("1")]).expect_err("an overflow");
    assert!(error.contains("SUM(h)") && error.contains("DECIMAL(38,0)"), "{error}");
    assert_eq!(
        sums("v DECIMAL(38,0)", "SUM(h)", &[record(huge), record("1"), record("-2")]),
        Ok(vec![format!("{}8", &huge[..37])])
    );
    assert_eq!(sums("v DECIMAL(38,0)", "MAX(h)", &[record(huge), record("1")]), Ok(vec![huge.to_owned()]));
}

#[test]
fn texts_of_a_megabyte_pass_and_are_grouped_by() {
    let text = "ü".repeat(500_000);
    let records: Vec<String> =
        (0..3).map(|n| format!("{{\"k\":\"a\",\"ts\":{},\"s\":\"{text}{}\"}}", 1_000 + n, n % 2)).collect();
    let found = outcome("v STRING", "SELECT s FROM t", &records, false, 0).expect("results");
    assert_eq!(values(&found), [format!("\"{text}0\""), format!("\"{text}0\""), format!("\"{text}1\"")]);
    assert_eq!(sums("v STRING", "MAX(s)", &records), Ok(vec![format!("\"{text}1\"")]));
    let sql = "SELECT CAST(COUNT(*) AS STRING) || right(s, 1) FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY s, window_start, window_end";
    let found = outcome("v STRING", sql, &records, true, 0).expect("results");
    assert_eq!(values(&found), ["\"11\"", "\"20\""]);
}

/// Without disorder a window closes with the first record behind it, and a record at its last instant is late from then
/// on; one at the next window's first instant never is.
#[test]
fn records_at_the_edges_of_windows() {
    let at =
        |times: &[i64]| -> Vec<String> { times.iter().map(|time| format!("{{\"k\":\"a\",\"ts\":{time}}}")).collect() };
    let sql = "SELECT CAST(window_start AS STRING) || ' ' || CAST(COUNT(*) AS STRING) FROM TUMBLE(t, ts, INTERVAL '10' SECOND) GROUP BY k, window_start, window_end";
    for (times, disorder, wanted, late) in [
        (&[0, 9_999, 10_000, 9_999, 10_000][..], 0, &["1970-01-01T00:00:00 2", "1970-01-01T00:00:10 2"][..], 1),
        (&[0, 10_000, 9_999, 10_001, 9_999], 1, &["1970-01-01T00:00:00 2", "1970-01-01T00:00:10 2"], 1),
        (&[-1, 0, -1, -10_000, -10_001], 0, &["1969-12-31T23:59:50 1", "1970-01-01T00:00:00 1"], 3),
        (&[-10_001, -10_000, -1], 0, &["1969-12-31T23:59:40 1", "1969-12-31T23:59:50 2"], 0),
        (&[25_000, 15_000, 14_999], 10_000, &["1970-01-01T00:00:10 2", "1970-01-01T00:00:20 1"], 0),
    ] {
        for two_stages in [false, true] {
            let found = outcome("v STRING", sql, &at(times), two_stages, disorder).expect("results");
            let wanted: Vec<String> = wanted.iter().map(|row| format!("\"{row}\"")).collect();
            assert_eq!(
                (values(&found), found.late),
                (wanted, late),
                "{times:?}, {disorder} ms, two stages: {two_stages}"
            );
        }
    }
}

/// A function may panic where others fail: at the ends of its arguments' types. That stops the job by name too.
#[test]
fn no_function_ends_the_process() {
    let numbers = ["-9223372036854775808", "9223372036854775807", "0", "-1"];
    let calls = [
        "abs(b)",
        "factorial(b)",
        "gcd(b, b)",
        "lcm(b, b - 1 + 1)",
        "round(d, CAST(b AS INT))",
        "round(m, CAST(b % 100 AS INT))",
        "trunc(d, b)",
        "power(b, b)",
        "left(s, b)",
        "right(s, b)",
        "substr(s, b)",
        "substr(s, b, b)",
        "substr(s, 1, b)",
        "split_part(s, 'a', b)",
        "substr_index(s, 'a', b)",
        "chr(b)",
        "to_hex(b)",
        "overlay(s PLACING 'x' FROM b)",
        "repeat(s, b % 3)",
        "lpad(s, b % 3)",
        "rpad(s, -1 * (b % 3))",
        "make_date(b, b, b)",
        "make_date(b % 300000, 1, 1)",
        "from_unixtime(b)",
        "to_timestamp(b)",
        "to_timestamp_seconds(b)",
        "to_timestamp_millis(b)",
        "to_timestamp_micros(b)",
        "to_timestamp_nanos(b)",
        "date_trunc('year', to_timestamp_nanos(b))",
        "date_trunc('week', to_timestamp_seconds(b))",
        "date_bin(INTERVAL '1' MONTH, to_timestamp_nanos(b))",
        "date_bin(INTERVAL '0' SECOND, ts)",
        "date_part('year', to_timestamp_micros(b))",
        "to_char(to_timestamp_millis(b), '%Y %Q %')",
        "to_timestamp_millis(b) + INTERVAL '1' YEAR",
        "to_timestamp_nanos(b) - INTERVAL '1' DAY",
        "CAST(to_timestamp_seconds(b) AS TIMESTAMP(9))",
        "CAST(to_timestamp_millis(b) AS STRING)",
        "CAST(to_timestamp_millis(b) AS DATE)",
        "regexp_count(s, 'a', b)",
        "regexp_instr(s, 'a', b)",
        "regexp_replace(s, '(', 'x')",
        "to_date(s, '%')",
        "to_timestamp(s, '%Q')",
        "initcap(s)",
        "levenshtein(s, s)",
        "date_part('epoch', to_timestamp_seconds(b))",
        "m / b",
        "m % b",
        "h / b",
        "h * m",
        "nanvl(d / 0, d)",
        "log(d, b)",
        "cot(d)",
        "b % -1",
        "b / -1",
        "-b",
        "ascii(left(s, b % 2))",
    ];
    for call in calls {
        for number in numbers {
            for text in ["", "aü", "-"] {
                let record =
                    record(&format!("\"b\":{number},\"d\":{number},\"m\":1.5,\"h\":{number},\"s\":\"{text}\""));
                let sql = format!("SELECT CASE WHEN {call} IS NOT NULL THEN 1 ELSE 0 END FROM t");
                // Any result and any failure will do, as long as a failure names the expression.
                if let Err(error) = outcome("v BIGINT", &sql, &[record], false, 0) {
                    assert!(
                        error.contains('`') && !error.contains("not supported"),
                        "{call} of {number} and '{text}': {error}"
                    );
                }
            }
        }
    }
}
