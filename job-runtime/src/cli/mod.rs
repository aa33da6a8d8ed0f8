//! The command line: every sub-command is a room; here they are named and told apart.

mod environment;
mod inspect;
mod pipeline;
mod run;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::observe::logs;

/// Exit code: what was asked for is wrong (manifests, SQL, arguments).
const EXIT_REFUSED: u8 = 2;
/// Exit code: it went wrong while it ran.
const EXIT_FAILED: u8 = 1;

/// Stream processing in SQL, exactly once, from the manifests that a Kubernetes cluster takes.
#[derive(Debug, Parser)]
#[command(name = "freshet", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a pipeline here: on an embedded log, or on Kafka
    ///
    /// Without --kafka nothing is needed: topics live in memory and end with the process. The pilot of
    /// examples/fraud-detection makes its own input; other pipelines read files (--input).
    #[command(after_help = run::EXAMPLES)]
    Run(run::RunArgs),
    /// Run one slot of a job on Kafka, as a pod does
    ///
    /// The slot runs what the newest generation of the assignment gives it, and stands by until there is one
    /// (`freshet assign` hands it out).
    Worker(worker::WorkerArgs),
    /// Hand out the job's next generation: spread its tasks over so many slots
    ///
    /// Running workers see it within seconds, commit, and take their new tasks over.
    Assign(worker::AssignArgs),
    /// Say everything that is wrong with manifests
    Validate(inspect::ValidateArgs),
    /// Show a pipeline's stages, keys, state and internal topics
    Plan(inspect::PlanArgs),
    /// Show what a state object, or a job's folder in the store, holds
    State(inspect::StateArgs),
}

/// Where manifests are.
#[derive(Debug, clap::Args)]
struct Manifests {
    /// Files, or folders of *.yaml
    #[arg(required = true, value_name = "DIR")]
    paths: Vec<PathBuf>,
}

/// How a command ends that did not do what it was asked to.
#[derive(Debug)]
enum Failure {
    /// What was asked for is wrong.
    Refused(String),
    /// It went wrong while it ran.
    Failed(String),
    /// It has said itself what is wrong.
    Said(u8),
}

impl Failure {
    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs the command that the process's arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    #[cfg(feature = "faults")]
    if let Err(error) = freshet_env::plant_from_environment() {
        eprintln!("{error}");
        return ExitCode::from(EXIT_REFUSED);
    }
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Worker(args) => logged("info").and_then(|()| worker::worker(&args)),
        Command::Assign(args) => logged("warn").and_then(|()| worker::assign(&args)),
        Command::Validate(args) => inspect::validate(&args),
        Command::Plan(args) => inspect::plan(&args),
        Command::State(args) => inspect::state(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Refused(text)) => {
            eprintln!("error: {text}");
            ExitCode::from(EXIT_REFUSED)
        }
        Err(Failure::Failed(text)) => {
            eprintln!("error: {text}");
            ExitCode::from(EXIT_FAILED)
        }
        Err(Failure::Said(code)) => ExitCode::from(code),
    }
}

/// Sets logging up on standard error.
fn logged(filter: &str) -> Result<(), Failure> {
    let settings = logs::Settings::from_environment(filter).map_err(|error| Failure::Refused(error.to_string()))?;
    logs::init(&settings, None).map_err(|error| Failure::Refused(error.to_string()))
}
