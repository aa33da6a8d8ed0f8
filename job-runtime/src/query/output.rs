//! Where rows go: printed to whatever takes bytes.

use std::io::{ErrorKind, Write};

use super::show::Printer;

/// Takes the rows of a query, in order.
pub trait Output {
    /// A row, as the record that a job would write.
    ///
    /// # Errors
    /// It can't be written.
    fn row(&mut self, record: &[u8]) -> std::io::Result<()>;

    /// All rows that there are for now have come.
    ///
    /// # Errors
    /// They can't be written.
    fn settle(&mut self) -> std::io::Result<()>;

    /// Some time has passed since the last pause.
    ///
    /// # Errors
    /// Rows that were held back can't be written.
    fn pause(&mut self) -> std::io::Result<()>;

    /// No more rows will come.
    ///
    /// # Errors
    /// Rows that were held back can't be written.
    fn end(&mut self) -> std::io::Result<()>;
}

/// From so many bytes on rows are written although more are about to come.
const FULL_BYTES: usize = 64 << 10;

/// Prints rows to `W`.
#[derive(Debug)]
pub struct Terminal<W> {
    printer: Printer,
    buffer: Vec<u8>,
    to: W,
}

impl<W: Write> Terminal<W> {
    /// Prints with `printer` to `to`.
    pub const fn new(printer: Printer, to: W) -> Self {
        Self { printer, buffer: Vec::new(), to }
    }
}

impl<W: Write> Output for Terminal<W> {
    fn row(&mut self, record: &[u8]) -> std::io::Result<()> {
        self.printer
            .row(record, &mut self.buffer)
            .map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))?;
        if self.buffer.len() >= FULL_BYTES { self.settle() } else { Ok(()) }
    }

    fn settle(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.to.write_all(&self.buffer).and_then(|()| self.to.flush());
        self.buffer.clear();
        written
    }

    fn pause(&mut self) -> std::io::Result<()> {
        self.printer.pause(&mut self.buffer);
        self.settle()
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.printer.end(&mut self.buffer);
        self.settle()
    }
}
