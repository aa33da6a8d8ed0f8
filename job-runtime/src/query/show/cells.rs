//! A record, taken apart into the texts of its values.
//!
//! Records of a query are the runtime's own JSON: an object with every column, in order, without white space. They are
//! cut up and not parsed into numbers, so that no digit of a decimal or of a large integer is lost.

use std::borrow::Cow;

use freshet_plan::{Column, DataType};

/// A record is not what the plan says. Its text is not shown: it may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row of the query is no record of its columns; this is a mistake in the runtime: report it")]
pub struct NoRow;

/// The texts of a record's values; `None` for NULL.
pub(super) fn cells<'r>(record: &'r [u8], columns: &[Column]) -> Result<Vec<Option<Cow<'r, str>>>, NoRow> {
    let text = std::str::from_utf8(record).map_err(|_| NoRow)?;
    let mut rest = text.strip_prefix('{').ok_or(NoRow)?;
    let mut cells = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            rest = rest.strip_prefix(',').ok_or(NoRow)?;
        }
        let (_, after_name) = cut(rest)?;
        let (value, after) = cut(after_name.strip_prefix(':').ok_or(NoRow)?)?;
        cells.push(shown(value, &column.data_type)?);
        rest = after;
    }
    if rest == "}" { Ok(cells) } else { Err(NoRow) }
}

/// Cuts the JSON value at the beginning of `text` off.
fn cut(text: &str) -> Result<(&str, &str), NoRow> {
    let (mut depth, mut in_text, mut escaped) = (0_u32, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => continue,
            }
            if !in_text && depth == 0 {
                return Ok(text.split_at(at + 1));
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return Ok(text.split_at(at + 1));
                }
            }
            b',' | b'}' | b':' if depth == 0 && at > 0 => return Ok(text.split_at(at)),
            _ => {}
        }
    }
    Err(NoRow)
}

/// A JSON value as people write it.
fn shown<'r>(value: &'r str, data_type: &DataType) -> Result<Option<Cow<'r, str>>, NoRow> {
    if value == "null" {
        return Ok(None);
    }
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return Ok(Some(Cow::Borrowed(value)));
    };
    let text = if inner.contains('\\') {
        Cow::Owned(serde_json::from_str::<String>(value).map_err(|_| NoRow)?)
    } else {
        Cow::Borrowed(inner)
    };
    Ok(Some(match data_type {
        DataType::Timestamp(_) | DataType::TimestampLtz(_) => Cow::Owned(text.replacen('T', " ", 1)),
        _ => text,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(types: &[&str]) -> Vec<Column> {
        let column = |(at, text): (usize, &&str)| Column::new(format!("c{at}"), text.parse().expect("a type"));
        types.iter().enumerate().map(column).collect()
    }

    fn of(types: &[&str], record: &str) -> Result<Vec<Option<String>>, NoRow> {
        let columns = columns(types);
        let cells = cells(record.as_bytes(), &columns)?;
        Ok(cells.into_iter().map(|cell| cell.map(Cow::into_owned)).collect())
    }

    #[test]
    fn every_kind_of_value_is_shown() {
        let record = r#"{"c0":"a \"b\"\\\n{,}","c1":-12345678901234567890123456789012345.67,"c2":9223372036854775807,"c3":null,"c4":"2026-01-31T12:00:00.250","c5":"2026-01-31T12:00:00Z","c6":"2026-01-31","c7":{"T":"x}","at":["2026-01-31T12:00:00"]},"c8":[],"c9":true,"c10":1e-7,"c11":""}"#;
        let types = [
            "STRING",
            "DECIMAL(38,2)",
            "BIGINT",
            "INT",
            "TIMESTAMP(3)",
            "TIMESTAMP_LTZ(0)",
            "DATE",
            "STRUCT<T STRING, at ARRAY<TIMESTAMP(0)>>",
            "ARRAY<INT>",
            "BOOLEAN",
            "DOUBLE",
            "STRING",
        ];
        let wanted = [
            Some("a \"b\"\\\n{,}"),
            Some("-12345678901234567890123456789012345.67"),
            Some("9223372036854775807"),
            None,
            Some("2026-01-31 12:00:00.250"),
            Some("2026-01-31 12:00:00Z"),
            Some("2026-01-31"),
            Some(r#"{"T":"x}","at":["2026-01-31T12:00:00"]}"#),
            Some("[]"),
            Some("true"),
            Some("1e-7"),
            Some(""),
        ];
        let wanted: Vec<Option<String>> = wanted.into_iter().map(|cell| cell.map(str::to_owned)).collect();
        assert_eq!(of(&types, record), Ok(wanted));
    }

    #[test]
    fn names_may_hold_anything() {
        let columns = vec![Column::new("COUNT(*), \"x\": {", DataType::BigInt), Column::new("b", DataType::String)];
        let record = r#"{"COUNT(*), \"x\": {":1,"b":"null"}"#;
        let cells = cells(record.as_bytes(), &columns).expect("a row");
        assert_eq!(cells, [Some(Cow::Borrowed("1")), Some(Cow::Borrowed("null"))]);
    }

    #[test]
    fn what_is_no_row_is_not_shown_as_one() {
        for record in ["", "{", "{}", r#"{"c0":1"#, r#"{"c0":1}"#, r#"{"c0":1,"c1":2,"c2":3}"#, "[1,2]", "\"text\""] {
            assert_eq!(of(&["INT", "INT"], record), Err(NoRow), "{record}");
        }
        assert_eq!(cells(&[b'{', 0xff], &columns(&["INT"])), Err(NoRow));
    }
}
