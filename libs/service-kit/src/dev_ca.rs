//! A certificate authority for development networks: ML-DSA-65 (FIPS 204) certificates, made and kept in the data directory.
//!
//! Production brings its own certificates (SPIRE, cert-manager, a company CA); this is what `kaldrix dev` uses.

use crate::identity::Identity;
use aws_lc_rs::signature::{KeyPair as _, ML_DSA_65_SIGNING, PqdsaKeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ML_DSA_65,
    PublicKeyData, SanType, SignatureAlgorithm, SigningKey, date_time_ymd,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// How certificates are signed.
static ALGORITHM: &SignatureAlgorithm = &PKCS_ML_DSA_65;

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DevCaError {
    /// A file cannot be read or written.
    #[error("cannot read or write {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The CA's key file holds something else.
    #[error("{} is no ML-DSA-65 key in PKCS#8 PEM: {reason}; remove the folder to begin with a new CA", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The library refuses.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// The CA's key. rcgen makes ML-DSA keys but cannot read them back, so that signing with a stored one is ours.
struct CaKey(PqdsaKeyPair);

impl CaKey {
    fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|e| e.to_string())?;
        PqdsaKeyPair::from_pkcs8(&ML_DSA_65_SIGNING, key.secret_pkcs8_der()).map(Self).map_err(|e| e.to_string())
    }
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        ALGORITHM
    }
}

impl SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mut signature = vec![0; self.0.algorithm().signature_len()];
        let length = self.0.sign(message, &mut signature).map_err(|_| rcgen::Error::RingUnspecified)?;
        signature.truncate(length);
        Ok(signature)
    }
}

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key, PKCS#8: a secret.
    pub key_pem: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued(key: redacted)")
    }
}

/// Where a workload's certificate and key were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedFiles {
    /// PEM certificate.
    pub certificate: PathBuf,
    /// PEM private key, mode 0600.
    pub key: PathBuf,
}

/// The development CA.
pub struct DevCa {
    issuer: Issuer<'static, CaKey>,
    certificate_pem: String,
}

impl std::fmt::Debug for DevCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DevCa(key: redacted)")
    }
}

impl DevCa {
    /// A new CA that exists in memory only.
    ///
    /// # Errors
    /// [`DevCaError::Certificate`] when the random source or the library fails.
    pub fn generate() -> Result<Self, DevCaError> {
        Ok(Self::generate_with_key()?.0)
    }

    /// A new CA and its private key, PEM.
    fn generate_with_key() -> Result<(Self, String), DevCaError> {
        let key_pem = KeyPair::generate_for(ALGORITHM)?.serialize_pem();
        let key = CaKey::from_pem(key_pem.as_bytes()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        let params = ca_params()?;
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok((Self { issuer: Issuer::new(params, key), certificate_pem }, key_pem))
    }

    /// Opens the CA in `dir` (`ca.pem`, `ca-key.pem`), or makes one there.
    ///
    /// # Errors
    /// [`DevCaError`] when the folder cannot be used or holds something else.
    pub fn open(dir: &Path) -> Result<Self, DevCaError> {
        let (certificate, key_path) = (Self::certificate_path(dir), dir.join("ca-key.pem"));
        if certificate.exists() && key_path.exists() {
            let key = CaKey::from_pem(read(&key_path)?.as_bytes()).map_err(|reason| DevCaError::Key { path: key_path, reason })?;
            return Ok(Self { issuer: Issuer::new(ca_params()?, key), certificate_pem: read(&certificate)? });
        }
        std::fs::create_dir_all(dir).map_err(|source| DevCaError::File { path: dir.to_owned(), source })?;
        let (ca, key_pem) = Self::generate_with_key()?;
        write_secret(&key_path, &key_pem)?;
        write_secret(&certificate, &ca.certificate_pem)?;
        Ok(ca)
    }

    /// Where the CA's certificate lies in `dir`.
    #[must_use]
    pub fn certificate_path(dir: &Path) -> PathBuf {
        dir.join("ca.pem")
    }

    /// The CA's certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Makes a key and a certificate for `identity`. The SPIFFE id and [`Identity::dns_name`] are always in it; `dns` and `ips` are added.
    ///
    /// # Errors
    /// [`DevCaError::Certificate`] for names that are not ASCII.
    pub fn issue(&self, identity: &Identity, dns: &[String], ips: &[IpAddr]) -> Result<Issued, DevCaError> {
        let key = KeyPair::generate_for(ALGORITHM)?;
        let mut names = vec![identity.dns_name()];
        names.extend_from_slice(dns);
        let mut params = CertificateParams::new(names)?;
        params.subject_alt_names.push(SanType::URI(identity.to_string().try_into()?));
        params.subject_alt_names.extend(ips.iter().map(|ip| SanType::IpAddress(*ip)));
        params.distinguished_name.push(DnType::CommonName, format!("{} of {}", identity.service, identity.owner));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2046, 1, 1));
        let certificate_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate_pem, key_pem: key.serialize_pem() })
    }

    /// As [`DevCa::issue`], into `dir/<name>.pem` and `dir/<name>-key.pem`. Files that exist are kept, so that a restarted network has the same ones.
    ///
    /// # Errors
    /// [`DevCaError`].
    pub fn issue_files(&self, dir: &Path, name: &str, identity: &Identity, ips: &[IpAddr]) -> Result<IssuedFiles, DevCaError> {
        let files = IssuedFiles { certificate: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}-key.pem")) };
        if !files.certificate.exists() || !files.key.exists() {
            std::fs::create_dir_all(dir).map_err(|source| DevCaError::File { path: dir.to_owned(), source })?;
            let issued = self.issue(identity, &["localhost".to_owned()], ips)?;
            write_secret(&files.key, &issued.key_pem)?;
            write_secret(&files.certificate, &issued.certificate_pem)?;
        }
        Ok(files)
    }
}

fn ca_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, "Kaldrix development CA");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2046, 1, 1));
    Ok(params)
}

fn read(path: &Path) -> Result<String, DevCaError> {
    std::fs::read_to_string(path).map_err(|source| DevCaError::File { path: path.to_owned(), source })
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_secret(path: &Path, text: &str) -> Result<(), DevCaError> {
    let file_error = |source| DevCaError::File { path: path.to_owned(), source };
    let temporary = path.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary).map_err(file_error)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(file_error)?;
    std::fs::rename(&temporary, path).map_err(file_error)
}
