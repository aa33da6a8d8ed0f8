//! The command line: every sub-command is a room; here they are named and told apart.

mod environment;
mod inspect;
mod pipeline;
mod places;
mod preflight;
mod query;
mod run;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::observe::logs;

// What was asked for is wrong (manifests, SQL, arguments), or it went wrong while it ran.
use freshet_crds::control::{EXIT_FAILED, EXIT_REFUSED};

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
    /// Try a SELECT on topics: rows as they come, nothing left behind
    ///
    /// Reads the Topics of DIR (StreamJobs in it are passed over), and runs the query as a job would, in this process
    /// alone: it writes nothing to Kafka, makes no topic, joins no consumer group, keeps no state. It shows what a job
    /// would have written by now: the rows of windows that are closed. It ends at the ends of the topics as they were
    /// when it began, unless it is told to follow them.
    #[command(after_help = query::EXAMPLES)]
    Query(query::QueryArgs),
    /// Run one slot of a job on Kafka, as a pod does
    ///
    /// The slot runs what the newest generation gives it, and stands by until there is one (`freshet preflight` hands
    /// it out). It follows later ones by itself. SIGTERM stops it at a commit.
    ///
    /// Exit codes: 0 stopped as asked, 1 it may heal by itself, 2 a person must change something.
    Worker(worker::WorkerArgs),
    /// Check whether a job can run as its manifests say, and hand out the generation that runs it so
    ///
    /// Looks at plan, state, store, brokers, topics and rights, makes internal topics, resolves where new inputs begin,
    /// and hands out the next generation where the latest differs in plan, in how it is run, or in slots. Running workers
    /// take it over. Prints a report, one line of JSON.
    ///
    /// Exit codes: 0 it can run, 1 it may heal by itself, 2 a person must change something.
    Preflight(preflight::PreflightArgs),
    /// Hand out the job's next generation: spread its tasks over so many slots
    ///
    /// Running workers see it within seconds, commit, and take their new tasks over.
    Assign(preflight::AssignArgs),
    /// End a job with its state: fence its workers, delete internal topics, offsets and state
    ///
    /// Applied again, the job begins anew. May be interrupted and repeated.
    Retire(preflight::RetireArgs),
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

    /// What went wrong, for a report.
    fn text(self) -> String {
        match self {
            Self::Refused(text) | Self::Failed(text) => text,
            Self::Said(code) => format!("exit code {code}"),
        }
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
        Command::Query(args) => logged("warn").and_then(|()| query::query(&args)),
        Command::Worker(args) => logged("info").and_then(|()| worker::worker(&args)),
        Command::Preflight(args) => logged("warn").and_then(|()| preflight::preflight(&args)),
        Command::Assign(args) => logged("warn").and_then(|()| preflight::assign(&args)),
        Command::Retire(args) => logged("warn").and_then(|()| preflight::retire(&args)),
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
