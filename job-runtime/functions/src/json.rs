//! JSON in a text: what a path leads to.
//!
//! A path is `$` and steps behind it: `.name`, `['name']`, `[0]` (from 0), with `lax` or `strict` before it. As the SQL
//! standard has it by default, JSON_VALUE gives null where the path leads to nothing, to an object or an array, and
//! where the text is no JSON (NULL ON EMPTY, NULL ON ERROR); JSON_QUERY the same for what is neither an object nor an
//! array; JSON_EXISTS is false there. A path that is none is an error.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow_schema::DataType;
use datafusion_common::{Result, exec_datafusion_err, exec_err};
use datafusion_expr::ScalarUDF;
use serde::de::IgnoredAny;

use crate::row::{Function, any_null};

/// The functions of this file.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    use DataType::Utf8;
    vec![
        Function::typed("json_value", &[&[Utf8, Utf8]], |_| Ok(Utf8), |arguments| texts(arguments, scalar)),
        Function::typed("json_query", &[&[Utf8, Utf8]], |_| Ok(Utf8), |arguments| texts(arguments, nested)),
        Function::typed("json_exists", &[&[Utf8, Utf8]], |_| Ok(DataType::Boolean), exists),
        Function::typed("is_json", &[&[Utf8]], |_| Ok(DataType::Boolean), is_json),
    ]
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Member(String),
    Item(usize),
}

/// The steps of a path.
fn steps(path: &str) -> Result<Vec<Step>> {
    let wrong = |what: &str| exec_datafusion_err!("the JSON path '{path}' {what}");
    let text = path.trim();
    let text = ["lax", "strict"].iter().find_map(|mode| text.strip_prefix(mode)).unwrap_or(text).trim_start();
    let mut rest = text.strip_prefix('$').ok_or_else(|| wrong("does not begin with $"))?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        if let Some(name) = rest.strip_prefix('.') {
            if let Some(quoted) = name.strip_prefix('"') {
                let end = quoted.find('"').ok_or_else(|| wrong("has a name without end"))?;
                found.push(Step::Member(quoted[..end].to_owned()));
                rest = &quoted[end + 1..];
                continue;
            }
            let end = name.find(['.', '[']).unwrap_or(name.len());
            if end == 0 || name[..end].contains(['*', '?', '(', ' ', '@']) {
                return Err(wrong("has a step that is not supported: there are .name, ['name'] and [0]"));
            }
            found.push(Step::Member(name[..end].to_owned()));
            rest = &name[end..];
        } else if let Some(inside) = rest.strip_prefix('[') {
            let quote = inside.chars().next().filter(|quote| matches!(quote, '\'' | '"'));
            if let Some(quote) = quote {
                let end = inside[1..].find(quote).ok_or_else(|| wrong("has a name without end"))?;
                found.push(Step::Member(inside[1..=end].to_owned()));
                rest = inside[end + 2..].strip_prefix(']').ok_or_else(|| wrong("has a [ without ]"))?;
            } else {
                let end = inside.find(']').ok_or_else(|| wrong("has a [ without ]"))?;
                let number = inside[..end].trim().parse();
                found.push(Step::Item(number.map_err(|_| wrong("has something in [] that is neither 'name' nor 0"))?));
                rest = &inside[end + 1..];
            }
        } else {
            return Err(wrong("has something between its steps"));
        }
    }
    Ok(found)
}

/// Each row's value at its path, as it is written, or `None` where there is none; `None` for a null argument.
fn each<T>(arguments: &[ArrayRef], mut one: impl FnMut(Option<&str>) -> T) -> Result<Vec<Option<T>>> {
    let [texts, paths] = arguments else { return exec_err!("a JSON text and a path were expected") };
    let (texts, paths) = (texts.as_string::<i32>(), paths.as_string::<i32>());
    let mut known: HashMap<&str, Vec<Step>> = HashMap::new();
    let mut found = Vec::with_capacity(texts.len());
    for row in 0..texts.len() {
        if any_null(arguments, row) {
            found.push(None);
            continue;
        }
        let path = paths.value(row);
        if !known.contains_key(path) {
            known.insert(path, steps(path)?);
        }
        let text = texts.value(row);
        found.push(Some(one(Some(text).filter(|text| is_valid(text)).and_then(|text| find(text, &known[path])))));
    }
    Ok(found)
}

fn texts(arguments: &[ArrayRef], text: fn(&str) -> Option<String>) -> Result<ArrayRef> {
    let found = each(arguments, |value| value.and_then(text))?;
    Ok(Arc::new(found.into_iter().map(Option::flatten).collect::<StringArray>()))
}

