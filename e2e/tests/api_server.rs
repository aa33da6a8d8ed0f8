//! Level: real API server. The harness itself: one is ready, keeps its objects through kills, and leaves nothing.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test ends at the first surprise")]

use std::net::TcpStream;

use freshet_e2e::cluster::{ApiServer, ApiServerOptions, SharedApiServer, client, wait_for};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

fn config_map(name: &str) -> ConfigMap {
    ConfigMap { metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() }, ..Default::default() }
}

#[test]
fn an_api_server_keeps_its_objects_through_kills_and_leaves_nothing() {
    let mut server = ApiServer::start_temporary(&ApiServerOptions::default()).unwrap();
    let folder = server.folder().to_owned();
    let kubeconfig = server.kubeconfig().to_owned();
    let there = || {
        wait_for(async {
            let api: Api<ConfigMap> = Api::default_namespaced(client(&kubeconfig).await.unwrap());
            api.get("kept").await.unwrap().metadata.uid.unwrap()
        })
    };
    let version = wait_for(async {
        let client = client(&kubeconfig).await.unwrap();
        let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
        api.create(&PostParams::default(), &config_map("kept")).await.unwrap();
        client.apiserver_version().await.unwrap().git_version
    });
    assert_eq!(version, "v1.36.3");
    let first = there();
    server.kill9();
    server.restart().unwrap();
    assert_eq!(there(), first);
    server.kill9_database();
    server.restart_database().unwrap();
    assert_eq!(there(), first);

    let address = server.url().strip_prefix("https://").unwrap().to_owned();
    drop(server);
    assert!(TcpStream::connect(address).is_err(), "a dropped API server answers");
    assert!(!folder.exists(), "{} is left", folder.display());
}

#[test]
fn controllers_give_each_namespace_its_service_account() {
    let server = ApiServer::start_temporary(&ApiServerOptions { controllers: true }).unwrap();
    wait_for(async {
        let api: Api<ServiceAccount> = Api::default_namespaced(client(server.kubeconfig()).await.unwrap());
        let made =
            kube::runtime::wait::await_condition(api, "default", |account: Option<&ServiceAccount>| account.is_some());
        tokio::time::timeout(std::time::Duration::from_secs(60), made).await.expect("within a minute").unwrap();
    });
}

/// Two tests that see the same server: whoever comes second finds the first one's.
fn shared() {
    wait_for(async {
        let client = SharedApiServer::get().client().await;
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        let name = format!("shared-{}", std::process::id());
        api.create(&PostParams::default(), &config_map(&name)).await.unwrap();
        api.delete(&name, &Default::default()).await.unwrap();
    });
}

#[test]
fn a_shared_api_server_serves_one_test() {
    shared();
}

#[test]
fn a_shared_api_server_serves_another_test() {
    shared();
}
