//! An API server without nodes: etcd and kube-apiserver on loopback, for tests of what an API server decides (CRDs,
//! CEL rules, conflicts, watches, who may do what) and of an operator that makes objects nobody runs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::LabError;
use crate::install::{Cache, KubernetesProgram, installed_kubernetes};
use crate::servers::process::{ServerProcess, Undertaking, log_tail};
use crate::servers::shared::{Shared, share};
use crate::servers::{Scratch, free_port};

use super::arguments::{ApiServerArguments, Etcd, controller_manager};
use super::client::{client, readiness, wait_for};
use super::kubeconfig::write_kubeconfig;
use super::pki::{Identity, Pki};

/// How long a start may take on a machine that is busy with other things.
const START_DEADLINE: Duration = Duration::from_secs(120);
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What an API server is started with.
#[derive(Debug, Clone, Default)]
pub struct ApiServerOptions {
    /// Also kube-controller-manager, for what deletes an owner's dependants and a namespace's content, and gives
    /// service accounts and tokens.
    pub controllers: bool,
}

/// An API server with an etcd of its own, in a folder of its own. Its user is the cluster's administrator.
#[derive(Debug)]
pub struct ApiServer {
    folder: PathBuf,
    kubeconfig: PathBuf,
    url: String,
    etcd: Start,
    server: Start,
    // In the order in which they end: whoever depends on another goes first.
    #[expect(dead_code, reason = "held so that it runs as long as this")]
    controllers: Option<ServerProcess>,
    running: ServerProcess,
    database: ServerProcess,
    scratch: Option<Scratch>,
}

/// A command that can be given again.
#[derive(Debug)]
struct Start {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Start {
    fn new(program: KubernetesProgram, arguments: Vec<String>) -> Result<Self, LabError> {
        let path = installed_kubernetes(&Cache::from_environment(), program)?;
        Ok(Self { name: program.name(), program: path, arguments })
    }

    fn spawn(&self, folder: &Path, clear: &Undertaking) -> Result<ServerProcess, LabError> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(folder);
        ServerProcess::spawn(self.name, command, &folder.join(format!("{}.log", self.name)), clear)
    }
}

impl ApiServer {
    /// Starts one in a new temporary folder and waits until it is ready.
    ///
    /// # Errors
    /// When it is not installed, or not ready within two minutes.
    pub fn start_temporary(options: &ApiServerOptions) -> Result<Self, LabError> {
        let scratch = Scratch::new("api-server")?;
        let folder = scratch.path().to_owned();
        let mut server = Self::launch(&folder, options, &Undertaking { remove: Some(folder.clone()), owner: None })?;
        server.scratch = Some(scratch);
        Ok(server)
    }

    /// Starts one in `folder` and waits until it is ready.
    ///
    /// # Errors
    /// When it is not installed, or not ready within two minutes.
    pub fn start(folder: &Path, options: &ApiServerOptions) -> Result<Self, LabError> {
        Self::launch(folder, options, &Undertaking::default())
    }

