//! Ids of operators: state and internal topics are found by them, so they stay where the state means the same, and
//! change where it does not.

use freshet_plan::{Output, Plan};

use crate::shop;

const OUT: &str = "account STRING, n BIGINT, total DECIMAL(38,2)";

/// The ids of all stages, and of all operators in them.
fn ids(sql: &str) -> Vec<String> {
    ids_of(&shop::plan(OUT, sql).unwrap_or_else(|errors| panic!("{sql}\n{}", crate::cases::shown(&errors))))
}

fn ids_of(plan: &Plan) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for stage in &plan.stages {
        ids.push(stage.id.clone());
        for chain in &stage.chains {
            for step in &chain.steps {
                ids.extend(step.operator_id().cloned());
            }
            if let Output::Repartition { operator, .. } = &chain.output {
                ids.push(operator.clone());
            }
        }
    }
    ids.sort();
    ids.dedup();
    ids
}

const BY_ACCOUNT: &str = "INSERT INTO out
SELECT account, COUNT(*) AS n, SUM(amount) AS total
FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '10' SECOND))
WHERE n > 5 AND ok
GROUP BY account, window_start, window_end
HAVING COUNT(*) > 1";

/// The same state: every one of these must find what the first one has written.
const SAME: [(&str, &str); 23] = [
    (
        "white space",
        "insert into out select account,count(*) n,sum(amount) total from table(tumble(table payments,descriptor(ts),interval '10' second)) where n>5 and ok group by account,window_start,window_end having count(*)>1",
    ),
    (
        "comments",
        "INSERT INTO out SELECT /* who */ account, COUNT(*) AS n, SUM(amount) AS total -- how much\nFROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end HAVING COUNT(*) > 1",
    ),
    (
        "the short form",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10 seconds') WHERE n > 5 AND ok GROUP BY account, window_start, window_end HAVING COUNT(*) > 1",
    ),
    (
        "named arguments",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TABLE(TUMBLE(SIZE => INTERVAL '10' SECOND, DATA => TABLE payments, TIMECOL => DESCRIPTOR(ts))) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "another spelling of the size",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10000' MILLISECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "an offset of a whole window",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND, INTERVAL '30' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "hops as long as the windows",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM HOP(payments, ts, INTERVAL '10' SECOND, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "one step as long as the window",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM CUMULATE(payments, ts, INTERVAL '10' SECOND, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "an alias of the table",
        "INSERT INTO out SELECT p.account, COUNT(*), SUM(p.amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) AS p WHERE p.n > 5 AND p.ok GROUP BY p.account, p.window_start, window_end",
    ),
    (
        "quoted names",
        "INSERT INTO `out` SELECT \"account\", COUNT(*), SUM(`amount`) FROM TUMBLE(`payments`, ts, INTERVAL '10' SECOND) WHERE `n` > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "another case",
        "INSERT INTO out SELECT ACCOUNT, Count(*), Sum(AMOUNT) FROM Tumble(PAYMENTS, TS, INTERVAL '10' SECOND) WHERE N > 5 AND OK GROUP BY ACCOUNT, WINDOW_START, WINDOW_END",
    ),
    (
        "another HAVING",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end HAVING SUM(amount) > 100",
    ),
    (
        "no HAVING",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "computing with results",
        "INSERT INTO out SELECT account, COUNT(*) * 2, SUM(amount) + 1 FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "conditions in another order",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE ok AND n > 5 GROUP BY account, window_start, window_end",
    ),
    (
        "a condition twice",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE ok AND n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "GROUP BY in another order",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY window_end, window_start, account",
    ),
    (
        "GROUP BY a position",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY window_end, 1, window_start",
    ),
    (
        "a key twice",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, account, window_start, window_end",
    ),
    (
        "columns in another order",
        "INSERT INTO out (total, account, n) SELECT SUM(amount), account, COUNT(1) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "a derived table between",
        "INSERT INTO out SELECT a, COUNT(*), SUM(m) FROM (SELECT account AS a, amount AS m, window_start AS s, window_end AS e, n, ok FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5) WHERE ok GROUP BY a, s, e",
    ),
    (
        "WITH before it",
        "INSERT INTO out WITH q AS (SELECT amount AS m, ts, account AS who FROM payments WHERE n > 5 AND ok) SELECT who, COUNT(*), SUM(m) FROM TABLE(TUMBLE(TABLE q, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY who, window_start, window_end",
    ),
    (
        "another table that is written",
        "INSERT INTO plain SELECT account, CAST(COUNT(*) + SUM(amount) AS INT) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
];

/// Other state: none of these may find what the first one has written.
const OTHER: [(&str, &str); 21] = [
    (
        "another size",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '20' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "an offset",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND, INTERVAL '1' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "windows that hop",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM HOP(payments, ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "another slide",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM HOP(payments, ts, INTERVAL '2' SECOND, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "another size of hops",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM HOP(payments, ts, INTERVAL '5' SECOND, INTERVAL '20' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "an offset of hops",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM HOP(payments, ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND, INTERVAL '1' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "windows that cumulate",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM CUMULATE(payments, ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "another step",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM CUMULATE(payments, ts, INTERVAL '2' SECOND, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "another condition",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 6 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "a condition less",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 GROUP BY account, window_start, window_end",
    ),
    (
        "no condition",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) GROUP BY account, window_start, window_end",
    ),
    (
        "OR for AND",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 OR ok GROUP BY account, window_start, window_end",
    ),
    (
        "another key",
        "INSERT INTO out SELECT id, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY id, window_start, window_end",
    ),
    (
        "a key more",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, id, window_start, window_end",
    ),
    (
        "another aggregate",
        "INSERT INTO out SELECT account, COUNT(*), MAX(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "another argument",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount * 2) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "DISTINCT",
        "INSERT INTO out SELECT account, COUNT(*), SUM(DISTINCT amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "FILTER",
        "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FILTER (WHERE big > 1) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "an aggregate more",
        "INSERT INTO out SELECT account, COUNT(*) + COUNT(note), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "an aggregate less",
        "INSERT INTO out (account, n) SELECT account, COUNT(*) FROM TUMBLE(payments, ts, INTERVAL '10' SECOND) WHERE n > 5 AND ok GROUP BY account, window_start, window_end",
    ),
    (
        "another topic",
        "INSERT INTO out SELECT id, COUNT(*), SUM(price) FROM TUMBLE(order_items, ts, INTERVAL '10' SECOND) GROUP BY id, window_start, window_end",
    ),
];

fn aggregations(ids: &[String]) -> Vec<&String> {
    ids.iter().filter(|id| id.starts_with("agg-")).collect()
}

#[test]
fn ids_stay_where_the_state_means_the_same() {
    let first = ids(BY_ACCOUNT);
    assert_eq!(aggregations(&first).len(), 1, "{first:?}");
    for (edit, sql) in SAME {
        assert_eq!(ids(sql), first, "{edit}");
    }
}

#[test]
fn ids_change_where_the_state_means_something_else() {
    let first = ids(BY_ACCOUNT);
    let mut all: Vec<String> = aggregations(&first).into_iter().cloned().collect();
    for (edit, sql) in OTHER {
        let others = ids(sql);
        let aggregation = aggregations(&others)[0];
        assert!(!all.contains(aggregation), "{edit}: {aggregation} is an id of other state");
        all.push(aggregation.clone());
    }
}

/// What is aggregated in two stages lies elsewhere than what is aggregated in one.
#[test]
fn ids_change_with_where_the_state_lies() {
    let plan = |trusted: bool| {
        let mut catalog = shop::catalog(OUT);
        catalog.tables[0].key_trusted = trusted;
        freshet_sql::plan(&catalog, BY_ACCOUNT, &freshet_sql::PlanOptions::default()).expect("a plan")
    };
    let (one, two) = (plan(true), plan(false));
    assert_eq!((one.stages.len(), two.stages.len()), (1, 2));
    let (one, two) = (ids_of(&one), ids_of(&two));
    assert!(aggregations(&one).iter().all(|id| !two.contains(id)), "{one:?} {two:?}");
}

/// The Topic's other columns, its partitions and its disorder say nothing about the state of a window.
#[test]
fn ids_stay_when_a_topic_gains_a_column() {
    let first = ids(BY_ACCOUNT);
    let mut catalog = shop::catalog(OUT);
    catalog.tables[0].columns.insert(0, shop::columns("extra STRING")[0].clone());
    catalog.tables[0].partitions = 99;
    if let Some(event_time) = &mut catalog.tables[0].event_time {
        event_time.max_out_of_orderness_ms = 1;
        event_time.idle_timeout_ms = None;
    }
    let options = freshet_sql::PlanOptions { max_parallelism: 7, ..freshet_sql::PlanOptions::default() };
    assert_eq!(ids_of(&freshet_sql::plan(&catalog, BY_ACCOUNT, &options).expect("a plan")), first);
}

/// An offset by whole slides is none, and names of arguments are only names.
#[test]
fn ids_of_hops_stay_where_the_state_means_the_same() {
    let of = |window: &str| {
        ids(&format!(
            "INSERT INTO out SELECT account, COUNT(*), SUM(amount) FROM {window} GROUP BY account, window_start, window_end"
        ))
    };
    let first = of("HOP(payments, ts, INTERVAL '5' SECOND, INTERVAL '10' SECOND)");
    for same in [
        "TABLE(HOP(TABLE payments, DESCRIPTOR(ts), INTERVAL '5' SECONDS, INTERVAL '10' SECONDS))",
        "HOP(payments, ts, INTERVAL '5000' MILLISECOND, INTERVAL '10 s', INTERVAL '-15' SECOND)",
        "TABLE(HOP(SIZE => INTERVAL '10' SECOND, SLIDE => INTERVAL '5' SECOND, DATA => TABLE payments, TIMECOL => DESCRIPTOR(ts)))",
    ] {
        assert_eq!(of(same), first, "{same}");
    }
}

const BY_COUNTRY: &str = "INSERT INTO out SELECT merchant.country, COUNT(*), SUM(amount) FROM TUMBLE(payments, ts, INTERVAL '1' MINUTE) GROUP BY merchant.country, window_start, window_end";
const PASS: &str = "INSERT INTO plain SELECT id, n FROM payments WHERE amount > 5";
const OTHERS: &str = "INSERT INTO plain SELECT item, mixed FROM order_items WHERE price > 5";

#[test]
fn ids_stay_when_statements_come_go_and_change_places() {
    let (account, country) = (ids(BY_ACCOUNT), ids(BY_COUNTRY));
    let mut both: Vec<String> = account.iter().chain(&country).cloned().collect();
    both.sort();
    both.dedup();
    for order in [
        [BY_ACCOUNT, BY_COUNTRY, PASS, OTHERS],
        [OTHERS, PASS, BY_COUNTRY, BY_ACCOUNT],
        [PASS, BY_COUNTRY, OTHERS, BY_ACCOUNT],
    ] {
        let all = ids(&order.join(";\n"));
        let missing: Vec<_> = both.iter().filter(|id| !all.contains(id)).collect();
        assert!(missing.is_empty(), "{missing:?} of {both:?} are not in {all:?}");
    }
    assert_eq!(ids(&[BY_COUNTRY, BY_ACCOUNT].join(";")), both);
    assert_eq!(ids(&[BY_ACCOUNT, BY_COUNTRY, PASS].join(";")), both);
}

/// Several statements with the same aggregation have ids of their own, which do not depend on others.
#[test]
fn the_same_aggregation_several_times_has_several_ids() {
    let double = BY_COUNTRY.replace("COUNT(*)", "COUNT(*) * 2");
    let both = ids(&[BY_COUNTRY, &double].join(";"));
    assert_eq!(aggregations(&both).len(), 2, "{both:?}");
    let with_others = ids(&[PASS, BY_COUNTRY, OTHERS, &double, BY_ACCOUNT].join(";"));
    assert!(aggregations(&both).iter().all(|id| with_others.contains(id)), "{both:?} {with_others:?}");
    let thrice = ids(&[BY_COUNTRY, BY_COUNTRY, BY_COUNTRY].join(";"));
    assert_eq!(aggregations(&thrice).len(), 3, "{thrice:?}");
}

/// Ids are names of topics and folders.
#[test]
fn ids_are_short_and_plain() {
    let mut catalog = shop::catalog("a STRING");
    catalog.tables[0].name = "größe_".repeat(30);
    catalog.tables[0].resource_name = "größe-".repeat(30);
    let sql = format!("INSERT INTO out SELECT id FROM `{}`", catalog.tables[0].name);
    let plan = freshet_sql::plan(&catalog, &sql, &freshet_sql::PlanOptions::default()).expect("a plan");
    for id in ids_of(&plan).into_iter().chain(ids(BY_COUNTRY)) {
        let plain = id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        assert!(plain && (1..=40).contains(&id.len()), "{id}");
    }
}
