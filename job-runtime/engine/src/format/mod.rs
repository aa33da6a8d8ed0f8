//! Formats: from the bytes of records to rows, and back.
//!
//! A [`Decoder`] turns a batch of records into one [`RecordBatch`] and judges every record by the
//! contract of its topic: the declared columns. A record that breaks it never becomes a row, and never
//! stops the others: it comes out beside them with a [`BadReason`]. What happens to it then (fail, skip,
//! dead letter) is the task's decision.
//!
//! # The contract
//! * A record is taken as it is or refused. No value is converted to fit: a text is never a number, a
//!   number never a text, and no digit of a number is dropped.
//! * A number is judged by its value, not by its spelling: `1`, `1.0` and `1e0` are all an INT, `1.5` is
//!   none; `12.50` is a DECIMAL(3,1), `12.55` is none. FLOAT and DOUBLE take the nearest value they have.
//! * A timestamp's digits beyond the declared precision are cut off (towards the past), as in a cast: the
//!   precision says how finely time is kept.
//! * Fields that are not declared are ignored. A field that is there twice counts once: the last one.
//!
//! Encoding is the inverse: what [`Encoder`] writes, the decoder of the same columns reads back equal.

mod json;
mod key;
mod time;

use arrow::array::RecordBatch;
use freshet_log::Fetched;
use freshet_plan::{Column, Format};

use crate::EngineError;

pub use key::KeyEncoder;

/// Why a record is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BadReason {
    /// It has no value at all. In a topic that is not a changelog nothing can be read from that.
    Tombstone,
    /// Its value is not valid UTF-8, or a text in it holds half of a surrogate pair.
    InvalidUtf8,
    /// Its value is not JSON: empty, cut off, with something after its end, or plainly something else.
    NotJson,
    /// Its value is JSON, but not an object.
    NotAnObject,
    /// It is nested deeper than a decoder follows.
    TooDeep,
    /// A required column is not in it.
    MissingColumn,
    /// A required column is null.
    NullColumn,
    /// A value is of another kind than its column's type, or written in a way that the type does not have.
    WrongType,
    /// A number, date or time that its column's type can't hold.
    OutOfRange,
}

impl BadReason {
    /// All reasons, for metrics that should exist before they count.
    pub const ALL: [Self; 9] = [
        Self::Tombstone,
        Self::InvalidUtf8,
        Self::NotJson,
        Self::NotAnObject,
        Self::TooDeep,
        Self::MissingColumn,
        Self::NullColumn,
        Self::WrongType,
        Self::OutOfRange,
    ];

    /// The constant that metrics, headers and messages carry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tombstone => "Tombstone",
            Self::InvalidUtf8 => "InvalidUtf8",
            Self::NotJson => "NotJson",
            Self::NotAnObject => "NotAnObject",
            Self::TooDeep => "TooDeep",
            Self::MissingColumn => "MissingColumn",
            Self::NullColumn => "NullColumn",
            Self::WrongType => "WrongType",
            Self::OutOfRange => "OutOfRange",
        }
    }
}

/// A record that is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// Its position in [`Fetched::records`].
    pub index: usize,
    /// Why.
    pub reason: BadReason,
    /// Which field, what was wanted and what was found, in at most [`MAX_DETAIL_BYTES`] bytes. Never a
    /// value: details go to logs, where the data itself may not.
    pub detail: String,
}

/// The longest [`BadRecord::detail`].
pub const MAX_DETAIL_BYTES: usize = 200;

/// What became of a batch of records.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The good records' rows, in order; by the schema [`crate::types::arrow_schema`] gives the columns.
    pub rows: RecordBatch,
    /// For each row, its record's position in [`Fetched::records`]; `None` when every record is a row.
    pub good: Option<Vec<u32>>,
    /// The others, in order.
    pub bad: Vec<BadRecord>,
}

/// Turns records into rows.
pub trait Decoder {
    /// Decodes a batch. A record's outcome depends on its value alone, never on the records around it.
    fn decode(&mut self, batch: &Fetched) -> Decoded;
}

/// Turns rows into records' values.
pub trait Encoder {
    /// Appends the value of every row to `bytes`, and the position in `bytes` where it ends to `ends`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when the rows are not of the encoder's columns.
    fn encode(&mut self, rows: &RecordBatch, bytes: &mut Vec<u8>, ends: &mut Vec<u32>) -> Result<(), EngineError>;
}

/// A decoder of records of `format` into rows of `columns`.
#[must_use]
pub fn decoder(format: Format, columns: &[Column]) -> Box<dyn Decoder> {
    match format {
        Format::Json => Box::new(json::JsonDecoder::new(columns)),
    }
}

/// An encoder of rows of `columns` as records of `format`.
#[must_use]
pub fn encoder(format: Format, columns: &[Column]) -> Box<dyn Encoder> {
    match format {
        Format::Json => Box::new(json::JsonEncoder::new(columns)),
    }
}
