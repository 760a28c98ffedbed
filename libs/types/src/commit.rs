//! Commits: what consensus decides, and what executing one yields.

use crate::hash::{Context, Digest};
use crate::{
    Address, BlockRef, CommitIndex, Epoch, Header, Lane, RejectCode, Round, Sequence, StateKey, StateValue, TimestampMs, TxId, codec,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One committed leader with everything it brings: the unit of the total order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Position in the order, from 1.
    pub index: CommitIndex,
    /// The epoch.
    pub epoch: Epoch,
    /// The leader that was committed.
    pub leader: BlockRef,
    /// Digest of commit `index − 1`; zero for the first.
    pub previous: Digest,
    /// Consensus time: stake-weighted median over the leader's parents, never going back.
    pub timestamp_ms: TimestampMs,
    /// Blocks at or below this round were never to be part of this commit (PROTOCOL, "Garbage collection").
    pub gc_round: Round,
    /// The blocks, sorted by (round, author, digest); the leader is among them.
    pub blocks: Vec<BlockRef>,
    /// What the leader schedule goes by after this commit.
    pub reputation: Reputation,
    /// Whether this is the last commit of its epoch.
    pub ends_epoch: bool,
}

/// How well validators supported committed leaders (HammerHead, Tsimos et al. 2023). Kept in each commit, so that the last commit alone
/// says who leads next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reputation {
    /// Commits counted in the running period.
    pub commits: u32,
    /// Per validator: votes for committed leaders in the running period. Empty until the first one.
    pub scores: Vec<u32>,
    /// The scores of the last full period, by which leaders are swapped; empty in an epoch's first period.
    pub effective: Vec<u32>,
    /// Committed leaders for which votes in later commits still count, oldest first: those of the newest one's last few rounds.
    pub leaders: Vec<BlockRef>,
}

impl Commit {
    /// The commit's digest: equal on all correct validators.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Context::CommitDigest.hash(&[&codec::encode(self)])
    }
}

/// What became of a transaction that was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomeStatus {
    /// Every operation took effect.
    Success,
    /// Nothing took effect but the sequence number and the fee.
    Failed(RejectCode),
    /// Nothing took effect at all, and the same transaction may still land later (unless it expired).
    Discarded(RejectCode),
}

/// One ordered transaction's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxOutcome {
    /// Which transaction.
    pub id: TxId,
    /// Which of the commit's blocks held it.
    pub block: u32,
    /// Where in that block.
    pub position: u32,
    /// Who sent it.
    pub sender: Address,
    /// Its lane.
    pub lane: Lane,
    /// Its sequence number.
    pub sequence: Sequence,
    /// What became of it.
    pub status: OutcomeStatus,
}

impl TxOutcome {
    /// The leaf of a checkpoint's Merkle tree over outcomes.
    #[must_use]
    pub fn leaf(&self) -> Digest {
        Context::OutcomeLeaf.hash(&[&codec::encode(self)])
    }
}

/// A state record after a commit; `None` means it no longer exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// Which record.
    pub key: StateKey,
    /// Its value from this commit on.
    pub value: Option<StateValue>,
}

/// A commit with its effects: what the read model is built from. Absolute values, so applying one twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutedCommit {
    /// What was decided.
    pub commit: Commit,
    /// Headers of the commit's blocks, in the same order.
    pub headers: Vec<Header>,
    /// One for every transaction of every block, in order.
    pub outcomes: Vec<TxOutcome>,
    /// BCS bodies (no signatures) of the transactions, parallel to `outcomes`.
    pub bodies: Vec<Bytes>,
    /// Records that changed, sorted by key.
    pub changes: Vec<StateChange>,
}
