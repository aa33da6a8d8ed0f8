//! A Lease that is skewed, while real operators lead by it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use freshet_e2e::cluster::SharedApiServer;
use freshet_e2e::faults::{Skew, skew_lease};
use freshet_e2e::scenario::cluster::{Kubernetes, from_json};
use freshet_e2e::scenario::sibling_binary;
use freshet_e2e::servers::process::{ServerProcess, Undertaking};
use freshet_e2e::servers::{Scratch, free_port};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, PostParams};

const LEASE: &str = "skewed";
/// How long a Lease holds that is not renewed.
const HOLDS: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace with operators that lead by one Lease.
struct Stage {
    kubernetes: Kubernetes,
    namespace: String,
    scratch: Scratch,
}

impl Stage {
    fn new(name: &str) -> Self {
        let kubernetes = Kubernetes::new(&SharedApiServer::get().kubeconfig()).unwrap();
        kubernetes.apply_definitions().unwrap();
        let namespace = format!("{name}-{}", std::process::id());
        let own = from_json::<Namespace>(serde_json::json!({"metadata": {"name": namespace}}));
        let api: Api<Namespace> = Api::all(kubernetes.client());
        kubernetes.ask("making a namespace", api.create(&PostParams::default(), &own)).unwrap();
        let scratch = Scratch::new(name).unwrap();
        std::fs::write(scratch.path().join("key"), [7; 64]).unwrap();
        Self { kubernetes, namespace, scratch }
    }

    /// An operator's program, as in a pod.
    fn operator(&self, name: &str) -> ServerProcess {
        let program = sibling_binary("freshet-operator");
        assert!(program.exists(), "{} is not there: `cargo build --workspace` builds it", program.display());
        let (port, folder) = (free_port(), self.scratch.path());
        let mut command = Command::new(program);
        command.env("KUBECONFIG", self.kubernetes.kubeconfig());
        command.args(["--namespace", &self.namespace, "--watch-namespace", &self.namespace, "--identity", name]);
        command.args(["--lease", LEASE, "--lease-duration", &format!("{}s", HOLDS.as_secs())]);
        command.args(["--cluster-id", "cluster-1", "--kafka", "127.0.0.1:1", "--listen", &format!("127.0.0.1:{port}")]);
        command.arg("--control-key-file").arg(Path::new(folder).join("key"));
        let log = folder.join(format!("{name}.log"));
        let mut process = ServerProcess::spawn(name, command, &log, &Undertaking::default()).unwrap();
        let open = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        process.wait_until("its port to accept connections", PATIENCE, open).unwrap();
        process
    }

    fn holder(&self) -> String {
        let api: Api<Lease> = self.kubernetes.api(&self.namespace);
        let lease = self.kubernetes.ask("looking at the Lease", api.get_opt(LEASE)).unwrap();
        lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default()
    }

    fn until(&self, what: &str, mut reached: impl FnMut() -> bool) {
        let began = Instant::now();
        while !reached() {
            assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}, in vain; {} leads", self.holder());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn until_leads(&self, name: &str) {
        self.until(&format!("{name} to lead"), || self.holder() == name);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let api: Api<Namespace> = Api::all(self.kubernetes.client());
        self.kubernetes.block_on(api.delete(&self.namespace, &DeleteParams::background())).ok();
    }
}

#[test]
fn a_leader_whose_lease_another_seems_to_hold_ends_and_nobody_leads_until_that_is_over() {
    let stage = Stage::new("lease-stranger");
    let mut first = stage.operator("first");
    stage.until_leads("first");
    let mut second = stage.operator("second");
    let skew = Skew { seconds: 0, holder: Some("stranger") };
    let skewed = skew_lease(&stage.kubernetes, &stage.namespace, LEASE, skew).unwrap();
    stage.until("the first to end", || first.exit_status().is_some());
    // The stranger renews: the other one waits.
    let began = Instant::now();
    while began.elapsed() < HOLDS + HOLDS / 2 {
        assert_eq!(stage.holder(), "stranger");
        assert!(second.exit_status().is_none(), "one that does not lead has nothing to end for");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(skewed);
    // The Lease is the first one's again, who is gone: the second follows when it has ended.
    stage.until_leads("second");
    assert!(second.exit_status().is_none(), "{}", second.log_tail());
}

#[test]
fn a_leader_whose_clock_is_behind_is_followed_and_one_is_left_in_the_end() {
    let stage = Stage::new("lease-behind");
    let mut replicas = vec![("first", stage.operator("first"))];
    stage.until_leads("first");
    replicas.push(("second", stage.operator("second")));
    let skew = Skew { seconds: -3600, holder: None };
    let skewed = skew_lease(&stage.kubernetes, &stage.namespace, LEASE, skew).unwrap();
    // To everybody's eyes it ended long ago: the other one takes it, and the first one ends.
    stage.until_leads("second");
    stage.until("the first to end", || replicas[0].1.exit_status().is_some());
    // What happens to the one may happen to the other, as long as the Lease is skewed. After that one leads, and goes on.
    drop(skewed);
    replicas.push(("third", stage.operator("third")));
    let mut lives =
        |wanted: &str| replicas.iter_mut().any(|(name, replica)| *name == wanted && replica.exit_status().is_none());
    stage.until("one that lives to lead", || lives(&stage.holder()));
    let (leader, began) = (stage.holder(), Instant::now());
    while began.elapsed() < HOLDS * 2 {
        assert_eq!(stage.holder(), leader);
        assert!(lives(&leader), "{leader} has ended");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(lives("third") && !lives("first"));
}
