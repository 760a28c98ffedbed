//! BLAKE3 with domain separation: every purpose has its own context string, and all of them stand in this file.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// What a hash is for. Two purposes never share a context, so a digest of one kind can never stand for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Identity of a transaction: its body without signatures.
    TransactionId,
    /// Identity of a block: its unsigned header.
    BlockDigest,
    /// Identity of a commit.
    CommitDigest,
    /// Identity of a chain: its genesis.
    ChainId,
    /// Address of an account from its first key.
    Address,
    /// Identity of an asset from the transaction and operation that created it.
    AssetId,
    /// Short name of a public key.
    KeyId,
    /// Leaf of the Merkle tree over a block's signed transactions.
    BlockLeaf,
    /// Inner node of a Merkle tree.
    MerkleNode,
    /// Binding of a libp2p peer id to a validator key.
    PeerBinding,
    /// Digest over the whole executed state, to compare validators with.
    StateDigest,
    /// Identity of a checkpoint.
    CheckpointDigest,
    /// Leaf of the Merkle tree over the outcomes of a checkpoint's transactions.
    OutcomeLeaf,
    /// Place of a record in the state tree: hash of its key.
    StatePath,
    /// Leaf of the state tree: a record's path and value.
    StateLeaf,
    /// Inner node of the state tree.
    StateNode,
    /// Statement that a validator's session key belongs to its operator.
    ValidatorKey,
    /// Identity of a validator's name, so that no two validators share one.
    ValidatorName,
}

impl Context {
    /// The `derive_key` context string (BLAKE3 paper, section 2.3): fixed for ever once a chain uses it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TransactionId => "kaldrix 2026 tx id v1",
            Self::BlockDigest => "kaldrix 2026 block digest v1",
            Self::CommitDigest => "kaldrix 2026 commit digest v1",
            Self::ChainId => "kaldrix 2026 chain id v1",
            Self::Address => "kaldrix 2026 address v1",
            Self::AssetId => "kaldrix 2026 asset id v1",
            Self::KeyId => "kaldrix 2026 key id v1",
            Self::BlockLeaf => "kaldrix 2026 block leaf v1",
            Self::MerkleNode => "kaldrix 2026 merkle node v1",
            Self::PeerBinding => "kaldrix 2026 peer binding v1",
            Self::StateDigest => "kaldrix 2026 state digest v1",
            Self::CheckpointDigest => "kaldrix 2026 checkpoint digest v1",
            Self::OutcomeLeaf => "kaldrix 2026 outcome leaf v1",
            Self::StatePath => "kaldrix 2026 state path v1",
            Self::StateLeaf => "kaldrix 2026 state leaf v1",
            Self::StateNode => "kaldrix 2026 state node v1",
            Self::ValidatorKey => "kaldrix 2026 validator key v1",
            Self::ValidatorName => "kaldrix 2026 validator name v1",
        }
    }

    /// A hasher for this purpose.
    #[must_use]
    pub fn hasher(self) -> blake3::Hasher {
        // Deriving the context key costs a compression; keep the prepared hashers.
        static PREPARED: std::sync::OnceLock<Vec<blake3::Hasher>> = std::sync::OnceLock::new();
        let prepared = PREPARED.get_or_init(|| ALL.iter().map(|c| blake3::Hasher::new_derive_key(c.as_str())).collect());
        prepared[self as usize].clone()
    }

    /// Hashes the concatenation of `parts`. Callers make the concatenation unambiguous (fixed sizes, or BCS).
    #[must_use]
    pub fn hash(self, parts: &[&[u8]]) -> Digest {
        let mut hasher = self.hasher();
        for part in parts {
            hasher.update(part);
        }
        Digest(*hasher.finalize().as_bytes())
    }
}

/// Every context, in declaration order.
pub const ALL: [Context; 18] = [
    Context::TransactionId,
    Context::BlockDigest,
    Context::CommitDigest,
    Context::ChainId,
    Context::Address,
    Context::AssetId,
    Context::KeyId,
    Context::BlockLeaf,
    Context::MerkleNode,
    Context::PeerBinding,
    Context::StateDigest,
    Context::CheckpointDigest,
    Context::OutcomeLeaf,
    Context::StatePath,
    Context::StateLeaf,
    Context::StateNode,
    Context::ValidatorKey,
    Context::ValidatorName,
];

/// 32 bytes of BLAKE3 output. Text form: 64 lower-case hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// All zeroes: "none" where a format needs a value (the digest before the first commit).
    pub const ZERO: Self = Self([0; 32]);

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// First eight hex digits, for logs and pictures.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl std::str::FromStr for Digest {
    type Err = crate::IdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| crate::IdError::NotHex32)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = crate::IdError;
    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(bytes.try_into().map_err(|_| crate::IdError::WrongLength { expected: 32, found: bytes.len() })?))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Digest {
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
    fn every_context_is_its_own_and_sits_at_its_index() {
        for (i, context) in ALL.iter().enumerate() {
            assert_eq!(*context as usize, i);
            assert!(ALL.iter().skip(i + 1).all(|other| other.as_str() != context.as_str()));
            let direct = blake3::derive_key(context.as_str(), b"abc");
            assert_eq!(context.hash(&[b"a", b"bc"]).0, direct);
        }
    }
}
