//! A node: containerd, kubelet and kube-proxy on a host of their own.

use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::Node as NodeObject;

use crate::LabError;
use crate::install::{self, KubernetesProgram, installed_containerd};

use super::address::{POD_CIDR, node, pods_of};
use super::api::{daemon, inner_url};
use super::arguments::DNS_SERVICE;
use super::client::{client, wait_for};
use super::fill;
use super::host::{Daemon, Host, run_on};
use super::images::{PAUSE, import_all};
use super::kubeconfig::write_kubeconfig;
use super::marks::started_at;
use super::part::{Part, Readiness};
use super::pki::Identity;
use super::site::Site;

/// Where the machine's control groups are.
pub const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// Watches of files that a node needs at least; the machine's own setting is raised to it.
const WATCHERS: u32 = 1024;

/// The name of node `number`, from 1.
#[must_use]
pub fn name(number: u8) -> String {
    format!("n{number}")
}

fn host(number: u8) -> Host {
    Host { pods: Some(pods_of(number)), ..Host::new(name(number), node(number)) }
}

/// What runs containers on a node.
#[derive(Debug, Clone, Copy)]
pub struct Runtime {
    /// The node's number, from 1.
    pub node: u8,
}

impl Part for Runtime {
    fn name(&self) -> String {
        format!("containerd of {}", name(self.node))
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::Cluster]
    }

    fn places(&self) -> Vec<String> {
        ["host", "containerd"].map(|server| format!("{}/{server}", name(self.node))).to_vec()
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        allow_watchers()?;
        let host = host(self.node);
        host.start(site)?;
        let programs = installed_containerd(site.cache())?;
        let network = site.configure(&host.name, "net.d/10-lab.conflist", &network(self.node))?;
        let network = network.parent().unwrap_or(&network);
        let config = site.configure(&host.name, "containerd.toml", &containerd_config(network))?;
        let path = std::env::var("PATH").unwrap_or_default();
        Daemon {
            host: host.name,
            name: "containerd".to_owned(),
            program: programs.join("containerd"),
            arguments: vec![format!("--config={}", config.display())],
            // It finds its shim, runc and the plugins' iptables by it.
            environment: vec![("PATH".to_owned(), format!("{}:/usr/sbin:/sbin:{path}", programs.display()))],
        }
        .start(site)
    }

    fn ready(&self, site: &Site) -> Readiness {
        if !host(self.node).is_up(site) {
            return Readiness::NotYet("its host is not connected".to_owned());
        }
        ctr(site, self.node, &["version"]).map(drop).map_err(|error| error.to_string()).into()
    }
}

/// Runs `ctr` on a node, for what Kubernetes runs there.
pub(super) fn ctr(site: &Site, number: u8, arguments: &[&str]) -> Result<String, LabError> {
    let program = installed_containerd(site.cache())?.join("ctr").display().to_string();
    let all: Vec<&str> = ["-n", "k8s.io"].iter().chain(arguments).copied().collect();
    run_on(site, &name(number), &program, &all)
}

/// What makes pods of what the API server says: kubelet, and kube-proxy for Services.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// Its number, from 1.
    pub number: u8,
}

impl Part for Node {
    fn name(&self) -> String {
        format!("node {}", name(self.number))
    }

