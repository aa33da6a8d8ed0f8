//! JSON: one object a record.
//!
//! Decoding is one pass over each record's bytes, directed by the columns ([`mod@column`]): no tree, no tape
//! and no allocation a record. Every append to a column can be taken back ([`column::ColumnBuilder::truncate`]),
//! so a record that turns out bad half-way leaves no trace, and a field that is there twice simply takes its
//! first value back. There is therefore no second, slower path that would have to agree with the first.
//!
//! ```text
//! cursor.rs   bytes ─▶ tokens: white space, texts, numbers, skipping what nobody wants; the grammar
//! number.rs   a number's token ─▶ its exact value as an integer, decimal or float
//! column.rs   tokens ─▶ Arrow columns; the contract of each type
//! object.rs   members ─▶ the columns that they belong to; the contract of the fields
//! decode.rs   a batch of records ─▶ rows and bad records
//! encode.rs   rows ─▶ bytes
//! ```
//!
//! # What is written
//! Columns in order, null as `null`, nothing left out. Decimals as numbers with all of their digits
//! (`12.50`), integers exactly, floats with the fewest digits that read back as the same value. JSON has no
//! NaN and no infinities: they are written as `null`. Timestamps as ISO 8601 with the digits of their type,
//! instants with `Z`; bytes as base64 with padding.

mod column;
mod cursor;
mod decode;
mod encode;
mod number;
mod object;
#[cfg(test)]
mod tests;

pub(super) use decode::JsonDecoder;
pub(super) use encode::{JsonEncoder, Writer};
