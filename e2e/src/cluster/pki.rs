//! The certificates of a cluster: one authority, and a certificate for whoever needs one, made when it is first
//! asked for.
//!
//! A certificate's file is moved into place after its key's: where there is a certificate, there is all of it, so
//! that an interrupted start goes on with what it finds.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::LabError;

/// Whom a certificate names, and for which addresses.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The name of its files.
    pub file: &'a str,
    /// To Kubernetes, the user.
    pub common_name: &'a str,
    /// To Kubernetes, the user's group.
    pub organization: Option<&'a str>,
    /// DNS names and IP addresses of a server.
    pub addresses: &'a [String],
}

/// The PEM files of a certificate.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key (PKCS #8).
    pub key: PathBuf,
}

/// The authority, and the folder of all certificates.
#[derive(Debug)]
pub struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// The authority of `folder`, made when there is none yet, with the key pair that signs service accounts'
    /// tokens.
    ///
    /// # Errors
    /// When the folder can't be written, or holds keys that can't be read.
    pub fn open(folder: &Path) -> Result<Self, LabError> {
        fs::create_dir_all(folder).map_err(LabError::file("making", folder))?;
        let authority = files(folder, "ca");
        let key = if authority.certificate.exists() {
            KeyPair::from_pem(&read(&authority.key)?).map_err(LabError::certificate("the authority's key"))?
        } else {
            let key = KeyPair::generate().map_err(LabError::certificate("a key for the authority"))?;
            let own = authority_params().self_signed(&key).map_err(LabError::certificate("the authority"))?;
            write(&authority.key, &key.serialize_pem())?;
            write(&authority.certificate, &own.pem())?;
            key
        };
        let pki = Self { folder: folder.to_owned(), issuer: Issuer::new(authority_params(), key) };
        if !pki.token_verifier().exists() {
            let key = KeyPair::generate().map_err(LabError::certificate("a key for tokens"))?;
            write(&pki.token_signer(), &key.serialize_pem())?;
            write(&pki.token_verifier(), &key.public_key_pem())?;
        }
        Ok(pki)
    }

    /// The authority's certificate and key.
    #[must_use]
    pub fn authority(&self) -> CertificateFiles {
        files(&self.folder, "ca")
    }

    /// The private key that signs service accounts' tokens.
    #[must_use]
    pub fn token_signer(&self) -> PathBuf {
        self.folder.join("tokens.key")
    }

    /// The public key that proves service accounts' tokens.
    #[must_use]
    pub fn token_verifier(&self) -> PathBuf {
        self.folder.join("tokens.pub")
    }

    /// The certificate of a client that Kubernetes takes for `user` of `group`.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<CertificateFiles, LabError> {
        self.certificate(Identity { file, common_name: user, organization: group, addresses: &[] })
    }

    /// The certificate of `identity`, for servers and clients alike; made when it is not there yet.
    ///
    /// # Errors
    /// When the folder can't be written, or an address is none.
    pub fn certificate(&self, identity: Identity<'_>) -> Result<CertificateFiles, LabError> {
        let made = files(&self.folder, identity.file);
        if made.certificate.exists() {
            return Ok(made);
        }
        let what = || format!("the certificate of {}", identity.common_name);
        let key = KeyPair::generate().map_err(LabError::certificate(what()))?;
        let mut params = CertificateParams::new(identity.addresses).map_err(LabError::certificate(what()))?;
        params.distinguished_name = name(identity.common_name, identity.organization);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let signed = params.signed_by(&key, &self.issuer).map_err(LabError::certificate(what()))?;
        write(&made.key, &key.serialize_pem())?;
        write(&made.certificate, &signed.pem())?;
        Ok(made)
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("freshet lab", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn files(folder: &Path, name: &str) -> CertificateFiles {
    CertificateFiles { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) }
}

pub(super) fn read(path: &Path) -> Result<String, LabError> {
    fs::read_to_string(path).map_err(LabError::file("reading", path))
}

/// Writes a file that only its owner may read, whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> Result<(), LabError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".fresh");
    let fresh = PathBuf::from(fresh);
    fs::remove_file(&fresh).ok();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(LabError::file("writing", &fresh))?;
    file.write_all(text.as_bytes()).map_err(LabError::file("writing", &fresh))?;
    fs::rename(&fresh, path).map_err(LabError::file("moving into place", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::Scratch;

    #[test]
    fn what_is_there_is_kept_and_what_is_missing_is_made() {
        let scratch = Scratch::new("pki").expect("a scratch folder");
        let admin =
            Identity { file: "admin", common_name: "admin", organization: Some("system:masters"), addresses: &[] };
        let first = Pki::open(scratch.path()).expect("a new authority");
        let files = first.certificate(admin).expect("a certificate");
        let (authority, certificate) = (read(&first.authority().certificate), read(&files.certificate));
        // An interrupted start: the key is there, the certificate is not.
        fs::remove_file(&files.certificate).expect("it is there");
        let again = Pki::open(scratch.path()).expect("the same authority");
        let files = again.certificate(admin).expect("a new certificate");
        assert_eq!(read(&again.authority().certificate).ok(), authority.ok());
        assert_ne!(read(&files.certificate).ok(), certificate.ok());
        let same = again.certificate(admin).expect("the same certificate");
        assert_eq!(read(&same.certificate).ok(), read(&files.certificate).ok());
    }

    #[test]
    fn keys_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new("pki-mode").expect("a scratch folder");
        let pki = Pki::open(scratch.path()).expect("a new authority");
        for key in [pki.authority().key, pki.token_signer()] {
            let mode = fs::metadata(&key).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", key.display());
        }
    }
}
