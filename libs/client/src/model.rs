//! What the ledger answers, in domain types. Serialised, these have the field names of the REST API; amounts are decimal strings.

use kaldrix_types::{Address, AssetId, BlockRef, ChainId, CommitIndex, Digest, Epoch, Lane, Round, Scheme, Sequence, TimestampMs, TxId};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

mod committee;

pub use committee::{CheckpointInfo, NextEpochInfo, NextValidatorInfo, ValidatorInfo, ValidatorSetInfo};

/// u128 as decimal text: JSON numbers stop at 2^53.
fn decimal<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn decimal_option<S: Serializer>(value: &Option<u128>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// How far a submission waits before it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WaitFor {
    /// Until a validator's mempool has it.
    Accepted,
    /// Until it is in a block.
    Included,
    /// Until it is ordered and executed.
    #[default]
    Final,
    /// Until its outcome can be proven.
    Checkpointed,
}

impl FromStr for WaitFor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "accepted" => Ok(Self::Accepted),
            "included" => Ok(Self::Included),
            "final" => Ok(Self::Final),
            "checkpointed" => Ok(Self::Checkpointed),
            _ => Err(format!("{text:?} is not a level: use accepted, included, final or checkpointed")),
        }
    }
}

/// How far a transaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TransactionStatus {
    /// A validator's mempool has it.
    Accepted,
    /// It is in a block.
    Included,
    /// Ordered and executed, never undone; `success` says how it went.
    Final,
    /// A proof of its outcome is available.
    Checkpointed,
    /// Refused with a code; it took no effect.
    Rejected,
    /// Its `valid_until` has passed: it can never land.
    Expired,
}

impl TransactionStatus {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::Included => "INCLUDED",
            Self::Final => "FINAL",
            Self::Checkpointed => "CHECKPOINTED",
            Self::Rejected => "REJECTED",
            Self::Expired => "EXPIRED",
        }
    }

    /// Whether the outcome is decided for good.
    #[must_use]
    pub const fn is_definite(self) -> bool {
        matches!(self, Self::Final | Self::Checkpointed | Self::Rejected | Self::Expired)
    }

    /// Whether it was ordered and executed.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Final | Self::Checkpointed)
    }

    /// Whether a wait for `level` is over: reached, or never to be reached.
    #[must_use]
    pub const fn satisfies(self, level: WaitFor) -> bool {
        match level {
            WaitFor::Accepted => true,
            WaitFor::Included => !matches!(self, Self::Accepted),
            WaitFor::Final => self.is_definite(),
            WaitFor::Checkpointed => self.is_definite() && !matches!(self, Self::Final),
        }
    }
}

impl fmt::Display for TransactionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What came of a submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// The transaction.
    pub id: TxId,
    /// How far it has come.
    pub status: TransactionStatus,
    /// From FINAL on: whether its operations took effect.
    pub success: bool,
    /// Why it failed, was rejected or expired: a stable code.
    pub code: Option<String>,
    /// What to do about the code.
    pub detail: Option<String>,
    /// The commit that ordered it.
    pub commit: Option<CommitIndex>,
    /// From the first attempt to the answer, on the client's clock.
    pub latency_ms: u64,
}

impl Receipt {
    /// Whether it is final and every operation took effect.
    #[must_use]
    pub const fn is_final_success(&self) -> bool {
        self.status.is_final() && self.success
    }
}

/// A transaction as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TransactionInfo {
    /// Its id.
    pub id: TxId,
    /// How far it has come.
    pub status: TransactionStatus,
    /// From FINAL on: whether its operations took effect.
    pub success: bool,
    /// Why it failed, was rejected or expired: a stable code.
    pub code: Option<String>,
    /// What to do about the code.
    pub detail: Option<String>,
    /// The commit that ordered it.
    pub commit: Option<CommitIndex>,
    /// The block that carried it.
    pub block: Option<Digest>,
    /// Position in the commit.
    pub position: u32,
    /// Consensus time of the commit in ms.
    pub timestamp_ms: Option<TimestampMs>,
    /// The checkpoint that covers it, where the answering server knows which.
    pub checkpoint: Option<u64>,
    /// Who sent it, when the body is known.
    pub sender: Option<Address>,
    /// The sender's lane.
    pub lane: Lane,
    /// Position in the lane.
    pub sequence: Sequence,
    /// Smallest units of KDX.
    #[serde(serialize_with = "decimal")]
    pub fee: u128,
    /// Consensus time after which it cannot land.
    pub valid_until_ms: TimestampMs,
    /// What it does, in order.
    pub operations: Vec<OperationInfo>,
    /// Hex.
    pub memo: String,
}

