//! Pure: which Topics name one Kafka topic, and whose it is.
//!
//! The oldest Topic that may write has the claim; Topics that only observe claim nothing. The API server tells ages in
//! whole seconds: of two made in the same one, the Topic has it that already knows its Kafka topic. Whether two addresses are
//! one cluster is known by the cluster's id once both have answered, and by the address until then.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use freshet_crds::{ManagementPolicy, Topic};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::wanted::{Access, access, kafka_name};

/// A Topic's claim. The order is by age: the smallest has the Kafka topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    since: Time,
    /// Whether its Kafka topic is still to be made or taken over.
    seeks: bool,
    namespace: String,
    name: String,
    access: Option<Access>,
    observes: bool,
}

impl Claim {
    /// The claim of `topic`; `default` are the brokers of Topics that name none.
    #[must_use]
    pub fn of(topic: &Topic, default: Option<&str>) -> Self {
        let created = topic.metadata.creation_timestamp.clone();
        Self {
            since: created.unwrap_or_else(|| crate::clock::time(0)),
            seeks: topic.status.as_ref().is_none_or(|status| status.topic_id.is_none()),
            namespace: topic.namespace().unwrap_or_default(),
            name: topic.name_any(),
            access: access(topic, default),
            observes: topic.spec.management_policy == Some(ManagementPolicy::Observe),
        }
    }

    /// Its Topic, as namespace/name.
    #[must_use]
    pub fn who(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn same_topic(&self, other: &Self) -> bool {
        self.namespace == other.namespace && self.name == other.name
    }
}

/// All claims, by the Kafka topic's name. Shared by everybody who holds it.
#[derive(Debug, Default)]
pub struct Claims(Mutex<ByTopic>);

/// By the Kafka topic's name, then by namespace and name of the Topic.
type ByTopic = HashMap<String, BTreeMap<(String, String), Claim>>;

impl Claims {
    /// Takes note of a Topic that is there.
    pub fn note(&self, topic: &Topic, default: Option<&str>) {
        let claim = Claim::of(topic, default);
        let key = (claim.namespace.clone(), claim.name.clone());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(kafka_name(topic)).or_default().insert(key, claim);
    }

    /// Takes note of `topics` and forgets all others.
    pub fn rebuild<'a>(&self, topics: impl Iterator<Item = &'a Topic>, default: Option<&str>) {
        let fresh = Self::default();
        topics.for_each(|topic| fresh.note(topic, default));
        // At once: nobody may see a Topic without its rivals.
        let fresh = fresh.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// Forgets a Topic that is gone, and gives those that named the same Kafka topic.
    pub fn forget(&self, topic: &Topic) -> Vec<ObjectRef<Topic>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = kafka_name(topic);
        let Some(claims) = all.get_mut(&name) else { return Vec::new() };
        claims.remove(&(topic.namespace().unwrap_or_default(), topic.name_any()));
        let others = claims.values().map(|claim| ObjectRef::new(&claim.name).within(&claim.namespace)).collect();
        if claims.is_empty() {
            all.remove(&name);
        }
        others
    }

    /// The other Topics that name the Kafka topic of `own`, oldest first; `id` gives a cluster's id where it is
    /// known.
    #[must_use]
    pub fn others(&self, kafka: &str, own: &Claim, id: impl Fn(&Access) -> Option<String>) -> Vec<Claim> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let claims = all.get(kafka).into_iter().flat_map(BTreeMap::values);
        let same_cluster = |other: &Claim| match (&own.access, &other.access) {
            (Some(a), Some(b)) => a == b || id(a).is_some_and(|known| id(b) == Some(known)),
            _ => false,
        };
        let mut others: Vec<Claim> =
            claims.filter(|other| !other.same_topic(own) && same_cluster(other)).cloned().collect();
        others.sort();
        others
    }
}

/// The oldest of `others` that comes before `own` and may write, as namespace/name.
#[must_use]
pub fn rival(own: &Claim, others: &[Claim]) -> Option<String> {
    others.iter().find(|other| !other.observes && *other < own).map(Claim::who)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn topic(namespace: &str, name: &str, age: &str, spec: &serde_json::Value) -> Topic {
        serde_json::from_value(json!({
            "apiVersion": freshet_crds::API_VERSION, "kind": "Topic", "spec": spec,
            "metadata": { "name": name, "namespace": namespace, "creationTimestamp": format!("2026-01-01T00:00:{age}Z") }
        }))
        .expect("a Topic")
    }

    #[test]
    fn the_oldest_that_may_write_has_the_topic() {
        let spec = json!({ "topicName": "t", "kafka": { "bootstrapServers": "a:1" } });
        let observe =
            json!({ "topicName": "t", "kafka": { "bootstrapServers": "a:1" }, "managementPolicy": "Observe" });
        let elsewhere = json!({ "topicName": "t", "kafka": { "bootstrapServers": "b:1" } });
        let eldest = topic("x", "watcher", "00", &observe);
        let old = topic("x", "old", "01", &spec);
        let young = topic("a", "young", "02", &spec);
        let twin = topic("a", "twin", "02", &spec);
        let other = topic("x", "other", "00", &elsewhere);
        let claims = Claims::default();
        for topic in [&eldest, &old, &young, &twin, &other] {
            claims.note(topic, None);
        }
        let rival_of = |topic: &Topic, id: &dyn Fn(&Access) -> Option<String>| {
            let own = Claim::of(topic, None);
            rival(&own, &claims.others("t", &own, id))
        };
        let unknown = |_: &Access| None;
        assert_eq!(rival_of(&old, &unknown), None, "one that observes claims nothing");
        assert_eq!(rival_of(&young, &unknown).as_deref(), Some("x/old"));
        assert_eq!(rival_of(&twin, &unknown).as_deref(), Some("x/old"));
        assert_eq!(rival_of(&other, &unknown), None);
        // Two addresses turn out to be one cluster.
        let one = |_: &Access| Some("cluster".to_owned());
        assert_eq!(rival_of(&old, &one).as_deref(), Some("x/other"));
        let told = claims.forget(&old);
        assert_eq!(told.len(), 4);
        assert_eq!(rival_of(&young, &unknown).as_deref(), Some("a/twin"), "of one age, the first by name");

        // One of them made the Kafka topic: the other is no older for its name.
        let mut young = young;
        young.status = Some(freshet_crds::TopicStatus { topic_id: Some("id".to_owned()), ..Default::default() });
        claims.note(&young, None);
        assert_eq!(rival_of(&young, &unknown), None);
        assert_eq!(rival_of(&twin, &unknown).as_deref(), Some("a/young"));
    }
}
