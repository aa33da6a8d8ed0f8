//! A StreamJob's SQL, and where each of its characters stands in the file. SQL that stands in no file is its own.
//!
//! YAML writes one text in many ways: a block with its indentation taken off, lines that are folded into
//! one, quotes with their escapes. What all have in common is that the characters which are not white
//! space stand in the file in the same order; so text and file are walked side by side over those.

use std::ops::Range;

use super::node::Place;

/// The SQL of a StreamJob, or of a person who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlText {
    file: String,
    resource: String,
    text: String,
    /// Byte in `text`, line and column in the file of every character that is not white space, in order.
    marks: Vec<(usize, u32, u32)>,
    /// Where the value begins.
    start: Place,
}

impl SqlText {
    /// `text` as it was read from the value at `start` in `source`.
    pub(super) fn new(file: &str, resource: String, text: &str, source: &str, start: Place) -> Self {
        let marks = align(text, source, start);
        Self { file: file.to_owned(), resource, text: text.to_owned(), marks, start }
    }

    /// SQL that stands in no manifest: `name` is what is shown where a file's name would be.
    #[must_use]
    pub fn bare(name: &str, text: &str) -> Self {
        let (mut line, mut column) = (1, 0);
        let mut marks = Vec::new();
        for (at, c) in text.char_indices() {
            column += 1;
            if c == '\n' {
                (line, column) = (line + 1, 0);
            } else if !c.is_whitespace() {
                marks.push((at, line, column));
            }
        }
        Self { file: name.to_owned(), resource: String::new(), text: text.to_owned(), marks, start: Place::at(1, 1) }
    }

    /// The SQL.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file that it stands in.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The resource that it belongs to, as `StreamJob/fraud-detection`; empty where it belongs to none.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The place in the file of a range of bytes of the text; of one over several lines, its first line.
    #[must_use]
    pub fn place(&self, span: Range<usize>) -> Place {
        let first = self.marks.partition_point(|(at, _, _)| *at < span.start);
        // A span of white space, or behind the end, is shown at the character before it.
        let Some(&(_, line, column)) = self.marks.get(first).or_else(|| self.marks.last()) else { return self.start };
        let last = self.marks[first.min(self.marks.len())..]
            .iter()
            .take_while(|(at, on, _)| *at < span.end && *on == line)
            .last()
            .map_or(column, |(_, _, column)| *column);
        Place { line, column, length: last - column + 1 }
    }

    /// The place in the file of a line and column (both from 1, columns in characters) of the text.
    #[must_use]
    pub fn place_of_line(&self, line: u32, column: u32) -> Place {
        let before: usize = self.text.split_inclusive('\n').take(line.saturating_sub(1) as usize).map(str::len).sum();
        let within = self.text[before..].char_indices().nth(column.saturating_sub(1) as usize);
        let at = within.map_or(self.text.len(), |(at, _)| before + at);
        self.place(at..at + 1)
    }
}

fn align(text: &str, source: &str, start: Place) -> Vec<(usize, u32, u32)> {
    let mut cursor = Cursor::new(source, start);
    let style = cursor.enter();
    let mut marks = Vec::new();
    for (at, wanted) in text.char_indices().filter(|(_, c)| !c.is_whitespace()) {
        let Some(place) = cursor.find(wanted, style) else { break };
        marks.push((at, place.0, place.1));
    }
    marks
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    SingleQuoted,
    DoubleQuoted,
}

struct Cursor<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: u32,
    column: u32,
}

impl<'a> Cursor<'a> {
    fn new(source: &'a str, start: Place) -> Self {
        let mut cursor = Self { rest: source.chars().peekable(), line: 1, column: 1 };
        while (cursor.line, cursor.column) < (start.line, start.column) && cursor.next().is_some() {}
        cursor
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            (self.line, self.column) = (self.line + 1, 1);
        } else {
            self.column += 1;
        }
        Some(c)
    }

    /// Goes past what stands before the value's first character: anchor, tag, quote, a block's header.
    fn enter(&mut self) -> Style {
        loop {
            match self.rest.peek() {
                Some('&' | '!') => {
                    while self.rest.next_if(|c| !c.is_whitespace()).is_some_and(|_| {
                        self.column += 1;
                        true
                    }) {}
                }
                Some(c) if c.is_whitespace() => {
                    self.next();
                }
                Some('\'') => {
                    self.next();
                    return Style::SingleQuoted;
                }
                Some('"') => {
                    self.next();
                    return Style::DoubleQuoted;
                }
                Some('|' | '>') => {
                    while self.next().is_some_and(|c| c != '\n') {}
                    return Style::Plain;
                }
                _ => return Style::Plain,
            }
        }
    }

    /// The place of the next character, which is `wanted` unless text and source differ.
    fn find(&mut self, wanted: char, style: Style) -> Option<(u32, u32)> {
        loop {
            let place = (self.line, self.column);
            let c = self.next()?;
            if c.is_whitespace() {
                continue;
            }
            if c == '\'' && style == Style::SingleQuoted {
                // Two quotes are one; a single one ends the value.
                self.rest.peek().filter(|next| **next == '\'')?;
                self.next();
            }
            if c == '\\' && style == Style::DoubleQuoted {
                match self.unescape()? {
                    Some(c) if c == wanted => return Some(place),
                    Some(c) if !c.is_whitespace() => return None,
                    _ => continue,
                }
            }
            return (c == wanted).then_some(place);
        }
    }

    /// What an escape stands for: a character, or nothing (the end of a line).
    fn unescape(&mut self) -> Option<Option<char>> {
        let digits = match self.next()? {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            '\n' => return Some(None),
            'n' | 't' | 'r' | 'v' | 'f' | 'N' | '_' | 'L' | 'P' | ' ' | '\t' => return Some(Some(' ')),
            c => return Some(Some(c)),
        };
        let mut code = 0;
        for _ in 0..digits {
            code = code * 16 + self.next()?.to_digit(16)?;
        }
        Some(char::from_u32(code))
    }
}

