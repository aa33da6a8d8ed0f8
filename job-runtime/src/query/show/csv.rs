//! Comma-separated values, as RFC 4180 has them: quoted where they must be, quotes doubled. NULL is nothing at all, so
//! an empty text is quoted.

use freshet_plan::Column;

use super::cells::{NoRow, cells};

/// Rows under a line of names.
#[derive(Debug)]
pub(super) struct Csv {
    columns: Vec<Column>,
    named: bool,
}

impl Csv {
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), named: false }
    }

    pub fn row(&mut self, record: &[u8], out: &mut Vec<u8>) -> Result<(), NoRow> {
        let cells = cells(record, &self.columns)?;
        self.names(out);
        line(cells.iter().map(Option::as_deref), out);
        Ok(())
    }

    pub fn end(&mut self, out: &mut Vec<u8>) {
        self.names(out);
    }

    fn names(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.named, true) {
            line(self.columns.iter().map(|column| Some(column.name.as_str())), out);
        }
    }
}

fn line<'c>(cells: impl Iterator<Item = Option<&'c str>>, out: &mut Vec<u8>) {
    let start = out.len();
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match cell {
            None => {}
            Some(text) if must_be_quoted(text) => {
                out.push(b'"');
                out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
                out.push(b'"');
            }
            Some(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
    // A line of nothing would be no record to many readers.
    if out.len() == start {
        out.extend_from_slice(b"\"\"");
    }
    out.push(b'\n');
}

fn must_be_quoted(text: &str) -> bool {
    text.is_empty() || text.starts_with(' ') || text.ends_with(' ') || text.contains(['"', ',', '\n', '\r'])
}

#[cfg(test)]
mod tests {
    use freshet_plan::DataType;

    use super::*;

    fn of(names: &[&str], records: &[&str]) -> String {
        let columns: Vec<Column> = names.iter().map(|name| Column::new(*name, DataType::String)).collect();
        let mut csv = Csv::new(&columns);
        let mut out = Vec::new();
        records.iter().for_each(|record| csv.row(record.as_bytes(), &mut out).expect("a row"));
        csv.end(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn values_are_quoted_where_they_must_be_and_only_there() {
        let records = [
            r#"{"a":"plain","COUNT(*), \"all\"":1.50}"#,
            r#"{"a":"two\nlines, \"quoted\"","COUNT(*), \"all\"":null}"#,
            r#"{"a":"","COUNT(*), \"all\"":{"x":[1,2]}}"#,
            r#"{"a":" x","COUNT(*), \"all\"":"ü"}"#,
        ];
        let wanted = "a,\"COUNT(*), \"\"all\"\"\"\nplain,1.50\n\"two\nlines, \"\"quoted\"\"\",\n\
                      \"\",\"{\"\"x\"\":[1,2]}\"\n\" x\",ü\n";
        assert_eq!(of(&["a", "COUNT(*), \"all\""], &records), wanted);
    }

    #[test]
    fn names_come_once_and_without_rows_too() {
        assert_eq!(of(&["a", "b"], &[]), "a,b\n");
        assert_eq!(of(&["a"], &[r#"{"a":null}"#, r#"{"a":"x"}"#]), "a\n\"\"\nx\n");
    }
}
