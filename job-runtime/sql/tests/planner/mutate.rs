//! Statements that a mutator made of good ones: the planner never panics, points into the text, and never makes a plan
//! that leaves a clause out.

use freshet_plan::print;
use proptest::prelude::*;

use crate::cases::{Case, read};
use crate::shop;

/// A statement with a table expression that nobody reads: what it leaves out makes no difference.
const UNREAD: &str = "nested WITH hides the outer name only inside";

/// Clauses that mean something wherever they may stand: where one is put into a statement, the statement is refused,
/// or planned otherwise than before. (Inside of a name, a text or a comment they are not put.)
const CLAUSES: [&str; 59] = [
    "ORDER BY 1",
    "LIMIT 5",
    "OFFSET 5 ROWS",
    "FETCH FIRST 3 ROWS ONLY",
    "FOR UPDATE",
    "QUALIFY 1 = 1",
    "TOP 5",
    "DISTINCT ON (1)",
    "TABLESAMPLE (10)",
    "TABLESAMPLE BERNOULLI (10)",
    "WITH ROLLUP",
    "WITH TOTALS",
    "WITH ORDINALITY",
    "WITH (NOLOCK)",
    "HAVING 1 = 2",
    "WHERE 1 = 2",
    "FILTER (WHERE 1 = 2)",
    "OVER ()",
    "OVER (PARTITION BY 1)",
    "OVER w",
    "WITHIN GROUP (ORDER BY 1)",
    "IGNORE NULLS",
    "RESPECT NULLS",
    "RETURNING 1",
    "ON CONFLICT DO NOTHING",
    "ON DUPLICATE KEY UPDATE a = 1",
    "PARTITION (a = 1)",
    "PARTITION (p0)",
    "PARTITION BY nothing",
    "CLUSTER BY 1",
    "DISTRIBUTE BY 1",
    "SORT BY 1",
    "WINDOW w AS (ORDER BY 1)",
    "UNION ALL SELECT 1 FROM plain",
    "EXCEPT SELECT 1 FROM plain",
    "COLLATE \"C\"",
    "AT TIME ZONE 'Europe/Paris'",
    "ESCAPE 'x'",
    "LATERAL VIEW explode(tags) AS tag",
    "USE INDEX (a)",
    "CONNECT BY 1 = 1",
    "(a INT)",
    "JOIN plain ON 1 = 1",
    "CROSS JOIN plain",
    ", plain",
    "FOR SYSTEM_TIME AS OF ts",
    "SETTINGS a = 1",
    "FORMAT JSON",
    "INTO other",
    "PREWHERE 1 = 1",
    "|> LIMIT 5",
    "EXCLUDE (nobody)",
    "EXCEPT (id)",
    "REPLACE (1 AS id)",
    "OR REPLACE",
    "DEFAULT VALUES",
    "/*+ HINT */",
    "GROUP BY ROLLUP (1)",
    "AS OF 5",
];

/// Words and signs that the mutator puts in.
const WORDS: [&str; 52] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "HAVING",
    "AS",
    "AND",
    "OR",
    "NOT",
    "NULL",
    "IS",
    "IN",
    "BETWEEN",
    "LIKE",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST",
    "INTERVAL",
    "TABLE",
    "TUMBLE",
    "HOP",
    "CUMULATE",
    "SESSION",
    "PARTITION",
    "DESCRIPTOR",
    "WITH",
    "INSERT",
    "INTO",
    "DISTINCT",
    "ALL",
    "*",
    ",",
    ".",
    "(",
    ")",
    "=",
    "+",
    "-",
    "/",
    "'x'",
    "1",
    "0.5",
    "payments",
    "id",
    "amount",
    "window_start",
    ";",
    "::",
];

fn accepted() -> Vec<Case> {
    read("accepted.txt")
}

