//! Our side of the comparison: one worker with one slot, its state in a folder.

use std::path::Path;
use std::process::Command;

use super::Engine;
use crate::LabError;
use crate::install::command::run;
use crate::nexmark::Pipeline;
use crate::servers::Scratch;
use crate::servers::process::{ServerProcess, Undertaking};

/// A worker at work.
pub(super) struct Freshet {
    worker: ServerProcess,
    output: String,
    _folder: Scratch,
}

impl Freshet {
    /// Starts it on the manifests of examples/nexmark as they are.
    pub(super) fn start(binary: &Path, bootstrap: &str, pipeline: &Pipeline) -> Result<Self, LabError> {
        let folder = Scratch::new("peers-freshet")?;
        let state = folder.path().join("state");
        std::fs::create_dir_all(&state).map_err(LabError::file("making", &state))?;
        let command = |what: &str, arguments: &[&str]| {
            let mut command = Command::new(binary);
            command.arg(what).args(&pipeline.manifests).args(arguments).args(["--kafka", bootstrap]);
            command.arg("--checkpoint").arg(format!("file://{}", state.display())).current_dir(folder.path());
            command
        };
        run(&mut command("assign", &["--slots", "1"]))?;
        let worker = command("worker", &["--slot", "0", "--give-up-after", "0s"]);
        let log = folder.path().join("worker.log");
        let worker = ServerProcess::spawn("freshet", worker, &log, &Undertaking::default())?;
        Ok(Self { worker, output: pipeline.output.topic.clone(), _folder: folder })
    }
}

impl Engine for Freshet {
    fn name(&self) -> &'static str {
        "Freshet"
    }

    fn ids(&self) -> Vec<u32> {
        vec![self.worker.id()]
    }

    fn groups(&self) -> &'static str {
        "freshet."
    }

    fn output(&self) -> &str {
        &self.output
    }

    fn freeze(&self) {
        self.worker.freeze();
    }

    fn thaw(&self) {
        self.worker.thaw();
    }

    fn said(&self) -> String {
        self.worker.log_tail()
    }
}
