//! Problems with their places.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::node::Place;
use super::render;
use super::sql_text::SqlText;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The manifests can't be used.
    Error,
    /// They can, but probably something else was meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// One problem: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: String,
    /// The place in it.
    #[serde(flatten)]
    pub place: Place,
    /// Which resource, as `Topic/transactions`; empty where there is none.
    pub resource: String,
    /// Which field, as `spec.schema.columns[2].type`; empty where there is none.
    pub field: String,
    /// What is, and what was wanted.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Whether a room that knows more has looked at this place: then it speaks for the others.
    #[serde(skip)]
    pub(crate) refined: bool,
}

/// Problems, and the text that they point into. As JSON: a list of [`Diagnostic`]s; as text: like a
/// compiler's.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    texts: BTreeMap<String, String>,
}

impl Diagnostic {
    pub(crate) fn new(severity: Severity, file: &str, place: Place, message: impl Into<String>) -> Self {
        Self {
            severity,
            file: file.to_owned(),
            place,
            resource: String::new(),
            field: String::new(),
            message: message.into(),
            help: None,
            refined: false,
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Diagnostics {
    /// The problems, by file and place.
    #[must_use]
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// Whether there is an error among them.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many there are of a severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.items.iter().filter(|item| item.severity == severity).count()
    }

    /// The text of a file that was read.
    #[must_use]
    pub fn text(&self, file: &str) -> Option<&str> {
        self.texts.get(file).map(String::as_str)
    }

    /// The first of the files that were read.
    pub(crate) fn first_file(&self) -> Option<&str> {
        self.texts.keys().next().map(String::as_str)
    }

    /// Adds an error in SQL: `span` is a range of bytes of [`SqlText::text`].
    pub fn push_sql(&mut self, sql: &SqlText, span: Range<usize>, message: &str, help: Option<&str>) {
        self.push_sql_at(Severity::Error, sql, span, message, help);
    }

    /// Adds a problem of any severity in SQL.
    pub fn push_sql_at(
        &mut self,
        severity: Severity,
        sql: &SqlText,
        span: Range<usize>,
        message: &str,
        help: Option<&str>,
    ) {
        let mut item = Diagnostic::new(severity, sql.file(), sql.place(span), message);
        item.resource = sql.resource().to_owned();
        if sql.resource().is_empty() {
            // It stands in no file whose text was read.
            self.add_text(sql.file(), sql.text().to_owned());
        } else {
            item.field = "spec.sql".to_owned();
        }
        item.help = help.map(str::to_owned);
        self.push(item);
    }

    pub(crate) fn push(&mut self, item: Diagnostic) {
        self.items.push(item);
        self.items.sort_by(|a, b| (&a.file, a.place, a.severity).cmp(&(&b.file, b.place, b.severity)));
    }

    pub(crate) fn add_text(&mut self, file: &str, text: String) {
        self.texts.insert(file.to_owned(), text);
    }

    /// Leaves out what a room that knows more has said better: coarse errors at the field of a refined one.
    pub(crate) fn settle(&mut self) {
        let refined: Vec<(String, String, String)> = self
            .items
            .iter()
            .filter(|item| item.refined && !item.field.is_empty())
            .map(|item| (item.file.clone(), item.resource.clone(), item.field.clone()))
            .collect();
        self.items.retain(|item| {
            item.refined
                || !refined
                    .iter()
                    .any(|(file, resource, field)| (file, resource, field) == (&item.file, &item.resource, &item.field))
        });
        self.items.dedup();
    }
}

impl Serialize for Diagnostics {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.items.serialize(serializer)
    }
}

impl Diagnostics {
    /// All errors in one line, for a condition or a report: resource, field, message, place and help of each.
    #[must_use]
    pub fn in_short(&self) -> String {
        let errors = self.items.iter().filter(|item| item.severity == Severity::Error);
        let texts = errors.map(|item| {
            let mut text = String::new();
            for part in [&item.resource, &item.field].into_iter().filter(|part| !part.is_empty()) {
                text += &format!("{part}: ");
            }
            text += &format!("{} ({}:{}:{})", item.message, item.file, item.place.line, item.place.column);
            if let Some(help) = &item.help {
                text += &format!("; {help}");
            }
            text
        });
        texts.collect::<Vec<_>>().join(". ")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            render::write(f, item, self.text(&item.file))?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
