//! The keystore: round trips, refusals, and one distinct error for each thing that can be wrong with a file.
#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

use kaldrix_crypto::keystore::FILE_BYTES_MAX;
use kaldrix_crypto::{KdfCost, KeyFile, Keystore, KeystoreError, SecretKey, SecretString};
use kaldrix_types::{Address, Scheme};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Cheap enough for many tests; the default cost has its own.
const CHEAP: KdfCost = KdfCost { memory_kib: 64, iterations: 1, parallelism: 1 };

fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("validator.json");
    (folder, path)
}

fn key(scheme: Scheme) -> SecretKey {
    SecretKey::from_seed(scheme, &vec![0xc7; SecretKey::seed_len(scheme)]).unwrap()
}

fn passphrase(text: &str) -> SecretString {
    SecretString::from(text)
}

fn encrypted(path: &Path) -> SecretKey {
    let key = key(Scheme::MlDsa65);
    Keystore::create_with_cost(path, &key, Some(&passphrase("right")), CHEAP).unwrap();
    key
}

fn edit(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

#[test]
fn every_scheme_comes_back_encrypted_and_plain() {
    for scheme in Scheme::ALL {
        for secret in [None, Some(passphrase("correct horse"))] {
            let (_folder, path) = folder();
            let key = SecretKey::generate(scheme).unwrap();
            Keystore::create_with_cost(&path, &key, secret.as_ref(), CHEAP).unwrap();
            let file = KeyFile::open(&path).unwrap();
            assert_eq!(file.scheme(), scheme);
            assert_eq!(file.public_key(), key.public_key());
            assert_eq!(file.address(), Address::of_key(key.public_key()));
            assert_eq!(file.is_encrypted(), secret.is_some());
            assert_eq!(file.unlock(secret.as_ref()).unwrap().seed(), key.seed());
        }
    }
}

#[test]
fn the_default_cost_is_64_mib_and_three_passes_and_is_written_down() {
    let (_folder, path) = folder();
    Keystore::create(&path, &key(Scheme::Ed25519), Some(&passphrase("right"))).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let kdf = &value["secret"]["kdf"];
    assert_eq!((kdf["name"].as_str(), kdf["memory_kib"].as_u64()), (Some("argon2id"), Some(65536)));
    assert_eq!((kdf["iterations"].as_u64(), kdf["parallelism"].as_u64()), (Some(3), Some(1)));
    assert!(KeyFile::open(&path).unwrap().unlock(Some(&passphrase("right"))).is_ok());
}

#[test]
fn an_encrypted_file_does_not_contain_the_seed() {
    let (_folder, path) = folder();
    let key = encrypted(&path);
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains(&hex::encode(key.seed())));
    assert!(!format!("{:?}", KeyFile::open(&path).unwrap()).contains("c7c7"));
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let (folder, path) = folder();
    encrypted(&path);
    let before = fs::read(&path).unwrap();
    let error = Keystore::create(&path, &key(Scheme::Ed25519), None).unwrap_err();
    assert!(matches!(error, KeystoreError::Exists(_)), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays behind");
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_a_key_file() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = folder();
    encrypted(&path);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_wrong_a_missing_and_an_empty_passphrase_are_told_apart() {
    let (_folder, path) = folder();
    encrypted(&path);
    let file = KeyFile::open(&path).unwrap();
    assert!(matches!(file.unlock(Some(&passphrase("wrong"))), Err(KeystoreError::WrongPassphrase)));
    assert!(matches!(file.unlock(None), Err(KeystoreError::PassphraseNeeded)));
    let other = path.with_file_name("other.json");
    let empty = Keystore::create(&other, &key(Scheme::Ed25519), Some(&passphrase("")));
    assert!(matches!(empty, Err(KeystoreError::EmptyPassphrase)));
    assert!(!other.exists());
}

#[test]
fn a_changed_or_truncated_or_oversized_file_is_damaged_not_a_wrong_passphrase() {
    let (_folder, path) = folder();
    encrypted(&path);
    let whole = fs::read(&path).unwrap();
    let is_damaged = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        matches!(KeyFile::open(&path), Err(KeystoreError::Damaged(_)))
    };
    assert!(is_damaged(b""));
    assert!(is_damaged(&whole[..whole.len() / 2]));
    assert!(is_damaged(&vec![b' '; FILE_BYTES_MAX as usize + 1]));
    for field in ["salt", "ciphertext", "nonce", "public_key"] {
        let text = String::from_utf8(whole.clone()).unwrap();
        // Swap the last hexadecimal digit of the field's value.
        let start = text.find(&format!("\"{field}\"")).unwrap();
        let end = start + text[start..].find("\": \"").unwrap() + 4;
        let end = end + text[end..].find('"').unwrap() - 1;
        let mut bytes = text.into_bytes();
        bytes[end] = if bytes[end] == b'0' { b'1' } else { b'0' };
        assert!(is_damaged(&bytes), "{field}");
    }
}

#[test]
fn a_file_of_a_later_version_says_so_even_with_fields_of_its_own() {
    let (_folder, path) = folder();
    fs::write(&path, br#"{"version": 2, "lattice": {}}"#).unwrap();
    assert!(matches!(KeyFile::open(&path), Err(KeystoreError::UnknownVersion { found: 2 })));
}

#[test]
fn somebody_who_swaps_the_public_key_and_mends_the_checksum_still_cannot_pass_it_off() {
    let (_folder, path) = folder();
    encrypted(&path);
    let other_path = path.with_file_name("other.json");
    let other = SecretKey::generate(Scheme::MlDsa65).unwrap();
    Keystore::create_with_cost(&other_path, &other, Some(&passphrase("right")), CHEAP).unwrap();
    // The other file's public part over this file's secret: the checksum is left to the attacker, who can compute it.
    let secret = serde_json::from_slice::<serde_json::Value>(&fs::read(&path).unwrap()).unwrap()["secret"].clone();
    edit(&other_path, |value| value["secret"] = secret);
    let value: serde_json::Value = serde_json::from_slice(&fs::read(&other_path).unwrap()).unwrap();
    edit(&other_path, |v| v["checksum"] = checksum(&value, other.public_key()).into());
    let error = KeyFile::open(&other_path).unwrap().unlock(Some(&passphrase("right"))).unwrap_err();
    assert!(matches!(error, KeystoreError::WrongPassphrase), "{error}");
}

/// The checksum as the format has it: what an attacker would write.
fn checksum(value: &serde_json::Value, public_key: &kaldrix_types::PublicKey) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("kaldrix 2026 key file checksum v1");
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    field(&1u32.to_le_bytes());
    field(&[public_key.scheme() as u8]);
    field(Address::of_key(public_key).as_bytes());
    field(public_key.bytes());
    let (secret, kdf) = (&value["secret"], &value["secret"]["kdf"]);
    field(kdf["name"].as_str().unwrap().as_bytes());
    for number in ["memory_kib", "iterations", "parallelism"] {
        field(&u32::try_from(kdf[number].as_u64().unwrap()).unwrap().to_le_bytes());
    }
    for text in [&kdf["salt"], &secret["cipher"], &secret["nonce"], &secret["ciphertext"]] {
        field(text.as_str().unwrap().as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[test]
fn a_file_that_asks_for_all_the_memory_is_refused() {
    let (_folder, path) = folder();
    let cost = KdfCost { memory_kib: KdfCost::MEMORY_KIB_MAX + 1, ..CHEAP };
    let result = Keystore::create_with_cost(&path, &key(Scheme::Ed25519), Some(&passphrase("right")), cost);
    assert!(matches!(result, Err(KeystoreError::KdfOutOfBounds)));
    assert!(!path.exists());
}

#[test]
fn a_missing_file_and_a_missing_folder_name_the_path() {
    let (_folder, path) = folder();
    let error = KeyFile::open(&path).unwrap_err();
    assert!(matches!(&error, KeystoreError::Io { .. }) && error.to_string().contains("validator.json"));
    let error = Keystore::create(&path.join("x").join("key.json"), &key(Scheme::Ed25519), None).unwrap_err();
    assert!(matches!(error, KeystoreError::Io { .. }), "{error}");
}
