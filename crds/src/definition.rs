//! The CustomResourceDefinitions as JSON and as YAML.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::{StreamJob, Topic};

/// A kind's definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// For instance `StreamJob`.
    pub kind: &'static str,
    /// The name of its committed file: `streamjobs.yaml`.
    pub file: &'static str,
    /// The whole CustomResourceDefinition.
    pub json: Value,
}

impl Definition {
    /// The structural schema (`openAPIV3Schema`) of the one version: the root object with `apiVersion`,
    /// `kind`, `metadata`, `spec` and `status`.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    }

    /// The committed files, from the top of the checkout: for `kubectl apply -f crds/`, and for the chart, which can
    /// only read what lies in its own folder.
    #[must_use]
    pub fn paths(&self) -> [String; 2] {
        ["crds", "charts/freshet/files/crds"].map(|folder| format!("{folder}/{}", self.file))
    }

    /// The text of the committed files.
    #[must_use]
    pub fn yaml(&self) -> String {
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        let body = serde_saphyr::to_string_with_options(&self.json, options)
            .expect("a definition is plain JSON, which YAML can always hold");
        format!("# Generated from the types in crds/src by `crdgen`; edit those.\n{body}")
    }
}

/// The definitions of all kinds.
#[must_use]
pub fn definitions() -> Vec<Definition> {
    vec![
        Definition { kind: "Topic", file: "topics.yaml", json: tidy(&Topic::crd()) },
        Definition { kind: "StreamJob", file: "streamjobs.yaml", json: tidy(&StreamJob::crd()) },
    ]
}

/// As JSON, without `nullable` (an absent field is absent; null is a mistake worth hearing of), empty lists
/// and titles, and with whole numbers for bounds.
fn tidy(definition: &CustomResourceDefinition) -> Value {
    let mut json = serde_json::to_value(definition).expect("a definition is made of JSON's types only");
    clean(&mut json);
    unseen(&mut json);
    json
}

/// A resource that no operator has looked at has a status that says so. Without one kstatus, and with it Flux and kpt,
/// would call it current the moment it is applied.
fn unseen(definition: &mut Value) {
    let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status";
    if let Some(status) = definition.pointer_mut(status).and_then(Value::as_object_mut) {
        status.insert("default".to_owned(), json!({ "observedGeneration": crate::status::never_observed() }));
    }
}

fn clean(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("nullable");
            fields.retain(|name, field| {
                let empty = matches!(field, Value::Array(items) if items.is_empty());
                let title = name == "title" && field.is_string();
                !empty && !title
            });
            for bound in ["minimum", "maximum"] {
                if let Some(number) = fields.get_mut(bound)
                    && let Some(value) = number.as_f64().filter(|value| value.fract() == 0.0)
                {
                    *number = (value as i64).into();
                }
            }
            // Doc comments are wrapped for reading in the source; a description is one paragraph.
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            fields.values_mut().for_each(clean);
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}
