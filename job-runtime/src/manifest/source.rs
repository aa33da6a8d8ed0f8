//! Does IO: reads files, and cuts them into YAML documents.
//!
//! Each document is parsed on its own, so that a mistake in one does not hide those in the others. A line
//! that begins with `---` begins a document wherever it stands, in a block of text too: YAML says so.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::node::{Node, Place, Value};

/// A parsed document of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// The file, as it was named.
    pub(super) file: String,
    pub(super) node: Node,
}

/// Manifests are written by people; a file beyond this is something else.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// How deep values may be nested: a file is not trusted with the stack.
const MAX_DEPTH: usize = 64;

pub(super) fn read(paths: &[PathBuf], diagnostics: &mut Diagnostics) -> Vec<Document> {
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        for file in files_of(path, diagnostics) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    let mut documents = Vec::new();
    for path in files {
        let file = path.display().to_string();
        match read_text(&path) {
            Ok(text) => {
                documents.extend(parse(&file, &text, diagnostics));
                diagnostics.add_text(&file, text);
            }
            Err((place, message, help)) => {
                diagnostics.push(Diagnostic::new(Severity::Error, &file, place, message).help(help));
            }
        }
    }
    documents
}

/// The files that a path names.
fn files_of(path: &Path, diagnostics: &mut Diagnostics) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let name = path.display().to_string();
    let mut fail = |message: String, help: &str| {
        diagnostics.push(Diagnostic::new(Severity::Error, &name, Place::default(), message).help(help));
        Vec::new()
    };
    let entries = match std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => return fail(format!("the folder can't be read: {error}"), "check its rights"),
    };
    let mut files: Vec<PathBuf> = entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"))
        .collect();
    files.sort();
    if files.is_empty() {
        return fail(
            "there is no *.yaml or *.yml in this folder".to_owned(),
            "name the folder that holds the manifests; sub-folders are not searched",
        );
    }
    files
}

/// The text of a file, or the place, what is wrong with it and what to do.
fn read_text(path: &Path) -> Result<String, (Place, String, &'static str)> {
    let failed = |error: std::io::Error, help| (Place::default(), format!("the file can't be read: {error}"), help);
    let file = std::fs::File::open(path).map_err(|error| failed(error, "check the path, and its rights"))?;
    let mut bytes = Vec::new();
    // What is no plain file says nothing of its size, and may have no end.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(error, "check what it is"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("the file has more than the {MAX_FILE_BYTES} bytes that a manifest may have");
        return Err((Place::default(), message, "name the manifests' own files"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
        let (line, last) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default());
        let place = Place::at(
            u32::try_from(line).unwrap_or(u32::MAX),
            u32::try_from(last.chars().count() + 1).unwrap_or(u32::MAX),
        );
        (place, format!("the file is not UTF-8: byte {good} is wrong"), "save it as UTF-8")
    })
}

/// The documents of a text that are not empty.
pub(super) fn parse(file: &str, text: &str, diagnostics: &mut Diagnostics) -> Vec<Document> {
    let mut documents = Vec::new();
    for (first_line, part) in split(text) {
        // Empty lines in front put the parser's line numbers right.
        let padded = "\n".repeat(first_line) + part;
        match serde_saphyr::from_str_with_options::<Node>(&padded, options()) {
            Ok(node) if node.value == Value::Null => {}
            Ok(node) => documents.push(Document { file: file.to_owned(), node }),
            Err(error) => {
                let place = error.location().map_or(Place::default(), |at| {
                    Place::at(u32::try_from(at.line()).unwrap_or(0), u32::try_from(at.column()).unwrap_or(0))
                });
                diagnostics.push(
                    Diagnostic::new(Severity::Error, file, place, format!("this is not YAML: {}", reason(&error)))
                        .help("the rest of this document was not looked at"),
                );
            }
        }
    }
    documents
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
    }
}

/// The parser's message without the excerpt that it draws itself.
fn reason(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    let end = line.find(" at line ").unwrap_or(line.len());
    line[..end].trim_end_matches([' ', ':', ',']).to_owned()
}

/// The documents of a text, each with the number of lines before it.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marker =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        // Directives stand before the marker of their own document.
        let preamble = || text[start..at].lines().all(|line| line.trim().is_empty() || line.starts_with(['%', '#']));
        if marker && !preamble() {
            parts.push((start_line, &text[start..at]));
            (start, start_line) = (at, number);
        }
        at += line.len();
    }
    parts.push((start_line, &text[start..]));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_markers_only() {
        let text = "a: 1\n---\nb: |\n  ---\n  ---- x\n--- # c\nd: 1";
        let parts = split(text);
        assert_eq!(parts, vec![(0, "a: 1\n"), (1, "---\nb: |\n  ---\n  ---- x\n"), (5, "--- # c\nd: 1")]);
    }

    #[test]
    fn a_mistake_hides_neither_the_documents_before_it_nor_those_behind() {
        let mut diagnostics = Diagnostics::default();
        let documents = parse("f", "a: 1\n---\nb: [1, 2\n---\n# nothing\n---\nc: 3\n", &mut diagnostics);
        assert_eq!(documents.iter().map(|document| document.node.place.line).collect::<Vec<_>>(), vec![1, 7]);
        assert_eq!(diagnostics.items().len(), 1, "{diagnostics}");
        assert!((3..=4).contains(&diagnostics.items()[0].place.line), "{diagnostics}");
    }

    #[test]
    fn hostile_files_are_refused() {
        for text in
            ["[".repeat(100_000), format!("a: &a [x]\n{}", "b: [*a, *a, *a, *a]\n".repeat(3)), "a: \u{1}".into()]
        {
            let mut diagnostics = Diagnostics::default();
            parse("f", &text, &mut diagnostics);
            let _ = diagnostics.to_string();
        }
        let mut diagnostics = Diagnostics::default();
        parse("f", &"[".repeat(100_000), &mut diagnostics);
        assert!(diagnostics.has_errors());
    }
}
