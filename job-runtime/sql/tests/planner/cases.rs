//! Statements with what the planner makes of them.
//!
//! A case is a title, the columns of the table `out`, the SQL, and what came of it:
//!
//! ```text
//! === a title
//! out: a STRING, n BIGINT
//! INSERT INTO out SELECT …
//! ---
//! the plan as a tree, or each error with its place and its help
//! ```

use std::fmt::Write;

use freshet_plan::print;
use freshet_sql::SqlError;

use crate::shop;

/// A case as it stands in its file.
#[derive(Debug, Clone)]
pub struct Case {
    pub title: String,
    pub out: String,
    pub sql: String,
    pub wanted: String,
}

/// The cases of a file in this folder.
pub fn read(file: &str) -> Vec<Case> {
    let path = format!("{}/tests/planner/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let cases = text.split("=== ").skip(1).map(|case| {
        let (head, wanted) = case.split_once("\n---\n").unwrap_or((case.trim_end(), ""));
        let (title, rest) = head.split_once('\n').unwrap_or_else(|| panic!("a title and SQL: {head}"));
        let (out, sql) = match rest.strip_prefix("out:") {
            Some(rest) => rest.split_once('\n').unwrap_or_else(|| panic!("columns and SQL: {rest}")),
            None => ("a STRING", rest),
        };
        Case { title: title.to_owned(), out: out.trim().to_owned(), sql: sql.to_owned(), wanted: wanted.to_owned() }
    });
    cases.collect()
}

fn write(file: &str, cases: &[Case]) {
    let mut text = String::new();
    for Case { title, out, sql, wanted } in cases {
        let _ = write!(text, "=== {title}\nout: {out}\n{sql}\n---\n{wanted}");
    }
    let path = format!("{}/tests/planner/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
}

#[allow(clippy::disallowed_methods, reason = "how a person asks for the files to be written anew")]
fn generating() -> bool {
    std::env::var_os("FRESHET_GENERATE").is_some()
}

/// Compares what `outcome` gives for each case with what the file says.
fn check(file: &str, least: usize, outcome: impl Fn(&Case) -> Result<String, String>) {
    let mut cases = read(file);
    assert!(cases.len() >= least, "{file} has only {} cases", cases.len());
    let mut wrong = String::new();
    for case in &mut cases {
        match outcome(case) {
            Ok(found) if found.trim_end() == case.wanted.trim_end() => {}
            Ok(found) => {
                let _ =
                    write!(wrong, "=== {}\n{}\n--- wanted\n{}--- found\n{found}\n", case.title, case.sql, case.wanted);
                case.wanted = format!("{found}\n");
            }
            Err(why) => {
                let _ = write!(wrong, "=== {}\n{}\n--- {why}\n", case.title, case.sql);
            }
        }
    }
    if generating() {
        write(file, &cases);
    }
    assert!(wrong.is_empty(), "{file}:\n{wrong}");
}

/// Errors as the file shows them.
pub fn shown(errors: &[SqlError]) -> String {
    let mut text = String::new();
    for error in errors {
        let (start, end) = (error.span.start, error.span.end);
        let to =
            if start.line == end.line { format!("{}", end.column) } else { format!("{}:{}", end.line, end.column) };
        let _ = writeln!(text, "{}:{}-{to} {}", start.line, start.column, error.message);
        if let Some(help) = &error.help {
            let _ = writeln!(text, "    {help}");
        }
    }
    text
}

#[test]
fn accepted_statements_have_their_plans() {
    check("accepted.txt", 40, |case| match shop::plan(&case.out, &case.sql) {
        Ok(plan) => {
            let json = serde_json::to_string(&plan).map_err(|error| error.to_string())?;
            let back = serde_json::from_str(&json).map_err(|error| format!("the plan can't be read back: {error}"))?;
            if plan != back {
                return Err("the plan is another one when it is stored and read back".to_owned());
            }
            Ok(print::tree(&plan))
        }
        Err(errors) => Err(format!("refused:\n{}", shown(&errors))),
    });
}

#[test]
fn refused_statements_say_what_where_and_what_to_write_instead() {
    check("refused.txt", 120, |case| match shop::plan(&case.out, &case.sql) {
        Ok(plan) => Err(format!("accepted:\n{}", print::tree(&plan))),
        Err(errors) => {
            for error in &errors {
                let (start, end) = (error.span.start.offset, error.span.end.offset);
                if start > end || end > case.sql.len() {
                    return Err(format!("the place {start}..{end} is not in the text: {error}"));
                }
            }
            Ok(shown(&errors))
        }
    });
}
