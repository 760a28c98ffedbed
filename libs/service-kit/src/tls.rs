//! Mutual TLS 1.3 between services: X25519MLKEM768 and nothing else, both sides known by their SPIFFE ids.
//!
//! Certificates are checked against the development or company CA, then the URI name must be a SPIFFE id of our trust domain; a client also
//! checks that the server is the service it meant to reach. Host names play no part: a workload may move.
//! Sessions are not resumed: connections live for minutes, and each handshake checks both certificates anew.

use crate::config;
use crate::identity::{Identity, IdentityError, Owner, Service};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; check [tls] in the configuration and the file's permissions", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// PEM text without what is needed.
    #[error("{what} holds no usable PEM: {why}")]
    Pem {
        /// CA, certificate or key.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The own certificate names no identity, or one of another trust domain.
    #[error("the certificate is not usable as an identity: {0}")]
    Identity(String),
    /// Certificate and key do not fit, or the library refuses them.
    #[error("TLS configuration: {0}; do certificate and key belong together?")]
    Rustls(#[from] rustls::Error),
}

/// aws-lc-rs with X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem) as its only key exchange.
#[must_use]
pub fn crypto_provider() -> CryptoProvider {
    CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768], ..aws_lc_rs::default_provider() }
}

/// Makes [`crypto_provider`] the process's default, so that no library can negotiate a classical-only exchange by accident. Call it first thing in
/// `main`; calling it again is harmless.
pub fn install_crypto_provider() {
    let _ = crypto_provider().install_default();
}

/// The CA, the own certificate chain and key, and the identity in it. Cheap to clone.
#[derive(Clone)]
pub struct TlsMaterial {
    inner: Arc<Material>,
}

struct Material {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    identity: Arc<Identity>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TlsMaterial({}, key: redacted)", self.inner.identity)
    }
}

impl TlsMaterial {
    /// Reads the PEM files of the `[tls]` section.
    ///
    /// # Errors
    /// [`TlsError`] naming the file that is missing or wrong.
    pub fn load(tls: &config::Tls) -> Result<Self, TlsError> {
        Self::from_pem(&read(&tls.ca)?, &read(&tls.certificate)?, &read(&tls.key)?, &tls.trust_domain)
    }

    /// Takes PEM texts: the CA's certificates, the own chain (leaf first), the own private key (PKCS#8).
    ///
    /// # Errors
    /// [`TlsError`] when a text is unusable or the leaf has no SPIFFE id of `trust_domain`.
    pub fn from_pem(ca: &[u8], certificate: &[u8], key: &[u8], trust_domain: &str) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("the CA file", ca)? {
            roots.add(certificate).map_err(|e| TlsError::Pem { what: "the CA file", why: e.to_string() })?;
        }
        let chain = certificates("the certificate file", certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| TlsError::Pem { what: "the key file", why: e.to_string() })?;
        let identity = identity_of(&chain[0]).map_err(|e| TlsError::Identity(e.to_string()))?;
        if identity.trust_domain != trust_domain {
            return Err(TlsError::Identity(format!("{identity} is not of the trust domain {trust_domain}")));
        }
        let provider = Arc::new(crypto_provider());
        Ok(Self { inner: Arc::new(Material { roots: Arc::new(roots), chain, key, identity: Arc::new(identity), provider }) })
    }

    /// Who this certificate says we are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Server side: asks for a client certificate and refuses connections without one.
    ///
    /// # Errors
    /// [`TlsError::Rustls`] when certificate and key do not fit.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let m = &self.inner;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&m.roots), Arc::clone(&m.provider))
            .build()
            .map_err(|e| TlsError::Pem { what: "the CA file", why: e.to_string() })?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&m.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(m.chain.clone(), m.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// Client side: presents the own certificate and accepts only a server that is `expected`.
    ///
    /// # Errors
    /// [`TlsError::Rustls`] when certificate and key do not fit.
    pub fn client_config(&self, expected: Expected) -> Result<Arc<ClientConfig>, TlsError> {
        let m = &self.inner;
        let verifier = ServiceVerifier {
            roots: Arc::clone(&m.roots),
            provider: Arc::clone(&m.provider),
            trust_domain: m.identity.trust_domain.clone(),
            expected,
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&m.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous() // "dangerous" is the library's word for an own verifier; ours checks more than the default one, not less
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(m.chain.clone(), m.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Arc::new(config))
    }

    /// For the public API's own port: TLS 1.3, hybrid preferred, X25519 accepted because browsers and SDKs outside may have nothing else. With
    /// `client_ca` (PEM) clients need a certificate of that CA.
    ///
    /// # Errors
    /// [`TlsError`] when the CA text or the key is unusable.
    pub fn public_server_config(&self, client_ca: Option<&[u8]>) -> Result<Arc<ServerConfig>, TlsError> {
        let m = &self.inner;
        let provider = Arc::new(CryptoProvider {
            kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        });
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&rustls::version::TLS13])?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("[api] client_ca", pem)? {
                    roots.add(certificate)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|e| TlsError::Pem { what: "[api] client_ca", why: e.to_string() })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(m.chain.clone(), m.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list =
        CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|e| TlsError::Pem { what, why: e.to_string() })?;
    if list.is_empty() { Err(TlsError::Pem { what, why: "no CERTIFICATE section".to_owned() }) } else { Ok(list) }
}

/// Why a certificate carries no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateIdentityError {
    /// Not X.509.
    #[error("not an X.509 certificate")]
    NotX509,
    /// No URI name, or more than one: SPIFFE X509-SVID (section 2) wants exactly one.
    #[error("the certificate has {0} URI names, a SPIFFE certificate has exactly one")]
    UriCount(usize),
    /// The URI is no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// The SPIFFE id in a certificate's URI name. The certificate must have been checked against a CA already.
///
/// # Errors
/// [`CertificateIdentityError`] when there is not exactly one URI name of the right form.
pub fn identity_of(certificate: &CertificateDer<'_>) -> Result<Identity, CertificateIdentityError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateIdentityError::NotX509)?;
    let names = parsed.subject_alternative_name().map_err(|_| CertificateIdentityError::NotX509)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    match uris.as_slice() {
        [uri] => Ok(uri.parse()?),
        _ => Err(CertificateIdentityError::UriCount(uris.len())),
    }
}

/// Which server a client means to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    service: Service,
    owner: Option<Owner>,
}

impl Expected {
    /// A service of whatever validator or region.
    #[must_use]
    pub const fn any(service: Service) -> Self {
        Self { service, owner: None }
    }

    /// The service of one validator or region.
    #[must_use]
    pub const fn of(owner: Owner, service: Service) -> Self {
        Self { service, owner: Some(owner) }
    }

    /// What is expected.
    #[must_use]
    pub const fn service(&self) -> Service {
        self.service
    }

    fn admits(&self, identity: &Identity) -> bool {
        identity.service == self.service && self.owner.as_ref().is_none_or(|owner| *owner == identity.owner)
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{owner}/{}", self.service),
            None => write!(f, "any {}", self.service),
        }
    }
}

/// The server's certificate must chain to our CA and carry the expected SPIFFE id.
#[derive(Debug)]
struct ServiceVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    trust_domain: String,
    expected: Expected,
}

impl ServerCertVerifier for ServiceVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let identity = identity_of(end_entity).map_err(|e| rustls::Error::General(e.to_string()))?;
        if identity.trust_domain == self.trust_domain && self.expected.admits(&identity) {
            return Ok(ServerCertVerified::assertion());
        }
        tracing::warn!(found = %identity, expected = %self.expected, "a server is not the service that was meant");
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