    pub(crate) fn launch(folder: &Path, options: &ApiServerOptions, clear: &Undertaking) -> Result<Self, LabError> {
        fs::create_dir_all(folder).map_err(LabError::file("making", folder))?;
        let pki = Pki::open(&folder.join("pki"))?;
        let port = free_port();
        let url = format!("https://{LOOPBACK}:{port}");
        let kubeconfig = folder.join("kubeconfig");
        let admin = pki.client("admin", "admin", Some("system:masters"))?;
        write_kubeconfig(&kubeconfig, &url, &pki, &admin)?;

        let data = folder.join("etcd");
        let database = Etcd { data: &data, port: free_port(), peer_port: free_port() };
        let etcd = Start::new(KubernetesProgram::Etcd, database.arguments())?;
        let arguments = ApiServerArguments {
            etcd: &database.url(),
            bind: IpAddr::V4(LOOPBACK),
            port,
            advertise: None,
            pki: &pki,
            own: &pki.certificate(Identity {
                file: "api-server",
                common_name: "kube-apiserver",
                organization: None,
                addresses: &[LOOPBACK.to_string(), "localhost".to_owned()],
            })?,
            to_kubelets: &pki.client("to-kubelets", "kube-apiserver", Some("system:masters"))?,
            to_extensions: &pki.client("front-proxy", "front-proxy", None)?,
        };
        let server = Start::new(KubernetesProgram::ApiServer, arguments.arguments())?;

        let running_etcd = etcd.spawn(folder, clear)?;
        // It waits for etcd by itself.
        let mut running = server.spawn(folder, clear)?;
        wait_until_ready(&mut running, &kubeconfig)?;
        let controllers = if options.controllers { Some(start_controllers(folder, &url, &pki, clear)?) } else { None };
        Ok(Self {
            folder: folder.to_owned(),
            kubeconfig,
            url,
            etcd,
            server,
            controllers,
            running,
            database: running_etcd,
            scratch: None,
        })
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Its address: `https://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder with its data and its logs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends the API server as a power cut would; etcd goes on.
    pub fn kill9(&mut self) {
        self.running.kill9();
    }

    /// Starts it again on the same data and port, and waits until it is ready. Kills it first if it runs.
    ///
    /// # Errors
    /// When it is not ready within two minutes.
    pub fn restart(&mut self) -> Result<(), LabError> {
        self.running.kill9();
        self.running = self.server.spawn(&self.folder, &self.undertaking())?;
        wait_until_ready(&mut self.running, &self.kubeconfig)
    }

    /// Stops the API server in its tracks (SIGSTOP): requests hang.
    pub fn freeze(&self) {
        self.running.freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.running.thaw();
    }

    /// The last lines of the API server's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.running.log_tail()
    }

    /// Ends etcd as a power cut would.
    pub fn kill9_database(&mut self) {
        self.database.kill9();
    }

    /// Starts etcd again on the same data, and waits until the API server is ready again.
    ///
    /// # Errors
    /// When it is not ready within two minutes.
    pub fn restart_database(&mut self) -> Result<(), LabError> {
        self.database.kill9();
        self.database = self.etcd.spawn(&self.folder, &self.undertaking())?;
        wait_until_ready(&mut self.running, &self.kubeconfig)
    }

    fn undertaking(&self) -> Undertaking {
        Undertaking { remove: self.scratch.as_ref().map(|scratch| scratch.path().to_owned()), owner: None }
    }
}

fn wait_until_ready(server: &mut ServerProcess, kubeconfig: &Path) -> Result<(), LabError> {
    server.wait_until("/readyz to say ok", START_DEADLINE, || {
        wait_for(async {
            let client = client(kubeconfig).await.map_err(|error| error.to_string())?;
            readiness(&client).await
        })
        .is_ok()
    })
}

fn start_controllers(folder: &Path, url: &str, pki: &Pki, clear: &Undertaking) -> Result<ServerProcess, LabError> {
    let certificate = pki.client("controller-manager", "system:kube-controller-manager", None)?;
    let kubeconfig = folder.join("controller-manager.kubeconfig");
    write_kubeconfig(&kubeconfig, url, pki, &certificate)?;
    let port = free_port();
    let arguments = controller_manager(&kubeconfig, pki, port, &[]);
    let mut running = Start::new(KubernetesProgram::ControllerManager, arguments)?.spawn(folder, clear)?;
    let address = (LOOPBACK, port).into();
    running.wait_until("its port to accept connections", START_DEADLINE, || {
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
    })?;
    Ok(running)
}

/// An API server that this test shares with others of its run: nobody kills it, and each test makes a namespace of
/// its own. It has no controllers.
#[derive(Debug)]
pub struct SharedApiServer {
    shared: Shared<ApiServer>,
}

impl SharedApiServer {
    /// The shared API server, started by whoever comes first.
    ///
    /// # Panics
    /// When it can't be started: no test that needs it can go on.
    #[must_use]
    pub fn get() -> &'static Self {
        static SHARED: OnceLock<SharedApiServer> = OnceLock::new();
        SHARED.get_or_init(|| {
            let shared = share(
                "api-server",
                |folder, clear| ApiServer::launch(folder, &ApiServerOptions::default(), clear),
                |server| server.url().to_owned(),
            );
            Self { shared: shared.unwrap_or_else(|error| panic!("the tests need an API server: {error}")) }
        })
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.shared.folder.join("kubeconfig")
    }

    /// A client with the administrator's rights.
    ///
    /// # Panics
    /// When the kubeconfig can't be read.
    pub async fn client(&self) -> kube::Client {
        client(&self.kubeconfig()).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Its address: `https://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.address
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        log_tail(&self.shared.folder.join("kube-apiserver.log"))
    }
}
