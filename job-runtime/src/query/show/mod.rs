//! Pure: rows as text, for people and for programs.
//!
//! | format | a row | NULL | a timestamp | nested values |
//! | --- | --- | --- | --- | --- |
//! | table | a line, aligned | `NULL` | `2026-01-31 12:00:00.000` | as JSON |
//! | CSV | a record of RFC 4180, lines end with `\n` | nothing; an empty text is `""` | the same | as JSON |
//! | JSON | the record that a job would write, in a line | `null` | `2026-01-31T12:00:00.000` | as they are |
//!
//! Numbers have all their digits in each of them. A printer appends to a buffer; who writes it, and when, is another
//! room's.

mod cells;
mod csv;
mod table;

use freshet_plan::Column;

pub use cells::NoRow;
use csv::Csv;
use table::Table;

/// How rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns under their names.
    Table,
    /// One JSON object a line.
    Json,
    /// Comma-separated values under their names.
    Csv,
}

/// Turns records into lines.
#[derive(Debug)]
pub struct Printer(Kind);

#[derive(Debug)]
enum Kind {
    Table(Table),
    Json,
    Csv(Csv),
}

impl Printer {
    /// A printer of rows of `columns`.
    #[must_use]
    pub fn new(format: Format, columns: &[Column]) -> Self {
        Self(match format {
            Format::Table => Kind::Table(Table::new(columns)),
            Format::Json => Kind::Json,
            Format::Csv => Kind::Csv(Csv::new(columns)),
        })
    }

    /// Appends a row; a table may hold its first ones back, to see how wide they are.
    ///
    /// # Errors
    /// [`NoRow`]: the record is no row of these columns.
    pub fn row(&mut self, record: &[u8], out: &mut Vec<u8>) -> Result<(), NoRow> {
        match &mut self.0 {
            Kind::Table(table) => table.row(record, out)?,
            Kind::Csv(csv) => csv.row(record, out)?,
            Kind::Json => {
                out.extend_from_slice(record);
                out.push(b'\n');
            }
        }
        Ok(())
    }

    /// Some time has passed (a quarter of a second, or so): rows are not held back for ever.
    pub fn pause(&mut self, out: &mut Vec<u8>) {
        if let Kind::Table(table) = &mut self.0 {
            table.pause(out);
        }
    }

    /// There are no more rows.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        match &mut self.0 {
            Kind::Table(table) => table.end(out),
            Kind::Csv(csv) => csv.end(out),
            Kind::Json => {}
        }
    }
}
