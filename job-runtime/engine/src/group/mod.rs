//! Grouping: rows with equal keys get one dense number.
//!
//! A key is encoded to bytes ([`key`]) and looked up in a hash table that gives ids 0, 1, 2, …
//! ([`table`]), which index the columnar accumulators. Nothing is allocated for a row: key bytes lie
//! back to back in one buffer a table, and a table lives as long as its window, so that firing a
//! window frees all of it at once and leaves no holes.

pub mod key;
pub mod table;
