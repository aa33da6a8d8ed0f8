//! Pure: evaluates the CEL rules of a CustomResourceDefinition on a resource, as an API server does when
//! the resource is created.

use freshet_crds::rules::{self, CelRule};
use kube_cel::{CompiledSchema, ErrorKind, Validator};

use super::diagnostics::Diagnostic;
use super::object::Object;
use super::schema::Shape;

/// What the rules find, beyond what `explained` has said already: the expressions of rules for whose
/// breach another room has found words of its own.
pub(super) fn check(object: &Object, rules: &CompiledSchema, shape: &Shape, explained: &[&str]) -> Vec<Diagnostic> {
    let Err(errors) = Validator::new().validate_compiled(rules, &object.node.to_json(), None) else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    for error in errors {
        let attached =
            rules::ALL.iter().find(|(kind, _, known)| *kind == object.kind.name() && known.rule == error.rule);
        let trusted = match attached {
            Some((_, path, rule)) => can_read(path, rule, shape),
            None => shape.problems.is_empty(),
        };
        if !trusted || explained.contains(&error.rule.as_str()) {
            continue;
        }
        let path = if error.field_path.is_empty() { "metadata.name" } else { &error.field_path };
        problems.push(match error.kind {
            ErrorKind::ValidationFailure => split_help(object.error(path, ""), &error.message),
            _ => object
                .error(path, format!("the rule `{}` can't be evaluated: {}", error.rule, error.message))
                .help("this is a mistake of Freshet's, not of the manifest: please report it"),
        });
    }
    problems
}

/// Whether everything that a rule reads has the right shape.
fn can_read(attached: &str, rule: &CelRule, shape: &Shape) -> bool {
    !shape.unreadable.iter().any(|field| {
        let field = without_indices(field);
        rule.reads.iter().any(|read| {
            let read = if attached.is_empty() { (*read).to_owned() } else { format!("{attached}.{read}") };
            is_within(&field, &read) || is_within(&read, &field)
        })
    })
}

fn without_indices(path: &str) -> String {
    path.split('.').map(|step| step.split('[').next().unwrap_or_default()).collect::<Vec<_>>().join(".")
}

fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Rules say what is, and after it what to do: the last sentence becomes the help.
fn split_help(mut problem: Diagnostic, message: &str) -> Diagnostic {
    let at = message.rfind(". ").map(|at| (at, at + 2)).or_else(|| message.find(": ").map(|at| (at, at + 2)));
    match at {
        Some((end, start)) => {
            message[..end].clone_into(&mut problem.message);
            problem.help(&message[start..])
        }
        None => {
            message.clone_into(&mut problem.message);
            problem
        }
    }
}