    fn needs(&self) -> &'static [install::Part] {
        &[install::Part::Cluster]
    }

    fn places(&self) -> Vec<String> {
        ["kubelet", "kube-proxy"].map(|server| format!("{}/{server}", name(self.number))).to_vec()
    }

    fn start(&self, site: &Site) -> Result<(), LabError> {
        let (name, address, pki) = (name(self.number), node(self.number).to_string(), site.pki()?);
        import_all(site, self.number)?;
        let group = format!("{}-{name}", site.id());
        make_control_groups(Path::new(CONTROL_GROUPS), &group)?;

        let own = pki.certificate(Identity {
            file: &name,
            common_name: &format!("system:node:{name}"),
            organization: Some("system:nodes"),
            addresses: &[name.clone(), address.clone()],
        })?;
        let kubeconfig = site.config(&name, "kubelet.kubeconfig")?;
        write_kubeconfig(&kubeconfig, &inner_url(), &pki, &own)?;
        // Nobody outside of the cluster is looked up.
        let names = site.configure(&name, "resolv.conf", "nameserver 127.0.0.1\n")?;
        let settings = [
            ("GROUP", group),
            ("ADDRESS", address),
            ("AUTHORITY", pki.authority().certificate.display().to_string()),
            ("CERTIFICATE", own.certificate.display().to_string()),
            ("KEY", own.key.display().to_string()),
            ("DNS", DNS_SERVICE.to_owned()),
            ("NAMES", names.display().to_string()),
        ];
        let text = fill(include_str!("../../assets/cluster/kubelet.yaml"), &settings);
        let config = site.configure(&name, "kubelet.yaml", &text)?;
        let arguments = vec![
            format!("--config={}", config.display()),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", node(self.number)),
        ];
        daemon(site, &name, KubernetesProgram::Kubelet, arguments)?.start(site)?;

        let kubeconfig = site.config(&name, "kube-proxy.kubeconfig")?;
        let proxy = pki.client("kube-proxy", "system:kube-proxy", None)?;
        write_kubeconfig(&kubeconfig, &inner_url(), &pki, &proxy)?;
        let settings =
            [("KUBECONFIG", kubeconfig.display().to_string()), ("NAME", name.clone()), ("PODS", POD_CIDR.to_owned())];
        let text = fill(include_str!("../../assets/cluster/kube-proxy.yaml"), &settings);
        let config = site.configure(&name, "kube-proxy.yaml", &text)?;
        let arguments = vec![format!("--config={}", config.display())];
        daemon(site, &name, KubernetesProgram::Proxy, arguments)?.start(site)
    }

    fn ready(&self, site: &Site) -> Readiness {
        let name = name(self.number);
        wait_for(async {
            let client = client(&site.kubeconfig()).await.map_err(|error| error.to_string())?;
            let api: kube::Api<NodeObject> = kube::Api::all(client);
            let node = api.get_opt(&name).await.map_err(|error| error.to_string())?;
            let process = site.presence(&format!("{name}/kubelet")).process().ok_or("its kubelet does not run")?;
            let since = started_at(process).ok_or("its kubelet has ended")?;
            node_readiness(node.as_ref().ok_or("it has not registered itself")?, since)
        })
        .into()
    }
}

/// Whether a node says that it is ready, or why not. What it said before its kubelet was started, at second `since`, does
/// not count: the node may have died and come back.
fn node_readiness(node: &NodeObject, since: i64) -> Result<(), String> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    match conditions.clone().find(|condition| condition.type_ == "Ready") {
        Some(old) if old.last_heartbeat_time.as_ref().is_none_or(|time| time.0.as_second() < since) => {
            Err("it has said nothing since it was started".to_owned())
        }
        Some(ready) if ready.status == "True" => Ok(()),
        Some(ready) => Err(ready.message.clone().unwrap_or_else(|| "it gives no reason".to_owned())),
        None => Err("it has not said how it is".to_owned()),
    }
}

/// The network of a node's pods: a bridge, and addresses that nobody else has.
fn network(number: u8) -> String {
    let pods = pods_of(number);
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "lab",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
    .to_string()
}

fn containerd_config(network: &Path) -> String {
    format!(
        r#"version = 3
oom_score = 0

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE}"

[plugins."io.containerd.cri.v1.runtime"]
  # No machine without CAP_SYS_RESOURCE lets a process be spared from the out-of-memory killer.
  restrict_oom_score_adj = true
  disable_apparmor = true

  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
    conf_dir = "{}"

  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#,
        network.display()
    )
}

