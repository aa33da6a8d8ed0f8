//! Pure but for its memory: a spec is checked and planned when it or a Topic changes, and not in every pass: planning
//! costs more than all the rest of one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use freshet_crds::{StreamJob, Topic};
use kube::ResourceExt;

use super::validate::{Refusal, Valid, validate};
use crate::context::Context;

/// What was found in specs, by the UID of the job.
#[derive(Debug, Default)]
pub struct Remembered(Mutex<HashMap<String, Answer>>);

/// The generations of a job and of the Topics of its namespace: specs don't change without them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Versions {
    job: Option<i64>,
    topics: Vec<(String, Option<String>, Option<i64>)>,
}

/// What was found, and in which versions.
type Answer = (Versions, Result<Valid, Refusal>);

impl Remembered {
    /// As [`validate`].
    ///
    /// # Errors
    /// As [`validate`].
    pub fn validate(&self, job: &StreamJob, topics: &[Arc<Topic>], context: &Context) -> Result<Valid, Refusal> {
        let mut seen: Vec<_> =
            topics.iter().map(|topic| (topic.name_any(), topic.uid(), topic.metadata.generation)).collect();
        seen.sort();
        let versions = Versions { job: job.metadata.generation, topics: seen };
        let uid = job.uid().unwrap_or_default();
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, found)) = lock().get(&uid)
            && *known == versions
        {
            return found.clone();
        }
        let found = validate(job, topics, &context.config, &context.cluster_id);
        lock().insert(uid, (versions, found.clone()));
        found
    }

    /// The job is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}
