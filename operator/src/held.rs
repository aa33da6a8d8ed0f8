//! Pure: an object as a store keeps it of which there are many and little is read: its metadata, as far as they say whose
//! it is, and all of it as text. As the API's own types a StatefulSet takes about five times as much, most of it room for
//! fields that nobody has set; it is made one again where it is looked at as a whole, which is rare.

use std::borrow::Cow;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Deserializer};
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Takes away what nobody reads.
pub trait Trim {
    /// Does it. By itself nothing.
    fn trim(&mut self) {}
}

/// An object of the kind `K`, as text.
#[derive(Debug, Clone)]
pub struct Held<K> {
    meta: ObjectMeta,
    json: Box<str>,
    kind: PhantomData<fn() -> K>,
}

impl<K: DeserializeOwned> Held<K> {
    /// The object, but for what was trimmed. Nothing, if it can't be read: it was before it was written down.
    #[must_use]
    pub fn object(&self) -> Option<K> {
        serde_json::from_str(&self.json)
            .inspect_err(|error| tracing::error!(%error, "an object can't be read that was"))
            .ok()
    }
}

impl<K> Held<K> {
    /// The object as JSON, but for what was trimmed.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or_default()
    }
}

/// What says whose an object is, and in which version it is there.
fn brief(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        labels: meta.labels.clone(),
        owner_references: meta.owner_references.clone(),
        creation_timestamp: meta.creation_timestamp.clone(),
        deletion_timestamp: meta.deletion_timestamp.clone(),
        ..ObjectMeta::default()
    }
}

impl<'de, K> Deserialize<'de> for Held<K>
where
    K: DeserializeOwned + Serialize + Resource + Trim,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut object = K::deserialize(deserializer)?;
        object.meta_mut().managed_fields = None;
        object.trim();
        let json = serde_json::to_string(&object).map_err(D::Error::custom)?;
        Ok(Self { meta: brief(object.meta()), json: json.into_boxed_str(), kind: PhantomData })
    }
}

impl<K> Serialize for Held<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<Value>(&self.json).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<K: Resource> Resource for Held<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }

    fn group(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }

    fn version(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }

    fn plural(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_as_it_was_but_for_its_managed_fields() {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "a", "namespace": "n", "uid": "1", "resourceVersion": "7", "labels": { "b": "c" },
                "annotations": { "d": "e" }, "managedFields": [{ "manager": "m" }],
            },
            "spec": { "clusterIP": "None", "ports": [{ "port": 1 }] },
        });
        let held: Held<Service> = serde_json::from_value(service.clone()).expect("a Service");
        let mut without = service;
        without["metadata"].as_object_mut().expect("metadata").remove("managedFields");
        assert_eq!(held.json(), without);
        assert_eq!(serde_json::to_value(&held).expect("JSON"), without);
        let meta = held.meta();
        assert_eq!((meta.name.as_deref(), meta.resource_version.as_deref()), (Some("a"), Some("7")));
        assert_eq!((&meta.annotations, &meta.managed_fields), (&None, &None));
        assert_eq!(serde_json::to_value(held.object()).expect("JSON"), without);
        assert_eq!((Held::<Service>::kind(&()), Held::<Service>::plural(&())), ("Service".into(), "services".into()));
    }
}
