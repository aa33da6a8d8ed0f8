//! Rows of state: the encoding in which operators hand over what changed.
//!
//! A row is `operator tag (varint) · key (varint length, bytes) · value (varint length + 1, bytes; 0 is a
//! tombstone)`. Tags index the buffer's own table of operator ids, so a row does not repeat an id of
//! 16 characters.

/// Rows that an epoch changed, of one task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowBuffer {
    operators: Vec<String>,
    bytes: Vec<u8>,
    rows: u64,
}

/// An operator's place in a [`RowBuffer`]'s table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatorTag(u32);

/// A row that was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The operator's id.
    pub operator: &'a str,
    /// The key, as the operator encoded it.
    pub key: &'a [u8],
    /// The value; `None` deletes the key.
    pub value: Option<&'a [u8]>,
}

/// A row's bytes are cut short or point outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {row} at byte {at} is damaged: {what}")]
pub struct DamagedRow {
    /// Which row, from 0.
    pub row: u64,
    /// Where it begins.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl RowBuffer {
    /// The rows in `bytes`, with their table of operators.
    #[must_use]
    pub const fn from_parts(operators: Vec<String>, bytes: Vec<u8>, rows: u64) -> Self {
        Self { operators, bytes, rows }
    }

    /// The tag of `operator` in this buffer.
    pub fn operator(&mut self, operator: &str) -> OperatorTag {
        let at = self.operators.iter().position(|known| known == operator).unwrap_or_else(|| {
            self.operators.push(operator.to_owned());
            self.operators.len() - 1
        });
        OperatorTag(at as u32)
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, operator: OperatorTag, key: &[u8], value: &[u8]) {
        self.begin(operator, key);
        put_varint(&mut self.bytes, value.len() as u64 + 1);
        self.bytes.extend_from_slice(value);
    }

    /// Deletes `key`.
    pub fn delete(&mut self, operator: OperatorTag, key: &[u8]) {
        self.begin(operator, key);
        put_varint(&mut self.bytes, 0);
    }

    fn begin(&mut self, operator: OperatorTag, key: &[u8]) {
        self.rows += 1;
        put_varint(&mut self.bytes, u64::from(operator.0));
        put_varint(&mut self.bytes, key.len() as u64);
        self.bytes.extend_from_slice(key);
    }

    /// How many rows there are.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The encoded rows.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The table of operators.
    #[must_use]
    pub fn operators(&self) -> &[String] {
        &self.operators
    }

    /// The rows, in the order in which they were put.
    pub fn iter(&self) -> impl Iterator<Item = Result<Row<'_>, DamagedRow>> {
        rows(&self.operators, &self.bytes)
    }
}

/// The rows that are encoded in `bytes`, whose tags index `operators`. Nothing comes after a damaged row.
pub fn rows<'a>(operators: &'a [String], bytes: &'a [u8]) -> Rows<'a> {
    Rows { operators, bytes, at: 0, row: 0 }
}

/// An iterator over encoded rows.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    operators: &'a [String],
    bytes: &'a [u8],
    at: usize,
    row: u64,
}

impl<'a> Rows<'a> {
    fn read(&mut self) -> Result<Row<'a>, &'static str> {
        let bytes = self.bytes;
        let tag = take_varint(bytes, &mut self.at).ok_or("its operator is cut short")?;
        let known = usize::try_from(tag).ok().and_then(|tag| self.operators.get(tag));
        let operator = known.ok_or("its operator is unknown")?;
        let key_len = take_varint(bytes, &mut self.at).ok_or("its key's length is cut short")?;
        let key = take_bytes(bytes, &mut self.at, key_len).ok_or("its key is cut short")?;
        let value_len = take_varint(bytes, &mut self.at).ok_or("its value's length is cut short")?;
        let value = match value_len.checked_sub(1) {
            None => None,
            Some(len) => Some(take_bytes(bytes, &mut self.at, len).ok_or("its value is cut short")?),
        };
        Ok(Row { operator, key, value })
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<Row<'a>, DamagedRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let begun = self.at;
        let result = self.read().map_err(|what| DamagedRow { row: self.row, at: begun, what });
        self.row += 1;
        if result.is_err() {
            self.at = self.bytes.len();
        }
        Some(result)
    }
}

/// Appends a LEB128 number.
pub fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value as u8) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Reads a LEB128 number at `at` and moves past it; `None` when it is cut short or too long.
pub fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Reads `len` bytes at `at` and moves past them; `None` when there are fewer.
pub fn take_bytes<'a>(bytes: &'a [u8], at: &mut usize, len: u64) -> Option<&'a [u8]> {
    let end = at.checked_add(usize::try_from(len).ok()?)?;
    let taken = bytes.get(*at..end)?;
    *at = end;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_put() {
        let mut buffer = RowBuffer::default();
        let (a, b) = (buffer.operator("agg-1"), buffer.operator("source"));
        buffer.put(a, b"key", b"value");
        buffer.delete(b, &[7; 300]);
        buffer.put(a, b"", b"");
        let rows: Vec<_> = buffer.iter().map(|row| row.expect("whole")).collect();
        assert_eq!(rows[0], Row { operator: "agg-1", key: b"key", value: Some(b"value") });
        assert_eq!(rows[1], Row { operator: "source", key: &[7; 300], value: None });
        assert_eq!(rows[2], Row { operator: "agg-1", key: b"", value: Some(b"") });
        assert_eq!(buffer.operator("agg-1"), a);
    }

    #[test]
    fn a_cut_at_any_byte_is_an_error_or_fewer_rows() {
        let mut buffer = RowBuffer::default();
        let tag = buffer.operator("x");
        buffer.put(tag, b"key", b"value");
        for cut in 1..buffer.bytes().len() {
            let short = RowBuffer::from_parts(vec!["x".into()], buffer.bytes()[..cut].to_vec(), 1);
            assert!(short.iter().next().expect("one").is_err(), "cut at {cut}");
        }
    }
}
