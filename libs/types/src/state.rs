//! The ledger's state: a flat map of small records, so that nothing a client does can make one record large.

use crate::{Address, AssetId, CommitIndex, Digest, Epoch, Lane, PublicKey, Round, Sequence, TimestampMs, codec};
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
    /// The validator that an account operates.
    Validator(Address),
    /// Who has a validator's name or session key, by [`crate::hash::Context::ValidatorName`] or [`crate::hash::Context::KeyId`]: no two share one.
    ValidatorName(Digest),
    /// The running epoch: one record.
    Epoch,
    /// Who took part in the running epoch: one record.
    Participation,
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

/// Stake on its way back to its owner. It can still be slashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unbonding {
    /// Smallest units of KDX.
    pub amount: u128,
    /// Paid out when this epoch ends.
    pub release_epoch: Epoch,
}

/// Whether a registered validator is to be in the next committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValidatorStatus {
    /// Yes, with enough stake.
    Active,
    /// Not after this epoch: it is deleted when all its stake is paid out.
    Leaving,
    /// Not before it asks, which it may from `until_epoch` on.
    Jailed {
        /// First epoch in which it may ask.
        until_epoch: Epoch,
    },
}

/// A registered validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidatorRecord {
    /// Unique name, 1 to 32 of a-z, 0-9 and hyphens.
    pub name: String,
    /// Region it runs in; same alphabet.
    pub region: String,
    /// Session key: signs blocks in the running epoch.
    pub key: PublicKey,
    /// Session key from the next epoch on.
    pub next_key: Option<PublicKey>,
    /// Session key of the epoch before, for evidence, where it was another.
    pub previous_key: Option<PublicKey>,
    /// Bonded, smallest units of KDX.
    pub stake: u128,
    /// On its way back.
    pub unbonding: Vec<Unbonding>,
    /// Whether it takes part.
    pub status: ValidatorStatus,
    /// Last epoch in which an equivocation of its was punished.
    pub slashed_epoch: Option<Epoch>,
}

/// A seat in an epoch's committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The account that operates it.
    pub operator: Address,
    /// Voting weight, fixed for the epoch: stake in whole KDX.
    pub weight: u64,
}

/// The running epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Its number.
    pub epoch: Epoch,
    /// Round of the leader that ended the epoch before; 0 for epoch 0.
    pub start_round: Round,
    /// Consensus time at which it began.
    pub start_ms: TimestampMs,
    /// First commit of the epoch.
    pub first_commit: CommitIndex,
    /// The committee, in index order.
    pub members: Vec<Member>,
    /// The committee of the epoch before, for late evidence.
    pub previous_members: Vec<Member>,
    /// Operators of all registered validators, sorted.
    pub candidates: Vec<Address>,
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
    /// Of [`StateKey::Validator`].
    Validator(Box<ValidatorRecord>),
    /// Of [`StateKey::ValidatorName`]: the operator.
    ValidatorName(Address),
    /// Of [`StateKey::Epoch`].
    Epoch(EpochRecord),
    /// Of [`StateKey::Participation`]: in how many commits of the epoch each member had a block.
    Participation(Vec<u64>),
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
