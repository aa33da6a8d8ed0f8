//! Pure: what a pod says of itself, in the words of Kubernetes.

use freshet_crds::control::WorkerEnd;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt;

use crate::clock::millis;

/// A pod of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFact {
    /// Its name.
    pub name: String,
    /// Its number within the StatefulSet; `None` for a preflight's.
    pub ordinal: Option<u32>,
    /// Where it can be reached.
    pub ip: Option<String>,
    /// Whether kubelet calls it ready.
    pub ready: bool,
    /// When its process began, ms since the Unix epoch, if one runs.
    pub runs_since_ms: Option<i64>,
    /// When it should be gone, ms since the Unix epoch, if it was told to go.
    pub gone_by_ms: Option<i64>,
    /// What keeps it from working.
    pub trouble: Option<Trouble>,
    /// Why its last process ended for good.
    pub end: Option<WorkerEnd>,
    /// What its last process wrote as it ended.
    pub message: Option<String>,
}

/// What keeps a pod from working.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The pod's own reason, as `ImagePullBackOff`.
    pub reason: String,
    /// The pod's own message.
    pub message: String,
}

/// What is known of `pod`.
#[must_use]
pub fn fact(pod: &Pod) -> PodFact {
    let status = pod.status.as_ref();
    let containers: &[ContainerStatus] =
        status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let name = pod.name_any();
    let terminating = pod.metadata.deletion_timestamp.as_ref();
    let message = containers.iter().find_map(last_words);
    PodFact {
        ordinal: name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()),
        ip: status.and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty()),
        ready: terminating.is_none()
            && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        runs_since_ms: containers.iter().find_map(runs_since),
        gone_by_ms: terminating.map(millis),
        trouble: unscheduled(pod).or_else(|| containers.iter().find_map(trouble)).or_else(|| failed(pod)),
        end: message.as_deref().and_then(|message| serde_json::from_str(message).ok()),
        message,
        name,
    }
}

fn unscheduled(pod: &Pod) -> Option<Trouble> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition =
        conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    Some(Trouble {
        reason: condition.reason.clone().unwrap_or_else(|| "Unschedulable".to_owned()),
        message: condition.message.clone().unwrap_or_default(),
    })
}

/// A pod that failed as a whole: evicted, or refused by its node.
fn failed(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let reason = status.reason.clone().filter(|_| status.phase.as_deref() == Some("Failed"))?;
    Some(Trouble { reason, message: status.message.clone().unwrap_or_default() })
}

fn trouble(container: &ContainerStatus) -> Option<Trouble> {
    let killed = last_end(container).filter(|end| end.reason == "OOMKilled");
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.clone());
    match reason.as_deref() {
        // Being made is no trouble.
        None | Some("ContainerCreating" | "PodInitializing") => {
            killed.filter(|_| container.state.as_ref().is_none_or(|state| state.running.is_none())).map(|end| Trouble {
                reason: end.reason,
                message: "the container used more memory than its limit".to_owned(),
            })
        }
        Some("CrashLoopBackOff") => Some(match killed {
            Some(end) => Trouble {
                reason: end.reason,
                message: format!(
                    "the container used more memory than its limit, {} times; raise spec.template.resources.limits",
                    container.restart_count
                ),
            },
            None => Trouble {
                reason: "CrashLoopBackOff".to_owned(),
                message: last_end(container).map_or_else(String::new, |end| {
                    format!("the container ended {} times, last with code {}", container.restart_count, end.code)
                }),
            },
        }),
        Some(reason) => Some(Trouble {
            reason: reason.to_owned(),
            message: waiting.and_then(|waiting| waiting.message.clone()).unwrap_or_default(),
        }),
    }
}

struct End {
    reason: String,
    code: i32,
}

fn runs_since(container: &ContainerStatus) -> Option<i64> {
    container.state.as_ref()?.running.as_ref()?.started_at.as_ref().map(millis)
}

