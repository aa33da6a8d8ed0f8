//! What a client needs to be let in, as Secrets in the namespace of the servers: a test copies them into its own.

use std::collections::BTreeMap;
use std::fs;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::LabError;
use crate::install;

use super::super::address::SERVERS_NAMESPACE;
use super::super::client::{client, wait_for};
use super::super::part::{Part, Readiness};
use super::super::site::Site;
use super::credentials;

/// The Secrets: each is named after a server, and holds the files of its credentials.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// The servers.
    pub servers: Vec<&'static str>,
}

/// The files of a server's credentials: names and texts.
fn files(site: &Site, server: &str) -> Result<BTreeMap<String, String>, LabError> {
    let folder = credentials(site, server);
    let all = fs::read_dir(&folder).map_err(LabError::file("listing", &folder))?.flatten().map(|entry| entry.path());
    // What is half-written has another name, and what is only for the server another ending.
    let whole = all.filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| ["username", "password", "ca.crt"].contains(&name))
    });
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        super::super::pki::read(&path).map(|text| (name, text))
    };
    whole.map(read).collect()
}

impl Part for Secrets {
    fn name(&self) -> String {
        "Secrets of servers".to_owned()
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::ApiServer]
    }

    fn places(&self) -> Vec<String> {
        Vec::new()
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        let secret = |server: &&'static str| {
            let data = files(site, server)?;
            Ok(json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": server, "namespace": SERVERS_NAMESPACE},
                "stringData": data,
            }))
        };
        let items = self.servers.iter().map(secret).collect::<Result<Vec<_>, LabError>>()?;
        let all = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        super::super::dns::apply(site, "secrets.yaml", &all)
    }

    fn ready(&self, site: &Site) -> Readiness {
        wait_for(async {
            let client = client(&site.kubeconfig()).await.map_err(|error| error.to_string())?;
            let api: kube::Api<Secret> = kube::Api::namespaced(client, SERVERS_NAMESPACE);
            for server in &self.servers {
                let there = api.get_opt(server).await.map_err(|error| error.to_string())?;
                let there = there.and_then(|secret| secret.data).unwrap_or_default();
                let wanted = files(site, server).map_err(|error| error.to_string())?;
                let same = wanted.iter().all(|(name, text)| there.get(name) == Some(&ByteString(text.clone().into())));
                if !same {
                    return Err(format!("the Secret {server} is not as the files are"));
                }
            }
            Ok(())
        })
        .into()
    }

    fn stop(&self, _site: &Site) -> Result<(), LabError> {
        Ok(())
    }
}
