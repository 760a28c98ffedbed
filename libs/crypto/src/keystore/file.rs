//! The key file's JSON, and its way to and from the disk.

use super::{FILE_BYTES_MAX, KeystoreError, VERSION};
use kaldrix_types::{Address, PublicKey, Scheme};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub(super) const KDF: &str = "argon2id";
pub(super) const CIPHER: &str = "xchacha20-poly1305";
const CHECKSUM_CONTEXT: &str = "kaldrix 2026 key file checksum v1";

/// The whole file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) scheme: Scheme,
    pub(super) address: Address,
    pub(super) public_key: PublicKey,
    pub(super) secret: Secret,
    /// Over everything above.
    checksum: String,
}

/// What must not be lost.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Secret {
    Encrypted(Encrypted),
    Plain { seed: HexSecret },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Encrypted {
    pub(super) kdf: Kdf,
    pub(super) cipher: String,
    pub(super) nonce: String,
    pub(super) ciphertext: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kdf {
    pub(super) name: String,
    pub(super) memory_kib: u32,
    pub(super) iterations: u32,
    pub(super) parallelism: u32,
    pub(super) salt: String,
}

/// Hexadecimal text that is wiped when it is dropped.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(super) struct HexSecret(String);

impl HexSecret {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Secret {
    pub(super) fn plain(seed: &[u8]) -> Self {
        Self::Plain { seed: HexSecret(hex::encode(seed)) }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Encrypted(_) => "Encrypted([redacted])",
            Self::Plain { .. } => "Plain([redacted])",
        })
    }
}

impl Record {
    pub(super) fn new(public_key: PublicKey, secret: Secret) -> Self {
        let mut record = Self {
            version: VERSION,
            scheme: public_key.scheme(),
            address: Address::of_key(&public_key),
            public_key,
            secret,
            checksum: String::new(),
        };
        record.checksum = record.expected_checksum();
        record
    }

    /// Length-prefixed fields in a fixed order, so that no two records share the hashed bytes.
    fn expected_checksum(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key(CHECKSUM_CONTEXT);
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        field(&self.version.to_le_bytes());
        field(&[self.scheme as u8]);
        field(self.address.as_bytes());
        field(self.public_key.bytes());
        match &self.secret {
            Secret::Plain { seed } => field(seed.0.as_bytes()),
            Secret::Encrypted(Encrypted { kdf, cipher, nonce, ciphertext }) => {
                field(kdf.name.as_bytes());
                for number in [kdf.memory_kib, kdf.iterations, kdf.parallelism] {
                    field(&number.to_le_bytes());
                }
                for text in [&kdf.salt, cipher, nonce, ciphertext] {
                    field(text.as_bytes());
                }
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    fn check(self) -> Result<Self, KeystoreError> {
        if self.checksum != self.expected_checksum() {
            return Err(KeystoreError::Damaged("checksum"));
        }
        if self.public_key.scheme() != self.scheme || Address::of_key(&self.public_key) != self.address {
            return Err(KeystoreError::Damaged("scheme, address and public key do not belong together"));
        }
        Ok(self)
    }
}

/// Looked at before the rest, which another version may have changed.
#[derive(Deserialize)]
struct VersionOnly {
    version: u64,
}

pub(super) fn read(path: &Path) -> Result<Record, KeystoreError> {
    let io = |source| KeystoreError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(KeystoreError::Damaged("too large for a key file"));
    }
    let VersionOnly { version } = serde_json::from_slice(&bytes).map_err(|_| KeystoreError::Damaged("not JSON with a version"))?;
    if version != u64::from(VERSION) {
        return Err(KeystoreError::UnknownVersion { found: version });
    }
    serde_json::from_slice::<Record>(&bytes).map_err(|_| KeystoreError::Damaged("fields"))?.check()
}

/// Creates the file whole and durable, or not at all.
pub(super) fn write_new(path: &Path, record: &Record) -> Result<(), KeystoreError> {
    let io = |source| KeystoreError::Io { path: path.to_owned(), source };
    let mut text = Zeroizing::new(serde_json::to_vec_pretty(record).map_err(|e| io(e.into()))?);
    text.push(b'\n');
    let temporary = temporary_name(path).map_err(io)?;
    let written = write_durably(&temporary, &text).and_then(|()| publish(&temporary, path));
    // After a link the temporary name is superfluous; after a failure nothing may stay behind.
    let _ = fs::remove_file(&temporary);
    match written {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(KeystoreError::Exists(path.to_owned())),
        Err(e) => Err(io(e)),
        Ok(()) => sync_directory(path).map_err(io),
    }
}

fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "this path names no file"))?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", hex::encode(random)));
    Ok(path.with_file_name(temporary))
}

fn open_owner_only(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = open_owner_only(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives the finished file its name without ever replacing another: a link fails when the name is taken.
fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        // Some file systems have no links: claim the name exclusively, then rename over the claim.
        Err(e) if matches!(e.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
            drop(open_owner_only(path)?);
            fs::rename(temporary, path)
        }
        result => result,
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
