//! What resources are checked against, made ready once a process: definitions, their CEL rules and their patterns.
//! Making them costs far more than checking a resource with them, and an operator checks thousands.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use freshet_crds::definition::{Definition, definitions};
use freshet_crds::patterns;
use kube_cel::CompiledSchema;
use regex::Regex;

use super::object::Kind;

/// One kind's definition.
pub(super) struct Known {
    pub definition: Definition,
    pub rules: CompiledSchema,
}

static KINDS: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let known = |definition: Definition| {
        let rules = kube_cel::compile_schema(definition.schema());
        Known { definition, rules }
    };
    definitions().into_iter().map(known).collect()
});

static PATTERNS: LazyLock<HashMap<&str, Regex>> = LazyLock::new(|| {
    let compiled = |pattern: &patterns::Pattern| Some((pattern.regex, Regex::new(pattern.regex).ok()?));
    patterns::ALL.iter().filter_map(compiled).collect()
});

/// The definition of `kind`.
pub(super) fn definition(kind: Kind) -> Option<&'static Known> {
    KINDS.iter().find(|known| known.definition.kind == kind.name())
}

/// The pattern that a schema names; `None` where it is none.
pub(super) fn pattern(text: &str) -> Option<Cow<'static, Regex>> {
    PATTERNS.get(text).map(Cow::Borrowed).or_else(|| Regex::new(text).ok().map(Cow::Owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_pattern_is_ready() {
        for kind in [Kind::Topic, Kind::StreamJob] {
            let known = definition(kind).expect("a definition");
            assert!(!known.rules.has_errors() && !known.rules.properties.is_empty());
        }
        assert_eq!(PATTERNS.len(), patterns::ALL.len());
        assert!(pattern("^a$").is_some_and(|it| it.is_match("a")) && pattern("(").is_none());
    }
}