/// One operation, flattened for reading: fields that do not apply are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OperationInfo {
    /// transfer, create_asset, mint, burn, anchor, register_key, rotate_key, register_validator, stake, unstake, rotate_session_key,
    /// leave_validators, unjail, report_equivocation.
    pub kind: String,
    /// Recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Address>,
    /// Asset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset: Option<AssetId>,
    /// Smallest units.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "decimal_option")]
    pub amount: Option<u128>,
    /// Symbol of a created asset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Decimals of a created asset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u32>,
    /// Smallest units.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "decimal_option")]
    pub maximum_supply: Option<u128>,
    /// Anchored hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<Digest>,
    /// Hex of an anchor's metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// Key that was registered or put in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<Digest>,
    /// Its scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Index of the key that was replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_index: Option<u32>,
    /// Name of a new validator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validator_name: Option<String>,
    /// Region of a new validator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Epoch of an equivocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accused_epoch: Option<Epoch>,
    /// Round in which the accused signed two blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accused_round: Option<Round>,
    /// Index of the accused in that epoch's committee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accused_index: Option<u32>,
}

/// What the ledger holds under an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountInfo {
    /// The address.
    pub address: Address,
    /// One per asset held.
    pub balances: Vec<BalanceInfo>,
    /// Keys that may sign; empty before the account's first transaction.
    pub keys: Vec<AccountKeyInfo>,
    /// Next sequence number of lane 0.
    pub next_sequence: Sequence,
    /// Lanes above 0 that were used.
    pub lanes: Vec<LaneInfo>,
    /// Commit that this answer reflects.
    pub as_of_commit: CommitIndex,
}

impl AccountInfo {
    /// Smallest units held of `asset`; 0 when none.
    #[must_use]
    pub fn balance(&self, asset: AssetId) -> u128 {
        self.balances.iter().find(|b| b.asset == asset).map_or(0, |b| b.amount)
    }

    /// Next sequence number of `lane`.
    #[must_use]
    pub fn next_sequence_of(&self, lane: Lane) -> Sequence {
        if lane == 0 { self.next_sequence } else { self.lanes.iter().find(|l| l.lane == lane).map_or(0, |l| l.next_sequence) }
    }
}

/// How much of one asset an account holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BalanceInfo {
    /// The asset; KDX is 64 zeroes.
    pub asset: AssetId,
    /// Smallest units.
    #[serde(serialize_with = "decimal")]
    pub amount: u128,
    /// The asset's symbol.
    pub symbol: String,
    /// The asset's decimals.
    pub decimals: u8,
}

/// A key of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountKeyInfo {
    /// Its index.
    pub index: u8,
    /// How it signs.
    pub scheme: Scheme,
    /// Its short name.
    pub key_id: Digest,
}

/// A lane above 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LaneInfo {
    /// Which lane.
    pub lane: Lane,
    /// Its next sequence number.
    pub next_sequence: Sequence,
}

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommitInfo {
    /// Position in the order, from 1.
    pub index: CommitIndex,
    /// Equal on all correct validators.
    pub digest: Digest,
    /// Digest of the commit before.
    pub previous: Digest,
    /// The epoch.
    pub epoch: Epoch,
    /// Consensus time in ms.
    pub timestamp_ms: TimestampMs,
    /// The committed leader.
    pub leader: Option<BlockRef>,
    /// Its blocks.
    pub blocks: Vec<BlockRef>,
    /// How many transactions it ordered.
    pub transaction_count: u32,
    /// Up to 1,000 of them; only from [`Client::commit`](crate::Client::commit).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transactions: Vec<TxId>,
}

/// One block of a committed part of the DAG.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockInfo {
    /// Round, author and digest.
    pub reference: BlockRef,
    /// Name of the author.
    pub author_name: String,
    /// The author's clock in ms.
    pub timestamp_ms: TimestampMs,
    /// Blocks it refers to.
    pub parents: Vec<BlockRef>,
    /// Commit that ordered it.
    pub commit_index: CommitIndex,
    /// How many transactions it carries.
    pub transaction_count: u32,
    /// Merkle root over them.
    pub transactions_root: Digest,
    /// Their ids.
    pub transactions: Vec<TxId>,
}

