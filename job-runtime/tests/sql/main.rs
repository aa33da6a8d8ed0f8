//! SQL from its text to its results, planner and engine together, without a broker.
//!
//! `queries.txt` holds queries over one table, `golden/` what Postgres gives for them over rows that a seed makes. Every
//! query runs in one stage and in two, with batches of any size, out of order within the allowed disorder, and with
//! crashes between any two epochs, and must give those rows. `functions.txt` does the same for each scalar function.
//!
//! `job-runtime/tests/sql/postgres` records the results anew, and compares over other seeds; it needs Postgres.

mod bids;
#[allow(dead_code, reason = "examples/sql_against_postgres.rs uses the rest")]
mod events;
mod functions;
mod limits;
mod oracle;
#[allow(dead_code, reason = "examples/sql_against_postgres.rs uses the rest")]
mod queries;
mod run;
mod sessions;
mod spelling;
mod windows;
