//! Pure: whether a StatefulSet replaces its pods. From the write that asks for other pods until the last of them is
//! there the job is not as its spec says, however well the old ones run; whoever waits for it must not be told so.
//!
//! ```text
//! our write ──▶ its controller looks ──▶ pods are replaced, one after another ──▶ done
//! begins()      is_under_way(): what we said   is_under_way(): two revisions
//! ```

use freshet_crds::StreamJobStatus;
use freshet_crds::reasons::{RESTARTING, condition};
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::Value;

use super::build::differs;
use crate::conditions::holding;

/// Whether a StatefulSet that was as `actual` replaces its pods to become as `desired`.
#[must_use]
pub fn begins(desired: &Value, actual: &Value) -> bool {
    differs(&desired["spec"]["template"], &actual["spec"]["template"])
}

/// Whether `set` has pods to replace. Between our write and its controller's look it says nothing of it: then what the
/// job's status said, `before`, holds.
#[must_use]
pub fn is_under_way(set: &StatefulSet, before: Option<&StreamJobStatus>) -> bool {
    let Some(status) = &set.status else { return false };
    let unseen = status.observed_generation.is_some_and(|seen| Some(seen) < set.metadata.generation);
    let said = before.and_then(|before| holding(&before.conditions, condition::RECONCILING));
    let said = said.is_some_and(|it| it.reason == RESTARTING.name);
    status.current_revision != status.update_revision || unseen && said
}

#[cfg(test)]
mod tests {
    use freshet_crds::reasons::RUNNING;
    use serde_json::json;

    use super::*;
    use crate::clock::time;
    use crate::conditions::{Fact, Verdict};

    fn set(status: &str) -> StatefulSet {
        serde_saphyr::from_str(&format!("{{metadata: {{generation: 2}}, status: {{replicas: 2, {status}}}}}"))
            .expect("a StatefulSet")
    }

    #[test]
    fn pods_are_replaced_from_the_write_to_the_last_of_them() {
        let quiet = Verdict::good(&RUNNING, "");
        let told = Verdict { reconciling: Some(Fact::yes(RESTARTING.name, "")), ..quiet.clone() };
        let before = |verdict: &Verdict| StreamJobStatus {
            conditions: verdict.conditions(&[], 2, &time(0)),
            ..StreamJobStatus::default()
        };
        let (quiet, told) = (before(&quiet), before(&told));
        let unseen = set("observedGeneration: 1, currentRevision: a, updateRevision: a");
        assert!(is_under_way(&unseen, Some(&told)), "its controller has not looked");
        assert!(!is_under_way(&unseen, Some(&quiet)), "another change, of how many there are");
        let rolling = set("observedGeneration: 2, currentRevision: a, updateRevision: b");
        assert!(is_under_way(&rolling, Some(&quiet)) && is_under_way(&rolling, None));
        let done = set("observedGeneration: 2, currentRevision: b, updateRevision: b");
        assert!(!is_under_way(&done, Some(&told)));
    }

    #[test]
    fn another_number_of_pods_replaces_none() {
        let of = |replicas: i32, nonce: &str| json!({ "spec": { "replicas": replicas, "template": { "metadata": { "annotations": { "a": nonce } } } } });
        assert!(!begins(&of(3, "x"), &of(2, "x")));
        assert!(begins(&of(2, "y"), &of(2, "x")));
    }
}
