//! The files of a new key: the keystore and the guard that belongs to it.

use crate::core::guard::{Guard, GuardError, Origin};
use kaldrix_crypto::{Keystore, KeystoreError, SecretKey, SecretString};
use kaldrix_types::ChainId;
use std::path::Path;

/// Why a key was not provisioned.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The key file.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// The guard.
    #[error(transparent)]
    Guard(#[from] GuardError),
}

/// Writes the key file and the empty double-sign guard of a key that has never signed. The guard is made first: a key without its guard does
/// not start, so no crash in between can leave a key that could sign unguarded.
///
/// # Errors
/// [`ProvisionError`] when either file exists already or cannot be written; what was there before is untouched.
pub fn provision(
    key: &SecretKey,
    chain: ChainId,
    key_path: &Path,
    guard_path: &Path,
    passphrase: Option<&SecretString>,
) -> Result<(), ProvisionError> {
    if key_path.exists() {
        return Err(KeystoreError::Exists(key_path.to_owned()).into());
    }
    Guard::create(guard_path, key.public_key().id(), chain, Origin::NewKey)?;
    Keystore::create(key_path, key, passphrase)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_types::Scheme;
    use tempfile::TempDir;

    #[test]
    fn a_key_is_provisioned_with_its_guard_and_only_once() {
        let folder = TempDir::new().unwrap();
        let (key_path, guard_path) = (folder.path().join("key.json"), folder.path().join("guard"));
        let key = SecretKey::generate(Scheme::Ed25519).unwrap();
        provision(&key, ChainId::default(), &key_path, &guard_path, None).unwrap();
        assert!(Guard::open(&guard_path, key.public_key().id(), ChainId::default()).is_ok());
        let again = provision(&key, ChainId::default(), &key_path, &guard_path, None);
        assert!(matches!(again, Err(ProvisionError::Keystore(KeystoreError::Exists(_)))));
    }
}