/// Pieces of a text that a mutator moves as one: words, numbers, texts, names in quotes, signs, and what lies between.
fn pieces(sql: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let until = |wanted: &dyn Fn(char) -> bool| rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        let end_of = |close: &str| {
            rest[first.len_utf8()..].find(close).map_or(rest.len(), |at| at + first.len_utf8() + close.len())
        };
        let length = match first {
            '\'' | '"' | '`' => end_of(&first.to_string()),
            '-' if rest.starts_with("--") => end_of("\n"),
            '/' if rest.starts_with("/*") => end_of("*/"),
            c if c.is_alphanumeric() || c == '_' => until(&|c| c.is_alphanumeric() || c == '_'),
            c if c.is_whitespace() => until(&char::is_whitespace),
            c => c.len_utf8(),
        };
        pieces.push(&rest[..length]);
        rest = &rest[length..];
    }
    pieces
}

/// Plans `sql`; what no statement may ever do ends the test.
fn outcome(out: &str, sql: &str) -> Result<String, ()> {
    match shop::plan(out, sql) {
        Ok(plan) => Ok(print::tree(&plan)),
        Err(errors) => {
            assert!(!errors.is_empty(), "refused without a reason: {sql}");
            for error in errors {
                assert!(!error.message.contains("the planner failed"), "{sql}\n{error}");
                assert!(!error.message.contains("the statement can't be planned:"), "{sql}\n{error}");
                assert!(!error.message.trim().is_empty(), "{sql}");
                let (start, end) = (error.span.start.offset, error.span.end.offset);
                assert!(
                    start <= end && end <= sql.len() && sql.is_char_boundary(start) && sql.is_char_boundary(end),
                    "{sql}\n{error}"
                );
            }
            Err(())
        }
    }
}

/// The statement with `clause` before piece `at`.
fn with_clause(pieces: &[&str], at: usize, clause: &str) -> String {
    format!("{} {clause} {}", pieces[..at].concat(), pieces[at..].concat())
}

