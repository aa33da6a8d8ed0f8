//! Record keys.
//!
//! Murmur2 places a record by the bytes of its key, and topics are co-partitioned only where every writer
//! writes the same bytes for the same value. So keys are what Java's plain serialisers would give:
//!
//! | key columns | bytes |
//! | --- | --- |
//! | one STRING | its UTF-8, as `StringSerializer` writes it |
//! | one BYTES | the bytes themselves |
//! | one other scalar | its text, as in JSON without quotes: `42`, `12.50`, `true`, `2026-01-02T03:04:05.678` |
//! | one ARRAY or STRUCT | its JSON |
//! | several | a JSON array of the values: `["a",42,null]` |
//! | one, and it is null | no key |

use arrow::array::RecordBatch;
use freshet_log::SpanRange;

use super::json::Writer;
use crate::EngineError;

/// Writes the record keys of rows.
#[derive(Debug, Clone)]
pub struct KeyEncoder {
    columns: Vec<usize>,
}

impl KeyEncoder {
    /// Keys made of the columns at these positions; none for records without keys.
    #[must_use]
    pub fn new(columns: Vec<usize>) -> Self {
        Self { columns }
    }

    /// Appends the key of every row to `bytes`, and where it stands in `bytes` to `keys`: `None` for a
    /// record without a key.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when the rows lack a key column, or one is of a type that can't be encoded.
    pub fn encode(
        &self,
        rows: &RecordBatch,
        bytes: &mut Vec<u8>,
        keys: &mut Vec<Option<SpanRange>>,
    ) -> Result<(), EngineError> {
        let column = |position: &usize| {
            let column = rows.columns().get(*position);
            let missing =
                || EngineError::Plan(format!("the key's column {position} is not among {}", rows.num_columns()));
            Writer::new(column.ok_or_else(missing)?)
        };
        let writers = self.columns.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        keys.reserve(rows.num_rows());
        for row in 0..rows.num_rows() {
            let start = bytes.len() as u32;
            let written = match writers.as_slice() {
                [] => false,
                [writer] => write_one(writer, row, bytes),
                several => {
                    for (at, writer) in several.iter().enumerate() {
                        bytes.push(if at == 0 { b'[' } else { b',' });
                        writer.write(row, bytes);
                    }
                    bytes.push(b']');
                    true
                }
            };
            keys.push(written.then_some(SpanRange { start, end: bytes.len() as u32 }));
        }
        Ok(())
    }
}

fn write_one(writer: &Writer<'_>, row: usize, bytes: &mut Vec<u8>) -> bool {
    if writer.is_null(row) {
        return false;
    }
    match writer.bytes(row) {
        Some(key) => bytes.extend_from_slice(key),
        None => writer.write_plain(row, bytes),
    }
    true
}
