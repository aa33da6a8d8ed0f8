//! Pure but for its memory: a spec is checked and planned when it or a Topic that it names changes, and not in every
//! pass: planning costs more than all the rest of one.

use std::collections::HashMap;
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
    topics: Mutex<Topics>,
}

/// How often Topics have changed.
#[derive(Debug, Default)]
struct Topics {
    /// Any of them may have.
    all: u64,
    /// One that the job names, by the job's UID.
    of_job: HashMap<String, u64>,
}

/// What was found, and in which versions.
#[derive(Debug)]
struct Answer {
    /// The job's generation: its spec does not change without it.
    job: Option<i64>,
    /// The Topics that it names, with UID and generation.
    topics: Vec<(String, Option<String>, Option<i64>)>,
    /// How often the job's Topics had changed when these were compared last.
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
        let changes = self.topics_of(&uid);
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

    /// A Topic has changed that the job with this UID names.
    pub fn topic_changed(&self, uid: &str) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        match topics.of_job.get_mut(uid) {
            Some(changes) => *changes += 1,
            None => drop(topics.of_job.insert(uid.to_owned(), 1)),
        }
    }

    /// Any Topic may have changed.
    pub fn topics_changed(&self) {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).all += 1;
    }

    /// How often the Topics of the job with this UID have changed: it never comes back to a number.
    #[must_use]
    pub fn topics_of(&self, uid: &str) -> u64 {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.all + topics.of_job.get(uid).copied().unwrap_or(0)
    }

    /// The job is gone.
    pub fn forget(&self, uid: &str) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).of_job.remove(uid);
    }
}

fn versions(topics: &[Arc<Topic>]) -> Vec<(String, Option<String>, Option<i64>)> {
    let mut versions: Vec<_> =
        topics.iter().map(|topic| (topic.name_any(), topic.uid(), topic.metadata.generation)).collect();
    versions.sort();
    versions
}