fn last_end(container: &ContainerStatus) -> Option<End> {
    let ended = |state: &Option<ContainerState>| {
        let end = state.as_ref()?.terminated.as_ref()?;
        Some(End { reason: end.reason.clone().unwrap_or_default(), code: end.exit_code })
    };
    ended(&container.state).or_else(|| ended(&container.last_state))
}

fn last_words(container: &ContainerStatus) -> Option<String> {
    let words = |state: &Option<ContainerState>| {
        state.as_ref()?.terminated.as_ref()?.message.clone().filter(|message| !message.is_empty())
    };
    words(&container.state).or_else(|| {
        // What a former process wrote speaks of this one only until it runs again.
        let runs = container.state.as_ref().is_some_and(|state| state.running.is_some()) && container.ready;
        words(&container.last_state).filter(|_| !runs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: &str) -> PodFact {
        let text = format!("{{metadata: {{name: fraud-detection-2}}, status: {status}}}");
        fact(&serde_saphyr::from_str(&text).expect("a pod"))
    }

    #[test]
    fn troubles_are_named_as_the_pod_names_them() {
        for (status, reason, message) in [
            (
                "{conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: '0/2 nodes'}]}",
                "Unschedulable",
                "0/2 nodes",
            ),
            (
                "{containerStatuses: [{name: a, image: b, imageID: c, ready: false, restartCount: 0, state: {waiting: \
                 {reason: ImagePullBackOff, message: 'Back-off pulling'}}}]}",
                "ImagePullBackOff",
                "Back-off pulling",
            ),
            (
                "{containerStatuses: [{name: a, image: b, imageID: c, ready: false, restartCount: 0, state: {waiting: \
                 {reason: CreateContainerConfigError, message: 'secret \"s3\" not found'}}}]}",
                "CreateContainerConfigError",
                "secret \"s3\" not found",
            ),
            (
                "{containerStatuses: [{name: a, image: b, imageID: c, ready: false, restartCount: 4, state: {waiting: \
                 {reason: CrashLoopBackOff, message: x}}, lastState: {terminated: {exitCode: 137, reason: OOMKilled}}}]}",
                "OOMKilled",
                "the container used more memory than its limit, 4 times; raise spec.template.resources.limits",
            ),
            (
                "{containerStatuses: [{name: a, image: b, imageID: c, ready: false, restartCount: 3, state: {waiting: \
                 {reason: CrashLoopBackOff, message: x}}, lastState: {terminated: {exitCode: 2, reason: Error}}}]}",
                "CrashLoopBackOff",
                "the container ended 3 times, last with code 2",
            ),
            ("{phase: Failed, reason: Evicted, message: low on memory}", "Evicted", "low on memory"),
        ] {
            let trouble = pod(status).trouble.unwrap_or_else(|| panic!("no trouble: {status}"));
            assert_eq!((trouble.reason.as_str(), trouble.message.as_str()), (reason, message));
        }
        let fine = "{podIP: 10.0.0.3, conditions: [{type: Ready, status: 'True'}], containerStatuses: [{name: a, image: \
                    b, imageID: c, ready: true, restartCount: 1, state: {running: {}}, lastState: {terminated: {exitCode: \
                    2, reason: Error, message: '{\"reason\":\"BadRecord\",\"message\":\"m\"}'}}}]}";
        let fact = pod(fine);
        assert_eq!((fact.trouble, fact.end, fact.ready, fact.ordinal), (None, None, true, Some(2)));
    }

    #[test]
    fn a_worker_that_ended_for_good_says_why() {
        let status = "{containerStatuses: [{name: a, image: b, imageID: c, ready: false, restartCount: 1, state: \
                      {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 2, reason: Error, message: \
                      '{\"reason\":\"BadRecord\",\"message\":\"payments[1]@7 is no JSON\"}'}}}]}";
        let end = pod(status).end.expect("an end");
        assert_eq!((end.reason.as_str(), end.message.as_str()), ("BadRecord", "payments[1]@7 is no JSON"));
    }
}
