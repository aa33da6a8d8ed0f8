//! One Kafka broker that is its own controller.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::LabError;
use crate::install::{Cache, KafkaInstallation, installed_kafka};

use super::process::{ServerProcess, Undertaking};
use super::{Scratch, copy_folder, free_port, port_for};

/// How long a start may take on a machine that is busy with other things.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// How long an orderly stop may take.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// What a broker is started with.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Its port on 127.0.0.1; a free one when `None`.
    pub port: Option<u16>,
    /// The heap of its Java machine, in MiB.
    pub heap_mb: u32,
    /// Broker properties beside (or instead of) the lab's own, for instance `offsets.retention.minutes`.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self { port: None, heap_mb: 256, properties: BTreeMap::new() }
    }
}

impl KafkaOptions {
    /// These options with one broker property more.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// A broker in a folder of its own. Killing and restarting it keeps its data and its port.
#[derive(Debug)]
pub struct KafkaServer {
    installation: KafkaInstallation,
    folder: PathBuf,
    heap_mb: u32,
    port: u16,
    process: ServerProcess,
    /// Removes the folder, when it is one that the harness made.
    scratch: Option<Scratch>,
}

impl KafkaServer {
    /// Starts a broker in a new temporary folder and waits until it serves.
    ///
    /// # Errors
    /// When Kafka is not installed, or does not start within two minutes.
    pub fn start_temporary(options: &KafkaOptions) -> Result<Self, LabError> {
        let scratch = Scratch::new("kafka")?;
        let folder = scratch.path().to_owned();
        let mut server = Self::launch(&folder, options, &Undertaking { remove: Some(folder.clone()), owner: None })?;
        server.scratch = Some(scratch);
        Ok(server)
    }

    /// Starts a broker in `folder` (with the data that is there, if any) and waits until it serves.
    ///
    /// # Errors
    /// When Kafka is not installed, or does not start within two minutes.
    pub fn start(folder: &Path, options: &KafkaOptions) -> Result<Self, LabError> {
        Self::launch(folder, options, &Undertaking::default())
    }

    pub(super) fn launch(folder: &Path, options: &KafkaOptions, clear: &Undertaking) -> Result<Self, LabError> {
        let installation = installed_kafka(&Cache::from_environment())?;
        fs::create_dir_all(folder).map_err(LabError::file("making", folder))?;
        let data = folder.join("log");
        if !data.exists() {
            copy_folder(&installation.formatted, &data)?;
        }
        let port = port_for("kafka", options.port)?;
        let mut properties = BrokerProperties::new(port, free_port(), &data);
        properties.0.extend(options.properties.clone());
        properties.write(&folder.join("server.properties"))?;
        let process = spawn(&installation, folder, options.heap_mb, clear)?;
        let mut server =
            Self { installation, folder: folder.to_owned(), heap_mb: options.heap_mb, port, process, scratch: None };
        server.wait_until_it_serves()?;
        Ok(server)
    }

    /// What clients connect to: `127.0.0.1:port`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The folder with its data, its settings and its log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends it as a power cut would.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it again on the same data and port, and waits until it serves. Kills it first if it runs.
    ///
    /// # Errors
    /// When it does not start within two minutes.
    pub fn restart(&mut self) -> Result<(), LabError> {
        self.process.kill9();
        let remove = self.scratch.as_ref().map(|scratch| scratch.path().to_owned());
        self.process = spawn(&self.installation, &self.folder, self.heap_mb, &Undertaking { remove, owner: None })?;
        self.wait_until_it_serves()
    }

    /// Stops it in an orderly way.
    ///
    /// # Errors
    /// When it had to be killed after a minute.
    pub fn stop(&mut self) -> Result<(), LabError> {
        self.process.stop(STOP_DEADLINE)
    }

    /// Stops it in its tracks (SIGSTOP): connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Waits until it ends by itself or `stop` says so; for the foreground of `freshet-lab kafka`.
    ///
    /// # Errors
    /// When it ended by itself, with the end of its log.
    pub fn wait(&mut self, stop: impl FnMut() -> bool) -> Result<(), LabError> {
        self.process.wait_until("to be told to stop", Duration::MAX, stop)
    }

