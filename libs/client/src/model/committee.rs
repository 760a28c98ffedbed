//! Validators and what they vouch for.

use super::decimal;
use kaldrix_types::{Address, CertifiedCheckpoint, CommitIndex, Digest, Epoch, Round, TimestampMs, Validator, ValidatorIndex};
use serde::Serialize;

/// The running epoch and everybody who is registered as a validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ValidatorSetInfo {
    /// The running epoch.
    pub epoch: Epoch,
    /// Consensus time at which it began, in ms.
    pub epoch_start_ms: TimestampMs,
    /// Round that it began at.
    pub epoch_start_round: Round,
    /// The next epoch begins with the first commit after this consensus time, in ms.
    pub next_epoch_estimate_ms: TimestampMs,
    /// The epoch's committee in index order, then those without a seat.
    pub validators: Vec<ValidatorInfo>,
}

/// One validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ValidatorInfo {
    /// Position in the running epoch's committee; absent without a seat.
    pub index: Option<ValidatorIndex>,
    /// Whether it has a seat in the running epoch.
    pub in_committee: bool,
    /// Its unique name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// The account that bonds its stake, is paid and is slashed.
    pub operator: Address,
    /// active, leaving or jailed.
    pub status: String,
    /// First epoch in which a jailed validator may ask to return.
    pub jailed_until_epoch: Option<Epoch>,
    /// Voting weight in the running epoch: whole KDX.
    #[serde(serialize_with = "decimal")]
    pub stake: u128,
    /// Bonded now, smallest units of KDX; counts from the next epoch on.
    #[serde(serialize_with = "decimal")]
    pub bonded: u128,
    /// On its way back to the operator, smallest units of KDX.
    #[serde(serialize_with = "decimal")]
    pub unbonding: u128,
    /// How it signs blocks.
    pub scheme: String,
    /// Its session key's short name.
    pub key_id: String,
    /// Round of its newest committed block.
    pub last_round: Round,
}

/// A checkpoint as the server gave it. Whether a quorum really vouches for it is [`crate::verify`]'s to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointInfo {
    /// Position among checkpoints, from 1.
    pub index: u64,
    /// What was voted for.
    pub digest: Digest,
    /// Digest of the checkpoint before; zeroes for the first.
    pub previous: Digest,
    /// Epoch whose validators vouch for it.
    pub epoch: Epoch,
    /// First commit it covers.
    pub first_commit: CommitIndex,
    /// Last commit it covers.
    pub last_commit: CommitIndex,
    /// Digest of that commit.
    pub last_commit_digest: Digest,
    /// Merkle root over the outcomes of its transactions.
    pub outcomes_root: Digest,
    /// How many outcomes.
    pub outcome_count: u64,
    /// Root of the state after the last commit.
    pub state_root: Digest,
    /// Consensus time of the last commit in ms.
    pub timestamp_ms: TimestampMs,
    /// Those who vouch for it.
    pub voters: Vec<ValidatorIndex>,
    /// The next epoch, when this checkpoint ends one.
    pub next_epoch: Option<NextEpochInfo>,
    /// The checkpoint with its votes.
    #[serde(skip)]
    pub certified: CertifiedCheckpoint,
}

/// The epoch that a checkpoint begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextEpochInfo {
    /// Round at which it begins.
    pub start_round: Round,
    /// Its validators, in index order.
    pub validators: Vec<NextValidatorInfo>,
}

/// A validator of the epoch that a checkpoint begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextValidatorInfo {
    /// Its unique name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// The account that operates it.
    pub operator: Address,
    /// Voting weight: whole KDX.
    pub stake: u64,
    /// Its session key's short name.
    pub key_id: Digest,
}

impl From<&Validator> for NextValidatorInfo {
    fn from(v: &Validator) -> Self {
        let key_id = Digest(v.key.id().0);
        Self { name: v.name.clone(), region: v.region.clone(), operator: v.operator, stake: v.stake, key_id }
    }
}

impl From<CertifiedCheckpoint> for CheckpointInfo {
    fn from(certified: CertifiedCheckpoint) -> Self {
        let checkpoint = &certified.checkpoint;
        let next_epoch = checkpoint.next_epoch.as_ref().map(|next| NextEpochInfo {
            start_round: next.start_round,
            validators: next.validators.iter().map(NextValidatorInfo::from).collect(),
        });
        Self {
            index: checkpoint.index,
            digest: checkpoint.digest(),
            previous: checkpoint.previous,
            epoch: checkpoint.epoch,
            first_commit: checkpoint.first_commit,
            last_commit: checkpoint.last_commit,
            last_commit_digest: checkpoint.last_commit_digest,
            outcomes_root: checkpoint.outcomes_root,
            outcome_count: checkpoint.outcome_count,
            state_root: checkpoint.state_root,
            timestamp_ms: checkpoint.timestamp_ms,
            voters: certified.votes.iter().map(|vote| vote.header.author).collect(),
            next_epoch,
            certified,
        }
    }
}
