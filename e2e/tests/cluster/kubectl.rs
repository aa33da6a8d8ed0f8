//! kubectl, as people use it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use freshet_e2e::install::{Cache, KubernetesProgram, installed_kubernetes};

use crate::wait;

/// Talks to one cluster, in one namespace.
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Kubectl {
    pub fn new(kubeconfig: &Path, namespace: &str) -> Self {
        let program = installed_kubernetes(&Cache::from_environment(), KubernetesProgram::Kubectl).unwrap();
        Self { program, kubeconfig: kubeconfig.to_owned(), namespace: namespace.to_owned() }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["-n", &self.namespace]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What it prints; it must succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.ok_with(arguments, "")
    }

    /// The same, with `input` for its standard input.
    pub fn ok_with(&self, arguments: &[&str], input: &str) -> String {
        self.tried(arguments, input).unwrap_or_else(|why| panic!("{why}"))
    }

    /// What it prints, or that it fails.
    fn tried(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let output = self.run(arguments, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("kubectl {}: {errors}", arguments.join(" ")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What it says when it is refused; it must be.
    pub fn refused(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success(), "kubectl {} was not refused: {said}", arguments.join(" "));
        said + &String::from_utf8_lossy(&output.stderr)
    }

    pub fn apply(&self, manifest: &str) {
        self.ok_with(&["apply", "-f", "-"], manifest);
    }

    /// What a command in a pod prints.
    pub fn exec(&self, pod: &str, command: &[&str]) -> String {
        self.ok(&[&["exec", pod, "--"], command].concat())
    }

    /// What a command in a pod prints once it succeeds: names and addresses reach name servers and nodes a moment after
    /// what they are of is ready.
    pub fn exec_once(&self, what: &str, pod: &str, command: &[&str]) -> String {
        wait(what, || self.tried(&[&["exec", pod, "--"], command].concat(), ""))
    }
}