    fn wait_until_it_serves(&mut self) -> Result<(), LabError> {
        let started = Instant::now();
        self.process.wait_for_line("Kafka Server started", START_DEADLINE)?;
        if started.elapsed() > Duration::from_secs(30) {
            eprintln!("kafka took {:.0} s to start: this machine is busy", started.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

fn spawn(
    installation: &KafkaInstallation,
    folder: &Path,
    heap_mb: u32,
    clear: &Undertaking,
) -> Result<ServerProcess, LabError> {
    let command = broker_command(installation, folder, &folder.join("server.properties"), heap_mb)?;
    ServerProcess::spawn("kafka", command, &folder.join("broker.log"), clear)
}

/// The broker's properties file.
#[derive(Debug)]
pub(crate) struct BrokerProperties(BTreeMap<String, String>);

impl BrokerProperties {
    /// The settings that every broker of the lab has: one node, small, and quick to notice things.
    pub(crate) fn new(port: u16, controller_port: u16, data: &Path) -> Self {
        let data = data.display().to_string();
        let listen = format!("PLAINTEXT://127.0.0.1:{port}");
        let listeners = format!("{listen},CONTROLLER://127.0.0.1:{controller_port}");
        let voters = format!("1@127.0.0.1:{controller_port}");
        let settings: &[(&str, &str)] = &[
            ("process.roles", "broker,controller"),
            ("node.id", "1"),
            ("controller.quorum.voters", &voters),
            ("listeners", &listeners),
            ("advertised.listeners", &listen),
            ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
            ("controller.listener.names", "CONTROLLER"),
            ("inter.broker.listener.name", "PLAINTEXT"),
            ("log.dirs", &data),
            ("auto.create.topics.enable", "false"),
            ("num.partitions", "1"),
            // One copy of everything: there is one broker.
            ("offsets.topic.replication.factor", "1"),
            ("offsets.topic.num.partitions", "4"),
            ("transaction.state.log.replication.factor", "1"),
            ("transaction.state.log.min.isr", "1"),
            ("transaction.state.log.num.partitions", "4"),
            ("share.coordinator.state.topic.replication.factor", "1"),
            ("share.coordinator.state.topic.min.isr", "1"),
            ("share.coordinator.state.topic.num.partitions", "1"),
            // A transaction whose producer is gone is timed out within a second of its deadline, not ten.
            ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"),
            ("group.initial.rebalance.delay.ms", "0"),
            // Small: several brokers share the machine with the builds.
            ("num.network.threads", "2"),
            ("num.io.threads", "4"),
            ("background.threads", "2"),
            ("log.cleaner.dedupe.buffer.size", "8388608"),
        ];
        Self(settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Sets `settings`, instead of those of the same names.
    pub(crate) fn set(&mut self, settings: impl IntoIterator<Item = (impl Into<String>, String)>) {
        self.0.extend(settings.into_iter().map(|(name, value)| (name.into(), value)));
    }

    /// As the text of a file.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    /// Writes them to `path`.
    pub(crate) fn write(&self, path: &Path) -> Result<PathBuf, LabError> {
        fs::write(path, self.text()).map_err(LabError::file("writing", path))?;
        Ok(path.to_owned())
    }
}

/// The command that runs a broker with the settings in `properties`; its log settings go into `folder`.
pub(crate) fn broker_command(
    installation: &KafkaInstallation,
    folder: &Path,
    properties: &Path,
    heap_mb: u32,
) -> Result<Command, LabError> {
    let logging = folder.join("log4j2.properties");
    fs::write(&logging, include_str!("../../assets/kafka/log4j2.properties"))
        .map_err(LabError::file("writing", &logging))?;
    let mut command = Command::new("java");
    command.arg(format!("-Xms{heap_mb}m")).arg(format!("-Xmx{heap_mb}m"));
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"]);
    if installation.classes.exists() {
        command.arg(format!("-XX:SharedArchiveFile={}", installation.classes.display()));
    }
    command.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
    command.arg("-cp").arg(format!("{}/*", installation.jars.display()));
    command.arg("kafka.Kafka").arg(properties).current_dir(folder);
    Ok(command)
}
