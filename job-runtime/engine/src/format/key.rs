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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::decoder;
    use freshet_log::{Fetched, TopicPartition};
    use freshet_plan::{Column, Format};

    fn keys(key: &[usize]) -> Vec<Option<String>> {
        let columns = ["STRING", "BIGINT", "DECIMAL(9,2)", "TIMESTAMP(3)", "BYTES", "BOOLEAN", "ARRAY<STRING>"];
        let columns: Vec<_> =
            ('a'..).zip(columns).map(|(name, text)| Column::new(name, text.parse().expect("a type"))).collect();
        let mut batch = Fetched::empty(TopicPartition::new("t", 0), 0);
        let value = br#"{"a":"k\"\u00e9","b":-42,"c":1.5,"d":0,"e":"AGE=","f":true,"g":["x",null]}"#;
        batch.push(0, -1, None, Some(value));
        batch.push(1, -1, None, Some(b"{}"));
        let rows = decoder(Format::Json, &columns).decode(&batch).rows;
        let (mut bytes, mut keys) = (b"before".to_vec(), Vec::new());
        KeyEncoder::new(key.to_vec()).encode(&rows, &mut bytes, &mut keys).expect("columns that are there");
        let text = |range: SpanRange| String::from_utf8(bytes[range.start as usize..range.end as usize].to_vec());
        keys.into_iter().map(|key| key.map(|range| text(range).expect("UTF-8"))).collect()
    }

    #[test]
    fn keys_are_what_plain_serialisers_give() {
        for (key, wanted) in [
            (vec![], None),
            (vec![0], Some("k\"é")),
            (vec![1], Some("-42")),
            (vec![2], Some("1.50")),
            (vec![3], Some("1970-01-01T00:00:00.000")),
            (vec![4], Some("\0a")),
            (vec![5], Some("true")),
            (vec![6], Some(r#"["x",null]"#)),
            (vec![1, 0, 4], Some(r#"[-42,"k\"é","AGE="]"#)),
        ] {
            let nulls = (key.len() > 1).then(|| "[null,null,null]".to_owned());
            assert_eq!(keys(&key), [wanted.map(str::to_owned), nulls], "{key:?}");
        }
    }

    #[test]
    fn a_key_column_that_is_not_there_is_refused() {
        let rows = decoder(Format::Json, &[]).decode(&Fetched::empty(TopicPartition::new("t", 0), 0)).rows;
        let outcome = KeyEncoder::new(vec![0]).encode(&rows, &mut Vec::new(), &mut Vec::new());
        assert!(matches!(outcome, Err(EngineError::Plan(_))));
    }
}
