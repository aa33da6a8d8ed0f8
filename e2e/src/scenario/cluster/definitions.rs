//! Freshet's own resources on an API server: their definitions applied, and manifests sent as a user's file has them.

use std::time::Duration;

use freshet_crds::definition::definitions;
use kube::core::Status;

use super::kubernetes::{Kubernetes, refusal};
use crate::LabError;

/// How long the API server may take to serve a new kind.
const DEADLINE: Duration = Duration::from_secs(60);

/// A manifest as it stands in a file: the text, and what of it says where it belongs.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The YAML text.
    pub text: String,
    /// `apiVersion`, as the text has it.
    pub api_version: String,
    /// `kind`, as the text has it.
    pub kind: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
}

/// What an API server makes of a manifest.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It takes it.
    Accepted,
    /// It refuses it, and says why.
    Refused(Box<Status>),
    /// It has no such kind: a client does not know where to send it.
    NoSuchKind,
}

impl Verdict {
    /// All that it says, in one text.
    #[must_use]
    pub fn said(&self) -> String {
        match self {
            Self::Accepted => "accepted".to_owned(),
            Self::NoSuchKind => "no such kind".to_owned(),
            Self::Refused(status) => {
                let causes = status.details.iter().flat_map(|details| &details.causes);
                let causes = causes.map(|cause| format!("\n    {}: {}", cause.field, cause.message));
                format!("{} ({} {}){}", status.message, status.code, status.reason, causes.collect::<String>())
            }
        }
    }
}

impl Manifest {
    /// The manifests of a YAML text.
    #[must_use]
    pub fn split(text: &str) -> Vec<Self> {
        let documents = text.split("\n---").map(|document| document.trim_start_matches('-'));
        documents.filter(|document| document.lines().any(is_content)).map(Self::new).collect()
    }

    fn new(text: &str) -> Self {
        let value: serde_json::Value = serde_saphyr::from_str(text).unwrap_or_default();
        // A text that is no YAML as a whole is sent all the same: the server shall say so.
        let line = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.and_then(|line| line.split_whitespace().next()).unwrap_or_default().to_owned()
        };
        let namespace = value["metadata"]["namespace"].as_str().map(str::to_owned);
        Self { text: text.to_owned(), api_version: line("apiVersion"), kind: line("kind"), namespace }
    }
}

fn is_content(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

impl Kubernetes {
    /// Applies the definitions of all of Freshet's kinds, and waits until the server serves them.
    ///
    /// # Errors
    /// When the server refuses one, or does not serve it in time.
    pub fn apply_definitions(&self) -> Result<(), LabError> {
        for definition in definitions() {
            self.apply("default", &definition.yaml())?;
        }
        for definition in definitions() {
            let version = format!("freshet.dev/{}", version(&definition.json));
            let path = format!("/apis/{version}/{}", plural(&definition.json));
            self.wait_for(
                &format!("the API server to serve {}", definition.kind),
                DEADLINE,
                || Ok(self.get(&path).is_ok().then_some(())),
                || format!("{path}: {:?}", self.get(&path).map(drop)),
            )?;
        }
        Ok(())
    }

    /// The text at a path of the API.
    ///
    /// # Errors
    /// What the server answered.
    pub fn get(&self, path: &str) -> Result<String, LabError> {
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| LabError::Wrong(format!("{path}: {error}")))?;
        self.ask(&format!("getting {path}"), self.client().request_text(request))
    }

    /// Has the server judge the creation of a manifest, with all its rules, as `kubectl apply --dry-run=server` does:
    /// the text goes there as it is, and unknown or double fields are errors.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn judge(&self, manifest: &Manifest) -> Result<Verdict, LabError> {
        self.send(manifest, "POST", None, "dryRun=All&")
    }

    /// As [`Kubernetes::judge`], but it is created if it may be.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn submit(&self, manifest: &Manifest) -> Result<Verdict, LabError> {
        self.send(manifest, "POST", None, "")
    }

    /// Has the server judge the change of the resource `name` to a manifest.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn judge_change(&self, manifest: &Manifest, name: &str) -> Result<Verdict, LabError> {
        self.send(manifest, "APPLY", Some(name), "dryRun=All&")
    }

    fn send(&self, manifest: &Manifest, how: &str, name: Option<&str>, more: &str) -> Result<Verdict, LabError> {
        let known = definitions().into_iter().find(|definition| {
            definition.kind == manifest.kind
                && manifest.api_version == format!("freshet.dev/{}", version(&definition.json))
        });
        let Some(definition) = known else { return Ok(Verdict::NoSuchKind) };
        let namespace = manifest.namespace.as_deref().unwrap_or("default");
        let mut path = format!("/apis/{}/namespaces/{namespace}/{}", manifest.api_version, plural(&definition.json));
        if let Some(name) = name {
            path = format!("{path}/{name}");
        }
        let (method, media) = match how {
            "APPLY" => ("PATCH", "application/apply-patch+yaml"),
            other => (other, "application/yaml"),
        };
        let manager = if how == "APPLY" { "&force=true" } else { "" };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{path}?{more}fieldValidation=Strict&fieldManager={}{manager}", super::kubernetes::MANAGER))
            .header(http::header::CONTENT_TYPE, media)
            .header(http::header::ACCEPT, "application/json")
            .body(manifest.text.clone().into_bytes())
            .map_err(|error| LabError::Wrong(format!("{path}: {error}")))?;
        match self.ask(&format!("{method} {path}"), self.client().request_text(request)) {
            Ok(_) => Ok(Verdict::Accepted),
            Err(error) => match refusal(&error) {
                // What has no place on the server (404) or no rights (403) was not judged.
                Some(status) if matches!(status.code, 400 | 422) => Ok(Verdict::Refused(Box::new(status.clone()))),
                _ => Err(error),
            },
        }
    }
}

fn version(definition: &serde_json::Value) -> &str {
    definition["spec"]["versions"][0]["name"].as_str().unwrap_or_default()
}

fn plural(definition: &serde_json::Value) -> &str {
    definition["spec"]["names"]["plural"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_split_into_its_manifests() {
        let text = "# a comment\napiVersion: freshet.dev/v1alpha1\nkind: Topic #! wrong\nmetadata: {name: a, namespace: b}\n---\n\
                    # only a comment\n---\napiVersion: v1\nkind: Namespace\nspec:\n\tbroken: yes\n";
        let manifests = Manifest::split(text);
        let told: Vec<_> = manifests.iter().map(|one| (one.kind.as_str(), one.namespace.as_deref())).collect();
        assert_eq!(told, [("Topic", Some("b")), ("Namespace", None)]);
        assert_eq!(manifests[0].api_version, "freshet.dev/v1alpha1");
    }
}