#[derive(Debug, Clone)]
enum Edit {
    Drop(prop::sample::Index),
    Double(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Put(prop::sample::Index, &'static str),
    Replace(prop::sample::Index, &'static str),
    Character(prop::sample::Index, char),
    Cut(prop::sample::Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    use prop::sample::Index;
    prop_oneof![
        any::<Index>().prop_map(Edit::Drop),
        any::<Index>().prop_map(Edit::Double),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Edit::Swap(a, b)),
        (any::<Index>(), prop::sample::select(&WORDS[..])).prop_map(|(at, word)| Edit::Put(at, word)),
        (any::<Index>(), prop::sample::select(&WORDS[..])).prop_map(|(at, word)| Edit::Replace(at, word)),
        (any::<Index>(), prop_oneof![any::<char>(), Just('\''), Just('"'), Just('('), Just('\\')])
            .prop_map(|(at, c)| Edit::Character(at, c)),
        any::<Index>().prop_map(Edit::Cut),
    ]
}

fn mutated(sql: &str, edits: &[Edit]) -> String {
    let mut parts: Vec<String> = pieces(sql).into_iter().map(str::to_owned).collect();
    for edit in edits {
        if parts.is_empty() {
            break;
        }
        let count = parts.len();
        match edit {
            Edit::Drop(at) => drop(parts.remove(at.index(count))),
            Edit::Double(at) => {
                let at = at.index(count);
                parts.insert(at, parts[at].clone());
            }
            Edit::Swap(a, b) => parts.swap(a.index(count), b.index(count)),
            Edit::Put(at, word) => parts.insert(at.index(count), format!(" {word} ")),
            Edit::Replace(at, word) => (*word).clone_into(&mut parts[at.index(count)]),
            Edit::Character(at, c) => parts.insert(at.index(count), c.to_string()),
            Edit::Cut(at) => parts.truncate(at.index(count)),
        }
    }
    parts.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_the_planner_panic(case in prop::sample::select(accepted()), edits in prop::collection::vec(edit(), 1..6)) {
        let _ = outcome(&case.out, &mutated(&case.sql, &edits));
    }

    #[test]
    fn no_text_makes_the_planner_panic(sql in ".{0,60}") {
        let _ = outcome("a STRING", &sql);
    }
}

/// Every clause at every place of every accepted statement changes what is planned, or is refused. Those are some hundred
/// thousand plans, and more than a minute: of them every seventeenth, and all in `make soak`.
#[test]
fn no_clause_is_left_out() {
    #[allow(clippy::disallowed_methods, reason = "a test has no arguments")]
    let every = if std::env::var_os("FRESHET_SOAK").is_some() { 1 } else { 17 };
    let mut number = 0;
    let mut left_out = Vec::new();
    for case in accepted() {
        let planned = outcome(&case.out, &case.sql).expect("an accepted statement");
        let pieces = pieces(&case.sql);
        let unread = case.title == UNREAD;
        for at in 0..=pieces.len() {
            // What follows the end of the last statement belongs to none.
            if pieces[..at].concat().trim_end().ends_with(';') && pieces[at..].concat().trim().is_empty() {
                continue;
            }
            for clause in CLAUSES {
                let sql = with_clause(&pieces, at, clause);
                number += 1;
                if number % every != 0 {
                    continue;
                }
                if unread && clause == "WHERE 1 = 2" {
                    continue;
                }
                if outcome(&case.out, &sql).is_ok_and(|plan| plan == planned) {
                    left_out.push(format!("`{clause}` in: {sql}"));
                }
            }
        }
    }
    assert!(
        left_out.is_empty(),
        "{} clauses left out, such as\n{}",
        left_out.len(),
        left_out[..left_out.len().min(20)].join("\n")
    );
}

/// Texts that are small and stand for something huge.
#[test]
fn hostile_statements_are_refused_soon() {
    let nested = |open: &str, middle: &str, close: &str, times: usize| {
        format!("INSERT INTO out SELECT {}{middle}{} FROM payments", open.repeat(times), close.repeat(times))
    };
    let doubling = |step: &str| {
        let ctes: Vec<String> =
            (1..60).map(|at| format!("q{at} AS (SELECT {step} AS n, id FROM q{})", at - 1)).collect();
        format!(
            "INSERT INTO out WITH q0 AS (SELECT n, id FROM payments), {} SELECT id FROM q59 WHERE n = 5",
            ctes.join(", ")
        )
    };
    for (title, sql) in [
        ("parentheses", nested("(", "id", ")", 10_000)),
        ("NOT", nested("NOT ", "ok", "", 1_900)),
        ("minus", nested("- ", "n", "", 1_900)),
        ("calls", nested("abs(", "n", ")", 5_000)),
        ("CASE", nested("CASE WHEN ok THEN ", "1", " END", 5_000)),
        ("COALESCE in COALESCE", nested("COALESCE(", "note", ", 'x')", 40)),
        ("COALESCE in the middle", nested("COALESCE(note, ", "id", ", 'x')", 40)),
        ("BETWEEN in BETWEEN", nested("(", "n", " BETWEEN 1 AND 2) IS TRUE", 30)),
        (
            "subqueries",
            format!("INSERT INTO out SELECT id FROM {}payments{}", "(SELECT id FROM ".repeat(2_000), ")".repeat(2_000)),
        ),
        ("sums of themselves", doubling("n + n")),
        ("COALESCE of themselves", doubling("COALESCE(n, n)")),
        ("CASE of themselves", doubling("CASE WHEN n > 1 THEN n ELSE n END")),
        (
            "a long list",
            format!(
                "INSERT INTO out SELECT id FROM payments WHERE n IN ({})",
                (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
            ),
        ),
        (
            "a long chain of OR",
            format!("INSERT INTO out SELECT id FROM payments WHERE {}", vec!["n = 1"; 900].join(" OR ")),
        ),
        (
            "a long chain of +",
            format!("INSERT INTO out SELECT id FROM payments WHERE {} > 1", vec!["big"; 1_500].join(" + ")),
        ),
        ("many columns", format!("INSERT INTO out SELECT {} FROM payments", vec!["id"; 20_000].join(", "))),
        ("many statements", "INSERT INTO out SELECT id FROM payments;".repeat(500)),
        ("brackets", nested("tags[", "1", "]", 3_000)),
        ("open parentheses", "(".repeat(100_000)),
        ("a megabyte of text", format!("INSERT INTO out SELECT '{}' FROM payments", "x".repeat(1 << 20))),
    ] {
        let began = cpu();
        let _ = outcome("a STRING", &sql);
        let took = cpu() - began;
        println!("{title}: {took:.2} s");
        assert!(took < 3.0, "{title} took {took} s");
    }
}

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a stat line").1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("ticks")).sum::<f64>() / 100.0
}
