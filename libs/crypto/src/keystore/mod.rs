//! Secret keys at rest: one JSON file per key, holding the seed, encrypted under a passphrase or plain.
//!
//! ```text
//!   passphrase ──Argon2id(salt)──▶ 32-byte key ──XChaCha20-Poly1305(nonce)──▶ ciphertext of the seed
//!                                      associated data: version, scheme, public key
//! ```
//!
//! The public part (address, scheme, public key) is readable without the passphrase. A checksum over the whole file tells damage from a
//! wrong passphrase; it protects against accidents only, the AEAD against people.

mod file;

use crate::{SecretKey, SecretKeyError};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use file::{CIPHER, Encrypted, KDF, Kdf, Record, Secret};
use kaldrix_types::{Address, PublicKey, Scheme};
use secrecy::{ExposeSecret, SecretString};
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The format that this version writes.
pub const VERSION: u32 = 1;
/// No key file is larger: a larger one is refused unread.
pub const FILE_BYTES_MAX: u64 = 64 * 1024;

const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;

/// Why a key file cannot be written or opened.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// Reading or writing failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is a file already; a key is never overwritten.
    #[error("{} exists already and is not overwritten: choose another name, or move the old key away", .0.display())]
    Exists(PathBuf),
    /// Written by a version that this one does not know.
    #[error("the key file has format version {found}, this program knows {VERSION}: use a newer program")]
    UnknownVersion {
        /// What the file says.
        found: u64,
    },
    /// Not a key file any more, or never was one.
    #[error("the key file is damaged ({0}): restore it from a backup")]
    Damaged(&'static str),
    /// Encrypted, and no passphrase was given.
    #[error("the key file is encrypted: a passphrase is needed")]
    PassphraseNeeded,
    /// The passphrase is not the one the file was written with.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// An empty passphrase protects nothing.
    #[error("the passphrase is empty: give one, or say that the key is to be stored without")]
    EmptyPassphrase,
    /// The key derivation would cost more than any sane file asks for, or less than the algorithm allows.
    #[error("the key file asks for a key derivation out of bounds (at most {max} KiB of memory)", max = KdfCost::MEMORY_KIB_MAX)]
    KdfOutOfBounds,
    /// The key itself could not be made.
    #[error(transparent)]
    Key(#[from] SecretKeyError),
}

/// What guessing one passphrase costs (Argon2id, RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
}

impl KdfCost {
    /// Files that ask for more memory than this are refused: opening a file must not exhaust the machine.
    pub const MEMORY_KIB_MAX: u32 = 1024 * 1024;
    const ITERATIONS_MAX: u32 = 64;
    const PARALLELISM_MAX: u32 = 16;

    fn derive(self, passphrase: &SecretString, salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        if self.memory_kib > Self::MEMORY_KIB_MAX || self.iterations > Self::ITERATIONS_MAX || self.parallelism > Self::PARALLELISM_MAX {
            return Err(KeystoreError::KdfOutOfBounds);
        }
        let params =
            Params::new(self.memory_kib, self.iterations, self.parallelism, Some(32)).map_err(|_| KeystoreError::KdfOutOfBounds)?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.expose_secret().as_bytes(), salt, key.as_mut_slice())
            .map_err(|_| KeystoreError::KdfOutOfBounds)?;
        Ok(key)
    }
}

impl Default for KdfCost {
    /// 64 MiB, three passes, one lane: RFC 9106's second recommendation with one lane, about 0.1 s.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, iterations: 3, parallelism: 1 }
    }
}

/// Writes key files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keystore;

impl Keystore {
    /// Writes `key` to a new file at `path`, encrypted under `passphrase` if there is one, readable by the owner only. The file appears whole
    /// or not at all, and is durable when this returns.
    ///
    /// # Errors
    /// [`KeystoreError::Exists`], [`KeystoreError::EmptyPassphrase`] or [`KeystoreError::Io`].
    pub fn create(path: &Path, key: &SecretKey, passphrase: Option<&SecretString>) -> Result<KeyFile, KeystoreError> {
        Self::create_with_cost(path, key, passphrase, KdfCost::default())
    }

    /// [`Keystore::create`] with another price for guessing the passphrase.
    ///
    /// # Errors
    /// As [`Keystore::create`], and [`KeystoreError::KdfOutOfBounds`].
    pub fn create_with_cost(
        path: &Path,
        key: &SecretKey,
        passphrase: Option<&SecretString>,
        cost: KdfCost,
    ) -> Result<KeyFile, KeystoreError> {
        let public_key = key.public_key().clone();
        let secret = match passphrase {
            None => Secret::plain(key.seed()),
            Some(passphrase) => Secret::Encrypted(encrypt(key, passphrase, cost)?),
        };
        let record = Record::new(public_key, secret);
        file::write_new(path, &record)?;
        Ok(KeyFile { record })
    }
}

