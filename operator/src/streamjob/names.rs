//! Pure: names and labels of a StreamJob's children. A name follows from the owner's alone, so that a pass that is
//! made twice makes one child.
//!
//! | child | name |
//! | --- | --- |
//! | StatefulSet, Service, ConfigMap, ServiceAccount, PodDisruptionBudget | the job's |
//! | Secret with the control token | `<job>-control` |
//! | preflight Job and its ConfigMap | `<job>-preflight-<revision>-<attempt>`, `<job>-preflight-<revision>` |
//! | retirement Job and its ConfigMap | `<job>-retirement-<attempt>`, `<job>-retirement` |

use std::collections::BTreeMap;
use std::fmt::Write;

/// What a pod is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// It runs a slot.
    Worker,
    /// It looks whether the job can run, and hands out generations.
    Preflight,
    /// It deletes what a job has left.
    Retirement,
}

/// The label that names the StreamJob.
pub use crate::watch::INSTANCE;
/// The label that says what a child is for.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The label that says whose tool made it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`].
pub const FRESHET: &str = "freshet";
/// The label of a preflight's children: which revision it looks at.
pub const REVISION: &str = "freshet.dev/revision";
/// The label of a preflight Job: which attempt it is, from 1.
pub const ATTEMPT: &str = "freshet.dev/attempt";
/// The label of a preflight Job: a hash of what is particular about its pod, which can't be changed in a Job.
pub const POD: &str = "freshet.dev/pod";
/// Keeps a StreamJob until its workers have stopped.
pub const FINALIZER: &str = "freshet.dev/workers";

impl Component {
    /// As it stands in labels.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Preflight => "preflight",
            Self::Retirement => "retirement",
        }
    }
}

/// Name of the Secret that holds the control token.
#[must_use]
pub fn secret(job: &str) -> String {
    format!("{job}-control")
}

/// Name of the ConfigMap that a preflight looks at.
#[must_use]
pub fn preflight_manifests(job: &str, revision: &str) -> String {
    format!("{job}-preflight-{revision}")
}

/// Name of a preflight Job.
#[must_use]
pub fn preflight(job: &str, revision: &str, attempt: u32) -> String {
    // 40 + 11 + 6 + 1 + 3 characters: a Job's name becomes a label of its pods, which ends at 63.
    format!("{job}-preflight-{revision}-{}", attempt % 1_000)
}

/// Name of the ConfigMap that a retirement reads.
#[must_use]
pub fn retirement_manifests(job: &str) -> String {
    format!("{job}-retirement")
}

/// Name of a retirement Job.
#[must_use]
pub fn retirement(job: &str, attempt: u32) -> String {
    format!("{job}-retirement-{}", attempt % 1_000)
}

/// The labels that select the pods of a component.
#[must_use]
pub fn selector(job: &str, component: Component) -> BTreeMap<String, String> {
    [(INSTANCE, job), (COMPONENT, component.label()), (MANAGED_BY, FRESHET)]
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .into()
}

/// The labels of a child.
#[must_use]
pub fn labels(job: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = selector(job, component);
    labels.insert("app.kubernetes.io/name".to_owned(), "freshet".to_owned());
    labels
}

/// The workers' selector as one text, for the scale subresource.
#[must_use]
pub fn selector_text(job: &str) -> String {
    let labels = selector(job, Component::Worker);
    labels.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",")
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_names_are_still_labels() {
        let job = "j".repeat(40);
        assert!(preflight(&job, "7c9f2b", 999_999).len() <= 63);
        assert!(secret(&job).len() <= 63);
    }

    #[test]
    fn the_selector_is_one_text() {
        assert_eq!(
            selector_text("a"),
            "app.kubernetes.io/component=worker,app.kubernetes.io/instance=a,app.kubernetes.io/managed-by=freshet"
        );
    }
}
