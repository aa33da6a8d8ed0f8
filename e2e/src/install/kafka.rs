//! The Kafka broker: its jars through Maven, a class archive that makes it start in half the time, and a
//! formatted log folder that each new server gets a copy of.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::LabError;
use crate::servers::kafka::{BrokerProperties, broker_command};
use crate::servers::process::{ServerProcess, Undertaking, log_tail};

use super::cache::Cache;
use super::command::run;
use super::debian::{self, JAVA, MAVEN};
use super::maven::copy_jars;
use super::versions::{KAFKA, KAFKA_JARS, KAFKA_POM};

/// Where the parts of an installed broker are.
#[derive(Debug, Clone)]
pub struct KafkaInstallation {
    /// The folder of the jars.
    pub jars: PathBuf,
    /// A log folder as `StorageTool format` leaves it; its cluster id is the same for every copy.
    pub formatted: PathBuf,
    /// The archive of loaded classes. A Java machine of another version ignores it.
    pub classes: PathBuf,
}

/// The installed broker, or what is missing.
pub(super) fn find(cache: &Cache) -> Result<KafkaInstallation, LabError> {
    let found = layout(cache);
    let whole = found.jars.exists() && found.formatted.exists() && found.classes.exists();
    if whole { Ok(found) } else { Err(LabError::NotInstalled { what: "kafka", cache: cache.root().into() }) }
}

fn layout(cache: &Cache) -> KafkaInstallation {
    KafkaInstallation {
        jars: cache.root().join(names::jars()),
        formatted: cache.root().join(names::formatted()).join("log"),
        classes: cache.root().join(names::classes()).join("broker.jsa"),
    }
}

mod names {
    use super::KAFKA;

    pub(super) fn jars() -> String {
        format!("kafka-{KAFKA}-jars")
    }
    pub(super) fn formatted() -> String {
        format!("kafka-{KAFKA}-formatted")
    }
    pub(super) fn classes() -> String {
        format!("kafka-{KAFKA}-classes")
    }
}

/// Installs the broker into the cache.
pub(super) fn install(cache: &Cache) -> Result<(), LabError> {
    if find(cache).is_err() {
        debian::ensure(&[JAVA, MAVEN])?;
    }
    cache.folder(&names::jars(), |folder| copy_jars(KAFKA_POM, KAFKA_JARS, folder))?;
    let found = layout(cache);
    cache.folder(&names::formatted(), |folder| format_log(&found, folder))?;
    cache.folder(&names::classes(), |folder| archive_classes(&found, folder)).map(drop)
}

/// Formats a log folder once, so that no server pays for it.
fn format_log(kafka: &KafkaInstallation, folder: &Path) -> Result<(), LabError> {
    let properties = BrokerProperties::new(0, 0, &folder.join("log")).write(&folder.join("server.properties"))?;
    let mut format = Command::new("java");
    format.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", "-cp"]);
    format.arg(format!("{}/*", kafka.jars.display()));
    format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(properties);
    run(&mut format).map(drop)
}

/// The cluster id of every server of the lab: each is a cluster of its own, on loopback.
const CLUSTER_ID: &str = "RnJlc2hldExhYktyYWZ0MQ";

/// Starts a broker once to record the classes that it loads.
fn archive_classes(kafka: &KafkaInstallation, folder: &Path) -> Result<(), LabError> {
    let work = folder.parent().unwrap_or(folder);
    let archive = folder.join("broker.jsa");
    let (port, controller) = (crate::servers::free_port(), crate::servers::free_port());
    crate::servers::copy_folder(&kafka.formatted, &work.join("log"))?;
    let properties =
        BrokerProperties::new(port, controller, &work.join("log")).write(&work.join("server.properties"))?;
    let mut command = broker_command(kafka, work, &properties, 256)?;
    // The archive of the command is the one that is being made.
    command.env("JDK_JAVA_OPTIONS", format!("-XX:ArchiveClassesAtExit={}", archive.display()));
    let log = work.join("broker.log");
    let mut broker = ServerProcess::spawn("kafka (recording its classes)", command, &log, &Undertaking::default())?;
    broker.wait_for_line("Kafka Server started", Duration::from_secs(120))?;
    broker.stop(Duration::from_secs(120))?;
    if archive.exists() {
        return Ok(());
    }
    Err(LabError::Died {
        server: "kafka".to_owned(),
        status: "it wrote no class archive".to_owned(),
        tail: log_tail(&log),
        log,
    })
}

#[cfg(test)]
mod tests {
    use super::super::maven::checksums;
    use super::*;

    #[test]
    fn the_pinned_jars_and_the_pom_name_the_same_version() {
        let sums = checksums(KAFKA_JARS);
        assert!(sums.len() > 80, "only {} jars are pinned", sums.len());
        assert!(sums.contains_key(format!("kafka_2.13-{KAFKA}.jar").as_str()));
        assert!(KAFKA_POM.contains(&format!("<version>{KAFKA}</version>")));
        assert!(sums.values().all(|sum| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }
}