/// A scalar as a text. Numbers keep the digits that they are written with.
fn scalar(value: &str) -> Option<String> {
    match value.as_bytes().first()? {
        b'"' => serde_json::from_str(value).ok(),
        b'{' | b'[' => None,
        _ => (value != "null").then(|| value.to_owned()),
    }
}

fn nested(value: &str) -> Option<String> {
    value.starts_with(['{', '[']).then(|| value.to_owned())
}

fn exists(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    Ok(Arc::new(BooleanArray::from(each(arguments, |value| value.is_some())?)))
}

fn is_json(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let Some(texts) = arguments.first().and_then(|array| array.as_string_opt::<i32>()) else {
        return exec_err!("a JSON text was expected");
    };
    Ok(Arc::new(texts.iter().map(|text| text.map(is_valid)).collect::<BooleanArray>()))
}

fn is_valid(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The value that the steps lead to in `text`, which is JSON. Of members with one name the last counts.
fn find<'t>(text: &'t str, steps: &[Step]) -> Option<&'t str> {
    steps.iter().try_fold(text.trim(), |value, step| match step {
        Step::Member(name) => member(value, name),
        Step::Item(number) => item(value, *number),
    })
}

fn member<'t>(object: &'t str, name: &str) -> Option<&'t str> {
    let bytes = object.as_bytes();
    let mut at = spaces(bytes, bytes.starts_with(b"{").then_some(1)?);
    let mut found = None;
    while bytes.get(at) == Some(&b'"') {
        let key = &object[at..value_end(bytes, at)];
        let is_it = if key.contains('\\') {
            serde_json::from_str::<String>(key).is_ok_and(|key| key == name)
        } else {
            key[1..key.len() - 1] == *name
        };
        // Behind the colon.
        let from = spaces(bytes, spaces(bytes, at + key.len()) + 1);
        let to = value_end(bytes, from);
        found = if is_it { object.get(from..to) } else { found };
        at = spaces(bytes, spaces(bytes, to) + 1);
    }
    found
}

fn item(array: &str, number: usize) -> Option<&str> {
    let bytes = array.as_bytes();
    let mut at = spaces(bytes, bytes.starts_with(b"[").then_some(1)?);
    for _ in 0..number {
        // Behind the comma.
        at = spaces(bytes, value_end(bytes, at));
        at = spaces(bytes, (bytes.get(at) == Some(&b',')).then_some(at + 1)?);
    }
    (bytes.get(at)? != &b']').then(|| array.get(at..value_end(bytes, at)))?
}

fn spaces(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Where the value ends that begins at `at`.
fn value_end(bytes: &[u8], mut at: usize) -> usize {
    let (mut depth, mut in_text) = (0_usize, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => depth -= 1,
            b',' | b'}' | b']' if depth == 0 => return at,
            byte if depth == 0 && byte.is_ascii_whitespace() => return at,
            _ => {}
        }
        at += 1;
        if depth == 0 && !in_text && matches!(bytes[at - 1], b'"' | b'}' | b']') {
            return at;
        }
    }
    at.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_or_refused() {
        let member = |name: &str| Step::Member(name.to_owned());
        assert_eq!(steps("$").expect("a path"), []);
        let found = steps(" lax $.a.b-c[2]['x.y'][\"z\"].\"q r\"").expect("a path");
        assert_eq!(found, [member("a"), member("b-c"), Step::Item(2), member("x.y"), member("z"), member("q r")]);
        for wrong in ["", "a", "$a", "$.", "$..a", "$.*", "$[*]", "$[-1]", "$[0", "$['a]", "$.a[0]b", "$.a ? (@ > 1)"] {
            assert!(steps(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_found_as_they_are_written() {
        let text = r#" {"a" : {"b":[1, "x,]\"}", {"c":[ ]}, 12345678901234567890.10], "n":null}, "a\u0062":[[],[7 ]], "k":1,"k":2 } "#;
        assert!(is_valid(text));
        for (path, wanted) in [
            ("$.a.b[0]", Some("1")),
            ("$.a.b[1]", Some(r#""x,]\"}""#)),
            ("$.a.b[2].c", Some("[ ]")),
            ("$.a.b[2].c[0]", None),
            ("$.a.b[3]", Some("12345678901234567890.10")),
            ("$.a.b[4]", None),
            ("$.a.n", Some("null")),
            ("$.ab[1]", Some("[7 ]")),
            ("$.ab[1][0]", Some("7")),
            ("$.ab[0][0]", None),
            ("$.k", Some("2")),
            ("$.x", None),
            ("$[0]", None),
            ("$", Some(text.trim())),
        ] {
            assert_eq!(find(text, &steps(path).expect(path)), wanted, "{path}");
        }
        assert_eq!(scalar(r#""a\nb""#).as_deref(), Some("a\nb"));
        assert_eq!((scalar("null"), scalar("[1]"), nested("1")), (None, None, None));
    }
}
