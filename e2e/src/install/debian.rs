//! Programs that come from the system's packages: used when they are there, installed with apt-get when
//! they are not.

use std::fs;
use std::path::{Path, PathBuf};
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

/// The database server, its client, and what starts it as its own user.
pub(super) const POSTGRES: &[SystemProgram] = &[
    SystemProgram { program: "/usr/lib/postgresql/15/bin/postgres", package: "postgresql-15" },
    SystemProgram { program: "/usr/lib/postgresql/15/bin/psql", package: "postgresql-client-15" },
    SystemProgram { program: "setpriv", package: "util-linux" },
];

/// Downloads a package into `work` and gives the folder of its files: not installed, so that nothing else of the system
/// changes and no service starts.
pub(super) fn unpack(package: &str, work: &Path) -> Result<PathBuf, LabError> {
    if !on_path("apt-get") {
        return Err(LabError::MissingProgram {
            program: "apt-get".to_owned(),
            remedy: format!("The package {package} comes from Debian."),
        });
    }
    let mut download = Command::new("apt-get");
    download.args(["download", "-q", package]).current_dir(work);
    if run(&mut download).is_err() {
        run(Command::new("apt-get").args(["update", "-q"]))?;
        run(&mut download)?;
    }
    let files = fs::read_dir(work).map_err(LabError::file("listing", work))?.flatten().map(|entry| entry.path());
    let archive = files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let archive = archive.ok_or_else(|| LabError::Wrong(format!("apt-get downloaded no package of {package}")))?;
    let unpacked = work.join("unpacked");
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&unpacked))?;
    Ok(unpacked)
}

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