/// An asset's definition and supply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AssetInfo {
    /// Its id.
    pub id: AssetId,
    /// Its symbol.
    pub symbol: String,
    /// Its decimals.
    pub decimals: u8,
    /// Who may mint; nobody for KDX.
    pub issuer: Option<Address>,
    /// Smallest units in existence.
    #[serde(serialize_with = "decimal")]
    pub supply: u128,
    /// Upper bound in smallest units; absent when there is none.
    #[serde(serialize_with = "decimal_option")]
    pub maximum_supply: Option<u128>,
}

/// The network as the answering region sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkInfo {
    /// Name from the genesis.
    pub name: String,
    /// What every signature is bound to.
    pub chain_id: ChainId,
    /// Region that answered.
    pub region: String,
    /// The epoch.
    pub epoch: Epoch,
    /// Newest commit in this region; 0 before the first.
    pub commit_index: CommitIndex,
    /// Its digest.
    pub commit_digest: Option<Digest>,
    /// Its consensus time in ms.
    pub commit_timestamp_ms: TimestampMs,
    /// Round of the newest committed leader.
    pub round: Round,
    /// Transactions ordered so far.
    pub transaction_count: u64,
    /// Validators of the epoch.
    pub validator_count: u32,
    /// Version of the software.
    pub version: String,
    /// KDX in existence, smallest units.
    #[serde(serialize_with = "decimal")]
    pub supply: u128,
    /// Whether test money can be had.
    pub faucet: bool,
    /// Median time to final of the last minute's payments handed in there, ms; 0 without any.
    pub finality_p50_ms: u32,
    /// Its 99th percentile.
    pub finality_p99_ms: u32,
    /// Newest checkpoint that a quorum of validators vouches for.
    pub checkpoint_index: Option<u64>,
}

/// The chain's rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParametersInfo {
    /// Smallest units of KDX.
    #[serde(serialize_with = "decimal")]
    pub minimum_fee: u128,
    /// How far ahead `valid_until` may be.
    pub validity_ms_max: u64,
    /// A signed transaction's bytes.
    pub transaction_bytes_max: u32,
    /// Operations of one transaction.
    pub operations_max: u32,
    /// A memo's bytes.
    pub memo_bytes_max: u32,
    /// Accepted schemes.
    pub signature_algorithms: Vec<String>,
    /// What is hashed with.
    pub hash_algorithm: String,
    /// Rounds that a commit reaches back.
    pub gc_depth: u64,
    /// Leader slots per round.
    pub leaders_per_round: u32,
    /// Least number of validators.
    pub min_validators: u32,
    /// Smallest units of KDX.
    #[serde(serialize_with = "decimal")]
    pub block_reward: u128,
    /// `KDX`.
    pub native_symbol: String,
    /// 18.
    pub native_decimals: u32,
    /// Least length of an epoch in consensus time.
    pub epoch_ms: u64,
    /// Most commits of one checkpoint.
    pub checkpoint_commits: u64,
    /// Longest consensus time between two checkpoints while there are transactions.
    pub checkpoint_ms: u64,
    /// Commits after which leaders are chosen anew by reputation; 0: never.
    pub schedule_commits: u32,
    /// Least stake of a validator, smallest units of KDX.
    #[serde(serialize_with = "decimal")]
    pub minimum_stake: u128,
    /// What an equivocation costs, in ten-thousandths of the stake.
    pub slash_basis_points: u32,
    /// Full epochs that a jailed validator sits out.
    pub jail_epochs: u64,
    /// A validator with blocks in fewer than this many ten-thousandths of an epoch's commits is jailed.
    pub absence_basis_points: u32,
}

/// One page of a list, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to ask for next; `None` at the end.
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_over_when_its_level_is_reached_or_cannot_be() {
        use TransactionStatus as S;
        assert!(S::Accepted.satisfies(WaitFor::Accepted));
        assert!(!S::Accepted.satisfies(WaitFor::Included));
        assert!(!S::Included.satisfies(WaitFor::Final));
        for definite in [S::Final, S::Checkpointed, S::Rejected, S::Expired] {
            assert!(definite.satisfies(WaitFor::Final) && definite.satisfies(WaitFor::Included));
            assert_eq!(definite.satisfies(WaitFor::Checkpointed), definite != S::Final, "{definite}");
        }
    }

    #[test]
    fn levels_are_read_in_either_case_and_nothing_else() {
        assert_eq!("final".parse::<WaitFor>(), Ok(WaitFor::Final));
        assert_eq!("INCLUDED".parse::<WaitFor>(), Ok(WaitFor::Included));
        assert_eq!("checkpointed".parse::<WaitFor>(), Ok(WaitFor::Checkpointed));
        assert!("finality".parse::<WaitFor>().unwrap_err().contains("accepted, included, final or checkpointed"));
    }
}
