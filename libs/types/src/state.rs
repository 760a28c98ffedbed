//! The ledger's state: a flat map of small records, so that nothing a client does can make one record large.

use crate::{Address, AssetId, CommitIndex, Digest, Lane, PublicKey, Sequence, TimestampMs, codec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Names one record. Order and encoding are part of the protocol: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StateKey {
    /// Keys and the sequence of lane 0.
    Account(Address),
    /// Sequence of a lane above 0.
    Lane(Address, Lane),
    /// How much an account holds of an asset.
    Balance(Address, AssetId),
    /// Definition of an asset.
    Asset(AssetId),
    /// A document anchored by an account.
    Anchor(Address, Digest),
    /// Supply of an asset.
    Supply(AssetId),
}

impl StateKey {
    /// BCS bytes: what stores index by.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

/// A key of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    /// The key.
    pub key: PublicKey,
    /// Commit that put it there.
    pub since: CommitIndex,
}

/// Who may sign for an account, and lane 0's next sequence number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Keys by index; empty until the account's first transaction.
    pub keys: Vec<KeySlot>,
    /// Next sequence number of lane 0.
    pub next_sequence: Sequence,
}

/// Definition of an asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// Who may mint.
    pub issuer: Address,
    /// 1 to 12 of `A-Z0-9`.
    pub symbol: String,
    /// Decimals for display.
    pub decimals: u8,
    /// Upper bound of the supply.
    pub maximum_supply: u128,
}

/// How much of an asset exists. The sum of all balances equals this, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supply {
    /// Smallest units.
    pub amount: u128,
}

/// An anchored document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Consensus time of the commit.
    pub timestamp_ms: TimestampMs,
    /// What the sender wrote beside it.
    pub metadata: Bytes,
}

/// A record's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateValue {
    /// Of [`StateKey::Account`].
    Account(Account),
    /// Of [`StateKey::Lane`]: the next sequence number.
    Lane(Sequence),
    /// Of [`StateKey::Balance`]: smallest units.
    Balance(u128),
    /// Of [`StateKey::Asset`].
    Asset(Asset),
    /// Of [`StateKey::Anchor`].
    Anchor(Anchor),
    /// Of [`StateKey::Supply`].
    Supply(Supply),
}

/// A stored record that cannot be read: the store is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a state record cannot be decoded: {0}")]
pub struct StateValueError(String);

impl StateValue {
    /// BCS bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`StateValueError`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateValueError> {
        codec::decode(bytes, 1 << 20).map_err(|e| StateValueError(e.to_string()))
    }
}