/// Makes a node's control group in every hierarchy, and gives it the processors and memory of its parent: kubelet
/// expects both.
fn make_control_groups(root: &Path, group: &str) -> Result<(), LabError> {
    // With version 2 alone, kubelet makes its groups by itself.
    if root.join("cgroup.controllers").exists() {
        return Ok(());
    }
    let hierarchies = fs::read_dir(root).map_err(LabError::file("listing", root))?.flatten();
    for hierarchy in hierarchies.map(|entry| entry.path()) {
        // The hierarchy of version 2 beside those of version 1 has no controllers; links name hierarchies twice.
        if hierarchy.is_symlink() || !hierarchy.join("tasks").exists() {
            continue;
        }
        let folder = hierarchy.join(group);
        fs::create_dir_all(&folder).map_err(LabError::file("making", &folder))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (from, to) = (hierarchy.join(file), folder.join(file));
            if from.exists() {
                let value = fs::read_to_string(&from).map_err(LabError::file("reading", &from))?;
                fs::write(&to, value).map_err(LabError::file("writing", &to))?;
            }
        }
    }
    Ok(())
}

/// Raises how many watches of files a user may have. It is the one setting of the machine itself that the cluster
/// changes: every node has its own kubelet, containerd and shims, all of one user.
fn allow_watchers() -> Result<(), LabError> {
    let path = Path::new("/proc/sys/fs/inotify/max_user_instances");
    let now = fs::read_to_string(path).map_err(LabError::file("reading", path))?;
    if now.trim().parse::<u32>().is_ok_and(|now| now >= WATCHERS) {
        return Ok(());
    }
    fs::write(path, WATCHERS.to_string()).map_err(LabError::file("writing", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::Scratch;

    #[test]
    fn what_a_node_said_in_an_earlier_life_does_not_count() {
        let node: NodeObject = serde_json::from_value(serde_json::json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": "1970-01-01T00:01:40Z"},
        ]}}))
        .expect("a node");
        assert_eq!(node_readiness(&node, 100), Ok(()));
        assert!(node_readiness(&node, 101).is_err());
        assert!(node_readiness(&NodeObject::default(), 0).is_err());
    }

    #[test]
    fn every_setting_of_a_template_is_filled() {
        for template in
            [include_str!("../../assets/cluster/kubelet.yaml"), include_str!("../../assets/cluster/kube-proxy.yaml")]
        {
            let names =
                ["GROUP", "ADDRESS", "AUTHORITY", "CERTIFICATE", "KEY", "DNS", "NAMES", "KUBECONFIG", "NAME", "PODS"];
            let filled = fill(template, &names.map(|name| (name, "value".to_owned())));
            assert!(!filled.contains('@'), "{filled}");
        }
    }

    #[test]
    fn a_group_is_made_in_every_hierarchy_and_gets_its_parents_processors() {
        let scratch = Scratch::new("groups").expect("a scratch folder");
        let root = scratch.path();
        for hierarchy in ["cpuset", "memory", "unified"] {
            fs::create_dir(root.join(hierarchy)).expect("it can be made");
        }
        for file in ["cpuset/tasks", "memory/tasks", "cpuset/cpuset.mems"] {
            fs::write(root.join(file), "0").expect("it can be written");
        }
        fs::write(root.join("cpuset/cpuset.cpus"), "0-1").expect("it can be written");
        make_control_groups(root, "freshet-1-n1").expect("they are made");
        make_control_groups(root, "freshet-1-n1").expect("they are there");
        let cpus = fs::read_to_string(root.join("cpuset/freshet-1-n1/cpuset.cpus"));
        assert_eq!(cpus.expect("it was copied"), "0-1");
        assert!(root.join("memory/freshet-1-n1").is_dir());
        assert!(!root.join("unified/freshet-1-n1").exists(), "the hierarchy of version 2 has no controllers here");
    }
}
