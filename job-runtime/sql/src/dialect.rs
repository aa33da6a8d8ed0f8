//! From text to statements: Flink's spelling of SQL, with the parser of `sqlparser`.
//!
//! A text holds several statements, separated by `;`. Each is parsed by itself, so that a slip in one does
//! not hide what is wrong with the next.

use sqlparser::ast::{Expr, Ident, Statement};
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace};

use crate::error::{Outcome, Site, SqlError, is_space};

/// More operators than this in one statement are refused: an expression is a tree, and its depth costs stack.
const MAX_OPERATORS: usize = 2_000;

/// The dialect: backticks, `TABLE t` as an argument, `name => argument`, and clauses that are parsed only to
/// be refused by name.
#[derive(Debug)]
pub(crate) struct FreshetDialect;

impl Dialect for FreshetDialect {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`' || ch == '"'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_group_by_with_modifier(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_named_fn_args_with_rarrow_operator(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_within_after_array_aggregation(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }

    /// `TABLE t` and `TABLE t PARTITION BY a` (or `(a, b)`) as an argument of a window function. The columns stand behind
    /// the table in a tuple.
    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        let [table, name] = parser.peek_tokens_with_location();
        let is_table =
            matches!(&table.token, Token::Word(word) if word.keyword == Keyword::TABLE && word.quote_style.is_none());
        if !is_table || !matches!(name.token, Token::Word(_)) {
            return None;
        }
        parser.next_token();
        let named = parser.parse_object_name(false).and_then(|name| {
            let parts = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
            let named = Expr::CompoundIdentifier(parts);
            let value = match partition_columns(parser)? {
                None => named,
                Some(columns) => {
                    Expr::Tuple(std::iter::once(named).chain(columns.into_iter().map(Expr::Identifier)).collect())
                }
            };
            Ok(Expr::Prefixed { prefix: Ident::with_span(table.span, "TABLE"), value: Box::new(value) })
        });
        Some(named)
    }
}

/// `PARTITION BY a`, `PARTITION BY (a, b)`, or `PARTITION BY a, b` where `, DESCRIPTOR(…)` follows and says where the
/// columns end.
fn partition_columns(parser: &mut Parser<'_>) -> Result<Option<Vec<Ident>>, ParserError> {
    if !parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        return Ok(None);
    }
    if parser.consume_token(&Token::LParen) {
        let columns = parser.parse_comma_separated(Parser::parse_identifier)?;
        parser.expect_token(&Token::RParen)?;
        return Ok(Some(columns));
    }
    let mut columns = vec![parser.parse_identifier()?];
    let word = |token: &Token| match token {
        Token::Word(word) => Some(word.value.to_uppercase()),
        _ => None,
    };
    let mut more = 0;
    let ends_in_descriptor = loop {
        let [comma, next] = [2 * more, 2 * more + 1].map(|at| parser.peek_nth_token(at).token);
        match word(&next).filter(|_| comma == Token::Comma) {
            Some(word) if word == "DESCRIPTOR" => break true,
            Some(_) => more += 1,
            None => break false,
        }
    };
    if ends_in_descriptor {
        for _ in 0..more {
            parser.expect_token(&Token::Comma)?;
            columns.push(parser.parse_identifier()?);
        }
    }
    Ok(Some(columns))
}

/// One statement's tokens.
pub(crate) struct StatementText {
    /// Which statement of the text, from 0.
    pub(crate) index: u32,
    /// Its tokens, white space and comments among them.
    pub(crate) tokens: Vec<TokenWithSpan>,
}

/// What a text is: the two begin with different words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Statements of a job, which write tables.
    Job,
    /// A query, whose rows are shown.
    Query,
}

impl Purpose {
    /// What is to be written.
    const fn form(self) -> &'static str {
        match self {
            Self::Job => "write INSERT INTO <table> SELECT … FROM <table>",
            Self::Query => "write SELECT … FROM <table>",
        }
    }
}

/// Cuts a text into statements.
pub(crate) fn split(sql: &str, purpose: Purpose) -> Outcome<Vec<StatementText>> {
    let tokens = Tokenizer::new(&FreshetDialect, sql).tokenize_with_location().map_err(|error| {
        let site = Site::new(sql, &[]);
        let end = Location { line: error.location.line, column: error.location.column + 1 };
        site.error(Span { start: error.location, end }, format!("this is no SQL: {}", error.message))
            .help("check that every quote and comment is closed")
    })?;
    let statements: Vec<StatementText> = tokens
        .split(|token| token.token == Token::SemiColon)
        .filter(|tokens| !tokens.iter().all(is_space))
        .enumerate()
        .map(|(index, tokens)| StatementText {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            tokens: tokens.to_vec(),
        })
        .collect();
    if statements.is_empty() {
        return Err(Site::new(sql, &tokens)
            .error(Span::empty(), "there is no statement in the SQL")
            .help(purpose.form())
            .into());
    }
    Ok(statements)
}

/// Parses one statement.
pub(crate) fn parse(site: &Site<'_>, text: &StatementText, purpose: Purpose) -> Outcome<Statement> {
    match purpose {
        Purpose::Job => refuse_by_first_word(site, &text.tokens)?,
        Purpose::Query => refuse_but_queries(site, &text.tokens)?,
    }
    refuse_hints(site, &text.tokens)?;
    let operators = text.tokens.iter().filter(|token| is_operator(&token.token)).count();
    if operators > MAX_OPERATORS {
        return Err(site
            .error(site.whole(), format!("the statement has {operators} operators; at most {MAX_OPERATORS} are read"))
            .help("write long lists of alternatives as IN (…)")
            .into());
    }
    let mut parser = Parser::new(&FreshetDialect).with_tokens_with_locations(text.tokens.clone());
    let statement = parser.parse_statement().map_err(|error| syntax_error(site, &text.tokens, &error))?;
    let left = parser.peek_token();
    if left.token != Token::EOF {
        return Err(site
            .error(left.span, format!("`{left}` is left over after the end of the statement"))
            .help("what begins here is not supported, or a `;` is missing before it")
            .into());
    }
    Ok(statement)
}

/// Hints look like comments, and would be passed over as such.
fn refuse_hints(site: &Site<'_>, tokens: &[TokenWithSpan]) -> Outcome<()> {
    let is_hint = |token: &&TokenWithSpan| match &token.token {
        Token::Whitespace(Whitespace::MultiLineComment(text)) => text.starts_with('+'),
        _ => false,
    };
    match tokens.iter().find(is_hint) {
        Some(hint) => Err(site
            .error(hint.span, "hints are not supported")
            .help("leave the hint out; write `/* … */` for a comment")
            .into()),
        None => Ok(()),
    }
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(word.keyword, Keyword::AND | Keyword::OR | Keyword::IS | Keyword::NOT),
        Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Mod | Token::StringConcat => true,
        Token::Eq | Token::Neq | Token::Lt | Token::Gt | Token::LtEq | Token::GtEq | Token::Tilde => true,
        Token::LBracket | Token::DoubleColon | Token::Colon => true,
        _ => false,
    }
}

/// Statements that are known by their first word are refused by name, whether or not they can be parsed.
fn refuse_by_first_word(site: &Site<'_>, tokens: &[TokenWithSpan]) -> Outcome<()> {
    let mut words = tokens.iter().filter(|token| !is_space(token));
    let Some(first) = words.next() else { return Ok(()) };
    let name = first.to_string().to_uppercase();
    let help = match name.as_str() {
        "INSERT" => {
            return match words.next() {
                Some(second) if second.to_string().eq_ignore_ascii_case("OVERWRITE") => Err(site
                    .error(second.span, "INSERT OVERWRITE is not supported: a stream only appends")
                    .help("write INSERT INTO")
                    .into()),
                _ => Ok(()),
            };
        }
        "SELECT" | "WITH" | "VALUES" | "FROM" => "a job writes what it reads: write INSERT INTO <table> SELECT …",
        "CREATE" | "DROP" | "ALTER" => "tables are Topic resources: declare a Topic manifest, and name it in the SQL",
        "UPDATE" | "DELETE" | "MERGE" | "UPSERT" | "REPLACE" | "TRUNCATE" => {
            "streams are appended to: write INSERT INTO <table> SELECT …"
        }
        "EXECUTE" | "BEGIN" | "COMMIT" | "START" | "END" => {
            "all statements of a job run together already: write them one after another, separated by `;`"
        }
        "SET" | "RESET" | "USE" => "settings of a job are fields of its StreamJob's spec",
        "EXPLAIN" | "DESCRIBE" | "DESC" | "SHOW" => "`freshet plan` shows what a job does",
        _ => "write INSERT INTO <table> SELECT …",
    };
    Err(site
        .error(
            first.span,
            format!("`{name}` does not begin a statement of a job; only INSERT INTO … SELECT is supported"),
        )
        .help(help)
        .into())
}

/// A query is known by its first word, too.
fn refuse_but_queries(site: &Site<'_>, tokens: &[TokenWithSpan]) -> Outcome<()> {
    let Some(first) = tokens.iter().find(|token| !is_space(token)) else { return Ok(()) };
    let name = first.to_string().to_uppercase();
    let help = match name.as_str() {
        "SELECT" | "WITH" | "(" => return Ok(()),
        "INSERT" => "a query writes nothing: leave INSERT INTO … out, and begin with SELECT",
        "CREATE" | "DROP" | "ALTER" => "tables are Topic resources: declare a Topic manifest, and read it",
        "EXPLAIN" | "DESCRIBE" | "DESC" | "SHOW" => "`freshet plan` shows what a job does",
        _ => Purpose::Query.form(),
    };
    Err(site.error(first.span, format!("`{name}` does not begin a query; only SELECT is supported")).help(help).into())
}

fn syntax_error(site: &Site<'_>, tokens: &[TokenWithSpan], error: &ParserError) -> SqlError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => {
            return site
                .error(site.whole(), "the statement is nested too deep")
                .help("nest fewer parentheses and functions");
        }
    };
    let (message, at) = split_location(text);
    let message = message
        .replace("Expected:", "expected")
        .replace("found:", "but found")
        .replace("EOF", "the end of the statement");
    let span = match at {
        Some(at) => {
            tokens.iter().find(|token| token.span.start == at).map_or(Span { start: at, end: at }, |token| token.span)
        }
        None => {
            let end = site.whole().end;
            Span { start: end, end }
        }
    };
    site.error(span, format!("syntax error: {message}"))
}

/// Takes the parser's ` at Line: 1, Column: 5` off the end of its message.
fn split_location(text: &str) -> (&str, Option<Location>) {
    let Some((message, place)) = text.rsplit_once(" at Line: ") else { return (text, None) };
    let numbers =
        place.split_once(", Column: ").and_then(|(line, column)| Some((line.parse().ok()?, column.parse().ok()?)));
    match numbers {
        Some((line, column)) => (message, Some(Location { line, column })),
        None => (text, None),
    }
}