/// A key file that was read; its public part needs no passphrase.
#[derive(Debug)]
pub struct KeyFile {
    record: Record,
}

impl KeyFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`KeystoreError::Io`], [`KeystoreError::UnknownVersion`] or [`KeystoreError::Damaged`].
    pub fn open(path: &Path) -> Result<Self, KeystoreError> {
        Ok(Self { record: file::read(path)? })
    }

    /// The address that this key opens.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.record.address
    }

    /// How the key signs.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.record.scheme
    }

    /// The public half.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.record.public_key
    }

    /// Whether [`KeyFile::unlock`] needs a passphrase.
    #[must_use]
    pub const fn is_encrypted(&self) -> bool {
        matches!(self.record.secret, Secret::Encrypted(_))
    }

    /// The secret key. Takes about 0.1 s and 64 MiB for an encrypted file: not for an async task. A passphrase given for a plain file is ignored.
    ///
    /// # Errors
    /// [`KeystoreError::PassphraseNeeded`], [`KeystoreError::WrongPassphrase`], [`KeystoreError::Damaged`], [`KeystoreError::KdfOutOfBounds`].
    pub fn unlock(&self, passphrase: Option<&SecretString>) -> Result<SecretKey, KeystoreError> {
        let seed = match (&self.record.secret, passphrase) {
            (Secret::Plain { seed }, _) => Zeroizing::new(hex::decode(seed.as_str()).map_err(|_| KeystoreError::Damaged("seed"))?),
            (Secret::Encrypted(_), None) => return Err(KeystoreError::PassphraseNeeded),
            (Secret::Encrypted(encrypted), Some(passphrase)) => decrypt(encrypted, &self.record.public_key, passphrase)?,
        };
        let key = SecretKey::from_seed(self.record.scheme, &seed).map_err(|_| KeystoreError::Damaged("seed"))?;
        if *key.public_key() != self.record.public_key {
            return Err(KeystoreError::Damaged("the seed does not give the public key"));
        }
        Ok(key)
    }
}

fn encrypt(key: &SecretKey, passphrase: &SecretString, cost: KdfCost) -> Result<Encrypted, KeystoreError> {
    if passphrase.expose_secret().is_empty() {
        return Err(KeystoreError::EmptyPassphrase);
    }
    let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
    for random in [salt.as_mut_slice(), nonce.as_mut_slice()] {
        getrandom::fill(random).map_err(|e| SecretKeyError::Randomness(e.to_string()))?;
    }
    let cipher = XChaCha20Poly1305::new((&*cost.derive(passphrase, &salt)?).into());
    let aad = associated_data(key.public_key());
    let ciphertext = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg: key.seed(), aad: &aad })
        .map_err(|_| KeystoreError::Damaged("the seed could not be encrypted"))?;
    Ok(Encrypted {
        kdf: Kdf {
            name: KDF.into(),
            memory_kib: cost.memory_kib,
            iterations: cost.iterations,
            parallelism: cost.parallelism,
            salt: hex::encode(salt),
        },
        cipher: CIPHER.into(),
        nonce: hex::encode(nonce),
        ciphertext: hex::encode(ciphertext),
    })
}

fn decrypt(encrypted: &Encrypted, public_key: &PublicKey, passphrase: &SecretString) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
    if encrypted.kdf.name != KDF || encrypted.cipher != CIPHER {
        return Err(KeystoreError::Damaged("unknown key derivation or cipher"));
    }
    let mut nonce = [0; NONCE_BYTES];
    hex::decode_to_slice(&encrypted.nonce, &mut nonce).map_err(|_| KeystoreError::Damaged("nonce"))?;
    let salt = hex::decode(&encrypted.kdf.salt).map_err(|_| KeystoreError::Damaged("salt"))?;
    let ciphertext = hex::decode(&encrypted.ciphertext).map_err(|_| KeystoreError::Damaged("ciphertext"))?;
    let Kdf { memory_kib, iterations, parallelism, .. } = encrypted.kdf;
    let key = KdfCost { memory_kib, iterations, parallelism }.derive(passphrase, &salt)?;
    let aad = associated_data(public_key);
    XChaCha20Poly1305::new((&*key).into())
        .decrypt(&XNonce::from(nonce), Payload { msg: &ciphertext, aad: &aad })
        .map(Zeroizing::new)
        .map_err(|_| KeystoreError::WrongPassphrase)
}

/// Binds the ciphertext to the public part: a file whose public key was swapped does not open.
fn associated_data(public_key: &PublicKey) -> Vec<u8> {
    let mut data = b"kaldrix key file".to_vec();
    data.extend_from_slice(&VERSION.to_le_bytes());
    data.push(public_key.scheme() as u8);
    data.extend_from_slice(public_key.bytes());
    data
}
