//! Pure: finds Freshet's resources among the documents, and checks what all kinds have in common.

use super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::node::{Node, Place, Value};
use super::source::Document;
use super::suggest::nearest;

/// A kind of resource that this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Topic,
    StreamJob,
}

/// A resource of one of Freshet's kinds.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) file: String,
    pub(super) node: Node,
    /// `metadata.name`; empty when there is none that can be one.
    pub(super) name: String,
    /// `metadata.namespace`, or the default one.
    pub(super) namespace: String,
}

const KINDS: &[(&str, Kind)] = &[("Topic", Kind::Topic), ("StreamJob", Kind::StreamJob)];

/// Where resources without a namespace go.
const DEFAULT_NAMESPACE: &str = "default";

const METADATA_FIELDS: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "uid",
    "resourceVersion",
    "generation",
    "generateName",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

impl Kind {
    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl Object {
    /// `Topic/transactions`.
    pub(super) fn resource(&self) -> String {
        format!("{}/{}", self.kind.name(), if self.name.is_empty() { "?" } else { &self.name })
    }

    /// An error at the value of a field.
    pub(super) fn error(&self, field: &str, message: impl Into<String>) -> Diagnostic {
        self.error_at(self.node.place_of(field), field, message)
    }

    /// An error of a field, at another place than its value.
    pub(super) fn error_at(&self, place: Place, field: &str, message: impl Into<String>) -> Diagnostic {
        self.remark_at(Severity::Error, place, field, message)
    }

    /// A warning or note at the value of a field.
    pub(super) fn remark(&self, severity: Severity, field: &str, message: impl Into<String>) -> Diagnostic {
        self.remark_at(severity, self.node.place_of(field), field, message)
    }

    fn remark_at(&self, severity: Severity, place: Place, field: &str, message: impl Into<String>) -> Diagnostic {
        let mut diagnostic = Diagnostic::new(severity, &self.file, place, message);
        diagnostic.resource = self.resource();
        field.clone_into(&mut diagnostic.field);
        diagnostic
    }
}

/// The resources of Freshet's kinds, in the order of the files. Others are noted and skipped.
pub(super) fn find(documents: Vec<Document>, diagnostics: &mut Diagnostics) -> Vec<Object> {
    let mut objects = Vec::new();
    for Document { file, node } in documents {
        find_in(&file, node, diagnostics, &mut objects);
    }
    objects
}

fn find_in(file: &str, node: Node, diagnostics: &mut Diagnostics, objects: &mut Vec<Object>) {
    if !matches!(node.value, Value::Map(_)) {
        let message = format!("a resource is a map, this is {}", node.kind());
        diagnostics.push(
            Diagnostic::new(Severity::Error, file, node.place, message)
                .help("a resource begins with apiVersion:, kind:, metadata: and spec:"),
        );
        return;
    }
    if node.text(&["kind"]) == Some("List") && node.text(&["apiVersion"]) == Some("v1") {
        for item in node.get("items").map(Node::items).unwrap_or_default() {
            find_in(file, item.clone(), diagnostics, objects);
        }
        return;
    }
    match identify(file, &node) {
        Ok(kind) => {
            let name = node.text(&["metadata", "name"]).unwrap_or_default().to_owned();
            let namespace = node.text(&["metadata", "namespace"]).unwrap_or(DEFAULT_NAMESPACE).to_owned();
            objects.push(Object { kind, file: file.to_owned(), node, name, namespace });
        }
        Err(diagnostic) => diagnostics.push(*diagnostic),
    }
}

/// Which kind a document is; or why it is none of ours, or none at all.
fn identify(file: &str, node: &Node) -> Result<Kind, Box<Diagnostic>> {
    let error = |field: &str, message: String, help: String| {
        let mut diagnostic = Diagnostic::new(Severity::Error, file, node.place_of(field), message).help(help);
        field.clone_into(&mut diagnostic.field);
        Err(Box::new(diagnostic))
    };
    let example =
        || format!("write `apiVersion: {}` and `kind: Topic` or `kind: StreamJob`", freshet_crds::API_VERSION);
    let (api_version, kind) = match (node.text(&["apiVersion"]), node.text(&["kind"])) {
        (Some(api_version), Some(kind)) => (api_version, kind),
        (None, _) => return error("apiVersion", "apiVersion is missing, or is no string".to_owned(), example()),
        (_, None) => return error("kind", "kind is missing, or is no string".to_owned(), example()),
    };
    let known = KINDS.iter().find(|(name, _)| *name == kind);
    let nearest_kind = nearest(kind, KINDS.iter().map(|(name, _)| *name));
    let (group, _) = api_version.split_once('/').unwrap_or(("", api_version));
    if group == freshet_crds::GROUP {
        if api_version != freshet_crds::API_VERSION {
            let message = format!("{kind} has the version `{api_version}`, which this Freshet does not know");
            return error("apiVersion", message, format!("write {}", freshet_crds::API_VERSION));
        }
        return match (known, nearest_kind) {
            (Some((_, kind)), _) => Ok(*kind),
            (None, Some(meant)) => {
                error("kind", format!("`{kind}` is no kind of {group}"), format!("did you mean `{meant}`?"))
            }
            (None, None) => error(
                "kind",
                format!("`{kind}` is no kind of {group}"),
                "this version knows Topic and StreamJob".into(),
            ),
        };
    }
    let group_is_near = group.contains("freshet") || nearest(group, [freshet_crds::GROUP]).is_some();
    if group_is_near || (known.is_some() && group.is_empty()) {
        let message = format!("`{api_version}` is no API of Freshet");
        return error("apiVersion", message, format!("did you mean `{}`?", freshet_crds::API_VERSION));
    }
    let message = format!("{kind} ({api_version}) is no resource of Freshet and was skipped");
    Err(Box::new(Diagnostic::new(Severity::Note, file, node.place_of("kind"), message)))
}

/// What is wrong with `metadata`.
pub(super) fn check_metadata(object: &Object) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let named = "every resource needs metadata.name, for instance `metadata: {name: transactions}`";
    let Some(metadata) = object.node.field("metadata") else {
        return vec![object.error("metadata.name", "metadata is missing").help(named)];
    };
    if !matches!(metadata.node.value, Value::Map(_)) {
        return vec![
            object.error("metadata", format!("metadata is a map, this is {}", metadata.node.kind())).help(named),
        ];
    }
    for field in metadata.node.fields() {
        let path = format!("metadata.{}", field.name);
        if !METADATA_FIELDS.contains(&field.name.as_str()) {
            let help = nearest(&field.name, METADATA_FIELDS.iter().copied()).map_or_else(
                || "Freshet's resources use name, namespace, labels and annotations".to_owned(),
                |meant| format!("did you mean `{meant}`?"),
            );
            let message = format!("`{}` is no field of metadata", field.name);
            problems.push(object.error_at(field.place, &path, message).help(help));
        }
        if matches!(field.name.as_str(), "labels" | "annotations") {
            for entry in field.node.fields().iter().filter(|entry| entry.node.as_str().is_none()) {
                let path = format!("{path}[{}]", entry.name);
                let message = format!("a string is wanted here, this is {}", entry.node.kind());
                problems.push(object.error_at(entry.node.place, &path, message).help("put it in quotes"));
            }
        }
    }
    match metadata.node.get("name").map(|name| (name, name.as_str())) {
        None => problems.push(object.error("metadata.name", "metadata.name is missing").help(named)),
        Some((name, None)) => {
            let message = format!("a name is a string, this is {}", name.kind());
            problems.push(object.error("metadata.name", message).help("put it in quotes"));
        }
        Some((_, Some(name))) if !is_subdomain(name) => {
            let message = format!("`{name}` can't be the name of a resource");
            problems.push(object.error("metadata.name", message).help(
                "use lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit; 253 characters at most",
            ));
        }
        Some(_) => {}
    }
    match metadata.node.get("namespace").map(|name| (name, name.as_str())) {
        Some((_, Some(name))) if is_label(name) => {}
        Some((node, name)) => {
            let message = format!("`{}` can't be a namespace", name.unwrap_or(node.kind()));
            let help = "use lower-case letters, digits and `-`, or leave it out to get the default namespace";
            problems.push(object.error("metadata.namespace", message).help(help));
        }
        None => {}
    }
    problems
}

/// RFC 1123: labels joined by dots.
fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(|label| !label.is_empty() && is_dns_word(label))
}

fn is_label(name: &str) -> bool {
    !name.is_empty() && name.len() <= 63 && is_dns_word(name)
}

fn is_dns_word(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !word.starts_with('-')
        && !word.ends_with('-')
}
