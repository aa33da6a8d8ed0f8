//! Pure but for its memory: a spec is checked and planned when it or a Topic that it names changes, and not in every
//! pass: planning costs more than all the rest of one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use freshet_crds::{StreamJob, Topic};
use kube::ResourceExt;

use super::validate::{Refusal, Valid, names, validate};
use crate::context::Context;
use crate::watch::Watched;

/// What was found in specs, by the UID of the job.
#[derive(Debug, Default)]
pub struct Remembered {
    answers: Mutex<HashMap<String, Answer>>,
    /// How often Topics have changed.
    topics: AtomicU64,
}

/// What was found, and in which versions.
#[derive(Debug)]
struct Answer {
    /// The job's generation: its spec does not change without it.
    job: Option<i64>,
    /// The Topics that it names, with UID and generation.
    topics: Vec<(String, Option<String>, Option<i64>)>,
    /// How often Topics had changed when these were compared last.
    compared: u64,
    found: Result<Valid, Refusal>,
}

impl Remembered {
    /// As [`validate`], over the Topics of the job's namespace.
    ///
    /// # Errors
    /// As [`validate`].
    pub fn validate(&self, job: &StreamJob, topics: &Watched<Topic>, context: &Context) -> Result<Valid, Refusal> {
        let uid = job.uid().unwrap_or_default();
        // Before it is looked at the Topics: one that changes meanwhile makes the next pass look again.
        let changes = self.topics.load(Ordering::Acquire);
        let lock = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&uid)
            && known.job == job.metadata.generation
            && known.compared == changes
        {
            return known.found.clone();
        }
        let namespace = job.namespace();
        let named = topics.store.state_filter(|topic| topic.namespace() == namespace && names(&job.spec, topic));
        let versions = versions(&named);
        if let Some(known) = lock().get_mut(&uid)
            && known.job == job.metadata.generation
            && known.topics == versions
        {
            known.compared = changes;
            return known.found.clone();
        }
        let found = validate(job, &named, &context.config, &context.cluster_id);
        let answer = Answer { job: job.metadata.generation, topics: versions, compared: changes, found: found.clone() };
        lock().insert(uid, answer);
        found
    }

    /// A Topic has changed.
    pub fn topic_changed(&self) {
        self.topics.fetch_add(1, Ordering::AcqRel);
    }

    /// The job is gone.
    pub fn forget(&self, uid: &str) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

fn versions(topics: &[Arc<Topic>]) -> Vec<(String, Option<String>, Option<i64>)> {
    let mut versions: Vec<_> =
        topics.iter().map(|topic| (topic.name_any(), topic.uid(), topic.metadata.generation)).collect();
    versions.sort();
    versions
}
