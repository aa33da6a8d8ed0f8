//! Files that tell a client where an API server is and who it is itself.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::LabError;

use super::pki::{CertificateFiles, Pki, read, write};

/// Writes the kubeconfig `path` of whoever `certificate` names, with all certificates in it.
///
/// # Errors
/// When a certificate can't be read or the file can't be written.
pub fn write_kubeconfig(path: &Path, server: &str, pki: &Pki, certificate: &CertificateFiles) -> Result<(), LabError> {
    let encoded = |path: PathBuf| read(&path).map(|text| STANDARD.encode(text));
    let text = render(
        server,
        &encoded(pki.authority().certificate)?,
        &encoded(certificate.certificate.clone())?,
        &encoded(certificate.key.clone())?,
    );
    if read(path).is_ok_and(|there| there == text) { Ok(()) } else { write(path, &text) }
}

fn render(server: &str, authority: &str, certificate: &str, key: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: Config
clusters:
- name: freshet
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: freshet
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: freshet
  context:
    cluster: freshet
    user: freshet
current-context: freshet
"
    )
}
