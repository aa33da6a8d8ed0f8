//! One S3 server that keeps objects as files.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::LabError;
use crate::install::{Cache, installed_s3};

use super::process::{ServerProcess, Undertaking};
use super::{Scratch, port_for};

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// What an S3 server is started with.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// Its port on 127.0.0.1; a free one when `None`.
    pub port: Option<u16>,
    /// Buckets that are there from the start.
    pub buckets: Vec<String>,
}

/// An S3 server in a folder of its own. Killing and restarting it keeps its objects and its port.
#[derive(Debug)]
pub struct S3Server {
    binary: PathBuf,
    folder: PathBuf,
    port: u16,
    process: ServerProcess,
    scratch: Option<Scratch>,
}

impl S3Server {
    /// The access key that it accepts.
    pub const ACCESS_KEY: &str = "freshet";
    /// The secret key that goes with it: of a server on loopback that holds test data only.
    pub const SECRET_KEY: &str = "freshet-secret";
    /// The region that it says it is in.
    pub const REGION: &str = "us-east-1";

    /// Starts a server in a new temporary folder and waits until it serves.
    ///
    /// # Errors
    /// When it is not installed, or does not start within a minute.
    pub fn start_temporary(options: &S3Options) -> Result<Self, LabError> {
        let scratch = Scratch::new("s3")?;
        let folder = scratch.path().to_owned();
        let mut server = Self::launch(&folder, options, &Undertaking { remove: Some(folder.clone()), owner: None })?;
        server.scratch = Some(scratch);
        Ok(server)
    }

    /// Starts a server in `folder` (with the objects that are there, if any) and waits until it serves.
    ///
    /// # Errors
    /// When it is not installed, or does not start within a minute.
    pub fn start(folder: &Path, options: &S3Options) -> Result<Self, LabError> {
        Self::launch(folder, options, &Undertaking::default())
    }

    fn launch(folder: &Path, options: &S3Options, clear: &Undertaking) -> Result<Self, LabError> {
        let binary = installed_s3(&Cache::from_environment())?;
        for bucket in &options.buckets {
            let bucket = folder.join("objects").join(bucket);
            fs::create_dir_all(&bucket).map_err(LabError::file("making", &bucket))?;
        }
        let objects = folder.join("objects");
        fs::create_dir_all(&objects).map_err(LabError::file("making", &objects))?;
        let port = port_for("s3", options.port)?;
        let process = spawn(&binary, folder, port, clear)?;
        let mut server = Self { binary, folder: folder.to_owned(), port, process, scratch: None };
        server.wait_until_it_serves()?;
        Ok(server)
    }

    /// The arguments of a server that listens on `address` and keeps its objects in the folder `objects`.
    pub(crate) fn arguments(address: SocketAddr, objects: &Path) -> Vec<String> {
        let (address, objects) = (address.to_string(), objects.display().to_string());
        let words = [
            ["--quiet", "--keep-alive"],
            ["--health", "/health"],
            ["--access", Self::ACCESS_KEY],
            ["--secret", Self::SECRET_KEY],
            ["--region", Self::REGION],
            ["--port", &address],
            ["posix", &objects],
        ];
        words.iter().flatten().map(|word| (*word).to_owned()).collect()
    }

    /// Its endpoint: `http://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The folder of a bucket's objects, each a file.
    #[must_use]
    pub fn bucket(&self, name: &str) -> PathBuf {
        self.folder.join("objects").join(name)
    }

    /// The folder with its objects and its log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends it as a power cut would.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it again on the same objects and port, and waits until it serves. Kills it first if it runs.
    ///
    /// # Errors
    /// When it does not start within a minute.
    pub fn restart(&mut self) -> Result<(), LabError> {
        self.process.kill9();
        let remove = self.scratch.as_ref().map(|scratch| scratch.path().to_owned());
        self.process = spawn(&self.binary, &self.folder, self.port, &Undertaking { remove, owner: None })?;
        self.wait_until_it_serves()
    }

    /// Stops it in an orderly way.
    ///
    /// # Errors
    /// When it had to be killed after half a minute.
    pub fn stop(&mut self) -> Result<(), LabError> {
        self.process.stop(STOP_DEADLINE)
    }

    /// Stops it in its tracks (SIGSTOP): requests hang.
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

    /// Waits until it ends by itself or `stop` says so; for the foreground of `freshet-lab s3`.
    ///
    /// # Errors
    /// When it ended by itself, with the end of its log.
    pub fn wait(&mut self, stop: impl FnMut() -> bool) -> Result<(), LabError> {
        self.process.wait_until("to be told to stop", Duration::MAX, stop)
    }

    fn wait_until_it_serves(&mut self) -> Result<(), LabError> {
        let address = ([127, 0, 0, 1], self.port).into();
        self.process.wait_until("its port to accept connections", START_DEADLINE, || {
            TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
        })
    }
}

fn spawn(binary: &Path, folder: &Path, port: u16, clear: &Undertaking) -> Result<ServerProcess, LabError> {
    let mut command = Command::new(binary);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    command.args(S3Server::arguments(address, &folder.join("objects"))).current_dir(folder);
    ServerProcess::spawn("s3", command, &folder.join("s3.log"), clear)
}
