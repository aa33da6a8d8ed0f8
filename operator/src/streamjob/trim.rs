//! Pure: what is kept of a job's children. What the operator writes is kept whole, since it is compared; of what others
//! write for it only what is read.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Pod, PodStatus, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::held::Trim;

impl Trim for ServiceAccount {}
impl Trim for ConfigMap {}
impl Trim for Service {}
impl Trim for StatefulSet {}
impl Trim for PodDisruptionBudget {}

impl Trim for Job {
    /// How it ended is read.
    fn trim(&mut self) {
        self.spec = None;
        self.metadata.annotations = None;
        let conditions = self.status.take().and_then(|status| status.conditions);
        self.status = conditions.map(|conditions| JobStatus { conditions: Some(conditions), ..JobStatus::default() });
    }
}

impl Trim for Pod {
    /// Where it is, how its containers are, and why they are not, is read ([`super::pods::fact`]).
    fn trim(&mut self) {
        self.spec = None;
        self.metadata.annotations = None;
        let Some(status) = self.status.take() else { return };
        let mut conditions = status.conditions.unwrap_or_default();
        conditions.retain(|condition| matches!(condition.type_.as_str(), "Ready" | "PodScheduled"));
        let containers = status.container_statuses.map(|all| all.into_iter().map(container).collect());
        self.status = Some(PodStatus {
            phase: status.phase,
            reason: status.reason,
            message: status.message,
            pod_ip: status.pod_ip,
            conditions: Some(conditions),
            container_statuses: containers,
            ..PodStatus::default()
        });
    }
}

fn container(whole: ContainerStatus) -> ContainerStatus {
    ContainerStatus {
        name: whole.name,
        ready: whole.ready,
        restart_count: whole.restart_count,
        state: whole.state,
        last_state: whole.last_state,
        ..ContainerStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streamjob::pods;

    #[test]
    fn nothing_that_is_read_of_a_pod_is_lost() {
        let text = "{metadata: {name: fraud-2, annotations: {a: b}, creationTimestamp: '2026-01-01T00:00:00Z'}, spec: \
                    {containers: [{name: a}]}, status: {phase: Running, podIP: 10.0.0.3, podIPs: [{ip: 10.0.0.3}], hostIP: \
                    10.0.0.1, conditions: [{type: Ready, status: 'True'}, {type: Initialized, status: 'True'}], \
                    containerStatuses: [{name: a, image: b, imageID: c, containerID: d, ready: false, restartCount: 3, state: \
                    {waiting: {reason: CrashLoopBackOff, message: x}}, lastState: {terminated: {exitCode: 2, reason: Error, \
                    message: '{\"reason\":\"BadRecord\",\"message\":\"m\"}'}}}]}}";
        let mut pod: Pod = serde_saphyr::from_str(text).expect("a pod");
        let before = pods::fact(&pod);
        assert!(before.trouble.is_some() && before.end.is_some() && before.ready);
        let long = serde_json::to_string(&pod).expect("JSON").len();
        pod.trim();
        assert_eq!(pods::fact(&pod), before);
        assert!(serde_json::to_string(&pod).expect("JSON").len() < long * 3 / 4);
    }

    #[test]
    fn how_a_job_ended_is_kept() {
        let text = "{metadata: {name: a}, spec: {template: {}}, status: {succeeded: 1, conditions: [{type: Complete, \
                    status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z'}]}}";
        let mut job: Job = serde_saphyr::from_str(text).expect("a Job");
        let conditions = job.status.as_ref().and_then(|status| status.conditions.clone());
        job.trim();
        assert_eq!(job.status.and_then(|status| status.conditions), conditions);
        assert!(conditions.is_some() && job.spec.is_none());
    }
}
