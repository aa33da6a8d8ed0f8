//! A table for people: names, a line, and rows under them.
//!
//! A stream has no end to wait for, so the columns' widths come from the first rows: as many as come within a moment,
//! or enough to tell. What is wider later pushes the rest of its own line to the right; nothing is cut off.

use std::borrow::Cow;

use freshet_plan::{Column, DataType};
use ratatui::text::Span;

use super::cells::{NoRow, cells};

/// From so many rows on the widths are known well enough.
const ENOUGH_ROWS: usize = 64;
/// One long text does not push all others out of sight: columns are padded to this width at the most.
const WIDEST: usize = 60;

/// Rows under their names.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The first rows, which say how wide columns are; and whether some of them were there at the last pause.
    Measuring { rows: Vec<Vec<String>>, waited: bool },
    /// The widths, which no longer change.
    Printing { widths: Vec<usize> },
}

impl Table {
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), state: State::Measuring { rows: Vec::new(), waited: false } }
    }

    pub fn row(&mut self, record: &[u8], out: &mut Vec<u8>) -> Result<(), NoRow> {
        let cells = cells(record, &self.columns)?;
        let row: Vec<String> = cells.into_iter().map(|cell| printable(cell.unwrap_or(Cow::Borrowed("NULL")))).collect();
        match &mut self.state {
            State::Printing { widths } => line(&row, widths, &self.columns, out),
            State::Measuring { rows, .. } => {
                rows.push(row);
                if rows.len() >= ENOUGH_ROWS {
                    self.begin(out);
                }
            }
        }
        Ok(())
    }

    /// Rows that were there at the last pause have waited long enough.
    pub fn pause(&mut self, out: &mut Vec<u8>) {
        if let State::Measuring { rows, waited } = &mut self.state
            && !rows.is_empty()
            && std::mem::replace(waited, true)
        {
            self.begin(out);
        }
    }

    /// Prints what is held back; without any rows, the names alone.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        let State::Measuring { rows, .. } = &mut self.state else { return };
        let rows = std::mem::take(rows);
        let names: Vec<String> =
            self.columns.iter().map(|column| printable(Cow::Borrowed(column.name.as_str()))).collect();
        let widest = |at: usize| rows.iter().chain([&names]).map(|row| width(&row[at]).min(WIDEST)).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(widest).collect();
        line(&names, &widths, &self.columns, out);
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        out.extend_from_slice(rule.join("-+-").as_bytes());
        out.push(b'\n');
        rows.iter().for_each(|row| line(row, &widths, &self.columns, out));
        self.state = State::Printing { widths };
    }
}

/// One line: numbers to the right, all else to the left, and no spaces at its end.
fn line(row: &[String], widths: &[usize], columns: &[Column], out: &mut Vec<u8>) {
    let start = out.len();
    for (at, ((cell, wanted), column)) in row.iter().zip(widths).zip(columns).enumerate() {
        if at > 0 {
            out.extend_from_slice(b" | ");
        }
        let padding = wanted.saturating_sub(width(cell));
        let pad = |out: &mut Vec<u8>| out.resize(out.len() + padding, b' ');
        if is_number(&column.data_type) {
            pad(out);
            out.extend_from_slice(cell.as_bytes());
        } else {
            out.extend_from_slice(cell.as_bytes());
            pad(out);
        }
    }
    while out.len() > start && out.last() == Some(&b' ') {
        out.pop();
    }
    out.push(b'\n');
}

const fn is_number(data_type: &DataType) -> bool {
    use DataType::{BigInt, Decimal, Double, Float, Int, SmallInt, TinyInt};
    matches!(data_type, TinyInt | SmallInt | Int | BigInt | Float | Double | Decimal(..))
}

/// How many columns of a terminal a text takes.
fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// A text on one line, which says nothing to the terminal: data is not trusted with it.
fn printable(text: Cow<'_, str>) -> String {
    if !text.contains(char::is_control) {
        return text.into_owned();
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(&[
            Column::new("who", DataType::String),
            Column::new("total", DataType::Decimal(12, 2)),
            Column::new("at", DataType::Timestamp(3)),
        ])
    }

    fn record(who: &str, total: &str) -> Vec<u8> {
        format!(r#"{{"who":{who},"total":{total},"at":"2026-01-31T12:00:00.000"}}"#).into_bytes()
    }

    fn text(out: &[u8]) -> &str {
        std::str::from_utf8(out).expect("text")
    }

    #[test]
    fn columns_are_aligned_by_the_first_rows() {
        let (mut table, mut out) = (table(), Vec::new());
        table.row(&record("\"ada\"", "1.50"), &mut out).expect("a row");
        table.row(&record("null", "-1234.00"), &mut out).expect("a row");
        assert_eq!(text(&out), "", "widths are not known yet");
        table.end(&mut out);
        let wanted = "\
who  |    total | at
-----+----------+------------------------
ada  |     1.50 | 2026-01-31 12:00:00.000
NULL | -1234.00 | 2026-01-31 12:00:00.000
";
        assert_eq!(text(&out), wanted);
    }

    #[test]
    fn rows_wait_for_a_moment_and_not_longer() {
        let (mut table, mut out) = (table(), Vec::new());
        table.pause(&mut out);
        table.row(&record("\"a\"", "1.00"), &mut out).expect("a row");
        table.pause(&mut out);
        assert_eq!(text(&out), "");
        table.pause(&mut out);
        assert_eq!(text(&out).lines().count(), 3);
        // Wider than all before: nothing is cut off.
        table.row(&record("\"somebody else\"", "1.00"), &mut out).expect("a row");
        assert_eq!(text(&out).lines().last(), Some("somebody else |  1.00 | 2026-01-31 12:00:00.000"));
        let many = |table: &mut Table, out: &mut Vec<u8>| {
            (0..ENOUGH_ROWS).for_each(|_| table.row(&record("\"a\"", "1.00"), out).expect("a row"));
        };
        let (mut other, mut at_once) = (self::table(), Vec::new());
        many(&mut other, &mut at_once);
        assert_eq!(text(&at_once).lines().count(), ENOUGH_ROWS + 2);
    }

    #[test]
    fn wide_characters_take_two_columns_and_one_long_text_does_not_spread_the_rest() {
        let (mut table, mut out) = (table(), Vec::new());
        table.row(&record("\"日本\"", "1.00"), &mut out).expect("a row");
        table.row(&record(&format!("\"{}\"", "x".repeat(100)), "1.00"), &mut out).expect("a row");
        table.end(&mut out);
        let lines: Vec<&str> = text(&out).lines().collect();
        assert!(lines[2].starts_with(&format!("日本{} |  1.00", " ".repeat(WIDEST - 4))), "{}", lines[2]);
        assert!(lines[3].starts_with(&format!("{} |  1.00", "x".repeat(100))), "{}", lines[3]);
    }

    #[test]
    fn a_terminal_is_not_obeyed() {
        let (mut table, mut out) = (table(), Vec::new());
        table.row(&record(r#""a\nb\u001b[31m\u009b""#, "1.00"), &mut out).expect("a row");
        table.end(&mut out);
        assert!(text(&out).contains(r"a\nb\u{1b}[31m\u{9b}"), "{}", text(&out));
    }

    #[test]
    fn without_rows_there_are_the_names() {
        let (mut table, mut out) = (table(), Vec::new());
        table.pause(&mut out);
        table.end(&mut out);
        assert_eq!(text(&out), "who | total | at\n----+-------+---\n");
    }
}