#[cfg(test)]
mod tests {
    use super::super::diagnostics::Diagnostics;
    use super::super::source;
    use super::*;

    /// Every character of the text is found where the file has it, however YAML writes it.
    #[test]
    fn every_way_of_writing_a_text_is_followed() {
        for (yaml, word, wanted) in [
            ("sql: |\n  SELECT a\n\n    FROM b\n", "FROM", (4, 5)),
            ("sql: |-   # why\n    SELECT a\n     FROM b\n", "FROM", (3, 6)),
            ("sql: >\n  SELECT a\n  FROM b\n", "FROM", (3, 3)),
            ("sql: >-\n  SELECT a,\n\n  c\n  FROM b\n", "FROM", (5, 3)),
            ("sql: SELECT a FROM b\n", "FROM", (1, 15)),
            ("sql: SELECT a\n  FROM b\n", "FROM", (2, 3)),
            ("sql: 'SELECT ''x''\n   FROM b'\n", "FROM", (2, 4)),
            ("sql: \"SELECT \\\"a\\\"\\n\\tFROM b\"\n", "FROM", (1, 23)),
            ("sql: \"SELECT \\u0061 \\\n   FROM b\"\n", "FROM", (2, 4)),
            ("sql: &x !!str |\n  SELECT a\n  FROM b\n", "FROM", (3, 3)),
            ("sql:\n  SELECT a FROM b\n", "FROM", (2, 12)),
            ("sql: |\r\n  SELECT a\r\n  FROM b\r\n", "FROM", (3, 3)),
            ("a: {sql: \"SELECT 'ü', a FROM b\"}\n", "FROM", (1, 25)),
        ] {
            let mut diagnostics = Diagnostics::default();
            let documents = source::parse("f", yaml, &mut diagnostics);
            let node = documents.first().unwrap_or_else(|| panic!("{yaml}: {diagnostics}")).node.clone();
            let value = node.get("sql").or_else(|| node.get("a")?.get("sql")).expect("sql").clone();
            let text = value.as_str().expect("a string");
            let sql = SqlText::new("f", String::new(), text, yaml, value.place);
            let at = text.find(word).expect(word);
            let place = sql.place(at..at + word.len());
            assert_eq!((place.line, place.column, place.length), (wanted.0, wanted.1, 4), "{yaml}");
            assert_eq!(sql.marks.len(), text.chars().filter(|c| !c.is_whitespace()).count(), "{yaml}");
        }
    }

    #[test]
    fn bare_sql_is_where_it_is() {
        let sql = SqlText::bare("SQL", "'a' ü\n\n  FROM b\n");
        let from = sql.text().find("FROM").expect("FROM");
        assert_eq!(sql.place(from..from + 4), Place { line: 3, column: 3, length: 4 });
        let umlaut = sql.text().find('ü').expect("ü");
        assert_eq!(sql.place(umlaut..umlaut + 2), Place { line: 1, column: 5, length: 1 });
        assert_eq!(SqlText::bare("SQL", "").place(0..0), Place::at(1, 1));
    }

    #[test]
    fn spans_at_the_edges_have_places() {
        let yaml = "sql: |\n  SELECT a,\n    b\n";
        let start = Place::at(1, 6);
        let sql = SqlText::new("f", String::new(), "SELECT a,\n  b\n", yaml, start);
        assert_eq!(sql.place(0..13), Place { line: 2, column: 3, length: 9 });
        assert_eq!(sql.place(13..13), Place { line: 3, column: 5, length: 1 });
        assert_eq!(sql.place(500..600), Place { line: 3, column: 5, length: 1 });
        assert_eq!(sql.place_of_line(2, 3), Place { line: 3, column: 5, length: 1 });
        assert_eq!(sql.place_of_line(1, 8).column, 10);
        assert_eq!(SqlText::new("f", String::new(), "", yaml, start).place(0..5), start);
    }
}
