//! Texts: parts of them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::Int64Type;
use arrow_schema::DataType;
use datafusion_common::{Result, exec_datafusion_err, exec_err};
use datafusion_expr::ScalarUDF;
use regex::Regex;

use crate::row::{Function, any_null};

/// The functions of this file.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    use DataType::{Int64, Utf8};
    vec![
        Function::typed("split_index", &[&[Utf8, Utf8, Int64]], |_| Ok(Utf8), split_index),
        Function::typed("regexp_extract", &[&[Utf8, Utf8], &[Utf8, Utf8, Int64]], |_| Ok(Utf8), regexp_extract),
    ]
}

/// The part of a text with this number, from 0, between separators; null where there is none.
fn split_index(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let [texts, separators, numbers] = arguments else { return exec_err!("split_index has three arguments") };
    let (texts, separators) = (texts.as_string::<i32>(), separators.as_string::<i32>());
    let numbers = numbers.as_primitive::<Int64Type>();
    let one = |row: usize| {
        let number = usize::try_from(numbers.value(row)).ok()?;
        let (text, separator) = (texts.value(row), separators.value(row));
        if separator.is_empty() {
            return (number == 0).then_some(text);
        }
        text.split(separator).nth(number)
    };
    let parts = (0..texts.len()).map(|row| if any_null(arguments, row) { None } else { one(row) });
    Ok(Arc::new(parts.collect::<StringArray>()))
}

/// The first match of a regular expression in a text, or its group with this number; null where there is none.
fn regexp_extract(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let (Some(texts), Some(patterns)) = (arguments.first(), arguments.get(1)) else {
        return exec_err!("regexp_extract has a text and a pattern");
    };
    let (texts, patterns) = (texts.as_string::<i32>(), patterns.as_string::<i32>());
    let groups = arguments.get(2).map(AsArray::as_primitive::<Int64Type>);
    let mut compiled: HashMap<&str, Regex> = HashMap::new();
    let mut found = Vec::with_capacity(texts.len());
    for row in 0..texts.len() {
        if any_null(arguments, row) {
            found.push(None);
            continue;
        }
        let pattern = patterns.value(row);
        if !compiled.contains_key(pattern) {
            let regex = Regex::new(pattern)
                .map_err(|error| exec_datafusion_err!("'{pattern}' is no regular expression: {error}"))?;
            compiled.insert(pattern, regex);
        }
        let regex = &compiled[pattern];
        let group = groups.map_or(Ok(0), |groups| usize::try_from(groups.value(row)));
        let Some(group) = group.ok().filter(|group| *group < regex.captures_len()) else {
            return exec_err!("'{pattern}' has no such group; groups are counted from 1, and 0 is the whole match");
        };
        found.push(regex.captures(texts.value(row)).and_then(|captures| Some(captures.get(group)?.as_str())));
    }
    Ok(Arc::new(StringArray::from(found)))
}
