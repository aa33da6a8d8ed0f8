//! Freshet's operator on a cluster, installed as its users do: by Helm, from the chart. And `kubectl`, as they have it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::surroundings::Surroundings;
use crate::LabError;
use crate::images::{ImageName, build};
use crate::install::command::run;
use crate::install::{Cache, KubernetesProgram, installed_kubernetes};

/// The operator's namespace.
pub const NAMESPACE: &str = "freshet-system";
/// Its Deployment.
pub const DEPLOYMENT: &str = "deployment/freshet-operator";
/// The Secret with the store's keys that jobs without one of their own use, in each job's namespace.
pub const STORE_SECRET: &str = "s3-credentials";

/// kubectl on one cluster, in one namespace.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Kubectl {
    /// The one that is installed for the lab.
    ///
    /// # Errors
    /// When it is not.
    pub fn new(kubeconfig: &Path, namespace: &str) -> Result<Self, LabError> {
        let program = installed_kubernetes(&Cache::from_environment(), KubernetesProgram::Kubectl)?;
        Ok(Self { program, kubeconfig: kubeconfig.to_owned(), namespace: namespace.to_owned() })
    }

    /// Where the program is.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs it; gives what it prints.
    ///
    /// # Errors
    /// When it fails, with its last lines.
    pub fn run(&self, arguments: &[&str]) -> Result<String, LabError> {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).args(["-n", &self.namespace]).args(arguments);
        run(&mut command)
    }
}

/// The operator, as it is installed.
#[derive(Debug, Clone)]
pub struct Operator {
    around: Surroundings,
    runtime: ImageName,
    /// What else is set, as `--set` takes it.
    more: Vec<String>,
}

impl Operator {
    /// The operator, whose jobs run `runtime`; on a cluster that is not the lab's they run the image that it has.
    #[must_use]
    pub fn new(around: &Surroundings, runtime: ImageName) -> Self {
        Self { around: around.clone(), runtime, more: Vec::new() }
    }

    /// With another value of the chart, as `--set` takes it.
    #[must_use]
    pub fn with(mut self, value: impl Into<String>) -> Self {
        self.more.push(value.into());
        self
    }

    /// Installs it, or upgrades what is installed; waits until it is available. For the lab's cluster it first builds its
    /// images, and brings them to the nodes.
    ///
    /// # Errors
    /// When an image's program is not built, or the chart is refused, or the operator does not come up.
    pub fn install(&self) -> Result<(), LabError> {
        let stamp = match &self.around.lab {
            Some(lab) => {
                lab.import(&build(self.runtime, &lab.images())?)?;
                let image = build(ImageName::FreshetOperator, &lab.images())?;
                lab.import(&image)?;
                format!("i{}", &image.id.trim_start_matches("sha256:")[..12])
            }
            None => "as-it-is".to_owned(),
        };
        let helm = installed_kubernetes(&Cache::from_environment(), KubernetesProgram::Helm)?;
        let mut command = Command::new(helm);
        command.env("KUBECONFIG", &self.around.kubeconfig).args(["upgrade", "--install", "freshet"]).arg(chart());
        command.args(["--namespace", NAMESPACE, "--create-namespace"]);
        for value in self.values().iter().chain(&self.more) {
            command.args(["--set", value]);
        }
        // Images of the lab are all called dev: an operator that was built anew is started anew.
        run(command.args(["--set-string", &format!("podAnnotations.freshet\\.dev/image={stamp}")]))?;
        let kubectl = Kubectl::new(&self.around.kubeconfig, NAMESPACE)?;
        kubectl.run(&["rollout", "status", DEPLOYMENT, "--timeout=120s"]).map(drop)
    }

    /// What is set of the chart's values.
    #[must_use]
    pub fn values(&self) -> Vec<String> {
        let around = &self.around;
        let (operator, runtime, pull) = match around.lab {
            Some(_) => (ImageName::FreshetOperator.reference(), self.runtime.reference(), "Never"),
            None => (around.operator_image.as_str(), around.image.as_str(), "IfNotPresent"),
        };
        let (repository, tag) = runtime.rsplit_once(':').unwrap_or((runtime, "latest"));
        let (operator, operator_tag) = operator.rsplit_once(':').unwrap_or((operator, "latest"));
        [
            ("image.repository", operator),
            ("image.tag", operator_tag),
            ("image.pullPolicy", pull),
            ("runtime.repository", repository),
            ("runtime.tag", tag),
            ("kafka.bootstrapServers", &around.kafka_from_pods),
            ("checkpoint.url", &format!("s3://{}/state", around.bucket)),
            ("checkpoint.s3.endpoint", &around.store_from_pods),
            ("checkpoint.s3.region", &around.region),
            ("checkpoint.s3.secretName", STORE_SECRET),
        ]
        .map(|(name, value)| format!("{name}={value}"))
        .to_vec()
    }
}

fn chart() -> PathBuf {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/freshet");
    chart.canonicalize().unwrap_or(chart)
}
