//! Identifiers and their text forms.

use crate::hash::{Context, Digest};
use crate::keys::PublicKey;
use bech32::{Bech32m, Hrp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Round of the block DAG; genesis blocks are round 0.
pub type Round = u64;
/// Epoch of the validator set, from 0.
pub type Epoch = u64;
/// Position in the total order of commits, from 1; 0 means "none yet".
pub type CommitIndex = u64;
/// Milliseconds since the Unix epoch.
pub type TimestampMs = u64;
/// One of an account's 256 independent sequences; lane 0 is the strict default.
pub type Lane = u8;
/// Position of a transaction in its lane, from 0.
pub type Sequence = u64;

/// Position of a validator in its epoch's committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValidatorIndex(pub u16);

impl ValidatorIndex {
    /// The index as an array position.
    #[must_use]
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// No seat in the committee: one who follows and never proposes. No committee is large enough to have this index.
    pub const OBSERVER: Self = Self(u16::MAX);
}

impl fmt::Display for ValidatorIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Why a text or byte string is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 64 hexadecimal digits.
    #[error("expected 64 hexadecimal digits")]
    NotHex32,
    /// Wrong number of bytes.
    #[error("expected {expected} bytes, found {found}")]
    WrongLength {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// Not a bech32m string with the prefix `kx` and 32 bytes.
    #[error("not an address: expected bech32m text that begins with kx1 ({0})")]
    NotAnAddress(String),
}

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// The raw 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.short())
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.parse().map(Self)
            }
        }
        impl TryFrom<&[u8]> for $name {
            type Error = IdError;
            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                Digest::try_from(bytes).map(Self)
            }
        }
    };
}

digest_id!(
    /// Hash of a transaction's body. Signatures are outside it, so nobody can give a transaction a second id.
    TxId
);
digest_id!(
    /// Hash of the genesis: every signed message carries it, so nothing can be replayed on another chain.
    ChainId
);
digest_id!(
    /// An asset; all zeroes is the native asset KDX.
    AssetId
);

impl AssetId {
    /// The native asset.
    pub const NATIVE: Self = Self(Digest::ZERO);

    /// Id of the asset created by operation `operation_index` of transaction `tx`.
    #[must_use]
    pub fn derive(tx: TxId, operation_index: u32) -> Self {
        Self(Context::AssetId.hash(&[tx.as_bytes(), &operation_index.to_le_bytes()]))
    }
}

/// An account's address: 32 bytes, fixed at creation whatever keys it has later. Text form: bech32m `kx1…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 32]);

impl Address {
    const HRP: Hrp = Hrp::parse_unchecked("kx");

    /// Where fees are kept until they are distributed: nobody holds a key for it.
    pub const FEE_POOL: Self = Self([0; 32]);

    /// Where all bonded stake is kept, as an ordinary balance of KDX: nobody holds a key for it.
    pub const STAKE_POOL: Self = Self([1; 32]);

    /// Whether this address belongs to the protocol: nobody can pay to it or sign for it.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        *self == Self::FEE_POOL || *self == Self::STAKE_POOL
    }

    /// The address that `key` opens.
    #[must_use]
    pub fn of_key(key: &PublicKey) -> Self {
        Self(Context::Address.hash(&[&[key.scheme() as u8], key.bytes()]).0)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_to_fmt::<Bech32m, _>(f, Self::HRP, &self.0).map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Address {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let parsed =
            bech32::primitives::decode::CheckedHrpstring::new::<Bech32m>(text).map_err(|e| IdError::NotAnAddress(e.to_string()))?;
        if parsed.hrp() != Self::HRP {
            return Err(IdError::NotAnAddress(format!("the prefix is {}", parsed.hrp())));
        }
        let bytes: Vec<u8> = parsed.byte_iter().collect();
        Self::try_from(bytes.as_slice())
    }
}

impl TryFrom<&[u8]> for Address {
    type Error = IdError;
    fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
        Digest::try_from(bytes).map(|d| Self(d.0))
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            Ok(Self(<[u8; 32]>::deserialize(deserializer)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_its_text_form_and_a_typo_does_not() {
        let address = Address([7; 32]);
        let text = address.to_string();
        assert!(text.starts_with("kx1"));
        assert_eq!(text.parse::<Address>().unwrap(), address);
        let mut typo = text.clone().into_bytes();
        let last = typo.len() - 1;
        typo[last] = if typo[last] == b'q' { b'p' } else { b'q' };
        assert!(String::from_utf8(typo).unwrap().parse::<Address>().is_err());
        assert!("bc1qqqq".parse::<Address>().is_err());
    }
}
