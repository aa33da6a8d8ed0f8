//! StreamJobs and Topics of a scene: changed as their users change them, watched, and what they say.

use std::time::Duration;

use freshet_crds::{StreamJob, Topic};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::Value;

use super::kubernetes::MANAGER;
use super::operator::Kubectl;
use super::scene::Scene;
use crate::LabError;

/// The condition of this type, where it is there.
#[must_use]
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Conditions in one line, for messages.
#[must_use]
pub fn told(conditions: &[Condition]) -> String {
    let one = |it: &Condition| format!("{}={} {} ({})", it.type_, it.status, it.reason, it.message);
    conditions.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn conditions_of(job: &StreamJob) -> &[Condition] {
    job.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default()
}

impl Scene {
    /// kubectl in the scene's namespace.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn kubectl(&self) -> Result<Kubectl, LabError> {
        Kubectl::new(self.kubernetes.kubeconfig(), &self.namespace)
    }

    /// A StreamJob as it is now; none where there is none.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn job(&self, name: &str) -> Result<Option<StreamJob>, LabError> {
        let jobs = self.kubernetes.api::<StreamJob>(&self.namespace);
        self.kubernetes.ask(&format!("looking at the StreamJob {name}"), jobs.get_opt(name))
    }

    /// A Topic as it is now; none where there is none.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn topic_resource(&self, name: &str) -> Result<Option<Topic>, LabError> {
        let topics = self.kubernetes.api::<Topic>(&self.namespace);
        self.kubernetes.ask(&format!("looking at the Topic {name}"), topics.get_opt(name))
    }

    /// Changes a StreamJob as `kubectl patch --type=merge` does.
    ///
    /// # Errors
    /// What the API server answered.
    pub fn change_job(&self, name: &str, patch: &Value) -> Result<StreamJob, LabError> {
        let jobs = self.kubernetes.api::<StreamJob>(&self.namespace);
        let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.kubernetes.ask(&format!("changing the StreamJob {name}"), jobs.patch(name, &how, &Patch::Merge(patch)))
    }

    /// Waits until `reached` gives something of a StreamJob whose status speaks of its newest generation.
    ///
    /// # Errors
    /// When it does not within `limit`; with what the job and its pods say.
    pub fn wait_job<T>(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        reached: impl Fn(&StreamJob) -> Option<T>,
    ) -> Result<T, LabError> {
        let newest = |job: &StreamJob| {
            job.status.as_ref().is_some_and(|status| Some(status.observed_generation) == job.metadata.generation)
        };
        self.kubernetes.wait_for(
            &format!("the StreamJob {name} {what}"),
            limit,
            || Ok(self.job(name)?.as_ref().filter(|job| newest(job)).and_then(&reached)),
            || self.state_of_job(name),
        )
    }

    /// Waits until a StreamJob runs as its spec says: Ready, nothing under way, nothing refused, all workers ready.
    ///
    /// # Errors
    /// As [`Scene::wait_job`].
    pub fn wait_settled(&self, name: &str, limit: Duration) -> Result<StreamJob, LabError> {
        self.wait_job(name, "to run as its spec says", limit, |job| {
            let holds = |type_: &str| condition(conditions_of(job), type_).is_some_and(|it| it.status == "True");
            let wanted = job.spec.replicas.unwrap_or(1);
            let ready = job.status.as_ref().and_then(|status| status.workers.clone())?;
            let revision = job.status.as_ref().and_then(|status| status.revision.clone())?;
            let all = ready == format!("{wanted}/{wanted}") && revision.current == revision.target;
            (holds("Ready") && !holds("Reconciling") && !holds("Stalled") && all).then(|| job.clone())
        })
    }

    /// The pods of a StreamJob's workers, by name.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub fn workers(&self, job: &str) -> Result<Vec<Pod>, LabError> {
        let label = format!("app.kubernetes.io/instance={job},app.kubernetes.io/component=worker");
        let pods = self.kubernetes.api::<Pod>(&self.namespace);
        let of_job = ListParams::default().labels(&label);
        let mut pods = self.kubernetes.ask(&format!("listing the workers of {job}"), pods.list(&of_job))?.items;
        pods.sort_by_key(|pod| pod.metadata.name.clone());
        Ok(pods)
    }

    /// What a StreamJob says, and its pods and events, for messages.
    #[must_use]
    pub fn state_of_job(&self, name: &str) -> String {
        let said = match self.job(name) {
            Ok(Some(job)) => told(conditions_of(&job)),
            Ok(None) => "it is not there".to_owned(),
            Err(error) => error.to_string(),
        };
        let look = |arguments: &[&str]| {
            let printed = self.kubectl().and_then(|kubectl| kubectl.run(arguments));
            printed.unwrap_or_else(|error| error.to_string())
        };
        let pods = look(&["get", "pods", "-o", "wide"]);
        let events = look(&["get", "events.v1.events.k8s.io", "--sort-by=.eventTime"]);
        format!("it says: {said}\n{pods}\n{}", crate::install::command::tail(&events, 25))
    }
}
