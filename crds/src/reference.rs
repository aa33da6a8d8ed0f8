//! Pure: the manifest reference, made from the definitions: every field with its type, whether it must be there, what
//! it means and an example.

use std::fmt::Write;

use serde_json::Value;

use crate::definition::{Definition, definitions};

/// The page `docs/manifest-reference.md`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Manifest reference\n\nGenerated from the types in `crds/src` by `crdgen`; edit those. Whole manifests are in \
         [manifests](manifests.md), and in `examples/`.\n\nA field that must be there is marked *required* (where the field \
         above it is there at all); `[]` stands for each entry of a list, `.*` for each entry of a map.\n",
    );
    for definition in definitions() {
        kind(&mut page, &definition);
    }
    page
}

fn kind(page: &mut String, definition: &Definition) {
    let schema = definition.schema();
    let about = schema["description"].as_str().unwrap_or_default();
    line(page, &format!("\n## {}\n\n{about}", definition.kind));
    for (part, what) in [("spec", "what is asked for"), ("status", "how it is; written by the operator")] {
        line(page, &format!("\n### {}: `{part}`, {what}\n", definition.kind));
        line(page, "| field | type | what it means | example |\n| --- | --- | --- | --- |");
        let mut rules = Vec::new();
        fields(page, &schema["properties"][part], part, &mut rules);
        if part == "spec" {
            rules.splice(0..0, own_rules(schema, "metadata"));
        }
        if !rules.is_empty() {
            line(page, "\nRules that compare fields, or a field with what it was:\n");
            rules.iter().for_each(|rule| line(page, rule));
        }
    }
}

/// A row for each field below `schema`, which is at `path`.
fn fields(page: &mut String, schema: &Value, path: &str, rules: &mut Vec<String>) {
    rules.extend(own_rules(schema, path));
    let required = |name: &str| {
        let names = schema["required"].as_array();
        names.is_some_and(|names| names.iter().any(|required| required == name))
    };
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let (about, example) = described(field);
        let must = if required(name) { ", required" } else { "" };
        let example = example.map(|example| format!("`{example}`")).unwrap_or_default();
        line(page, &format!("| `{path}` | {}{must} | {} | {example} |", type_of(field), about.replace('|', "\\|")));
        below(page, field, &path, rules);
    }
}

fn below(page: &mut String, field: &Value, path: &str, rules: &mut Vec<String>) {
    if field["items"].is_object() {
        below_entries(page, &field["items"], &format!("{path}[]"), rules);
    } else if field["additionalProperties"].is_object() {
        below_entries(page, &field["additionalProperties"], &format!("{path}.*"), rules);
    } else {
        fields(page, field, path, rules);
        return;
    }
    rules.extend(own_rules(field, path));
}

fn below_entries(page: &mut String, entries: &Value, path: &str, rules: &mut Vec<String>) {
    if entries["properties"].is_object() {
        fields(page, entries, path, rules);
    }
}

/// What a type can hold, in words.
fn type_of(field: &Value) -> String {
    if let Some(values) = field["enum"].as_array() {
        return values
            .iter()
            .filter_map(Value::as_str)
            .map(|value| format!("`{value}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let name = field["type"].as_str().unwrap_or("any");
    match (name, field["format"].as_str()) {
        ("array", _) => format!("list of {}", type_of(&field["items"])),
        ("object", _) if field["additionalProperties"].is_object() => {
            format!("map to {}", type_of(&field["additionalProperties"]))
        }
        ("string", Some("date-time")) => "time".to_owned(),
        ("integer", _) => match (field["minimum"].as_i64(), field["maximum"].as_i64()) {
            (Some(least), Some(most)) => format!("integer, {least} to {most}"),
            (Some(least), None) => format!("integer, {least} or more"),
            _ => "integer".to_owned(),
        },
        _ => name.to_owned(),
    }
}

/// A description, and the example at its end.
fn described(field: &Value) -> (String, Option<String>) {
    let text = field["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    match text.split_once("Example: ") {
        Some((about, example)) => (about.trim_end().to_owned(), Some(example.trim_end_matches('.').to_owned())),
        None => (text, None),
    }
}

fn own_rules(schema: &Value, path: &str) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules.filter_map(|rule| Some(format!("* `{path}`: {}", rule["message"].as_str()?))).collect()
}

fn line(page: &mut String, text: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(page, "{text}");
}
