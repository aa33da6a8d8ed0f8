//! How etcd and the servers of the control plane are started: pure functions from addresses and certificates to
//! command lines.

use std::net::IpAddr;
use std::path::Path;

use super::pki::{CertificateFiles, Pki};

/// The addresses of services' own network; the first is the API server's, the tenth the name server's.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The address under which pods reach the API server.
pub const API_SERVICE: &str = "10.96.0.1";
/// The address under which pods reach the name server.
pub const DNS_SERVICE: &str = "10.96.0.10";
/// Who signs service accounts' tokens.
const TOKEN_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Where etcd listens and keeps its data.
#[derive(Debug, Clone, Copy)]
pub struct Etcd<'a> {
    /// Its folder.
    pub data: &'a Path,
    /// Its port for the API server, on 127.0.0.1.
    pub port: u16,
    /// Its port for other members (there are none), on 127.0.0.1.
    pub peer_port: u16,
}

impl Etcd<'_> {
    /// Where clients find it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its arguments. It never waits for the disk: a lab's cluster does not outlive its machine.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let (clients, peers) = (self.url(), format!("http://127.0.0.1:{}", self.peer_port));
        [
            ("name", "lab"),
            ("data-dir", &self.data.display().to_string()),
            ("listen-client-urls", &clients),
            ("advertise-client-urls", &clients),
            ("listen-peer-urls", &peers),
            ("initial-advertise-peer-urls", &peers),
            ("initial-cluster", &format!("lab={peers}")),
            ("unsafe-no-fsync", "true"),
            ("log-level", "warn"),
        ]
        .into_iter()
        .map(flag)
        .collect()
    }
}

/// What the API server is started with.
#[derive(Debug, Clone, Copy)]
pub struct ApiServerArguments<'a> {
    /// Where etcd is.
    pub etcd: &'a str,
    /// The address that it listens on.
    pub bind: IpAddr,
    /// Its port.
    pub port: u16,
    /// The address that pods reach it by, when there are nodes.
    pub advertise: Option<IpAddr>,
    /// The keys of tokens, and the authority.
    pub pki: &'a Pki,
    /// Its own certificate.
    pub own: &'a CertificateFiles,
    /// Its certificate as a client of kubelets.
    pub to_kubelets: &'a CertificateFiles,
    /// Its certificate as a client of aggregated API servers.
    pub to_extensions: &'a CertificateFiles,
}

impl ApiServerArguments<'_> {
    /// Its arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let authority = path(&self.pki.authority().certificate);
        let mut flags = vec![
            ("etcd-servers", self.etcd.to_owned()),
            ("bind-address", self.bind.to_string()),
            ("secure-port", self.port.to_string()),
            ("tls-cert-file", path(&self.own.certificate)),
            ("tls-private-key-file", path(&self.own.key)),
            ("client-ca-file", authority.clone()),
            ("kubelet-certificate-authority", authority.clone()),
            ("kubelet-client-certificate", path(&self.to_kubelets.certificate)),
            ("kubelet-client-key", path(&self.to_kubelets.key)),
            ("kubelet-preferred-address-types", "InternalIP,Hostname".to_owned()),
            ("service-account-issuer", TOKEN_ISSUER.to_owned()),
            ("service-account-key-file", path(&self.pki.token_verifier())),
            ("service-account-signing-key-file", path(&self.pki.token_signer())),
            ("requestheader-client-ca-file", authority),
            ("requestheader-allowed-names", "front-proxy".to_owned()),
            ("requestheader-username-headers", "X-Remote-User".to_owned()),
            ("requestheader-group-headers", "X-Remote-Group".to_owned()),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
            ("proxy-client-cert-file", path(&self.to_extensions.certificate)),
            ("proxy-client-key-file", path(&self.to_extensions.key)),
            // Webhooks are reached at their pods' addresses: the control plane has no kube-proxy.
            ("enable-aggregator-routing", "true".to_owned()),
            ("service-cluster-ip-range", SERVICE_CIDR.to_owned()),
            ("authorization-mode", "Node,RBAC".to_owned()),
            ("enable-admission-plugins", "NodeRestriction".to_owned()),
            ("allow-privileged", "true".to_owned()),
            ("profiling", "false".to_owned()),
        ];
        match self.advertise {
            Some(address) => flags.push(("advertise-address", address.to_string())),
            // Nobody looks for it through a Service, and its own address may not be loopback there.
            None => flags.extend([
                ("advertise-address", self.bind.to_string()),
                ("endpoint-reconciler-type", "none".to_owned()),
            ]),
        }
        flags.iter().map(|(name, value)| flag((name, value))).collect()
    }
}

/// The arguments of the controller manager.
#[must_use]
pub fn controller_manager(kubeconfig: &Path, pki: &Pki, port: u16, more: &[(&str, &str)]) -> Vec<String> {
    let (config, authority) = (kubeconfig.display().to_string(), pki.authority());
    let mut flags = client_flags(&config, port);
    flags.extend([
        ("service-account-private-key-file", pki.token_signer().display().to_string()),
        ("root-ca-file", authority.certificate.display().to_string()),
        ("cluster-signing-cert-file", authority.certificate.display().to_string()),
        ("cluster-signing-key-file", authority.key.display().to_string()),
        ("use-service-account-credentials", "true".to_owned()),
        ("allocate-node-cidrs", "false".to_owned()),
    ]);
    flags.extend(more.iter().map(|&(name, value)| (name, value.to_owned())));
    flags.iter().map(|(name, value)| flag((name, value))).collect()
}

/// The arguments of the scheduler.
#[must_use]
pub fn scheduler(kubeconfig: &Path, port: u16) -> Vec<String> {
    client_flags(&kubeconfig.display().to_string(), port).iter().map(|(name, value)| flag((name, value))).collect()
}

/// What the two clients of the API server have in common; each is alone, and needs no election.
fn client_flags(config: &str, port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("kubeconfig", config.to_owned()),
        ("authentication-kubeconfig", config.to_owned()),
        ("authorization-kubeconfig", config.to_owned()),
        ("bind-address", "127.0.0.1".to_owned()),
        ("secure-port", port.to_string()),
        ("leader-elect", "false".to_owned()),
        ("profiling", "false".to_owned()),
    ]
}

fn flag((name, value): (&str, &str)) -> String {
    format!("--{name}={value}")
}
