//! Checkpoints as JSON.

use super::some;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kaldrix_proto::ledger as pb;
use serde::Serialize;
use utoipa::ToSchema;

/// A certified checkpoint: a summary of the ledger that a quorum of validators vouches for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Checkpoint {
    /// Position among checkpoints, from 1.
    pub index: u64,
    /// What was voted for.
    pub digest: String,
    /// Digest of the checkpoint before; zeroes for the first.
    pub previous: String,
    /// Epoch whose validators vouch for it.
    pub epoch: u64,
    /// First commit it covers.
    pub first_commit: u64,
    /// Last commit it covers.
    pub last_commit: u64,
    /// Digest of that commit.
    pub last_commit_digest: String,
    /// Merkle root over the outcomes of its transactions.
    pub outcomes_root: String,
    /// How many outcomes.
    pub outcome_count: u64,
    /// Root of the state after the last commit.
    pub state_root: String,
    /// Consensus time of the last commit, milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Committee indices of those who vouch for it.
    pub voters: Vec<u32>,
    /// Whether it is the last one of its epoch.
    pub ends_epoch: bool,
    /// Round at which the next epoch begins; null in the middle of an epoch.
    pub next_start_round: Option<u64>,
    /// Validators of the next epoch in index order; null in the middle of an epoch.
    pub next_validators: Option<Vec<NextValidator>>,
    /// Base64 of its BCS bytes with the votes: verifiable as it is.
    pub certified: String,
}

impl From<pb::Checkpoint> for Checkpoint {
    fn from(c: pb::Checkpoint) -> Self {
        Self {
            index: c.index,
            digest: c.digest,
            previous: c.previous,
            epoch: c.epoch,
            first_commit: c.first_commit,
            last_commit: c.last_commit,
            last_commit_digest: c.last_commit_digest,
            outcomes_root: c.outcomes_root,
            outcome_count: c.outcome_count,
            state_root: c.state_root,
            timestamp_ms: c.timestamp_ms,
            voters: c.voters,
            ends_epoch: c.ends_epoch,
            next_start_round: c.ends_epoch.then_some(c.next_start_round),
            next_validators: c.ends_epoch.then(|| c.next_validators.into_iter().map(NextValidator::from).collect()),
            certified: STANDARD.encode(&c.certified),
        }
    }
}

/// A validator of the epoch that a checkpoint begins.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct NextValidator {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub region: String,
    /// Voting weight, decimal.
    pub stake: String,
    /// How it signs blocks.
    pub scheme: String,
    /// Hash of its public key.
    pub key_id: String,
    /// Account that operates it.
    pub operator: Option<String>,
}

impl From<pb::Validator> for NextValidator {
    fn from(v: pb::Validator) -> Self {
        Self {
            index: v.index,
            name: v.name,
            region: v.region,
            stake: v.stake,
            scheme: v.scheme,
            key_id: v.key_id,
            operator: some(v.operator),
        }
    }
}
