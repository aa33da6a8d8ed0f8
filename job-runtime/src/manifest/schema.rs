//! Pure: checks a resource against the structural schema of its CustomResourceDefinition, as an API
//! server does, except that fields which it would silently drop are errors here.

use freshet_crds::patterns;
use serde_json::Value as Json;

use super::diagnostics::Diagnostic;
use super::known;
use super::node::{Field, Node, Value};
use super::object::Object;
use super::suggest::nearest;

/// Fields of every resource that stand beside what the schema lists. `status` is the operator's.
const EVERYWHERE: &[&str] = &["apiVersion", "kind", "metadata", "status"];

/// What is wrong with the shape of a resource.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub(super) problems: Vec<Diagnostic>,
    /// The fields that can't be read: those of the problems, and those that an unknown field was probably
    /// meant to be.
    pub(super) unreadable: Vec<String>,
}

impl Shape {
    fn add(&mut self, problem: Diagnostic) {
        self.unreadable.push(problem.field.clone());
        self.problems.push(problem);
    }
}

pub(super) fn check(object: &Object, schema: &Json) -> Shape {
    let mut checker = Checker { object, shape: Shape::default() };
    checker.map(schema, &object.node, "", object.node.fields());
    checker.shape
}

struct Checker<'a> {
    object: &'a Object,
    shape: Shape,
}

