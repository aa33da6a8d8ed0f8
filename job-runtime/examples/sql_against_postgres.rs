//! Compares SQL's results with those of a running Postgres, over rows of many seeds, and records what the tests compare
//! with. `job-runtime/tests/sql/postgres` starts the Postgres and calls this.
#![allow(missing_docs, clippy::unwrap_used, reason = "it ends at the first surprise")]

#[path = "../tests/sql/events.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod events;
#[path = "../tests/sql/queries.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod queries;
#[path = "../tests/sql/run.rs"]
mod run;
#[path = "../tests/sql/spelling.rs"]
mod spelling;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use self::events::Event;
use self::queries::{DIGESTS, GOLDEN, Query, WRITTEN, compare, digest, queries, results};

/// Asks Postgres, over the socket in the folder that is the first argument, about so many seeds (the second); with
/// `record` as the third it writes what the tests compare with first.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, seeds, record) = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [folder, seeds] => (*folder, seeds.parse::<u64>(), false),
        [folder, seeds, "record"] => (*folder, seeds.parse(), true),
        _ => ("", "".parse(), false),
    };
    let Ok(seeds) = seeds else {
        eprintln!("usage: sql_against_postgres SOCKET_FOLDER SEEDS [record]");
        return ExitCode::from(2);
    };
    let queries = queries();
    if record {
        write_down(folder, &queries);
    }
    for seed in 1_000..1_000 + seeds {
        let mut failures = String::new();
        for (query, wanted) in queries.iter().zip(ask_postgres(folder, &queries, seed, 90)) {
            compare(&mut failures, query, &wanted, results(query, seed, 90));
        }
        if !failures.is_empty() {
            eprintln!("seed {seed}\n{failures}");
            return ExitCode::FAILURE;
        }
    }
    println!("{} queries over {seeds} seeds: all as Postgres has them", queries.len());
    ExitCode::SUCCESS
}

/// Records golden/.
fn write_down(folder: &str, queries: &[Query]) {
    let results = ask_postgres(folder, queries, WRITTEN.0, WRITTEN.1);
    let mut text = String::new();
    for (query, rows) in queries.iter().zip(results) {
        let _ = write!(text, "=== {}\n{}", query.name, rows.iter().map(|row| format!("{row}\n")).collect::<String>());
    }
    std::fs::write(format!("{GOLDEN}/results.txt"), text).expect("golden/results.txt can be written");
    let all: Vec<_> = DIGESTS.0.map(|seed| ask_postgres(folder, queries, seed, DIGESTS.1)).collect();
    let mut text = String::new();
    for (at, query) in queries.iter().enumerate() {
        let _ = write!(
            text,
            "=== {}\n{}",
            query.name,
            all.iter().map(|rows| format!("{}\n", digest(&rows[at]))).collect::<String>()
        );
    }
    std::fs::write(format!("{GOLDEN}/digests.txt"), text).expect("golden/digests.txt can be written");
}

/// What Postgres gives for every query over the rows of a seed.
fn ask_postgres(folder: &str, queries: &[Query], seed: u64, rows: i64) -> Vec<Vec<String>> {
    let mut script = format!("SET timezone = 'UTC';\n{}\nINSERT INTO events VALUES\n", events::POSTGRES_TABLE);
    let values: Vec<String> = events::events(seed, rows).iter().map(Event::sql).collect();
    let _ = writeln!(script, "{};", values.join(",\n"));
    for query in queries {
        let _ = writeln!(script, "\\echo ===\n{}", query.postgres());
    }
    let mut psql = Command::new("psql")
        .args(["-h", folder, "-U", "postgres", "-d", "postgres", "-qAtX", "-v", "ON_ERROR_STOP=1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("psql starts");
    let mut stdin = psql.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
    let output = psql.wait_with_output().expect("psql ends");
    writer.join().expect("no panic").expect("psql reads");
    assert!(output.status.success(), "psql failed: see above");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let blocks = text.split("===\n").skip(1).zip(queries).map(|(block, query)| {
        let mut rows: Vec<String> = block.lines().map(|json| query.canonical(json)).collect();
        rows.sort();
        rows
    });
    blocks.collect()
}
