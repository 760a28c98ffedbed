//! What goes into a node and comes out of it.

use crate::sync::{FetchRequest, RangeRequest};
use bytes::Bytes;
use kaldrix_types::{
    Address, CommitIndex, DecodedTransaction, Digest, ExecutedCommit, Header, Lane, OutcomeStatus, RejectCode, Round, Sequence,
    TimestampMs, TxId, ValidatorIndex, VerifiedBlock,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The two clocks of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Never goes back; for time-outs. Milliseconds since any moment.
    pub monotonic_ms: u64,
    /// Wall clock, for timestamps. Milliseconds since the Unix epoch.
    pub wall_ms: TimestampMs,
}

/// Settings that hold for an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// This validator's seat; [`ValidatorIndex::OBSERVER`] without one.
    pub own: ValidatorIndex,
    /// Rounds below a committed leader that stay, at least what consensus uses.
    pub gc_depth: u64,
    /// Transactions of one own block.
    pub transactions_per_block: usize,
    /// Body bytes of one own block.
    pub body_bytes_per_block: usize,
}

/// An own block before it is signed.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What is to be signed.
    pub header: Header,
    /// The transactions, encoded.
    pub body: Bytes,
    /// What the body holds, decoded.
    pub transactions: Vec<DecodedTransaction>,
}

/// Something the driver has to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The block is part of the DAG from now on, after its parents; own ones too. Store it before anything that refers to it leaves this
    /// machine, hand its header to consensus (with [`crate::Node::is_committed`]) and its checkpoint votes to the certifier.
    Accepted(Arc<VerifiedBlock>),
    /// Whether the mempool has something for a block: tell consensus.
    Pending(bool),
    /// Make it durable, sign it, verify it, send it and call [`crate::Node::own_block`]; or [`crate::Node::proposal_refused`].
    Propose(Box<Proposal>),
    /// Two different blocks by one author in one round.
    Evidence(Arc<VerifiedBlock>, Arc<VerifiedBlock>),
    /// Something is missing: call [`crate::Node::fetch`] soon.
    Fetch,
    /// End the session with consensus and begin another with [`crate::Node::replay`].
    EndSession,
}

/// What a new session of consensus begins with.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// The blocks of the DAG in causal order, and whether a commit holds them.
    pub headers: Vec<(Arc<VerifiedBlock>, bool)>,
    /// Highest round that may have been signed.
    pub own_last_round: Round,
}

/// What to ask peers for.
#[derive(Clone, Debug, Default)]
pub struct FetchWork {
    /// Single blocks.
    pub blocks: Vec<FetchRequest>,
    /// Everything above some rounds.
    pub range: Option<RangeRequest>,
}

/// What the mempool and the next blocks must know of an executed commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutedNotice {
    /// The commit.
    pub index: CommitIndex,
    /// Its digest.
    pub digest: Digest,
    /// Consensus time.
    pub timestamp_ms: TimestampMs,
    /// How many transactions it ordered.
    pub transactions: u64,
    /// Next sequence number of each lane that moved.
    pub lanes: Vec<(Address, Lane, Sequence)>,
    /// Transactions without effect that were taken out of the order.
    pub discarded: Vec<(TxId, RejectCode)>,
}

impl ExecutedNotice {
    /// The notice of a commit.
    #[must_use]
    pub fn of(executed: &ExecutedCommit) -> Self {
        let mut lanes = BTreeMap::new();
        let mut discarded = Vec::new();
        for outcome in &executed.outcomes {
            match outcome.status {
                OutcomeStatus::Discarded(code) => discarded.push((outcome.id, code)),
                OutcomeStatus::Success | OutcomeStatus::Failed(_) => {
                    lanes.insert((outcome.sender, outcome.lane), outcome.sequence + 1);
                }
            }
        }
        Self {
            index: executed.commit.index,
            digest: executed.commit.digest(),
            timestamp_ms: executed.commit.timestamp_ms,
            transactions: executed.outcomes.len() as u64,
            lanes: lanes.into_iter().map(|((sender, lane), next)| (sender, lane, next)).collect(),
            discarded,
        }
    }
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// Highest accepted round.
    pub round: Round,
    /// Highest round that was or may have been signed.
    pub own_round: Round,
    /// Accepted blocks in memory.
    pub blocks: usize,
    /// Blocks that wait for parents.
    pub suspended: usize,
    /// Their size.
    pub suspended_bytes: usize,
    /// Blocks that are being asked for.
    pub wanted: usize,
    /// Transactions in the mempool.
    pub mempool_transactions: usize,
    /// Their size.
    pub mempool_bytes: usize,
    /// The epoch's last commit is known.
    pub is_epoch_over: bool,
}
