//! What is wrong with a text of SQL, and where.

use sqlparser::tokenizer::{Location, Span, TokenWithSpan};

/// A place in the SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SqlPosition {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Offset in bytes, from 0.
    pub offset: usize,
}

/// A piece of the SQL: from `start` to just before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlSpan {
    /// Its first character.
    pub start: SqlPosition,
    /// Just after its last character.
    pub end: SqlPosition,
}

/// One thing that is wrong: what is, what was wanted, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}{}", span.start.line, span.start.column, help_text(help.as_deref()))]
pub struct SqlError {
    /// Where.
    pub span: SqlSpan,
    /// What is, and what was wanted.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

fn help_text(help: Option<&str>) -> String {
    help.map(|help| format!(" ({help})")).unwrap_or_default()
}

impl SqlError {
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<SqlError> for Vec<SqlError> {
    fn from(error: SqlError) -> Self {
        vec![error]
    }
}

/// A value, or everything that is wrong.
pub(crate) type Outcome<T> = Result<T, Vec<SqlError>>;

/// Gathers what several checks found, so that a user sees it all at once.
pub(crate) fn both<A, B>(left: Outcome<A>, right: Outcome<B>) -> Outcome<(A, B)> {
    match (left, right) {
        (Ok(left), Ok(right)) => Ok((left, right)),
        (Err(mut left), Err(right)) => {
            left.extend(right);
            Err(left)
        }
        (Err(errors), Ok(_)) | (Ok(_), Err(errors)) => Err(errors),
    }
}

/// All values, or everything that is wrong with any of them.
pub(crate) fn all<T>(outcomes: impl IntoIterator<Item = Outcome<T>>) -> Outcome<Vec<T>> {
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(value) => values.push(value),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}

/// One statement's text: turns the parser's places into ours, and finds clauses that the parser keeps no
/// place of.
pub(crate) struct Site<'a> {
    sql: &'a str,
    lines: Vec<usize>,
    tokens: &'a [TokenWithSpan],
}

impl<'a> Site<'a> {
    /// The text of the whole job, and the tokens of one statement in it.
    pub(crate) fn new(sql: &'a str, tokens: &'a [TokenWithSpan]) -> Self {
        let lines = std::iter::once(0).chain(sql.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { sql, lines, tokens }
    }

    fn position(&self, at: Location) -> SqlPosition {
        let line = usize::try_from(at.line.max(1)).unwrap_or(usize::MAX).min(self.lines.len());
        let start = self.lines[line - 1];
        let characters = usize::try_from(at.column.max(1) - 1).unwrap_or(usize::MAX);
        let rest = &self.sql[start..];
        let offset = start + rest.char_indices().nth(characters).map_or(rest.len(), |(at, _)| at);
        let column = self.sql[start..offset].chars().count() + 1;
        SqlPosition {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            offset,
        }
    }

    /// The place of `span`; of the whole statement where the parser kept none.
    pub(crate) fn place(&self, span: Span) -> SqlSpan {
        let span = if span.start.line == 0 { self.whole() } else { span };
        let (start, end) = (self.position(span.start), self.position(span.end));
        SqlSpan { start, end: end.max(start) }
    }

    /// From the statement's first token to its last.
    pub(crate) fn whole(&self) -> Span {
        let mut spans = self.tokens.iter().filter(|token| !is_space(token)).map(|token| token.span);
        let first = spans.next().unwrap_or_else(|| {
            let start = Location { line: 1, column: 1 };
            Span { start, end: start }
        });
        Span { start: first.start, end: spans.next_back().unwrap_or(first).end }
    }

    /// What is written at `span`.
    pub(crate) fn text(&self, span: Span) -> String {
        let SqlSpan { start, end } = self.place(span);
        self.sql.get(start.offset..end.offset).unwrap_or_default().to_owned()
    }

    /// An error at `span`.
    pub(crate) fn error(&self, span: Span, message: impl Into<String>) -> SqlError {
        SqlError { span: self.place(span), message: message.into(), help: None }
    }

    /// Where the words `keywords` stand one after another, for clauses that the parser keeps no place of.
    pub(crate) fn keywords(&self, keywords: &[&str]) -> Span {
        let words: Vec<&TokenWithSpan> = self.tokens.iter().filter(|token| !is_space(token)).collect();
        let found = words.windows(keywords.len()).find(|window| {
            window.iter().zip(keywords).all(|(token, keyword)| token.to_string().eq_ignore_ascii_case(keyword))
        });
        match found {
            Some(window) => Span { start: window[0].span.start, end: window[window.len() - 1].span.end },
            None => self.whole(),
        }
    }
}

impl Site<'_> {
    /// Where the word `keyword` stands last, for clauses whose word may stand before them too.
    pub(crate) fn last_keyword(&self, keyword: &str) -> Span {
        let found = self.tokens.iter().rev().find(|token| token.to_string().eq_ignore_ascii_case(keyword));
        found.map_or_else(|| self.whole(), |token| token.span)
    }
}

/// Whether a token is white space or a comment.
pub(crate) fn is_space(token: &TokenWithSpan) -> bool {
    matches!(token.token, sqlparser::tokenizer::Token::Whitespace(_) | sqlparser::tokenizer::Token::EOF)
}
