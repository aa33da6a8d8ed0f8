//! Programs that come from the system's packages: used when they are there, installed with apt-get when
//! they are not.

use std::process::Command;

use crate::LabError;

use super::command::{on_path, run};

/// A program and the Debian package that brings it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SystemProgram {
    pub program: &'static str,
    pub package: &'static str,
}

pub(super) const JAVA: SystemProgram = SystemProgram { program: "java", package: "default-jre-headless" };
pub(super) const MAVEN: SystemProgram = SystemProgram { program: "mvn", package: "maven" };
pub(super) const PIP: SystemProgram = SystemProgram { program: "pip3", package: "python3-pip" };

/// What a node of a cluster runs beside its own servers. (A program with a path is looked for there.)
pub(super) const NODE_PROGRAMS: &[SystemProgram] = &[
    SystemProgram { program: "runc", package: "runc" },
    SystemProgram { program: "/usr/lib/cni/bridge", package: "containernetworking-plugins" },
    SystemProgram { program: "iptables", package: "iptables" },
    SystemProgram { program: "conntrack", package: "conntrack" },
    SystemProgram { program: "ethtool", package: "ethtool" },
    SystemProgram { program: "ip", package: "iproute2" },
    SystemProgram { program: "nsenter", package: "util-linux" },
];

/// Sees to it that all of `programs` can be run.
pub(super) fn ensure(programs: &[SystemProgram]) -> Result<(), LabError> {
    let missing: Vec<_> = programs.iter().filter(|wanted| !on_path(wanted.program)).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let packages: Vec<_> = missing.iter().map(|wanted| wanted.package).collect();
    if !on_path("apt-get") {
        return Err(LabError::MissingProgram {
            program: first.program.to_owned(),
            remedy: format!("Install what your system calls {}, and run this again.", packages.join(", ")),
        });
    }
    println!("installing the packages {}", packages.join(", "));
    run(Command::new("apt-get").args(["update", "-q"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-q", "-y", "--no-install-recommends"]).args(&packages);
    run(install.env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
}