impl Checker<'_> {
    fn value(&mut self, schema: &Json, node: &Node, path: &str) {
        let wanted = schema["type"].as_str().unwrap_or("object");
        let whole = |number: &serde_json::Number| number.is_i64() || number.is_u64();
        match (wanted, &node.value) {
            ("object", Value::Map(fields)) => self.map(schema, node, path, fields),
            ("array", Value::List(items)) => self.list(schema, node, path, items),
            ("string", Value::String(text)) => self.text(schema, node, path, text),
            ("integer", Value::Number(number)) if whole(number) => self.number(schema, node, path, number),
            ("number", Value::Number(number)) => self.number(schema, node, path, number),
            ("boolean", Value::Bool(_)) => {}
            (_, Value::Null) => self.null(schema, node, path),
            _ => {
                let name = wanted_name(wanted);
                let found = if let (Value::Number(number), "integer") = (&node.value, wanted) {
                    format!("the number {number}")
                } else {
                    node.kind().to_owned()
                };
                // A map or list begins on a line of its own: its key says better what is meant.
                let place = match node.value {
                    Value::Map(_) | Value::List(_) => self.object.node.place_of(path),
                    _ => node.place,
                };
                let mut problem = self.object.error_at(place, path, format!("{name} is wanted here, this is {found}"));
                if wanted == "string" && matches!(node.value, Value::Number(_) | Value::Bool(_)) {
                    problem = problem.help("put it in quotes");
                } else if wanted == "integer" && matches!(node.value, Value::String(_)) {
                    problem = problem.help("write the number without quotes");
                } else if let Some(description) = schema["description"].as_str() {
                    problem = problem.help(description);
                }
                self.shape.add(problem);
            }
        }
    }

    fn null(&mut self, schema: &Json, node: &Node, path: &str) {
        let name = wanted_name(schema["type"].as_str().unwrap_or("object"));
        let problem = self
            .object
            .error(path, format!("{name} is wanted here, this is {}", node.kind()))
            .help("fill it in, or leave the whole field out");
        self.shape.add(problem);
    }

    fn map(&mut self, schema: &Json, node: &Node, path: &str, fields: &[Field]) {
        let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let known = schema["properties"].as_object();
        let open = schema.get("additionalProperties").filter(|more| more.is_object());
        for (at, field) in fields.iter().enumerate() {
            let inner = known.and_then(|known| known.get(&field.name));
            let path =
                if inner.is_none() && open.is_some() { format!("{path}[{}]", field.name) } else { join(&field.name) };
            if fields[..at].iter().any(|other| other.name == field.name) {
                let message = format!("`{}` is there twice", field.name);
                self.shape.add(self.object.error_at(field.place, &path, message).help("keep one of the two"));
            }
            match (inner, open) {
                _ if path == field.name && EVERYWHERE.contains(&field.name.as_str()) => {}
                (Some(inner), _) | (None, Some(inner)) => self.value(inner, &field.node, &path),
                (None, None) => self.unknown(field, &path, &join, known),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if !fields.iter().any(|field| field.name == name) {
                let of = if path.is_empty() { self.object.kind.name().to_owned() } else { path.to_owned() };
                let place = if path.is_empty() { node.place_of("kind") } else { self.object.node.place_of(path) };
                let mut problem = self.object.error_at(place, &join(name), format!("{of} needs `{name}`"));
                if let Some(description) = schema["properties"][name]["description"].as_str() {
                    problem = problem.help(format!("{name}: {description}"));
                }
                // A misspelt field was reported already, and the suggestion says that this one was meant.
                if !self.shape.unreadable.contains(&problem.field) {
                    self.shape.add(problem);
                }
            }
        }
    }

    fn unknown(
        &mut self,
        field: &Field,
        path: &str,
        join: &dyn Fn(&str) -> String,
        known: Option<&serde_json::Map<String, Json>>,
    ) {
        let parent = path.rsplit_once('.').map_or(self.object.kind.name(), |(parent, _)| parent);
        let names: Vec<&str> = known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let top_level = if path == field.name { EVERYWHERE } else { &[] };
        let problem = self.object.error_at(field.place, path, format!("`{}` is no field of {parent}", field.name));
        let problem = match nearest(&field.name, names.iter().chain(top_level).copied()) {
            Some(meant) => {
                self.shape.unreadable.push(join(meant));
                problem.help(format!("did you mean `{meant}`?"))
            }
            None => problem.help(format!("its fields are {}", names.join(", "))),
        };
        self.shape.add(problem);
    }

    fn list(&mut self, schema: &Json, node: &Node, path: &str, items: &[Node]) {
        let count = items.len() as u64;
        if let Some(least) = schema["minItems"].as_u64().filter(|least| count < *least) {
            let message = format!("there are {count} items, and at least {least} must be");
            self.shape
                .add(self.object.error(path, message).help("fill it in, or leave the field out if it is optional"));
        }
        if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
            self.shape.add(self.object.error(path, format!("there are {count} items, and at most {most} may be")));
        }
        for (at, item) in items.iter().enumerate() {
            self.value(&schema["items"], item, &format!("{path}[{at}]"));
        }
        if schema["x-kubernetes-list-type"] == "map" {
            self.unique(schema, node, path);
        }
    }

    /// Items of a list-map differ in their keys.
    fn unique(&mut self, schema: &Json, list: &Node, path: &str) {
        let keys: Vec<&str> =
            schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let identity = |item: &Node| -> Option<Vec<String>> {
            keys.iter().map(|key| item.text(&[*key]).map(str::to_owned)).collect()
        };
        let mut seen: std::collections::HashMap<Vec<String>, usize> = std::collections::HashMap::new();
        for (at, item) in list.items().iter().enumerate() {
            let Some(identity) = identity(item) else { continue };
            if let Some(first) = seen.get(&identity) {
                let path = format!("{path}[{at}].{}", keys.join(","));
                let message = format!("`{}` is there twice, first in item {first}", identity.join(","));
                let place = keys.first().and_then(|key| item.get(key)).map_or(item.place, |node| node.place);
                self.shape.add(self.object.error_at(place, &path, message).help("names in this list are unique"));
            } else {
                seen.insert(identity, at);
            }
        }
    }

    fn text(&mut self, schema: &Json, node: &Node, path: &str, text: &str) {
        if let Some(allowed) = schema["enum"].as_array() {
            let allowed: Vec<&str> = allowed.iter().filter_map(Json::as_str).collect();
            if !allowed.contains(&text) {
                let problem = self.object.error_at(node.place, path, format!("`{text}` is not allowed here"));
                self.shape.add(match nearest(text, allowed.iter().copied()) {
                    Some(meant) => problem.help(format!("did you mean `{meant}`? Allowed: {}", allowed.join(", "))),
                    None => problem.help(format!("allowed: {}", allowed.join(", "))),
                });
                return;
            }
        }
        let length = text.chars().count() as u64;
        if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
            let message = if length == 0 {
                "this is empty".to_owned()
            } else {
                format!("{length} characters are fewer than {least}")
            };
            let help = schema["description"].as_str().unwrap_or("fill it in, or leave the field out");
            self.shape.add(self.object.error_at(node.place, path, message).help(help));
            return;
        }
        if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most)
            && schema["pattern"] != patterns::DURATION
        {
            let message = format!("{length} characters are more than the {most} that are allowed");
            self.shape.add(self.object.error_at(node.place, path, message));
        } else if let Some(pattern) = schema["pattern"].as_str()
            && !known::pattern(pattern).is_some_and(|pattern| pattern.is_match(text))
        {
            let known = patterns::ALL.iter().find(|known| known.regex == pattern);
            let wanted = known.map_or_else(|| format!("wanted: {pattern}"), |known| known.wanted.to_owned());
            let message = format!("`{text}` does not have the form that is wanted here");
            self.shape.add(self.object.error_at(node.place, path, message).help(wanted));
        } else if schema["format"] == "date-time" && chrono::DateTime::parse_from_rfc3339(text).is_err() {
            let message = format!("`{text}` is no moment in RFC 3339");
            self.shape.add(self.object.error_at(node.place, path, message).help("write it as 2026-01-31T00:00:00Z"));
        }
    }

    fn number(&mut self, schema: &Json, node: &Node, path: &str, number: &serde_json::Number) {
        let value = number.as_f64().unwrap_or(f64::NAN);
        if let Some(least) = schema["minimum"].as_f64().filter(|least| value < *least) {
            let message = format!("{number} is below the least that is allowed, {least}");
            self.shape.add(self.object.error_at(node.place, path, message).help(format!("set {least} or more")));
        }
        if let Some(most) = schema["maximum"].as_f64().filter(|most| value > *most) {
            let message = format!("{number} is above the most that is allowed, {most}");
            self.shape.add(self.object.error_at(node.place, path, message).help(format!("set {most} or less")));
        }
    }
}

fn wanted_name(wanted: &str) -> &'static str {
    match wanted {
        "array" => "a list",
        "string" => "a string",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        _ => "a map",
    }
}
