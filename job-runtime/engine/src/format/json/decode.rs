//! A batch of records, decoded.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use freshet_log::Fetched;
use freshet_plan::Column;

use super::super::{BadReason, BadRecord, Decoded, Decoder, MAX_DETAIL_BYTES};
use super::cursor::{Breach, Cursor, Fault};
use super::object::ObjectBuilder;
use crate::types::arrow_schema;

/// Decodes JSON objects. Keeps its memory, and the order of the fields that it saw last, between batches.
pub(in super::super) struct JsonDecoder {
    schema: SchemaRef,
    record: ObjectBuilder,
}

impl JsonDecoder {
    pub(in super::super) fn new(columns: &[Column]) -> Self {
        let fields = columns.iter().map(|column| (column.name.as_str(), &column.data_type, column.required));
        Self { schema: arrow_schema(columns), record: ObjectBuilder::new(fields) }
    }

    /// Appends a record's row.
    fn take(&mut self, value: &[u8]) -> Result<(), Fault> {
        let mut cursor = Cursor::new(value);
        cursor.skip_space();
        match cursor.peek() {
            Some(b'{') => {
                let taken = self.record.take(&mut cursor);
                // What the object lacks is told of JSON only: a text that goes on behind it is none.
                if !matches!(taken, Err(Fault::Record(..))) {
                    at_end(&mut cursor)?;
                }
                taken
            }
            Some(_) => {
                cursor.skip_value()?;
                at_end(&mut cursor)?;
                Err(Fault::Record(BadReason::NotAnObject, "it is JSON, but no object"))
            }
            None => Err(Fault::Record(BadReason::NotJson, "it is empty")),
        }
    }

    /// Appends a record's row, or leaves everything as it was.
    fn record(&mut self, value: Option<&[u8]>, known_utf8: bool) -> Result<(), (BadReason, String)> {
        let Some(value) = value else {
            return Err((BadReason::Tombstone, "the record has no value".to_owned()));
        };
        if !known_utf8 {
            std::str::from_utf8(value).map_err(not_utf8)?;
        }
        let rows = self.record.rows();
        self.take(value).map_err(|fault| {
            self.record.truncate(rows);
            match (fault, std::str::from_utf8(value)) {
                (_, Err(error)) => not_utf8(error),
                (Fault::Record(reason, message), _) => (reason, message.to_owned()),
                (Fault::Contract(breach), _) => (breach.reason, describe(&breach)),
            }
        })
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, batch: &Fetched) -> Decoded {
        // Texts are addressed with 31 bits, and what is unescaped is never longer than what was escaped.
        assert!(batch.bytes.len() <= i32::MAX as usize, "a batch of records is bounded far below 2 GiB");
        // One check for all: a value that begins and ends with a bracket begins and ends between characters.
        // Where it fails, because a key is binary or a record is bad, each value is checked by itself.
        let known_utf8 = std::str::from_utf8(&batch.bytes).is_ok();
        let mut bad: Vec<BadRecord> = Vec::new();
        let mut good: Option<Vec<u32>> = None;
        for (index, record) in batch.records.iter().enumerate() {
            match self.record(batch.value(record), known_utf8) {
                Ok(()) => {
                    if let Some(good) = &mut good {
                        good.push(index as u32);
                    }
                }
                Err((reason, detail)) => {
                    good.get_or_insert_with(|| (0..index as u32).collect());
                    bad.push(BadRecord { index, reason, detail });
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.record.rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), self.record.finish(), &options)
            .expect("columns are built by the schema's types and are equally long");
        Decoded { rows, good, bad }
    }
}

fn at_end(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    cursor.skip_space();
    match cursor.peek() {
        None => Ok(()),
        Some(_) => Err(Fault::Record(BadReason::NotJson, "something follows the value")),
    }
}

#[cold]
fn not_utf8(error: std::str::Utf8Error) -> (BadReason, String) {
    (BadReason::InvalidUtf8, format!("byte {} is not UTF-8", error.valid_up_to()))
}

/// Path and message, cut to [`MAX_DETAIL_BYTES`] in the path: the message says what is wrong.
#[cold]
fn describe(breach: &Breach) -> String {
    let room = MAX_DETAIL_BYTES.saturating_sub(breach.message.len() + "…: ".len());
    let path = if breach.path.len() <= room {
        breach.path.clone()
    } else {
        format!("{}…", &breach.path[..breach.path.floor_char_boundary(room)])
    };
    let mut detail = format!("{path}: {}", breach.message);
    detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
    detail
}
