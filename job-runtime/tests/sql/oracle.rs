//! Queries against what Postgres says about them.

use crate::queries::{DIGESTS, WRITTEN, compare, digest, queries, read, results};

#[test]
fn results_are_those_of_postgres() {
    let golden = read("results.txt");
    let mut failures = String::new();
    for query in queries() {
        let wanted = golden.get(&query.name).unwrap_or_else(|| panic!("no results of `{}` are recorded", query.name));
        compare(&mut failures, &query, wanted, results(&query, WRITTEN.0, WRITTEN.1));
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn results_over_more_rows_have_the_digests_of_postgres() {
    let golden = read("digests.txt");
    let mut failures = String::new();
    for query in queries() {
        let wanted = golden.get(&query.name).unwrap_or_else(|| panic!("no digests of `{}` are recorded", query.name));
        let found = DIGESTS.0.map(|seed| results(&query, seed, DIGESTS.1).map(|rows| digest(&rows))).collect();
        compare(&mut failures, &query, wanted, found);
    }
    assert!(failures.is_empty(), "{failures}");
}
