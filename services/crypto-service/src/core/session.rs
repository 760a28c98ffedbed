//! Further session keys: a folder beside the main key, with one key file and one guard for each.
//!
//! ```text
//!   <key file's name>-session-keys/   <key id>.json   <key id>.guard
//! ```
//!
//! A rotation makes a key here, registers it on the chain, and the old key signs until the epoch in which the new one counts. To retire a key,
//! delete its two files and restart; to make one of these the main key, name its files in `[crypto]`.

use crate::core::guard::Guard;
use crate::core::provision::{ProvisionError, provision};
use kaldrix_crypto::{KeyFile, KeystoreError, SecretKey, SecretString};
use kaldrix_types::{ChainId, KeyId, Scheme};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Session keys besides the main one. Each takes 0.1 s to unlock at the start.
pub const SESSION_KEYS_MAX: usize = 16;

/// Why session keys cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum SessionKeyError {
    /// The folder.
    #[error("the folder of session keys {path}: {source}", path = path.display())]
    Folder {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// As many as there may be.
    #[error("there are {SESSION_KEYS_MAX} session keys in {}, the most there may be: delete the files of retired ones and restart", .0.display())]
    TooMany(PathBuf),
    /// A key or its guard.
    #[error("session key {path}: {source}", path = path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// Why.
        source: ProvisionError,
    },
}

/// The folder of session keys of one validator.
#[derive(Clone, Debug)]
pub struct SessionKeys {
    folder: PathBuf,
    chain: ChainId,
}

impl SessionKeys {
    /// The folder that belongs to the main key's file; it need not exist.
    #[must_use]
    pub fn beside(key_file: &Path, chain: ChainId) -> Self {
        let stem = key_file.file_stem().unwrap_or_default().to_string_lossy();
        Self { folder: key_file.with_file_name(format!("{stem}-session-keys")), chain }
    }

    /// Unlocks every key and opens its guard. Blocks for about 0.1 s for each that is encrypted.
    ///
    /// # Errors
    /// [`SessionKeyError`]: a key whose guard is missing or damaged is loud here, as everywhere.
    pub fn load(&self, passphrase: Option<&SecretString>) -> Result<Vec<(SecretKey, Guard)>, SessionKeyError> {
        let files = self.key_files()?;
        if files.len() > SESSION_KEYS_MAX {
            return Err(SessionKeyError::TooMany(self.folder.clone()));
        }
        files.into_iter().map(|path| self.open(&path, passphrase).map_err(|source| SessionKeyError::Key { path, source })).collect()
    }

    /// Makes a key of `scheme` with its guard; both are durable when this returns. Blocks for about 0.1 s with a passphrase.
    ///
    /// # Errors
    /// [`SessionKeyError`]; a guard without a key may be left then, which means nothing.
    pub fn create(&self, scheme: Scheme, passphrase: Option<&SecretString>) -> Result<(SecretKey, Guard), SessionKeyError> {
        if self.key_files()?.len() >= SESSION_KEYS_MAX {
            return Err(SessionKeyError::TooMany(self.folder.clone()));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(|e| self.folder_error(e))?;
        let failed = |path: &Path, source: ProvisionError| SessionKeyError::Key { path: path.to_owned(), source };
        let key = SecretKey::generate(scheme).map_err(|e| failed(&self.folder, KeystoreError::from(e).into()))?;
        let (key_file, guard_file) = self.files(key.public_key().id());
        provision(&key, self.chain, &key_file, &guard_file, passphrase).map_err(|e| failed(&key_file, e))?;
        let guard = Guard::open(&guard_file, key.public_key().id(), self.chain).map_err(|e| failed(&key_file, e.into()))?;
        Ok((key, guard))
    }

    fn open(&self, path: &Path, passphrase: Option<&SecretString>) -> Result<(SecretKey, Guard), ProvisionError> {
        let key = KeyFile::open(path)?.unlock(passphrase)?;
        let guard = Guard::open(&path.with_extension("guard"), key.public_key().id(), self.chain)?;
        Ok((key, guard))
    }

    fn files(&self, key: KeyId) -> (PathBuf, PathBuf) {
        (self.folder.join(format!("{key}.json")), self.folder.join(format!("{key}.guard")))
    }

    /// Sorted, so that a start is like the one before.
    fn key_files(&self) -> Result<Vec<PathBuf>, SessionKeyError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| self.folder_error(e))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| self.folder_error(e))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    fn folder_error(&self, source: io::Error) -> SessionKeyError {
        SessionKeyError::Folder { path: self.folder.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    fn beside(folder: &TempDir) -> SessionKeys {
        SessionKeys::beside(&folder.path().join("key.json"), ChainId::default())
    }

    #[test]
    fn a_new_key_is_there_after_a_restart_with_its_guard_and_for_its_owner_only() {
        let folder = TempDir::new().unwrap();
        let keys = beside(&folder);
        assert!(keys.load(None).unwrap().is_empty());
        let (first, guard) = keys.create(Scheme::Ed25519, None).unwrap();
        let (second, _) = keys.create(Scheme::MlDsa65, None).unwrap();
        assert!(matches!(keys.load(None), Err(SessionKeyError::Key { .. })), "the first one's guard is in use");
        drop(guard);
        let loaded: Vec<KeyId> = keys.load(None).unwrap().iter().map(|(key, _)| key.public_key().id()).collect();
        let mut expected = [first.public_key().id(), second.public_key().id()];
        expected.sort_unstable();
        assert_eq!(loaded, expected);
        let mode = std::fs::metadata(folder.path().join("key-session-keys")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_session_key_without_its_guard_is_an_error_and_there_is_an_end_to_making_them() {
        let folder = TempDir::new().unwrap();
        let keys = beside(&folder);
        for _ in 0..SESSION_KEYS_MAX {
            keys.create(Scheme::Ed25519, None).unwrap();
        }
        assert!(matches!(keys.create(Scheme::Ed25519, None), Err(SessionKeyError::TooMany(_))));
        let (key, _) = keys.load(None).unwrap().swap_remove(3);
        std::fs::remove_file(keys.files(key.public_key().id()).1).unwrap();
        let error = keys.load(None).unwrap_err().to_string();
        assert!(error.contains("double-sign guard") && error.contains(&key.public_key().id().to_string()), "{error}");
    }
}
