//! A Flink session cluster: one job manager and one task manager, in a folder that goes with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::LabError;
use crate::install::command::run;
use crate::install::{Cache, installed_flink};

use super::process::{ServerProcess, Undertaking};
use super::{Scratch, free_port};

/// How long a start may take on a machine that is busy with other things.
const START_DEADLINE: Duration = Duration::from_secs(300);

/// Heap and direct memory, as Flink's scripts compute them from its default configuration.
const MANAGER_MEMORY: &[&str] = &["-Xms1024m", "-Xmx1024m", "-XX:MaxMetaspaceSize=256m"];
const WORKER_MEMORY: &[&str] = &["-Xms512m", "-Xmx512m", "-XX:MaxDirectMemorySize=256m", "-XX:MaxMetaspaceSize=256m"];

/// Packages of the Java machine that Flink reaches into, as its default configuration opens them.
const OPENED: &[&str] = &[
    "lang",
    "net",
    "io",
    "nio",
    "lang.reflect",
    "text",
    "time",
    "util",
    "util.concurrent",
    "util.concurrent.atomic",
    "util.concurrent.locks",
];

/// A running cluster.
#[derive(Debug)]
pub struct FlinkCluster {
    jars: PathBuf,
    manager: ServerProcess,
    worker: ServerProcess,
    folder: Scratch,
}

impl FlinkCluster {
    /// Starts both and waits until the one has the other's slot. A checkpoint, and so a transaction, is made every
    /// `checkpoint_ms`.
    ///
    /// # Errors
    /// When Flink is not installed, or does not start in time.
    pub fn start(checkpoint_ms: u64) -> Result<Self, LabError> {
        let jars = installed_flink(&Cache::from_environment())?;
        let folder = Scratch::new("flink")?;
        let clear = Undertaking { remove: Some(folder.path().to_owned()), owner: None };
        configure(folder.path(), checkpoint_ms)?;
        let start = |name: &str, class: &str, memory: &[&str]| {
            let mut command = java(&jars, folder.path());
            command.args(memory).arg(class).arg("--configDir").arg(folder.path());
            ServerProcess::spawn(name, command, &folder.path().join(format!("{name}.log")), &clear)
        };
        let class = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint";
        let mut manager = start("job-manager", class, MANAGER_MEMORY)?;
        manager.wait_for_line("Rest endpoint listening at", START_DEADLINE)?;
        let class = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner";
        let mut worker = start("task-manager", class, WORKER_MEMORY)?;
        worker.wait_for_line("Successful registration at resource manager", START_DEADLINE)?;
        Ok(Self { jars, manager, worker, folder })
    }

    /// Submits a script by the SQL client and waits until it has.
    ///
    /// # Errors
    /// When a statement is refused.
    pub fn submit(&self, script: &str) -> Result<(), LabError> {
        let file = self.folder.path().join("job.sql");
        fs::write(&file, script).map_err(LabError::file("writing", &file))?;
        let mut client = java(&self.jars, self.folder.path());
        client.args(["-Xmx256m", "-XX:TieredStopAtLevel=1"]);
        let said = run(client.arg("org.apache.flink.table.client.SqlClient").arg("-f").arg(&file))?;
        // The client ends well when a statement was refused, too.
        if said.contains("Job ID:") && !said.contains("[ERROR]") {
            return Ok(());
        }
        Err(LabError::Wrong(format!("Flink did not take the job:\n{said}")))
    }

    /// The process ids of job manager and task manager.
    #[must_use]
    pub fn ids(&self) -> [u32; 2] {
        [self.manager.id(), self.worker.id()]
    }

    /// Stops both in their tracks.
    pub fn freeze(&self) {
        self.manager.freeze();
        self.worker.freeze();
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.manager.thaw();
        self.worker.thaw();
    }

    /// The ends of both logs.
    #[must_use]
    pub fn said(&self) -> String {
        format!("{}\n{}", self.manager.log_tail(), self.worker.log_tail())
    }
}

/// A command of the Java machine with Flink's jars and what it needs.
fn java(jars: &Path, folder: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(OPENED.iter().map(|package| format!("--add-opens=java.base/java.{package}=ALL-UNNAMED")));
    command.args(["--add-opens=java.base/sun.nio.ch=ALL-UNNAMED", "--add-exports=java.base/sun.net.util=ALL-UNNAMED"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", folder.join("log4j2.properties").display()));
    command.arg("-cp").arg(format!("{}/*", jars.display()));
    command.env("FLINK_CONF_DIR", folder).current_dir(folder);
    command
}

fn configure(folder: &Path, checkpoint_ms: u64) -> Result<(), LabError> {
    let temporary = folder.join("tmp");
    fs::create_dir_all(&temporary).map_err(LabError::file("making", &temporary))?;
    let (rpc, rest, worker) = (free_port(), free_port(), free_port());
    let own = format!(
        "jobmanager.rpc.port: {rpc}\nrest.port: {rest}\ntaskmanager.rpc.port: {worker}\nio.tmp.dirs: {}\n\
         execution.checkpointing.interval: {checkpoint_ms}ms\nexecution.checkpointing.dir: file://{}\n",
        temporary.display(),
        folder.join("checkpoints").display()
    );
    let text = format!("{}{own}", include_str!("../../assets/flink/config.yaml"));
    for (name, text) in
        [("config.yaml", &*text), ("log4j2.properties", include_str!("../../assets/flink/log4j2.properties"))]
    {
        let path = folder.join(name);
        fs::write(&path, text).map_err(LabError::file("writing", &path))?;
    }
    Ok(())
}
