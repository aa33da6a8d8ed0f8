//! Pure but for its memory: what the API server makes of what is applied. It writes some values otherwise (`1000m` of a
//! processor as `1`), and a hook may change others; what it answered to a write is as good as what was written, or
//! it would be written again in every pass. And what was found right once is not compared again while nothing of it
//! has changed: of a thousand jobs almost all are as they should be.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use freshet_crds::StreamJob;
use kube::ResourceExt;
use serde_json::Value;

use super::build::{Child, ChildKind, differs};

/// What is known, by the job's UID.
#[derive(Debug, Default)]
pub struct Shapes(Mutex<HashMap<String, OfJob>>);

#[derive(Debug, Default)]
struct OfJob {
    /// The children that the API server wrote otherwise. Often there are none.
    shapes: HashMap<(ChildKind, String), Shape>,
    /// What the children hung on when they were all found as they should be.
    settled: Option<u64>,
}

/// Hashes alone: a StatefulSet in JSON takes tens of KiB.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Of what was applied.
    applied: u64,
    /// Of what came of it, without what we don't name.
    answered: u64,
}

impl Shapes {
    /// `child` was applied, and `answer` came of it.
    pub fn learn(&self, job: &StreamJob, child: &Child, answer: &Value) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (child.kind, child.name.clone());
        let uid = job.uid().unwrap_or_default();
        if differs(&child.json, answer) {
            let shape = Shape { applied: hash(&child.json), answered: hash(&within(&child.json, answer)) };
            all.entry(uid).or_default().shapes.insert(key, shape);
        } else if let Some(of_job) = all.get_mut(&uid) {
            of_job.shapes.remove(&key);
        }
    }

    /// Whether `actual` is what came of `child` when it was applied last, as it is wanted now.
    #[must_use]
    pub fn is_known(&self, job: &StreamJob, child: &Child, actual: &Value) -> bool {
        let known = || {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(job.metadata.uid.as_ref()?)?.shapes.get(&(child.kind, child.name.clone())).copied()
        };
        known().is_some_and(|shape| {
            shape.applied == hash(&child.json) && shape.answered == hash(&within(&child.json, actual))
        })
    }

    /// All children were found as they should be; `stamp` stands for what they hang on and for their versions.
    pub fn settle(&self, job: &StreamJob, stamp: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(job.uid().unwrap_or_default()).or_default().settled = Some(stamp);
    }

    /// Whether they were found so with this very stamp: nothing needs to be compared.
    #[must_use]
    pub fn is_settled(&self, job: &StreamJob, stamp: u64) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_job = job.metadata.uid.as_ref().and_then(|uid| all.get(uid));
        of_job.is_some_and(|of_job| of_job.settled == Some(stamp))
    }

    /// The job is gone.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// The values of `answer` at the places that `desired` names.
fn within(desired: &Value, answer: &Value) -> Value {
    match (desired, answer) {
        (Value::Object(desired), Value::Object(answer)) => {
            let named = |(name, value): (&String, &Value)| Some((name.clone(), within(value, answer.get(name)?)));
            desired.iter().filter_map(named).collect()
        }
        (Value::Array(desired), Value::Array(answer)) if desired.len() == answer.len() => {
            desired.iter().zip(answer).map(|(desired, answer)| within(desired, answer)).collect()
        }
        _ => answer.clone(),
    }
}

/// Of two values that are equal whatever order their fields are written in.
fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    feed(value, &mut hasher);
    hasher.finish()
}

fn feed(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Object(fields) => {
            ('{', fields.len()).hash(hasher);
            let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in sorted {
                name.hash(hasher);
                feed(value, hasher);
            }
        }
        Value::Array(values) => {
            ('[', values.len()).hash(hasher);
            values.iter().for_each(|value| feed(value, hasher));
        }
        plain => plain.to_string().hash(hasher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_server_wrote_otherwise_is_known_until_something_else_is_wanted() {
        let job: StreamJob = serde_json::from_value(json!({
            "apiVersion": freshet_crds::API_VERSION, "kind": "StreamJob", "metadata": { "name": "j", "uid": "1" },
            "spec": { "sql": "" }
        }))
        .expect("a StreamJob");
        let child = |cpu: &str| Child {
            kind: ChildKind::StatefulSet,
            name: "j".to_owned(),
            json: json!({ "spec": { "cpu": cpu, "list": [{ "name": "a" }] } }),
        };
        let answer = json!({ "spec": { "cpu": "1", "list": [{ "name": "a", "default": 3 }], "more": true } });
        let shapes = Shapes::default();
        shapes.learn(&job, &child("1"), &answer);
        assert!(!shapes.is_known(&job, &child("1"), &answer), "nothing was written otherwise");
        shapes.learn(&job, &child("1000m"), &answer);
        assert!(shapes.is_known(&job, &child("1000m"), &answer));
        let with_more = json!({ "spec": { "cpu": "1", "list": [{ "name": "a", "default": 4 }], "other": true } });
        assert!(shapes.is_known(&job, &child("1000m"), &with_more), "what we don't name is others'");
        let in_another_order = json!({ "spec": { "list": [{ "default": 3, "name": "a" }], "cpu": "1" } });
        assert!(shapes.is_known(&job, &child("1000m"), &in_another_order));
        for edited in [
            json!({ "spec": { "cpu": "2", "list": [{ "name": "a" }] } }),
            json!({ "spec": { "cpu": "1", "list": [{ "name": "b" }] } }),
            json!({ "spec": { "cpu": "1", "list": [{ "name": "a" }, { "name": "b" }] } }),
            json!({ "spec": { "list": [{ "name": "a" }] } }),
        ] {
            assert!(!shapes.is_known(&job, &child("1000m"), &edited), "{edited}");
        }
        assert!(!shapes.is_known(&job, &child("2000m"), &answer));
        shapes.forget("1");
        assert!(!shapes.is_known(&job, &child("1000m"), &answer));
    }
}
