//! What this service takes from the shared configuration: `[crypto]`, the validator's name and the genesis.

use crate::error::CryptoServiceError;
use kaldrix_crypto::{KeyFile, SecretKey, SecretString};
use kaldrix_service_kit::{Config, Owner};
use kaldrix_types::{ChainId, Genesis, PublicKey, Scheme};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The audit log becomes `<name>.1` at this size, so that both together take at most twice as much: about 180,000 signatures each.
pub const AUDIT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Prepared keys kept for batch verification; a few kilobytes each.
pub const KEY_CACHE_CAPACITY: u64 = 4_096;
/// Signing requests that may wait for the one key; a validator's dag-service has one at a time.
pub const SIGNING_WAITING_MAX: usize = 16;
/// Batches that may wait for a verification thread, beyond those that have one.
pub const BATCHES_WAITING_MAX: usize = 16;
/// One request's bytes: 1,000 items of the largest scheme with our own messages.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

const PASSPHRASE_BYTES_MAX: u64 = 4096;

/// The settings of this service, checked against the genesis.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address of the gRPC server.
    pub listen: SocketAddr,
    /// The validator that the key belongs to: only its own dag-service may have signatures.
    pub validator: String,
    /// The chain that the key signs for.
    pub chain: ChainId,
    /// Names and keys of the validators of the genesis. This one may be none of them, or have another key by now.
    pub genesis_keys: Vec<(String, PublicKey)>,
    /// The scheme that `[crypto] signature_algorithm` names.
    pub scheme: Scheme,
    /// Keystore.
    pub key_file: PathBuf,
    /// File with its passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// Double-sign guard.
    pub guard_file: PathBuf,
    /// Audit log.
    pub audit_log: PathBuf,
}

impl Settings {
    /// Takes what concerns this service, and reads the genesis.
    ///
    /// # Errors
    /// [`CryptoServiceError::Config`] when the genesis is missing or wrong.
    pub fn from_config(config: &Config) -> Result<Self, CryptoServiceError> {
        let path = &config.dag.genesis;
        let wrong = |reason: String| CryptoServiceError::Config(format!("the genesis file {}: {reason}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let genesis = Genesis::from_json(&text).map_err(|e| wrong(e.to_string()))?;
        let validator = config.dag.validator.clone();
        let algorithm = config.crypto.signature_algorithm.as_str();
        let scheme = algorithm.parse().map_err(|e| CryptoServiceError::Config(format!("crypto.signature_algorithm: {e}")))?;
        Ok(Self {
            listen: config.crypto.listen,
            chain: genesis.chain_id(),
            genesis_keys: genesis.validators.into_iter().map(|v| (v.name, v.key)).collect(),
            scheme,
            key_file: config.crypto.key_file.clone(),
            passphrase_file: config.crypto.passphrase_file.clone(),
            guard_file: config.crypto.guard_file.clone(),
            audit_log: config.crypto.audit_log.clone(),
            validator,
        })
    }

    /// Whom callers must work for.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner::Validator(self.validator.clone())
    }

    /// Opens the key file and looks whether it holds this validator's key. Blocks for about 0.1 s when the file is encrypted.
    ///
    /// # Errors
    /// [`CryptoServiceError::Keystore`], or [`CryptoServiceError::Config`] when it is another key or scheme than configured.
    pub fn load_key(&self) -> Result<SecretKey, CryptoServiceError> {
        let file = self.open_key_file()?;
        Ok(file.unlock(self.read_passphrase()?.as_ref())?)
    }

    /// The passphrase of all key files, if they have one.
    ///
    /// # Errors
    /// [`CryptoServiceError::Config`] when its file cannot be read.
    pub fn read_passphrase(&self) -> Result<Option<SecretString>, CryptoServiceError> {
        self.passphrase_file.as_deref().map(read_passphrase).transpose()
    }

    /// The public half of [`Settings::load_key`], without the passphrase.
    ///
    /// # Errors
    /// As [`Settings::load_key`].
    pub fn load_public_key(&self) -> Result<PublicKey, CryptoServiceError> {
        Ok(self.open_key_file()?.public_key().clone())
    }

    fn open_key_file(&self) -> Result<KeyFile, CryptoServiceError> {
        let file = KeyFile::open(&self.key_file)?;
        let name = self.key_file.display();
        if file.scheme() != self.scheme {
            let (found, expected) = (file.scheme(), self.scheme);
            return Err(CryptoServiceError::Config(format!("{name} holds a {found} key, but crypto.signature_algorithm is {expected}")));
        }
        let validator = &self.validator;
        if let Some((other, _)) = self.genesis_keys.iter().find(|(name, key)| key == file.public_key() && name != validator) {
            let what = format!("{name} holds another key than the genesis has for validator {validator}: it is {other}'s");
            return Err(CryptoServiceError::Config(what));
        }
        if !self.genesis_keys.iter().any(|(_, key)| key == file.public_key()) {
            tracing::info!(%validator, "the main key is none of the genesis: it counts once it is registered on the chain");
        }
        Ok(file)
    }
}

/// The file's text without the line end that editors add.
fn read_passphrase(path: &Path) -> Result<SecretString, CryptoServiceError> {
    let wrong = |reason: String| CryptoServiceError::Config(format!("the passphrase file {}: {reason}", path.display()));
    let mut text = String::with_capacity(PASSPHRASE_BYTES_MAX as usize + 1);
    File::open(path).and_then(|file| file.take(PASSPHRASE_BYTES_MAX + 1).read_to_string(&mut text)).map_err(|e| wrong(e.to_string()))?;
    if text.len() as u64 > PASSPHRASE_BYTES_MAX {
        return Err(wrong(format!("longer than {PASSPHRASE_BYTES_MAX} bytes")));
    }
    while text.ends_with(['\n', '\r']) {
        text.pop();
    }
    Ok(SecretString::from(text))
}
