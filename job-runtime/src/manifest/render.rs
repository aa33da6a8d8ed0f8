//! How a problem looks on a terminal.
//!
//! ```text
//! error: Topic/transactions: spec.partitions: 0 is below the least that is allowed, 1
//!   --> examples/topic.yaml:6:15
//!   |
//! 6 |   partitions: 0
//!   |               ^
//!   = help: …
//! ```

use std::fmt;

use super::diagnostics::{Diagnostic, Severity};

/// How much of a long line is shown, in characters.
const WIDTH: usize = 140;

pub(super) fn write(f: &mut fmt::Formatter<'_>, item: &Diagnostic, text: Option<&str>) -> fmt::Result {
    let severity = match item.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    write!(f, "{severity}: ")?;
    for part in [&item.resource, &item.field] {
        if !part.is_empty() {
            write!(f, "{part}: ")?;
        }
    }
    writeln!(f, "{}", item.message)?;
    let line = usize::try_from(item.place.line).unwrap_or(usize::MAX);
    let gutter = " ".repeat(line.to_string().len());
    if line == 0 {
        writeln!(f, "  --> {}", item.file)?;
    } else {
        writeln!(f, "{gutter} --> {}:{line}:{}", item.file, item.place.column)?;
    }
    if let Some(source) = text.and_then(|text| text.lines().nth(line.wrapping_sub(1))) {
        let (source, before, marked) = excerpt(source, item);
        writeln!(f, "{gutter} |\n{line} | {source}\n{gutter} | {before}{marked}")?;
    }
    if let Some(help) = &item.help {
        writeln!(f, "{gutter} = help: {help}")?;
    }
    writeln!(f)
}

/// The line (or the part of a long one around the place), the space before the marks, and the marks.
fn excerpt(source: &str, item: &Diagnostic) -> (String, String, String) {
    let characters: Vec<char> = source.chars().collect();
    let column = (item.place.column.max(1) as usize - 1).min(characters.len());
    let from = if characters.len() > WIDTH { column.saturating_sub(WIDTH / 2) } else { 0 };
    let to = characters.len().min(from + WIDTH);
    let length = (item.place.length as usize).clamp(1, to.saturating_sub(column).max(1));
    // A file is not trusted with the terminal: control characters are shown, not obeyed.
    let shown = |c: &char| if c.is_control() && *c != '\t' { '\u{fffd}' } else { *c };
    let line: String = characters[from..to].iter().map(shown).collect();
    let before = characters[from..column].iter().map(|c| if *c == '\t' { '\t' } else { ' ' }).collect();
    (line, before, "^".repeat(length))
}
