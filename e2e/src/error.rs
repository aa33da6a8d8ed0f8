//! What goes wrong in the lab: each variant is the action that failed.

use std::path::PathBuf;

/// An installation or a server that did not work.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A file or folder could not be read or written.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A program that is needed is not there.
    #[error("`{program}` is not installed. {remedy}")]
    MissingProgram {
        /// Its name.
        program: String,
        /// What to do.
        remedy: String,
    },
    /// A program ended with an error.
    #[error("`{command}` failed ({status}):\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The last lines that it printed.
        output: String,
    },
    /// A download is not what was pinned.
    #[error(
        "{what} does not have the pinned checksum: wanted {wanted}, got {got}. Nothing was installed. If the pinned \
         version was changed on purpose, change its checksum beside it"
    )]
    Checksum {
        /// Which file.
        what: String,
        /// The pinned checksum.
        wanted: String,
        /// That of the download.
        got: String,
    },
    /// A server that is needed is not installed.
    #[error("{what} is not installed in {cache}. Run `cargo run -p freshet-e2e -- install {what}`")]
    NotInstalled {
        /// Which one.
        what: &'static str,
        /// The cache folder that was searched.
        cache: PathBuf,
    },
    /// The port that a server should listen on is taken.
    #[error("{server}: port {port} of 127.0.0.1 is taken by another process. End that one, or choose another port")]
    PortTaken {
        /// Which server.
        server: &'static str,
        /// The port.
        port: u16,
    },
    /// A server did not do what was waited for within the deadline.
    #[error("{server}: waited {seconds:.1} s for {what}, in vain. Last lines of {log}:\n{tail}")]
    Deadline {
        /// Which server.
        server: String,
        /// What was waited for.
        what: String,
        /// How long, in seconds.
        seconds: f64,
        /// Its log file.
        log: PathBuf,
        /// The end of that file.
        tail: String,
    },
    /// Kafka did not do what a scenario needs.
    #[error("{doing}: {source}")]
    Kafka {
        /// What was tried.
        doing: String,
        /// What the log said.
        source: freshet_log::LogError,
    },
    /// An API server did not do what was asked, or did not answer.
    #[error("{doing}: {source}")]
    Kubernetes {
        /// What was tried.
        doing: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// A certificate could not be made.
    #[error("making {what}: {source}")]
    Certificate {
        /// Which one.
        what: String,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A scenario found something wrong.
    #[error("{0}")]
    Wrong(String),
    /// A server ended by itself.
    #[error("{server} ended by itself ({status}). Last lines of {log}:\n{tail}")]
    Died {
        /// Which server.
        server: String,
        /// Its exit status.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The end of that file.
        tail: String,
    },
}

impl LabError {
    /// Maps an error of the log to what was tried.
    pub fn kafka(doing: impl Into<String>) -> impl FnOnce(freshet_log::LogError) -> Self {
        let doing = doing.into();
        move |source| Self::Kafka { doing, source }
    }

    /// Maps an error of the certificate library to what was made.
    pub fn certificate(what: impl Into<String>) -> impl FnOnce(rcgen::Error) -> Self {
        let what = what.into();
        move |source| Self::Certificate { what, source }
    }

    /// Maps an I/O error to the file that it is about.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
