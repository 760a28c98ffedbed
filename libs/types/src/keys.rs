//! Signature schemes and public keys as the ledger writes them. Checking a signature is `libs/crypto`'s.

use crate::hash::Context;
use crate::{Digest, limits};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// How a key signs. The numbers are part of addresses and encodings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Scheme {
    /// Ed25519 (RFC 8032), classical only.
    #[serde(rename = "ed25519")]
    Ed25519 = 0,
    /// ML-DSA-44 (FIPS 204).
    #[serde(rename = "ml-dsa-44")]
    MlDsa44 = 1,
    /// ML-DSA-65 (FIPS 204), the default.
    #[default]
    #[serde(rename = "ml-dsa-65")]
    MlDsa65 = 2,
    /// ML-DSA-87 (FIPS 204).
    #[serde(rename = "ml-dsa-87")]
    MlDsa87 = 3,
    /// Ed25519 AND ML-DSA-65: both signatures must hold. Key and signature are the Ed25519 part, then the ML-DSA part.
    #[serde(rename = "hybrid")]
    Hybrid = 4,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 5] = [Self::Ed25519, Self::MlDsa44, Self::MlDsa65, Self::MlDsa87, Self::Hybrid];

    /// The text form, as the command line and the API use it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::MlDsa44 => "ml-dsa-44",
            Self::MlDsa65 => "ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
            Self::Hybrid => "hybrid",
        }
    }

    /// Public key length in bytes (FIPS 204, table 2).
    #[must_use]
    pub const fn public_key_len(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::MlDsa44 => 1312,
            Self::MlDsa65 => 1952,
            Self::MlDsa87 => 2592,
            Self::Hybrid => 32 + 1952,
        }
    }

    /// Signature length in bytes (FIPS 204, table 2).
    #[must_use]
    pub const fn signature_len(self) -> usize {
        match self {
            Self::Ed25519 => 64,
            Self::MlDsa44 => 2420,
            Self::MlDsa65 => 3309,
            Self::MlDsa87 => 4627,
            Self::Hybrid => 64 + 3309,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something is not a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No scheme of this name.
    #[error("unknown signature scheme {0:?}: use ed25519, ml-dsa-44, ml-dsa-65, ml-dsa-87 or hybrid")]
    UnknownScheme(String),
    /// The key has the wrong length for its scheme.
    #[error("a {scheme} public key has {expected} bytes, this one {found}")]
    WrongLength {
        /// The scheme.
        scheme: Scheme,
        /// Its key length.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// Not hexadecimal.
    #[error("a public key's text form is scheme:hex")]
    NotText,
}

impl FromStr for Scheme {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| KeyError::UnknownScheme(text.to_owned()))
    }
}

/// A public key: scheme and encoded bytes of exactly the scheme's length. Text form: `scheme:hex`.
///
/// It knows its [`KeyId`] from the start: hashing two kilobytes each time a signature is looked at would cost as much as a block's hash.
#[derive(Clone)]
pub struct PublicKey {
    scheme: Scheme,
    bytes: Bytes,
    id: KeyId,
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.scheme, &self.bytes).cmp(&(other.scheme, &other.bytes))
    }
}

impl std::hash::Hash for PublicKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// Hash of a public key: what caches and records use to name it.
pub type KeyId = Digest;

impl PublicKey {
    /// Wraps encoded bytes.
    ///
    /// # Errors
    /// [`KeyError::WrongLength`] when the length is not the scheme's.
    pub fn new(scheme: Scheme, bytes: impl Into<Bytes>) -> Result<Self, KeyError> {
        let bytes = bytes.into();
        if bytes.len() == scheme.public_key_len() {
            let id = Context::KeyId.hash(&[&[scheme as u8], &bytes]);
            Ok(Self { scheme, bytes, id })
        } else {
            Err(KeyError::WrongLength { scheme, expected: scheme.public_key_len(), found: bytes.len() })
        }
    }

    /// How this key signs.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The encoded key.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key's short name: BLAKE3 of scheme and encoded key.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}…", self.scheme, hex::encode(&self.bytes[..4]))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, hex::encode(&self.bytes))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (scheme, bytes) = text.split_once(':').ok_or(KeyError::NotText)?;
        if bytes.len() > 2 * limits::PUBLIC_KEY_BYTES_MAX {
            return Err(KeyError::NotText);
        }
        Self::new(scheme.parse()?, hex::decode(bytes).map_err(|_| KeyError::NotText)?)
    }
}

#[derive(Serialize, Deserialize)]
struct Encoded(Scheme, Bytes);

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            Encoded(self.scheme, self.bytes.clone()).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            let Encoded(scheme, bytes) = Encoded::deserialize(deserializer)?;
            Self::new(scheme, bytes).map_err(serde::de::Error::custom)
        }
    }
}
